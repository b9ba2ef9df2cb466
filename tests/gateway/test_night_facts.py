"""The facts agree with each other and with what is computed from them."""

from datetime import timedelta

import numpy as np
import pytest

from gateway.night.facts import (
    FILTERS,
    burst_position,
    decoy,
    facts,
    julian_date,
    kilonova_magnitude,
    light_curve,
    unix_seconds,
    wave_map,
)
from gateway.night.maps import unit_vectors

GPS_MINUS_UNIX_2017 = 315964800 - 18


def _separation(a, b):
    first, second = (unit_vectors(np.array(x["ra"]), np.array(x["dec"])) for x in (a, b))
    return float(np.degrees(np.arccos(first @ second)))


def test_merger_time_is_its_gps_time():
    merger = facts()["merger"]
    assert merger["time"].timestamp() == pytest.approx(
        merger["gps_s"] + GPS_MINUS_UNIX_2017, abs=merger["gps_error_s"]
    )


def test_burst_follows_the_merger_by_its_delay():
    burst, merger = facts()["burst"], facts()["merger"]
    delay = (burst["trigger_time"] - merger["time"]).total_seconds()
    # The trigger comes after the onset, by less than the triggering time scale.
    assert burst["delay_s"] <= delay + burst["delay_error_s"] <= burst["delay_s"] + 0.512


def test_burst_positions_lie_as_far_from_the_source_as_published():
    source = facts()["kilonova"]
    assert _separation(source, burst_position("ground")) == pytest.approx(26.9, abs=0.05)
    assert _separation(source, burst_position("final")) == pytest.approx(23.9, abs=0.05)


def test_three_burst_positions_differ():
    kinds = ("flight", "ground", "final")
    apart = [
        _separation(burst_position(a), burst_position(b))
        for i, a in enumerate(kinds)
        for b in kinds[i + 1 :]
    ]
    assert 5.5 < min(apart) < max(apart) < 18.5


def test_first_image_comes_10_9_hours_after_the_merger():
    wait = facts()["kilonova"]["first_image"] - facts()["merger"]["time"]
    assert wait / timedelta(hours=1) == pytest.approx(10.87, abs=0.02)


def test_notices_of_the_wave_come_in_order():
    kinds = ("PRELIMINARY", "INITIAL", "UPDATE")
    times = [wave_map(kind)["sent"] for kind in kinds]
    assert times == sorted(times)
    assert burst_position("flight")["sent"] < times[0]


@pytest.mark.parametrize("name", FILTERS)
def test_light_curve_is_sorted_and_has_errors(name):
    table = light_curve(name)
    assert (np.diff(table[:, 0]) > 0).all()
    assert (table[:, 2] >= 0.01).all()


def test_source_fades_faster_in_bluer_filters():
    days = np.array([0.5, 4.4])
    fall = [np.diff(kilonova_magnitude(days, name))[0] for name in FILTERS]
    assert fall[0] > fall[1] > fall[2] > 1


def test_every_entry_names_its_source_and_status():
    def entries(node):
        if isinstance(node, dict):
            if "status" in node:
                yield node
            for value in node.values():
                yield from entries(value)
        elif isinstance(node, list):
            for value in node:
                yield from entries(value)

    found = list(entries(dict(facts())))
    assert len(found) > 14
    for entry in found:
        assert entry["status"] in ("verified", "literature", "invented")
        assert entry["source"]


def test_decoys_say_that_they_are_invented():
    kinds = ("swift_bat", "icecube_gold", "lvk_mock", "lvk_retracted")
    assert all(decoy(kind)["source"].startswith("invented") for kind in kinds)


def test_julian_dates_and_unix_seconds_agree():
    when = facts()["merger"]["time"]
    assert julian_date(when) == pytest.approx(2457983.02852, abs=1e-5)
    assert unix_seconds(np.array([julian_date(when)]))[0] == pytest.approx(
        when.timestamp(), abs=1e-3
    )
