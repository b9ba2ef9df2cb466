"""Native leaves to slim alerts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from broker.surveys import (
    LSST_NATIVE,
    NATIVE_SCHEMAS,
    ZTF_NATIVE,
    ab_magnitude,
    normalise,
    tai_mjd_to_utc_jd,
)
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import AlertError

ZTF = {
    "objectId": "ZTF24aaccsty",
    "candid": 2570237305515015024,
    "schemavsn": "4.02",
    "jd": 2460324.7373032,
    "fid": 1,
    "ra": 115.6046599,
    "dec": 28.2454403,
    "magpsf": 18.24,
    "sigmapsf": 0.05,
    "diffmaglim": 20.1,
    "isdiffpos": "t",
    "rb": 0.98,
    "drb": 0.99,
    "nbad": 0,
    "magdiff": -0.03,
    "jdstarthist": 2460324.7373032,
    "ndethist": 1,
    "ssdistnr": 0.0,
    "ssnamenr": "82914",
    "distpsnr1": 13.8,
    "sgscore1": 0.19,
    "srmag1": 21.2,
    "neargaia": 19.4,
    "maggaia": 18.1,
    "topic": "alerts.ztf",
    "partition": 3,
    "offset": 42,
}
LSST = {
    "diaSourceId": 170094456272322680,
    "diaObjectId": 170028485706776685,
    "ssObjectId": 0,
    "midpointMjdTai": 61105.093643486834,
    "ra": 63.35,
    "dec": -47.18,
    "raErr": 6.8e-6,
    "decErr": 6.6e-6,
    "band": "i",
    "psfFlux": 3630.780547701,
    "psfFluxErr": 363.0780547701,
    "snr": 10.0,
    "reliability": 0.87,
    "isNegative": False,
    "timeWithdrawnMjdTai": None,
    "firstDiaSourceMjdTai": 61090.0,
    "nDiaSources": 5,
    "topic": "alerts.lsst",
    "partition": 0,
    "offset": 7,
}


def one(survey: str, **changes: Any) -> dict[str, Any]:
    result = normalise(survey, rows(survey, changes))
    assert result.rejected == []
    return result.alerts.to_pylist()[0]


def rows(survey: str, *changes: dict[str, Any]) -> pa.Table:
    base = ZTF if survey == "ztf" else LSST
    return pa.Table.from_pylist([base | c for c in changes], schema=NATIVE_SCHEMAS[survey])


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_every_result_has_the_alert_schema(survey: str) -> None:
    full = normalise(survey, rows(survey, {}, {}))
    empty = normalise(survey, rows(survey))

    assert full.alerts.schema == ALERT_SCHEMA
    assert full.alerts.num_rows == 2
    assert empty.alerts.schema == ALERT_SCHEMA
    assert empty.alerts.num_rows == 0


def test_native_names_are_the_columns_of_the_schemas() -> None:
    for survey, names in (("ztf", ZTF_NATIVE), ("lsst", LSST_NATIVE)):
        assert [*names, "topic", "partition", "offset"] == NATIVE_SCHEMAS[survey].names


def test_ztf_values_come_through_with_their_meaning() -> None:
    alert = one("ztf")

    assert alert["object_id"] == "ZTF24aaccsty"
    assert alert["alert_id"] == 2570237305515015024
    assert alert["time_jd"] == 2460324.7373032
    assert (alert["filter"], alert["mag"], alert["positive"]) == ("g", 18.24, True)
    assert (alert["moving_name"], alert["moving_distance_arcsec"]) == ("82914", 0.0)
    assert (alert["topic"], alert["partition"], alert["offset"]) == ("alerts.ztf", 3, 42)
    assert alert["ra_dec_error_arcsec"] is None


@pytest.mark.parametrize(
    ("native", "column"),
    [
        ("magpsf", "mag"),
        ("diffmaglim", "limiting_mag"),
        ("rb", "real_bogus"),
        ("drb", "deep_real_bogus"),
        ("magdiff", "mag_difference"),
        ("ssdistnr", "moving_distance_arcsec"),
        ("distpsnr1", "ps1_distance_arcsec"),
        ("sgscore1", "ps1_star_score"),
        ("srmag1", "ps1_mag"),
        ("neargaia", "gaia_distance_arcsec"),
        ("maggaia", "gaia_mag"),
        ("jdstarthist", "first_detection_jd"),
    ],
)
@pytest.mark.parametrize("nothing", [-999.0, -99999.0, float("nan"), float("inf"), None])
def test_ztf_sentinels_become_null(native: str, column: str, nothing: float | None) -> None:
    assert one("ztf", **{native: nothing})[column] is None


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
@pytest.mark.parametrize("time", [0.0, 1e300, -1e300, 58849.0])
def test_a_first_detection_that_no_calendar_has_is_none(survey: str, time: float) -> None:
    """A flipped bit must not end whoever writes the time as a date."""
    name, value = ("jdstarthist", time) if survey == "ztf" else ("firstDiaSourceMjdTai", 1e9 + time)
    assert one(survey, **{name: value})["first_detection_jd"] is None


@pytest.mark.parametrize("text", ["null", "None", "", " null "])
def test_words_for_no_name_become_null(text: str) -> None:
    assert one("ztf", ssnamenr=text)["moving_name"] is None


@pytest.mark.parametrize(
    ("written", "positive"),
    [("t", True), ("1", True), ("T", True), ("f", False), ("0", False), (None, None), ("?", None)],
)
def test_isdiffpos_in_all_its_spellings(written: str | None, positive: bool | None) -> None:
    assert one("ztf", isdiffpos=written)["positive"] is positive


@pytest.mark.parametrize("column", [pa.array([True, False]), pa.array([1, 0])])
def test_isdiffpos_as_a_boolean_or_number(column: pa.Array) -> None:
    table = rows("ztf", {}, {})
    table = table.set_column(table.column_names.index("isdiffpos"), "isdiffpos", column)

    assert normalise("ztf", table).alerts["positive"].to_pylist() == [True, False]


@pytest.mark.parametrize(("fid", "name"), [(1, "g"), (2, "r"), (3, "i"), (4, None), (None, None)])
def test_ztf_filters(fid: int | None, name: str | None) -> None:
    assert one("ztf", fid=fid)["filter"] == name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ra": 360.0}, "ra_out_of_range"),
        ({"ra": -0.1}, "ra_out_of_range"),
        ({"ra": -999.0}, "ra_out_of_range"),
        ({"ra": float("inf")}, "ra_out_of_range"),
        ({"ra": float("nan")}, "null_required"),
        ({"dec": 90.01}, "dec_out_of_range"),
        ({"dec": None}, "null_required"),
        ({"jd": 60324.7}, "time_out_of_range"),
        ({"jd": None}, "null_required"),
        ({"objectId": None}, "null_required"),
        ({"objectId": "null"}, "null_required"),
        ({"candid": None}, "null_required"),
        ({k: None for k in ZTF if k not in ("topic", "partition", "offset")}, "null_required"),
    ],
)
def test_a_row_that_is_no_alert_is_rejected_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    result = normalise("ztf", rows("ztf", {}, changes, {"offset": 43}))

    assert [(r.row, r.reason) for r in result.rejected] == [(1, reason)]
    assert result.alerts["offset"].to_pylist() == [42, 43]


def test_the_edges_of_the_sky_are_alerts() -> None:
    table = rows("ztf", {"ra": 0.0, "dec": -90.0}, {"ra": 359.9999999, "dec": 90.0})

    assert normalise("ztf", table).rejected == []


def test_a_missing_column_counts_as_null() -> None:
    table = rows("ztf", {}).drop_columns(["drb", "neargaia"])

    assert normalise("ztf", table).alerts["deep_real_bogus"].to_pylist() == [None]


def test_a_column_of_another_type_is_refused() -> None:
    table = rows("ztf", {})
    table = table.set_column(table.column_names.index("ra"), "ra", pa.array(["north"]))

    with pytest.raises(AlertError) as caught:
        normalise("ztf", table)
    assert caught.value.reason == "wrong_type"


def test_an_unknown_survey_is_refused() -> None:
    with pytest.raises(AlertError) as caught:
        normalise("atlas", rows("ztf", {}))
    assert caught.value.reason == "unknown_survey"


def test_lsst_fluxes_become_ab_magnitudes() -> None:
    alert = one("lsst")
    flux = 3630.780547701 * u.nJy

    assert alert["mag"] == pytest.approx(flux.to_value(u.ABmag), abs=1e-3)
    assert alert["mag"] == pytest.approx(22.5, abs=1e-9)
    assert alert["mag_error"] == pytest.approx(0.1085736, abs=1e-6)
    assert alert["limiting_mag"] == pytest.approx(22.5 - 2.5 * np.log10(0.5), abs=1e-9)
    assert alert["ra_dec_error_arcsec"] == pytest.approx(6.8e-6 * 3600)


def test_a_negative_lsst_flux_has_a_magnitude_and_says_so() -> None:
    assert one("lsst", psfFlux=-1000.0, isNegative=True)["positive"] is False
    assert one("lsst", psfFlux=-1000.0, isNegative=None)["positive"] is False
    assert one("lsst", psfFlux=1000.0, isNegative=None)["positive"] is True
    assert one("lsst", psfFlux=-1000.0)["mag"] == pytest.approx(23.9)


@pytest.mark.parametrize("flux", [0.0, None, float("nan")])
def test_no_flux_no_magnitude(flux: float | None) -> None:
    alert = one("lsst", psfFlux=flux)

    assert (alert["mag"], alert["mag_error"]) == (None, None)
    assert alert["limiting_mag"] is not None


def test_an_lsst_source_of_a_minor_body_has_its_name() -> None:
    alert = one("lsst", diaObjectId=0, ssObjectId=21163611)

    assert alert["object_id"] == "ss21163611"
    assert (alert["moving_name"], alert["moving_distance_arcsec"]) == ("21163611", 0.0)


def test_an_lsst_source_without_any_object_is_rejected() -> None:
    result = normalise("lsst", rows("lsst", {"diaObjectId": None, "ssObjectId": 0}))

    assert [r.reason for r in result.rejected] == ["null_required"]


def test_a_single_lsst_source_is_its_own_first_detection() -> None:
    alone = one("lsst", nDiaSources=1, firstDiaSourceMjdTai=None)

    assert alone["first_detection_jd"] == alone["time_jd"]
    assert one("lsst", firstDiaSourceMjdTai=None)["first_detection_jd"] is None


@given(st.lists(st.none() | st.floats(), max_size=8))
def test_lsst_takes_back_what_has_a_time_of_it(times: list[float | None]) -> None:
    """Null, NaN, 0, -1 and infinities are no times."""
    alerts = normalise("lsst", rows("lsst", *({"timeWithdrawnMjdTai": t} for t in times))).alerts

    expected = [t is not None and 0 < t < float("inf") for t in times]
    assert alerts["withdrawn"].to_pylist() == expected


def test_without_the_field_nothing_is_taken_back() -> None:
    older = rows("lsst", {}).drop_columns(["timeWithdrawnMjdTai"])

    assert normalise("lsst", older).alerts["withdrawn"].to_pylist() == [False]
    assert one("ztf")["withdrawn"] is False


@pytest.mark.parametrize(("written", "band"), [("Y", "y"), ("g_01", "g"), ("x", None)])
def test_lsst_bands(written: str, band: str | None) -> None:
    assert one("lsst", band=written)["filter"] == band


def test_unix_seconds_in_place_of_a_date_are_rejected() -> None:
    result = normalise("lsst", rows("lsst", {"midpointMjdTai": 1480360995.0}))

    assert [r.reason for r in result.rejected] == ["time_out_of_range"]


def test_tai_to_utc_agrees_with_astropy_around_leap_seconds() -> None:
    # Days that do not end in a leap second themselves: astropy stretches those.
    mjd = np.array([41317.5, 51180.0, 57000.25, 57755.0, 57755.5, 60000.0, 61041.22617858066])
    expected = Time(mjd, format="mjd", scale="tai").utc.jd

    assert tai_mjd_to_utc_jd(mjd) == pytest.approx(expected, abs=2e-9, rel=0)


def test_the_leap_second_takes_effect_when_it_ends() -> None:
    # 2017-01-01T00:00:00 UTC is 00:00:37 TAI; one second earlier is the leap second.
    midnight = Time("2017-01-01T00:00:00", scale="utc")
    mjd = np.array([midnight.tai.mjd, midnight.tai.mjd - 2 / 86400])

    after, before = tai_mjd_to_utc_jd(mjd)

    assert after == pytest.approx(midnight.jd, abs=1e-9, rel=0)
    assert before == pytest.approx(midnight.jd - 1 / 86400, abs=1e-9, rel=0)


def test_magnitude_of_one_jansky() -> None:
    assert ab_magnitude(np.array([1e9]))[0] == pytest.approx(8.9)
