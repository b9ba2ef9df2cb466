"""Alerts of the archive that lie in a region: what it would have matched had it been live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from broker.archive import AlertArchive
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.errors import ConfigError
from crossmatch.index import RegionIndex
from crossmatch.match import Pairs, match
from crossmatch.model import Region
from crossmatch.region import cover_ranges
from crossmatch.times import datetime_from_jd, iso_utc, jd_from_datetime

# Above every batch that there will ever be.
_ALL_BATCHES = 2**62
# The end of the year 9998: no alert is later.
_LATEST_JD = 5373000.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search of the archive found, step by step.

    ``looked_at`` alerts were exposed after the moment asked for, ``in_window`` of them in the
    region's window of time, ``in_region`` of these in its place; ``cut`` of those by the cuts
    of the live search. The rest are ``matches``.
    """

    looked_at: int
    in_window: int
    in_region: int
    cut: int
    matches: list[dict[str, Any]]


def archived_matches(
    archive: AlertArchive, region: Region, cuts: Cuts, since: datetime
) -> Searched:
    """Alerts exposed after ``since`` that the region holds in place and time.

    By the cuts, the index and the match of the live search of the archive.

    Returns
    -------
    Searched
        Its matches have ``survey``, ``object_id``, ``alert_id``, ``time_utc``, ``ra_deg``,
        ``dec_deg``, ``filter``, ``mag``, ``credible_level``, ``separation_deg``,
        ``time_offset_days``, in the order of credible levels.
    """
    trigger, after = jd_from_datetime(region.trigger_time), jd_from_datetime(since)
    start = max(trigger + region.window.start_days, after)
    end = trigger + region.window.end_days
    place = cover_ranges(region.localization, region.level)
    rows = archive.search(place, start, end, _ALL_BATCHES)
    index = RegionIndex.build([region])
    inside = _pairs(rows, index)
    kept = rows.take(pa.array(inside.alert_row))
    good = kept.filter(pa.array(apply_cuts(kept, cuts).keep))
    pairs = _pairs(good, index)
    found = good.take(pa.array(pairs.alert_row)).to_pylist()
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
    return Searched(
        looked_at=archive.count_between(after, _LATEST_JD),
        in_window=archive.count_between(start, end) if end > start else 0,
        in_region=kept.num_rows,
        cut=kept.num_rows - good.num_rows,
        matches=sorted(matches, key=lambda m: (m["credible_level"], m["alert_id"])),
    )


def _pairs(rows: pa.Table, index: RegionIndex) -> Pairs:
    time_jd, ra, dec = (rows[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg"))
    return match(time_jd, ra, dec, index)
