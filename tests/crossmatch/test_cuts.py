from typing import Any

import pyarrow as pa
import pytest

from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import CUT_NAMES, Cuts, apply_cuts

CUTS = Cuts(
    enabled=True,
    min_real_bogus=0.55,
    min_deep_real_bogus=0.3,
    max_bad_pixels=0,
    max_mag_difference=None,
    require_positive=True,
    moving_radius_arcsec=5.0,
    min_star_score=0.76,
    star_radius_arcsec=2.0,
)
GOOD: dict[str, Any] = {
    "survey": "ztf",
    "object_id": "ZTF1",
    "alert_id": 1,
    "time_jd": 2460325.0,
    "ra_deg": 1.0,
    "dec_deg": 2.0,
    "topic": "t",
    "partition": 0,
    "offset": 0,
    "positive": True,
    "real_bogus": 0.9,
    "deep_real_bogus": 0.9,
    "n_bad": 0,
    "mag_difference": 0.01,
    "moving_distance_arcsec": 60.0,
    "ps1_distance_arcsec": 20.0,
    "ps1_star_score": 0.9,
}


def table(*changes: dict[str, Any]) -> pa.Table:
    rows = [GOOD | change for change in changes]
    return pa.Table.from_pylist(rows, schema=ALERT_SCHEMA)


def with_cuts(**changes: Any) -> Cuts:
    values = {name: getattr(CUTS, name) for name in Cuts.__dataclass_fields__}
    return Cuts(**(values | changes))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, None),
        ({"positive": False}, "not_positive"),
        ({"real_bogus": 0.5, "deep_real_bogus": 0.2}, "real_bogus"),
        ({"real_bogus": 0.5, "deep_real_bogus": None}, "real_bogus"),
        ({"real_bogus": None, "deep_real_bogus": 0.2}, "real_bogus"),
        ({"real_bogus": 0.55, "deep_real_bogus": 0.2}, None),
        ({"real_bogus": 0.1, "deep_real_bogus": 0.3}, None),
        ({"real_bogus": None, "deep_real_bogus": None}, None),
        ({"n_bad": 1}, "bad_pixels"),
        ({"mag_difference": 5.0}, None),
        ({"moving_distance_arcsec": 5.0}, "moving"),
        ({"moving_distance_arcsec": 5.1}, None),
        ({"ps1_distance_arcsec": 2.0}, "star"),
        ({"ps1_distance_arcsec": 0.1, "ps1_star_score": 0.76}, None),
        ({"ps1_distance_arcsec": 2.1}, None),
        ({"ps1_distance_arcsec": None}, None),
        ({"ps1_distance_arcsec": 0.1, "ps1_star_score": None}, None),
    ],
)
def test_each_cut_at_its_threshold(change: dict[str, Any], name: str | None) -> None:
    result = apply_cuts(table(change), CUTS)
    assert result.keep.tolist() == [name is None]
    assert result.removed == {n: int(n == name) for n in CUT_NAMES}


def test_missing_values_never_fail() -> None:
    nothing = {name: None for name in ALERT_SCHEMA.names if ALERT_SCHEMA.field(name).nullable}
    assert apply_cuts(table(nothing), with_cuts(max_mag_difference=0.1)).keep.all()


def test_an_alert_is_counted_under_the_first_cut_it_fails() -> None:
    bad = {"positive": False, "n_bad": 4, "ps1_distance_arcsec": 0.1}
    result = apply_cuts(table(bad, {"n_bad": 4, "moving_distance_arcsec": 0.0}, {}), CUTS)
    assert result.keep.tolist() == [False, False, True]
    assert {k: v for k, v in result.removed.items() if v} == {"not_positive": 1, "bad_pixels": 1}
    assert result.keep.sum() + sum(result.removed.values()) == 3


@pytest.mark.parametrize("difference", [0.1, -0.1, 3.0])
def test_the_cut_on_magnitude_differences_is_made_on_demand(difference: float) -> None:
    result = apply_cuts(table({"mag_difference": difference}), with_cuts(max_mag_difference=0.1))
    assert result.removed["mag_difference"] == 1


def test_negative_subtractions_may_be_wanted() -> None:
    assert apply_cuts(table({"positive": False}), with_cuts(require_positive=False)).keep.all()


def test_cuts_that_are_off_remove_nothing() -> None:
    result = apply_cuts(table({"positive": False}, {"n_bad": 9}), with_cuts(enabled=False))
    assert result.keep.all()
    assert result.removed == dict.fromkeys(CUT_NAMES, 0)


def test_no_alerts() -> None:
    result = apply_cuts(ALERT_SCHEMA.empty_table(), CUTS)
    assert result.keep.shape == (0,)


def test_each_removed_row_stands_under_the_first_cut_that_it_fails():
    rows = table(
        {},
        {"positive": False, "n_bad": 5},
        {"n_bad": 5},
        {"moving_distance_arcsec": 1.0, "ps1_distance_arcsec": 0.5},
    )
    result = apply_cuts(rows, CUTS)
    assert list(result.by_name) == list(CUT_NAMES)
    assert result.by_name["not_positive"].tolist() == [False, True, False, False]
    assert result.by_name["bad_pixels"].tolist() == [False, False, True, False]
    assert result.by_name["moving"].tolist() == [False, False, False, True]
    times = sum(mask.astype(int) for mask in result.by_name.values()) + result.keep
    assert times.tolist() == [1, 1, 1, 1]
