"""Times of rows, however they are written: Julian dates, modified ones, ISO 8601."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from astropy.time import Time

from catalogs.batches import Batch
from catalogs.kinds import Scale
from catalogs.tables import is_text, numbers
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray

# In lower case, best first: those that say what they are, then those that may be anything.
TIME_NAMES = (
    *("datetime_jd", "time_jd", "jd", "jd_utc", "julian_date", "date_________jdut", "epoch_jd"),
    *("jdref", "mjd", "mjd_utc", "time_mjd", "epoch_mjd"),
    *("jd_tt", "jd_tdb", "jdtdb", "mjd_tt", "mjd_tdb"),
    *("time", "time_utc", "datetime", "datetime_utc", "date", "date_utc", "utc", "obstime"),
    *("obs_time", "date_obs", "date-obs", "timestamp", "epoch"),
)
# The years 1900 and 2200. As modified dates they are far from any Julian date.
_FIRST_JD, _AFTER_JD = 2_415_020.5, 2_524_593.5
_MJD_JD = 2_400_000.5
_UNIX_JD = 2_440_587.5
# pandas takes more for a date than is meant as one, as 2026 and 20260301.
_ISO = r"^(19|20|21)\d{2}-\d{2}-\d{2}"


def scale_of(column: str) -> Scale:
    """Scale that the name of a column states, as `jd_tt` and `JDTDB` do; UTC without."""
    found = (scale for scale in (Scale.tdb, Scale.tt) if column.lower().endswith(scale))
    return next(found, Scale.utc)


def is_julian_date(value: float) -> bool:
    """Whether a number is a Julian date from 1900 to 2200."""
    return _FIRST_JD <= value < _AFTER_JD


def julian_dates(batch: Batch, rows: IntArray, column: str, scale: Scale) -> FloatArray:
    """Julian dates (UTC) of rows.

    Numbers are Julian dates, or modified ones, as the name of the column says; if it does
    not, each number does. Text is ISO 8601, UTC unless it names a zone.

    Parameters
    ----------
    rows : (n,) int64
        Their numbers in the batch, from 0.
    column : str
    scale : Scale
        Of the times as they are written.

    Returns
    -------
    (n,) float64

    Raises
    ------
    CatalogError
        ``not_a_time`` with row and column, also for what is before 1900 or after 2200.
    """
    values = batch.rows.columns[column].take(pa.array(rows))
    if is_text(values.type):
        found = _from_text(values)
    elif pa.types.is_temporal(values.type):
        stamps = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)))
        since = stamps.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy()
        found = since / 86_400e6 + _UNIX_JD
    else:
        found = _from_numbers(numbers(values), column)
    bad = np.flatnonzero(~((found >= _FIRST_JD) & (found < _AFTER_JD)))
    if bad.size:
        row = batch.first_row + int(rows[bad[0]])
        said = _said(values[int(bad[0])].as_py(), column)
        raise CatalogError("not_a_time", f"{batch.file}: row {row}, column {column}: {said}")
    return _utc(found, scale)


def _from_text(values: pa.ChunkedArray) -> FloatArray:
    meant = pc.match_substring_regex(values, _ISO)
    texts = pc.if_else(meant, values, None).to_pandas()
    stamps = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    days = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    return np.asarray(days, np.float64) + _UNIX_JD


def _from_numbers(values: FloatArray, column: str) -> FloatArray:
    name = column.lower()
    if "mjd" in name:
        return values + _MJD_JD
    if "jd" in name or "julian" in name:
        return values
    return np.where(values < _AFTER_JD - _MJD_JD, values + _MJD_JD, values)


def _said(value: object, column: str) -> str:
    """What is wrong with a time."""
    if value is None:
        return "no value"
    if isinstance(value, int | float) and is_julian_date(value):
        return f"{value} is a Julian date, and the name says that it is a modified one"
    if (
        isinstance(value, int | float)
        and is_julian_date(value + _MJD_JD)
        and "jd" in column.lower()
    ):
        return f"{value} is a modified Julian date, and the name says that it is none"
    return f"{value} is no time: a Julian date, a modified one or ISO 8601, from 1900 to 2200"


def _utc(time_jd: FloatArray, scale: Scale) -> FloatArray:
    """UTC of times; TDB is taken for TT, from which it is never 2 ms away."""
    if scale == Scale.utc:
        return time_jd
    with warnings.catch_warnings():
        # Leap seconds of years to come are not known; there are none then.
        warnings.simplefilter("ignore")
        return np.asarray(Time(time_jd, format="jd", scale="tt").utc.jd, np.float64)
