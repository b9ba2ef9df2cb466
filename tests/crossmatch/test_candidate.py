"""The columns of a candidate follow from its alerts, whatever their order."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmatch.candidate import Context, EventDistance, Versions, assess
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA, CANDIDATE_FIELDS
from crossmatch.counterpart import MatchedAlert
from crossmatch.lightcurve import Detection
from crossmatch.model import Circle, Notice, SystematicTerm
from crossmatch.neighbours import Neighbour
from crossmatch.region import make_region
from crossmatch.times import jd_from_datetime
from crossmatch.verdicts import Verdict

T0 = datetime(2017, 8, 17, 12, 41, 6, tzinfo=UTC)
T0_JD = jd_from_datetime(T0)
NGC_4993 = Neighbour(
    "g", "galaxies", 10.0, name="NGC 4993", redshift=0.0098, distance_mpc=40.7, p_cc=0.001
)
SAID_BY_THE_FOLD = {
    "candidate_id", "record_number", "alert_type", "state", "reason", "cause",
    "changed", "supersedes", "alert_datetime", "stream",
}  # fmt: skip


def region(**changed):
    fields = {
        "feed": "fermi_gbm", "mission": "Fermi", "instrument": "GBM", "kind": "final",
        "notice_id": "ivo://nasa/1", "event_id": "Fermi_1", "trigger_id": "1",
        "messenger": "grb", "role": "observation", "alert_type": "update", "issued": T0,
        "order": (0.0, 0, 0), "trigger_time": T0, "sha256": "ab",
        "localization": Circle(176.8, -39.8, 11.6, 0.68, (SystematicTerm(3.7, 1.0),)),
    }  # fmt: skip
    return make_region(Notice(**(fields | changed)), 3, DEFAULT_CHAINS)


def matched(
    number: int, days: float, mag: float | None, filter_: str | None = "r", **changed
) -> MatchedAlert:
    alert = dict.fromkeys(ALERT_SCHEMA.names) | {
        "survey": "ztf", "object_id": "ZTF17aaa", "alert_id": number, "time_jd": T0_JD + days,
        "ra_deg": 197.45, "dec_deg": -23.38, "filter": filter_, "mag": mag, "mag_error": 0.05,
        "limiting_mag": 20.5, "positive": True, "n_detections": 1,
        "first_detection_jd": T0_JD + days,
    }  # fmt: skip
    return MatchedAlert(alert | changed, 0.9, 0.2, 23.9)


def columns(alerts, **changed):
    arguments = {
        "context": Context(("galaxies",), hosts=(NGC_4993,)),
        "distance": EventDistance(),
        "versions": Versions("cuts", "code"),
    } | changed
    chosen = region()
    return assess(chosen, DEFAULT_CHAINS[chosen.chain], alerts, **arguments).columns


def test_every_column_is_either_assessed_or_added_by_the_fold():
    names = {f.name for f in CANDIDATE_FIELDS}
    assert set(columns([matched(1, 0.5, 17.5)])) == names - SAID_BY_THE_FOLD


def test_required_columns_are_never_missing():
    row = columns([matched(1, 0.5, None, None, mag_error=None)])
    missing = [
        f.name
        for f in CANDIDATE_FIELDS
        if f.required and f.name not in SAID_BY_THE_FOLD and row[f.name] is None
    ]
    assert missing == []


def test_the_order_of_the_alerts_does_not_matter():
    alerts = [matched(1, 0.5, 17.5), matched(2, 1.5, 18.2), matched(3, 0.52, 17.4, "g")]
    results = [columns(list(order)) for order in itertools.permutations(alerts)]
    assert all(r == results[0] for r in results)
    assert results[0]["alert_id"] == "2"
    assert results[0]["fade_rate"] == pytest.approx(0.7)
    assert results[0]["n_detections"] == 3
    assert results[0]["time_offset_first"] == pytest.approx(0.5 * 86400, abs=0.01)


def test_the_packet_history_counts_as_the_objects_own():
    history = (
        Detection(T0_JD - 2, "r", None, None, 20.4),
        Detection(T0_JD + 0.5, "r", 17.5, 0.05, 20.5),
    )
    late = matched(2, 1.5, 18.5)
    row = columns([MatchedAlert(late.alert, 0.9, 0.2, 23.9, history, "cd")])
    assert row["fade_rate"] == pytest.approx(1.0)
    assert row["last_nondetection_mag"] == 20.4
    assert row["last_nondetection_time"] == "2017-08-15T12:41:06.000Z"
    assert row["first_detection"] == "2017-08-18T00:41:06.000Z"
    assert row["alert_sha256"] == "cd"


def test_the_absolute_magnitude_is_at_the_hosts_distance_else_at_the_events():
    at_host = columns([matched(1, 0.5, 17.5)])["absolute_magnitude"]
    at_event = columns(
        [matched(1, 0.5, 17.5)], context=Context(), distance=EventDistance(100.0, 20.0)
    )["absolute_magnitude"]
    assert at_host == pytest.approx(17.5 - 33.048, abs=0.001)
    assert at_event == pytest.approx(17.5 - 35.0, abs=0.001)


def test_a_systematic_mixture_counts_as_included():
    assert columns([matched(1, 0.5, 17.5)])["systematic_included"] is True


def test_a_verdict_is_told_with_the_candidate_and_decides_the_tier():
    given = Verdict(
        verdict_id="v-1", counterpart_id="MM-ZTF-ZTF17aaa", classification="kilonova",
        effect="confirm", stated="2017-08-19T00:00:00.000000Z", author="jane", note="blue",
        reference="GCN 21529",
    )  # fmt: skip
    alerts = [matched(1, 0.5, 17.5)]
    row = columns(alerts, verdict=given)
    assert columns(alerts)["tier"] == "bronze"
    assert row["tier"] == "gold"
    assert {n: row[n] for n in row if n.startswith("verdict")} == {
        "verdict": "kilonova", "verdict_effect": "confirm", "verdict_note": "blue",
        "verdict_reference": "GCN 21529", "verdict_author": "jane",
        "verdict_time": "2017-08-19T00:00:00.000000Z",
    }  # fmt: skip


def test_without_a_verdict_and_for_its_empty_texts_the_columns_are_null():
    given = Verdict(
        verdict_id="v-1", counterpart_id="c", classification="host", effect="demote",
        stated="2017-08-19T00:00:00.000000Z",
    )  # fmt: skip
    alerts = [matched(1, 0.5, 17.5)]
    assert {v for n, v in columns(alerts).items() if n.startswith("verdict")} == {None}
    assert columns(alerts, verdict=given)["verdict_note"] is None


def test_the_names_of_a_joint_event_are_listed():
    alerts = [matched(1, 0.5, 17.5)]
    assert columns(alerts, joint_events=("Fermi_1", "Swift_2"))["joint_events"] == [
        "Fermi_1",
        "Swift_2",
    ]
    assert columns(alerts)["joint_events"] == []


def test_the_host_is_the_likeliest_that_the_events_distance_allows():
    hosts = (
        Neighbour("g", "galaxies", 1.0, name="far", redshift=0.07, distance_mpc=300.0, p_cc=0.01),
        Neighbour("g", "galaxies", 9.0, name="near", distance_mpc=42.0, p_cc=0.02),
    )
    context = Context(("g",), near=("g: galaxies, 1.00 arcsec",), hosts=hosts)
    alerts = [matched(1, 0.5, 17.5)]
    without = columns(alerts, context=context)
    assert (without["host_name"], without["nearby"]) == ("far", ["g: galaxies, 1.00 arcsec"])
    assert (without["redshift"], without["p_cc"]) == (0.07, 0.01)
    there = columns(alerts, context=context, distance=EventDistance(40.0, 5.0))
    assert (there["host_name"], there["host_distance"], there["host_offset"]) == ("near", 42.0, 9.0)
    assert (there["redshift"], there["p_cc"]) == (None, 0.02)
    assert columns(alerts)["nearby"] is None


FOUND = {
    "simbad": (
        Neighbour("simbad", "simbad", 0.1, name="NGC 1", type="Seyfert1"),
        {"simbad_name": "NGC 1", "simbad_type": "Seyfert1", "simbad_distance": 0.1},
    ),
    "stars": (
        Neighbour("gaia", "stars", 0.2, name="7", parallax_sigma=4.0, motion_sigma=9.0),
        {"star_distance": 0.2, "star_significance": 9.0},
    ),
    "agn": (
        Neighbour("milliquas", "agn", 0.3, name="Mrk 1", type="Q", redshift=0.1),
        {"agn_name": "Mrk 1", "agn_distance": 0.3},
    ),
    "transients": (
        Neighbour("tns", "transients", 0.4, name="2017gfo", type="Kilonova"),
        {"known_transient": "2017gfo", "known_transient_distance": 0.4},
    ),
    "variables": (
        Neighbour("vsx", "variables", 0.5, name="RR Lyr", type="RRAB"),
        {"variable_name": "RR Lyr", "variable_type": "RRAB", "variable_distance": 0.5},
    ),
    "minor_planets": (
        Neighbour("mpc", "minor_planets", 0.6, name="Ceres"),
        {"minor_planet": "Ceres", "minor_planet_distance": 0.6},
    ),
}
"""By kind a source, and what a candidate says of it."""
TOLD = [name for _, told in FOUND.values() for name in told]


@given(st.permutations(list(FOUND)), st.integers(0, len(FOUND)))
def test_what_is_near_has_columns_of_its_own_and_what_is_not_is_null(
    kinds: list[str], many: int
) -> None:
    near = kinds[:many]
    context = Context(nearest=tuple(FOUND[kind][0] for kind in near))
    row = columns([matched(1, 0.5, 17.5)], context=context)
    expected = dict.fromkeys(TOLD)
    for kind in near:
        expected |= FOUND[kind][1]
    assert {name: row[name] for name in TOLD} == expected


def test_a_source_of_another_kind_has_no_column() -> None:
    context = Context(nearest=(Neighbour("mine", "other", 0.1, name="x"),))
    assert {columns([matched(1, 0.5, 17.5)], context=context)[name] for name in TOLD} == {None}


@pytest.mark.parametrize(
    ("packet", "catalogue", "told"),
    [
        ((None, None), None, (None, None)),
        (("Vesta", 7.0), None, ("Vesta", 7.0)),
        ((None, None), 0.6, ("Ceres", 0.6)),
        (("Vesta", 0.5), 0.6, ("Vesta", 0.5)),
        (("Vesta", 0.7), 0.6, ("Ceres", 0.6)),
        # LSST names what it takes the alert for.
        (("Vesta", 0.0), 0.0, ("Vesta", 0.0)),
        (("Vesta", None), 0.6, ("Ceres", 0.6)),
        (("Vesta", None), None, ("Vesta", None)),
        ((None, 7.0), None, (None, 7.0)),
    ],
)
def test_of_the_alerts_minor_planet_and_a_catalogues_the_nearer_is_told(
    packet: tuple[str | None, float | None],
    catalogue: float | None,
    told: tuple[str | None, float | None],
) -> None:
    name, away = packet
    alert = matched(1, 0.5, 17.5, moving_name=name, moving_distance_arcsec=away)
    ceres = () if catalogue is None else (Neighbour("m", "minor_planets", catalogue, name="Ceres"),)
    row = columns([alert], context=Context(nearest=ceres))
    assert (row["minor_planet"], row["minor_planet_distance"]) == told
    # What several candidates share stays as it was.
    again = columns([matched(1, 0.5, 17.5)], context=Context(nearest=ceres))
    assert again["minor_planet"] == ("Ceres" if ceres else None)
