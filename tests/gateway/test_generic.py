"""JSON of missions nobody told us of, and the two feeds that need a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossmatch.errors import NoticeError
from crossmatch.model import Circle
from crossmatch.region import credible_level
from gateway.feeds import Ignored
from gateway.feeds.parsers.generic import messenger_of
from tests.gateway.reading import FEEDS, notice, read, with_files

CORE: dict[str, Any] = {
    "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/newcomer/eye/alert.schema.json",
    "alert_datetime": "2026-01-02T03:10:00Z",
    "trigger_time": "2026-01-02T03:04:05.670Z",
    "id": ["N1"],
    "ra": 10.0,
    "dec": -5.0,
    "ra_dec_error": 0.5,
    "rate_energy_range": [50, 300],
}


def test_unseen_mission_is_understood() -> None:
    found = notice(CORE)
    assert (found.feed, found.mission, found.instrument) == ("generic_json", "newcomer", "eye")
    assert (found.event_id, found.messenger) == ("newcomer_N1", "grb")
    assert found.localization == Circle(10.0, -5.0, 0.5, 0.9)
    said = notice({**CORE, "mission": "New Comer/1", "instrument": "Eye"})
    assert (said.event_id, said.mission, said.instrument) == (
        "New-Comer-1_N1", "New Comer/1", "Eye",
    )  # fmt: skip
    bare = {k: v for k, v in CORE.items() if k not in ("$schema", "rate_energy_range")}
    found = notice(bare, topic="gcn.notices.other.scope.alert")
    assert (found.mission, found.messenger) == ("unknown", "optical")
    assert notice(bare, topic="gcn.notices.other.scope").event_id == "other_N1"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messenger": "GW"}, "gw"),
        ({"messenger": "Neutrino", "dm": 3}, "neutrino"),
        ({"messenger": "EM"}, "other"),
        ({"dm": 300.0}, "frb"),
        ({"spectral_band": [400, 800], "spectral_band_units": "MHz"}, "frb"),
        ({"spectral_band": [400, 800], "spectral_band_units": "nm"}, "optical"),
        ({"spectral_band": [400, 800], "spectral_band_units": "furlong"}, "other"),
        ({"image_energy_range": [0.5, 4]}, "xray"),
        ({"rate_energy_range": [10, 100]}, "grb"),
        ({"rate_energy_range": ["a"]}, "other"),
    ],
)
def test_messenger_of_an_unseen_mission(record: dict[str, Any], expected: str) -> None:
    assert messenger_of(record, "other") == expected


def test_topic_of_a_feed_outranks_the_feed_for_what_is_left(tmp_path: Path) -> None:
    """Else a private record that follows the core schema would become everybody's."""
    text = (
        'name = "ours"\ntitle = "Ours"\nmission = "Ours"\ninstrument = ""\nmessenger = "grb"\n'
        'format = "json"\ntopics = ["ours.bursts"]\nprefix = "Ours"\nprivate = true\n'
    )
    registry = with_files(tmp_path, ours=text)
    raw = json.dumps(CORE).encode()
    assert read(raw, registry, topic="ours.bursts").streams == ("ours",)
    assert read(raw, registry, topic="elsewhere").feed == "generic_json"


def test_neither_notice_nor_fragment_has_no_feed() -> None:
    for table in ({"a": 1}, {"ra": 1.0, "dec": 2.0}, {"trigger_time": "2026-01-02T03:04:05Z"}):
        with pytest.raises(NoticeError) as caught:
            FEEDS.parse(json.dumps(table).encode())
        assert caught.value.reason == "no_feed"


# BOOM and IceCube's searches: the two that need a function


def boom(*targets: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/boom/alert.schema.json",
        "alert_datetime": "2026-01-02T03:04:05Z",
        "data": {"targets": list(targets)},
    }


