"""The batch twin of the live path: notices and alerts from files, pairs into a file.

The functions that decide are those of the live path (feeds, regions, normalisation,
cuts, match); only Kafka and Spark are left out, and every version of an event is
matched, not only the one in force.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from broker.packets import BadFile, alert_files, read_alerts
from broker.surveys import normalise
from crossmatch.chains import Chain
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.errors import AlertError, ConfigError, Rejected, ServiceError
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import Region, Window
from crossmatch.region import make_region
from crossmatch.selections import Selection
from gateway.feeds.registry import Registry
from gateway.intake import is_localised
from gateway.mapfolder import find_map
from gateway.offline.noticefiles import (
    BadNotice,
    NoticeFiles,
    NumberedNotice,
    numbered,
    read_notices,
)
from gateway.offline.selected import check_selection, select_pairs, simbad_arcsec
from gateway.understand import understand

# fmt: off
PAIR_SCHEMA = pa.schema([
    ("event_id", pa.string()), ("version", pa.int32()), ("notice", pa.string()),
    ("object_id", pa.string()), ("alert_id", pa.int64()), ("time_offset_days", pa.float64()),
    ("separation_deg", pa.float64()), ("credible_level", pa.float64()),
    ("probability_density_per_sr", pa.float64()), ("notice_file", pa.string()),
    ("trigger_id", pa.string()), ("messenger", pa.string()), ("kind", pa.string()),
    ("survey", pa.string()), ("ra_deg", pa.float64()), ("dec_deg", pa.float64()),
    ("time_jd", pa.float64()), ("mag", pa.float64()), ("filter", pa.string()),
    ("in_force", pa.bool_()),
])
# fmt: on
"""Columns of the output: one row per event, version and alert."""

OUTPUT_SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson", ".json")

_DAYS = {"s": 1 / 86400, "m": 1 / 1440, "min": 1 / 1440, "h": 1 / 24, "d": 1.0}
_BOUND = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(s|min|m|h|d)?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInput:
    """What to match and how; ``None`` leaves the chain's own window and level."""

    notices: Sequence[Path]
    alerts: Sequence[Path]
    window: Window | None = None
    level: float | None = None
    quality: bool = True
    include_tests: bool = False
    skymaps: Path | None = None
    table_columns: Mapping[str, Any] | None = None
    selection: Selection | None = None


class Progress(Protocol):
    """Where long work says how far it is; every method may do nothing."""

    def notice_file(self, name: str) -> None:
        """One more file of notices was read."""

    def alerts_total(self, size: int) -> None:
        """Bytes of alerts to come."""

    def alert_bytes(self, size: int) -> None:
        """Bytes of alerts that were read since the last call."""


class Silent:
    """Progress that nobody sees."""

    def notice_file(self, name: str) -> None:
        """Nothing."""

    def alerts_total(self, size: int) -> None:
        """Nothing."""

    def alert_bytes(self, size: int) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Matched:
    """A region with what the output says about its notice."""

    region: Region
    numbered: NumberedNotice


