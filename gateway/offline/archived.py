"""Alerts of the archive that lie in a region: what it would have matched had it been live."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from broker.archive import AlertArchive
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.errors import ConfigError
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import Region
from crossmatch.region import cover_ranges
from crossmatch.times import datetime_from_jd, iso_utc, jd_from_datetime

# Above every batch that there will ever be.
_ALL_BATCHES = 2**62
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_SHOWN = ("survey", "object_id", "alert_id", "ra_deg", "dec_deg", "filter", "mag")


def archive_of(state: Path) -> AlertArchive | None:
    """The archive under the state folder; ``None`` when nothing was archived yet."""
    archive = AlertArchive(state / "alerts")
    if not archive.path.is_dir() or archive.last_batch() < 0:
        return None
    return archive


def parse_since(text: str, now: datetime) -> datetime:
    """Moment from ``2024-01-12``, ``2024-01-12T06:30`` (UTC) or an age such as ``7d``.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> parse_since("7d", datetime(2024, 1, 12, tzinfo=UTC)).isoformat()
    '2024-01-05T00:00:00+00:00'
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return now - float(ago[1]) * _UNITS[ago[2]]
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {text!r}: write a date (2024-01-12, 2024-01-12T06:30 UTC) or an age"
            " (7d, 12h, 90min)"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def archived_matches(
    archive: AlertArchive, region: Region, cuts: Cuts, since: datetime
) -> list[dict[str, Any]]:
    """Alerts exposed after ``since`` that the region holds in place and time.

    By the cuts, the index and the match of the live search of the archive.

    Returns
    -------
    list of dict
        ``survey``, ``object_id``, ``alert_id``, ``time_utc``, ``ra_deg``, ``dec_deg``,
        ``filter``, ``mag``, ``credible_level``, ``separation_deg``, ``time_offset_days``,
        in the order of credible levels.
    """
    trigger = jd_from_datetime(region.trigger_time)
    rows = archive.search(
        cover_ranges(region.localization, region.level),
        max(trigger + region.window.start_days, jd_from_datetime(since)),
        trigger + region.window.end_days,
        _ALL_BATCHES,
    )
    rows = rows.filter(pa.array(apply_cuts(rows, cuts).keep))
    index = RegionIndex.build([region])
    time_jd, ra, dec = (rows[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg"))
    pairs = match(time_jd, ra, dec, index)
    found = rows.take(pa.array(pairs.alert_row)).to_pylist()
    matches = [
        {name: alert[name] for name in _SHOWN}
        | {
            "time_utc": iso_utc(datetime_from_jd(alert["time_jd"])),
            "credible_level": float(pairs.credible_level[i]),
            "separation_deg": float(pairs.separation_deg[i]),
            "time_offset_days": float(pairs.time_offset_days[i]),
        }
        for i, alert in enumerate(found)
    ]
    return sorted(matches, key=lambda m: (m["credible_level"], m["alert_id"]))