def test_several_targets_are_one_map_that_holds_each() -> None:
    targets = [
        {"event_name": "ZTFb", "ra": 10.0, "dec": 20.0, "gcn_crossmatch": [{"ref_ID": "S1a"}]},
        {"event_name": "ZTFa", "ra": 0.0001, "dec": -89.0, "gcn_crossmatch": [{"ref_ID": "S1a"}]},
        {"event_name": "ZTFc", "ra": 359.9999, "dec": 0.0},
    ]
    understood = read(json.dumps(boom(*targets)).encode())
    found, region = understood.notice, understood.region
    assert found is not None
    assert region is not None
    assert found.event_id == "BOOM_ZTFa+ZTFb+ZTFc"
    assert found.details["targets"] == "ZTFa, ZTFb, ZTFc"
    assert found.details["counterpart_of"] == "S1a"
    places = np.array([(t["ra"], t["dec"]) for t in targets], np.float64)
    inside = credible_level(region.localization, places[:, 0], places[:, 1])
    assert (inside < 0.1).all(), "the centre of each target is among the likeliest cells"
    beside = credible_level(region.localization, places[:, 0], places[:, 1] + 0.01)
    assert (beside == 1).all()
    reverse = read(json.dumps(boom(*reversed(targets))).encode()).notice
    assert reverse is not None
    assert (reverse.event_id, reverse.skymap_sha256) == (found.event_id, found.skymap_sha256)
    assert notice(boom(*({**targets[0], "event_name": f"Z{n}"} for n in range(6)))).event_id == (
        "BOOM_Z0+5"
    )


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], "bad_field"),
        (["x"], "bad_field"),
        ([{"ra": 1.0, "dec": 1.0}], "no_trigger_id"),
        ([{"event_name": "a b"}], "bad_trigger_id"),
        ([{"event_name": "a", "gcn_crossmatch": 1}], "bad_field"),
        ([{"event_name": "a"}, {"event_name": "b"}], "bad_position"),
        ([{"event_name": "a", "ra": 1, "dec": 99}, {"event_name": "b"}], "bad_position"),
    ],
)
def test_targets_are_checked(targets: list[Any], expected: str) -> None:
    assert read(json.dumps(boom(*targets)).encode()).reason == expected


def search(*events: Any, **changes: Any) -> dict[str, Any]:
    return {
        "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/icecube/lvk_nu_track_search.schema.json",
        "ref_ID": "S260102a",
        "alert_datetime": "2026-01-02T03:20:00Z",
        "trigger_time": "2026-01-02T03:04:05Z",
        "coincident_events": list(events),
        **changes,
    }


def neutrino(ra_deg: float, p_value: float | None) -> dict[str, Any]:
    place = {"ra": ra_deg, "dec": 5.0, "ra_dec_error": 0.7}
    return {"localization": place, "event_pval_generic": p_value, "event_pval_bayesian": None}


def test_neutrino_that_chance_explains_least_is_the_region() -> None:
    found = notice(search(neutrino(1.0, None), neutrino(2.0, 0.5), neutrino(3.0, 0.001)))
    assert found.localization == Circle(3.0, 5.0, 0.7, 0.9)
    assert found.details["other_neutrinos"].startswith("2 5 0.5; 1 5")


def test_searches_that_found_little_are_not_significant() -> None:
    for p_value, expected in ((0.009, True), (0.02, False), (None, False)):
        assert notice(search(neutrino(1.0, 0.1), pval_bayesian=p_value)).significant is expected
    nothing = read(json.dumps(search(pval_generic=1.0)).encode())
    assert (nothing.outcome, nothing.reason) == ("no_position", "no_coincidence")
    assert notice(search(neutrino(1.0, 0.1), ref_ID="MS260102a")).role == "test"
    assert read(json.dumps(search("x")).encode()).reason == "bad_field"


def test_all_kinds_of_service_records_are_ignored() -> None:
    for table, expected in (
        ({"circularId": 1, "subject": "s", "body": "b"}, "circular"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "json_schema"),
        ({"objectId": "ZTF1", "candid": 1, "candidate": {"ra": 1}}, "optical_alert"),
        ({"diaSourceId": 1, "diaSource": {"ra": 1}}, "optical_alert"),
    ):
        found = FEEDS.parse(json.dumps(table).encode())
        assert isinstance(found, Ignored)
        assert found.reason == expected