@dataclass(slots=True)
class BatchResult:
    """Pairs and the account of everything that was read.

    Notices: read = ignored + rejected + regions + those without region. Alerts: read =
    rejected + repeated + cut + those that were matched against the regions. ``pairs_cut`` is
    what each cut of the selection that was asked for removed first.
    """

    pairs: pa.Table
    notices: NoticeFiles
    regions: list[Matched]
    without_region: Counter[str]
    alerts_read: int = 0
    alerts_repeated: int = 0
    alerts_matched: int = 0
    alerts_rejected: Counter[str] = field(default_factory=Counter)
    alerts_cut: Counter[str] = field(default_factory=Counter)
    pairs_cut: Counter[str] = field(default_factory=Counter)
    bad_alert_files: list[BadFile] = field(default_factory=list)
    bad_localizations: list[BadNotice] = field(default_factory=list)

    def pairs_by_version(self) -> Counter[tuple[str, int]]:
        """Number of pairs of each event and version."""
        columns = (self.pairs[c].to_pylist() for c in ("event_id", "version"))
        return Counter(zip(*columns, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """The account as plain values for ``--json``."""
        counts = self.pairs_by_version()
        events = [
            {
                "event_id": m.region.event_id,
                "version": m.region.version,
                "notice": m.region.notice_id,
                "kind": m.region.kind,
                "chain": m.region.chain,
                "level": m.region.level,
                "in_force": m.numbered.in_force,
                "pairs": counts[m.region.event_id, m.region.version],
            }
            for m in self.regions
        ]
        return {
            "notices": {
                "read": self.notices.read,
                "ignored": dict(sorted(self.notices.ignored.items())),
                "rejected": dict(sorted(self.rejected_notices().items())),
                "without_region": dict(sorted(self.without_region.items())),
            },
            "regions": len(self.regions),
            "alerts": {
                "read": self.alerts_read,
                "rejected": dict(sorted(self.alerts_rejected.items())),
                "repeated": self.alerts_repeated,
                "cut": dict(self.alerts_cut),
                "matched": self.alerts_matched,
                "bad_files": [
                    {"file": b.path, "reason": b.reason, "detail": b.detail}
                    for b in self.bad_alert_files
                ],
            },
            "pairs": self.pairs.num_rows,
            "pairs_cut": dict(self.pairs_cut),
            "events": [e for e in events if e["pairs"]],
        }

    def rejected_notices(self) -> Counter[str]:
        """Notices that could not be read, by reason."""
        return Counter(b.reason for b in self.notices.rejected)


def crossmatch(
    given: BatchInput,
    registry: Registry,
    chains: Mapping[str, Chain],
    cuts: Cuts,
    lsst_schemas: Mapping[int, str],
    progress: Progress | None = None,
) -> BatchResult:
    """All pairs of an alert and a version of an event that holds it.

    Every version is matched, superseded ones too; versions that were retracted, and
    tests unless they are asked for, are left out and counted. An alert that occurs
    several times counts once.

    Raises
    ------
    ConfigError
        If a path does not exist or the level is not in (0, 1].
    """
    progress = progress or Silent()
    for path in (*given.notices, *given.alerts):
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
    if given.level is not None and not 0 < given.level <= 1:
        raise ConfigError(f"--level {given.level} is not in (0, 1]")
    if given.skymaps is not None and not given.skymaps.is_dir():
        raise ConfigError(f"{given.skymaps}: no such folder with sky maps")
    if given.selection is not None:
        check_selection(given.selection)
    maps = partial(find_map, given.skymaps)
    notices = read_notices(
        given.notices,
        partial(understand, registry, chains, find_map=maps, heed_pause=False),
        find_map=maps,
        table_columns=given.table_columns,
        advance=progress.notice_file,
    )
    regions, without, bad = make_regions(notices, given, chains)
    result = BatchResult(PAIR_SCHEMA.empty_table(), notices, regions, without)
    result.bad_localizations = bad
    _match_alerts(given, cuts, lsst_schemas, result, progress)
    return result


def make_regions(
    files: NoticeFiles, given: BatchInput, chains: Mapping[str, Chain]
) -> tuple[list[Matched], Counter[str], list[BadNotice]]:
    """Regions of all versions, the notices without one by reason, and wrong localisations."""
    regions: list[Matched] = []
    without = _unplaced(files)
    bad: list[BadNotice] = []
    for item in numbered(files.notices):
        notice = item.notice
        if notice.role != "observation" and not given.include_tests:
            without[f"role_{notice.role}"] += 1
            continue
        if item.retracted:
            without["retracted"] += 1
            continue
        try:
            region = make_region(
                notice, item.version, chains, level=given.level, window=given.window
            )
        except Rejected as error:
            without[error.reason] += 1
            bad.append(BadNotice(item.file, error.reason, error.detail))
            continue
        regions.append(Matched(region, item))
    return regions, without, bad


def _unplaced(files: NoticeFiles) -> Counter[str]:
    """Notices that no region can be made of, and repeated ones, by reason."""
    reasons: Counter[str] = Counter()
    seen: set[str] = set()
    for filed in files.notices:
        notice = filed.notice
        if notice.sha256 in seen:
            reasons["repeated"] += 1
        elif notice.alert_type == "retraction":
            reasons["retraction"] += 1
        elif not is_localised(notice):
            reasons[f"no_position ({notice.no_position_reason or 'not given'})"] += 1
        seen.add(notice.sha256)
    return reasons


def _match_alerts(
    given: BatchInput,
    cuts: Cuts,
    lsst_schemas: Mapping[int, str],
    result: BatchResult,
    progress: Progress,
) -> None:
    index = RegionIndex.build([m.region for m in result.regions])
    tables = [PAIR_SCHEMA.empty_table()]
    seen = _Seen()
    progress.alerts_total(sum(p.stat().st_size for p in alert_files(given.alerts)))
    batches = read_alerts(
        given.alerts,
        lsst_schemas,
        report=result.bad_alert_files.append,
        progress=progress.alert_bytes,
    )
    for batch in batches:
        try:
            good = normalise(batch.survey, batch.native)
        except AlertError as error:
            file = str(batch.native["topic"][0])
            result.bad_alert_files.append(BadFile(file, error.reason, error.detail))
            continue
        result.alerts_read += batch.native.num_rows
        result.alerts_rejected.update(r.reason for r in good.rejected)
        alerts = seen.new_ones(batch.survey, good.alerts)
        result.alerts_repeated += good.alerts.num_rows - alerts.num_rows
        if given.quality:
            cut = apply_cuts(alerts, cuts)
            result.alerts_cut.update({n: c for n, c in cut.removed.items() if c})
            alerts = alerts.filter(pa.array(cut.keep))
        time_jd, ra, dec = (alerts[c].to_numpy() for c in ("time_jd", "ra_deg", "dec_deg"))
        pairs = match(time_jd, ra, dec, index)
        if given.selection is not None:
            simbad = simbad_arcsec(batch.native, alerts)
            keep, removed = select_pairs(given.selection, alerts, simbad, pairs, index.regions)
            result.pairs_cut.update(removed)
            pairs = pairs[np.flatnonzero(keep)]
        result.alerts_matched += len(np.unique(pairs.alert_row))
        tables.append(_pair_table(alerts, pairs, result.regions))
    order = [("event_id", "ascending"), ("version", "ascending"), ("time_jd", "ascending")]
    result.pairs = pa.concat_tables(tables).sort_by([*order, ("alert_id", "ascending")])


class _Seen:
    """Alerts that came before, by survey and number."""

    def __init__(self) -> None:
        self._ids: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}

    def new_ones(self, survey: str, alerts: pa.Table) -> pa.Table:
        """Alerts whose number did not occur before, each once, in their order."""
        ids = alerts["alert_id"].to_numpy()
        before = self._ids.get(survey, np.empty(0, np.int64))
        _, first = np.unique(ids, return_index=True)
        first = np.sort(first[~np.isin(ids[first], before)])
        self._ids[survey] = np.concatenate([before, ids[first]])
        return alerts if len(first) == alerts.num_rows else alerts.take(pa.array(first))


def _pair_table(alerts: pa.Table, pairs: Any, regions: Sequence[Matched]) -> pa.Table:
    rows = pa.array(pairs.region_row)
    about = {
        "event_id": [m.region.event_id for m in regions],
        "version": [m.region.version for m in regions],
        "notice": [m.region.notice_id for m in regions],
        "notice_file": [m.numbered.file for m in regions],
        "trigger_id": [m.numbered.notice.trigger_id for m in regions],
        "messenger": [m.region.messenger for m in regions],
        "kind": [m.region.kind for m in regions],
        "in_force": [m.numbered.in_force for m in regions],
    }
    columns: dict[str, Any] = {
        name: pa.array(values, PAIR_SCHEMA.field(name).type).take(rows)
        for name, values in about.items()
    }
    matched = alerts.take(pa.array(pairs.alert_row))
    columns |= {
        "time_offset_days": pairs.time_offset_days,
        "separation_deg": pairs.separation_deg,
        "credible_level": pairs.credible_level,
        "probability_density_per_sr": pairs.density_per_sr,
    }
    arrays = [columns[n] if n in columns else matched[n] for n in PAIR_SCHEMA.names]
    return pa.table(arrays, schema=PAIR_SCHEMA)


def parse_window(text: str) -> Window:
    """Window from ``0..7d`` or ``-600s..20d``: start and end after the trigger.

    Units are s, m (or min), h and d; a bound without one has that of the other, else days.

    Raises
    ------
    ConfigError
        If it is not of that form or does not increase.

    Examples
    --------
    >>> parse_window("0..7d")
    Window(start_days=0.0, end_days=7.0)
    """
    bounds = [_BOUND.fullmatch(part) for part in text.split("..")]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        raise ConfigError(f"--window {text!r}: write it as 0..7d or -600s..20d")
    (start, start_unit), (end, end_unit) = bounds[0].groups(), bounds[1].groups()
    window = Window(
        float(start) * _DAYS[start_unit or end_unit or "d"],
        float(end) * _DAYS[end_unit or start_unit or "d"],
    )
    if window.start_days >= window.end_days:
        raise ConfigError(f"--window {text!r}: the end must lie after the start")
    return window


def check_output(path: Path) -> None:
    """Raise ConfigError when `write_pairs` could not write there, before any work is done."""
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(
            f"--out {path}: name a file ending in .csv, .parquet or .jsonl (JSON lines)"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.absolute().parent}")


def write_pairs(pairs: pa.Table, path: Path) -> None:
    """Write the table as CSV, Parquet or JSON lines, by the suffix.

    Raises
    ------
    ConfigError
        For another suffix or a missing folder.
    ServiceError
        If it cannot be written.
    """
    check_output(path)
    try:
        if path.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(pairs, path, _csv_options())
        elif path.suffix.lower() == ".parquet":
            pq.write_table(pairs, path)
        else:
            with path.open("w", encoding="utf-8") as file:
                for batch in pairs.to_batches(max_chunksize=10_000):
                    file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
    except OSError as error:
        raise ServiceError(f"{path}: cannot be written: {error.strerror or error}") from error


def _csv_options() -> pyarrow.csv.WriteOptions:
    return pyarrow.csv.WriteOptions(quoting_style="needed")
