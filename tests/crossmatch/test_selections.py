"""Selections as the configuration writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crossmatch import facts
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import AlertColumns, Cuts, apply_cuts
from crossmatch.errors import ConfigError
from crossmatch.selections import (
    BUILT_IN,
    NOT_KNOWN,
    Selection,
    named,
    selection_of,
    selections_with,
)

from .test_cuts import CUTS, table, with_cuts


def made(*cuts: Any) -> Selection:
    return selection_of("mine", list(cuts), BUILT_IN)


def kept(selection: Selection, *changes: dict[str, Any]) -> list[bool]:
    rows = table(*changes)
    return apply_cuts(rows, with_cuts(selection=selection)).keep.tolist()


def test_cuts_are_made_in_their_order_and_counted_by_their_names() -> None:
    selection = made("bad_pixels", {"cut": "star", "radius_arcsec": 1.0, "as": "on_star"})
    bad, star = {"n_bad": 3, "ps1_distance_arcsec": 0.1}, {"ps1_distance_arcsec": 0.9}
    result = apply_cuts(
        table(bad, star, {"ps1_distance_arcsec": 1.5}), with_cuts(selection=selection)
    )
    assert result.removed == {"bad_pixels": 1, "on_star": 1}
    assert result.keep.tolist() == [False, False, True]


def test_the_default_selection_is_that_of_the_thresholds() -> None:
    assert [step.name for step in CUTS.made.steps] == [
        "not_positive", "real_bogus", "bad_pixels", "moving", "star",
    ]  # fmt: skip
    strict = with_cuts(min_real_bogus=0.95, min_deep_real_bogus=0.95)
    assert apply_cuts(table({}), strict).removed["real_bogus"] == 1


def test_the_default_by_its_steps_and_by_thresholds_is_the_same() -> None:
    rng = np.random.default_rng(3)
    changes = [
        {
            "positive": rng.choice([True, False, None]),
            "real_bogus": rng.choice([None, 0.2, 0.55, 0.9]),
            "deep_real_bogus": rng.choice([None, 0.1, 0.3, 0.9]),
            "n_bad": rng.choice([None, 0, 1]),
            "mag_difference": rng.choice([None, -0.2, 0.05]),
            "moving_distance_arcsec": rng.choice([None, 1.0, 5.0, 60.0]),
            "ps1_distance_arcsec": rng.choice([None, 1.0, 2.0, 9.0]),
            "ps1_star_score": rng.choice([None, 0.5, 0.76, 0.9]),
        }
        for _ in range(300)
    ]
    cuts = with_cuts(max_mag_difference=0.1)
    by_steps = Cuts(**{f: getattr(cuts, f) for f in Cuts.__dataclass_fields__ if f != "selection"},
                    selection=cuts.made)  # fmt: skip
    first, second = apply_cuts(table(*changes), cuts), apply_cuts(table(*changes), by_steps)
    assert first.removed == second.removed
    assert first.keep.tolist() == second.keep.tolist()
    assert 0 < first.keep.sum() < 300


def test_what_a_cut_removes_can_be_what_is_wanted() -> None:
    wanted = made({"cut": "moving", "not": True})
    near, none = {"moving_distance_arcsec": 1.0}, {"moving_distance_arcsec": None}
    assert kept(wanted, near, {}, none) == [True, False, False]
    assert [step.name for step in wanted.steps] == ["not_moving"]
    assert kept(made({"cut": "moving", "not": True, "missing": "pass"}), none) == [True]


def test_finks_cuts_want_values_that_are_there() -> None:
    fine = {"real_bogus": 0.55, "n_bad": 0, "mag_difference": 0.09}
    nothing = dict.fromkeys(fine)
    rows = [fine, fine | {"real_bogus": 0.5}, fine | {"mag_difference": -0.1}]
    assert kept(BUILT_IN["fink"], *rows, fine | {"n_bad": 1}) == [True, False, False, False]
    for name in fine:
        assert kept(BUILT_IN["fink"], fine | {name: nothing[name]}) == [False]


def test_solar_system_candidates_are_seen_for_half_an_hour_at_most() -> None:
    fine = {
        "n_detections": 2, "time_jd": 2460325.02, "first_detection_jd": 2460325.0,
        "ps1_star_score": 0.1, "ps1_distance_arcsec": 3.0,
    }  # fmt: skip
    others = [
        {"n_detections": 3}, {"first_detection_jd": 2460324.9}, {"ps1_star_score": 0.9},
        {"ps1_distance_arcsec": 1.0},
    ]  # fmt: skip
    rows = [fine, *(fine | other for other in others)]
    assert kept(BUILT_IN["solar_system"], *rows) == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("mission", "values", "failed"),
    [
        ("Swift", {"separation_deg": 0.29, "error_radius_deg": 0.1}, None),
        ("Swift", {"separation_deg": 0.31, "error_radius_deg": 0.1}, "separation_swift"),
        ("Fermi", {"separation_deg": 4.9, "error_radius_deg": 12.0}, None),
        ("fermi", {"separation_deg": 5.1, "error_radius_deg": 12.0}, "separation_fermi"),
        ("Fermi", {"separation_deg": 2.1, "error_radius_deg": 2.0}, "separation_fermi"),
        ("SVOM", {"separation_deg": 9.0, "error_radius_deg": 0.1}, None),
        ("SVOM", {"first_offset_days": -1.0}, "first_detected"),
        ("SVOM", {"offset_days": 20.1}, "window"),
    ],
)
def test_cuts1_looks_at_the_mission(
    mission: str, values: dict[str, float], failed: str | None
) -> None:
    usual = {"offset_days": 1.0, "first_offset_days": 0.5, "separation_deg": 0.0}
    column = facts.columns(usual | {"error_radius_deg": 1.0} | values)
    assert BUILT_IN["cuts1"].first_failed(column, mission) == failed


def test_cuts0_waits_for_no_catalogue() -> None:
    column = {"gaia_distance_arcsec": 9.0, "ps1_distance_arcsec": 9.0}
    cuts0 = BUILT_IN["cuts0"]
    assert cuts0.first_failed(facts.columns(column), "") is None
    assert cuts0.first_failed(facts.columns(column | {"near.simbad": 0.3}), "") == "simbad"


def test_a_selection_may_take_in_others() -> None:
    chosen = selections_with(
        {
            "mine": {"cuts": ["fink", "positive"], "doc": "mine"},
            "more": {"cuts": ["mine", {"cut": "galactic_latitude", "min_deg": 15}]},
        }
    )
    assert [step.name for step in chosen["more"].steps] == [
        "real_bogus", "bad_pixels", "mag_difference", "not_positive", "galactic_latitude",
    ]  # fmt: skip
    assert chosen["mine"].doc == "mine"
    assert set(BUILT_IN) <= set(chosen)


def test_a_selection_can_be_written_down_and_read_again() -> None:
    for name, selection in BUILT_IN.items():
        record = selection.table()
        assert selection_of(name, record["cuts"], {}, record["doc"]) == selection


def test_a_cut_by_its_name_is_a_selection() -> None:
    (step,) = named("rising", BUILT_IN, "here").steps
    assert (step.cut, dict(step.parameters)) == ("rising", {"min_mag_per_day": 1.0})
    with pytest.raises(ConfigError, match="here: no selection 'risen'; known: fink"):
        named("risen", BUILT_IN, "here")


def test_a_cut_on_a_kind_is_counted_by_what_is_near() -> None:
    cuts = [
        {"cut": "far_from_kind", "kind": "transients"},
        {"cut": "far_from_kind", "not": True},
        {"cut": "far_from_kind", "kind": "variables", "as": "varies"},
    ]
    assert [step.name for step in made(*cuts).steps] == [
        "near_transients", "not_near_agn", "varies",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cuts", "kinds"),
    [
        (["known_star", {"cut": "far_from_kind", "kind": "agn"}], ("stars", "agn")),
        ([NOT_KNOWN], ("stars", "minor_planets")),
        (["known_star", "two_detections"], ()),
        (["far_from"], ()),
        ([{"cut": "known_star", "not": True}], ()),
        ([{"cut": "known_star", "not": True, "missing": "pass"}], ()),
        ([{"cut": "known_star", "missing": "fail"}], ()),
    ],
)
def test_a_selection_of_kinds_alone_says_so(cuts: list[Any], kinds: tuple[str, ...]) -> None:
    assert made(*cuts).kinds == kinds


@pytest.mark.parametrize(
    ("cuts", "sentence"),
    [
        ([], "expected a list"),
        ("star", "expected a list"),
        (["stars"], "'stars' is no cut and no selection"),
        ([{"cut": "stars"}], "no cut 'stars'"),
        ([3], "expected the name of a cut"),
        ([{"cut": "star", "radius": 1.0}], "star has no 'radius'; it has: radius_arcsec"),
        ([{"cut": "star", "radius_arcsec": "1"}], "radius_arcsec: expected a number, found '1'"),
        ([{"cut": "star", "radius_arcsec": True}], "radius_arcsec: expected a number"),
        ([{"cut": "star", "radius_arcsec": float("nan")}], "expected a number"),
        ([{"cut": "star", "radius_arcsec": False}], "expected a number, found False"),
        ([{"cut": "magnitude", "faintest": "x"}], "expected a number, or false for none"),
        ([{"cut": "far_from", "catalog": ""}], "catalog: expected a text"),
        (
            [{"cut": "far_from_kind", "kind": "stars"}],
            "kind: one of agn, transients, variables, minor_planets; found 'stars'",
        ),
        ([{"cut": "known_star", "min_sigma": 5}], "known_star has no 'min_sigma'; it has: radius"),
        ([{"cut": "far_from_kind"}, {"cut": "far_from_kind"}], "near_agn stands there twice"),
        ([{"cut": "star", "not": 1}], "not: expected true or false"),
        ([{"cut": "star", "missing": "maybe"}], 'missing: "pass" or "fail"'),
        ([{"cut": "star", "missions": ["Swift"]}], "does not look at the event"),
        ([{"cut": "window", "missions": "Swift"}], "missions: expected a list"),
        ([{"cut": "star", "as": "a b"}], "a name has letters"),
        (["star", "star"], "star stands there twice"),
    ],
)
def test_a_wrong_selection_is_refused_with_a_sentence(cuts: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"\[selections.mine\] cuts") as error:
        selections_with({"mine": {"cuts": cuts}})
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("name", "table_", "sentence"),
    [
        ("star", {"cuts": ["moving"]}, "is a cut"),
        ("default", {"cuts": ["moving"]}, "is that of"),
        ("a-b", {"cuts": ["moving"]}, "more than letters"),
        ("mine", {"cuts": ["moving"], "cut": 1}, "no such key; known: cuts, doc"),
        ("mine", {"cuts": ["moving"], "doc": 1}, "doc: expected a text"),
    ],
)
def test_names_and_keys_are_checked(name: str, table_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        selections_with({name: table_})
    assert sentence in str(error.value)


def test_what_is_not_read_of_the_archive_is_asked_for_in_vain() -> None:
    """A cut on a column that was not read must not pass everything."""
    cuts = with_cuts(selection=made("star"))
    assert cuts.columns == ("ps1_distance_arcsec", "ps1_star_score")
    rows = table({}).select(list(cuts.columns))
    assert apply_cuts(rows, cuts).keep.tolist() == [True]
    with pytest.raises(KeyError):
        apply_cuts(rows, with_cuts(selection=made("moving")))


def test_columns_that_follow_from_others() -> None:
    column = AlertColumns(
        table({"time_jd": 2460325.5, "first_detection_jd": 2460325.0, "ra_deg": 266.4,
               "dec_deg": -28.94}, {"first_detection_jd": None})
    )  # fmt: skip
    assert column("detection_span_days")[0] == 0.5
    assert np.isnan(column("detection_span_days")[1])
    assert abs(column("galactic_latitude_deg")[0]) < 0.1


def test_no_rows() -> None:
    empty = pa.Table.from_pylist([], schema=ALERT_SCHEMA)
    for selection in BUILT_IN.values():
        if all(step.about.needs == "alert" for step in selection.steps):
            assert apply_cuts(empty, with_cuts(selection=selection)).keep.shape == (0,)
