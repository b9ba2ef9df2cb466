"""Which candidates another configuration would give: what appears, what goes, what changes.

Both configurations are asked the same way: all regions and all alerts of the archive as one
batch, whose answer is what is in force once everything has arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from broker import fold
from broker.engine import Batch, Engine
from broker.events import Events
from broker.groups import Group, GroupKey
from broker.owed import span_of
from broker.regioncodec import RegionRecord
from crossmatch.candidate import WITHHELD
from crossmatch.chains import Chain
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.model import Region
from crossmatch.remote import Answer as LookupAnswer
from crossmatch.times import iso_utc
from crossmatch.verdicts import Verdict
from gateway.offline.pastalerts import Alerts
from gateway.offline.replayed import Packets, Settings, new_engine

_VERSIONS = frozenset({"cuts_version", "code_version"})


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Candidates in force by one configuration, and how they came about."""

    settings: Settings
    engine: Engine
    candidates: Mapping[GroupKey, Mapping[str, Any]]

    def statements(self) -> list[dict[str, Any]]:
        """The candidates as they would go to their topics, by event, world and object."""
        keys = sorted(self.candidates)
        return [copy for key in keys for copy in fold.copies(self.candidates[key])]


@dataclass(frozen=True, slots=True)
class Change:
    """A candidate that another configuration would not give, or give otherwise.

    ``kind`` is appears, goes, tier, score, or columns when only other columns differ. Tiers
    and scores are None where there is no candidate.
    """

    kind: str
    event_id: str
    role: str
    streams: tuple[str, ...]
    counterpart_id: str
    object_id: str
    tier_before: str | None
    tier_after: str | None
    score_before: float | None
    score_after: float | None
    reasons: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        lists = {name: list(getattr(self, name)) for name in ("streams", "reasons", "columns")}
        return asdict(self) | lists


class Holder(Protocol):
    """An archive, as far as it is asked here."""

    def of(self, regions: Sequence[Region], cuts: Cuts, last_batch: int) -> Alerts:
        """Alerts up to a batch that pass the cuts and lie in any of the regions."""


def answer(
    records: Iterable[RegionRecord],
    verdicts: Iterable[Verdict],
    archive: Holder,
    settings: Settings,
    packets: Packets,
    last_batch: int,
    lookups: Iterable[LookupAnswer] = (),
) -> Answer:
    """Candidates in force once all records, verdicts, archived alerts and lookups have arrived.

    Statements bear the time at which the event's notice was issued, so that they are the same
    whenever they are made, and with whichever other events.
    """
    records = list(records)
    moment = max(_issued(record) for record in records)
    events = Events(settings.include_tests)
    events.apply(records)
    alerts = archive.of(events.in_force(), settings.cuts, last_batch)
    packets.read(alerts)
    engine = new_engine(settings, packets.details, lambda: moment)
    rows = alerts.rows.select(ALERT_SCHEMA.names)
    engine.step(Batch(0, rows, records, verdicts=list(verdicts), lookups=list(lookups)))
    candidates = {}
    for key, group in engine.groups.items():
        region = engine.events.region(*key.event)
        if group.in_force and group.last is not None and region is not None:
            candidates[key] = group.last | {"alert_datetime": iso_utc(region.issued)}
    return Answer(settings, engine, candidates)


def _issued(record: RegionRecord) -> datetime:
    return datetime.fromisoformat(record.fields["issued"])


def adapted(
    record: RegionRecord, before: Mapping[str, Chain], after: Mapping[str, Chain]
) -> RegionRecord:
    """A region record as another configuration's chain would have made it.

    A region got its window and levels from its chain. Those that are as the chain has them now
    become those of the other one; a window that the feed gave is left as it is.
    """
    region = record.region
    if region is None or region.chain not in before or region.chain not in after:
        return record
    old, new = before[region.chain], after[region.chain]
    window = new.window if region.window == old.window else region.window
    expires = region.expires
    if expires == _expires(region, old, region.window.end_days):
        expires = _expires(region, new, window.end_days)
    changed = replace(
        region,
        window=window,
        expires=expires,
        level=new.level if region.level == old.level else region.level,
        level_silver=(
            new.level_silver if region.level_silver == old.level_silver else region.level_silver
        ),
    )
    return record if changed == region else replace(record, region=changed)


def _expires(region: Region, chain: Chain, end_days: float) -> datetime:
    days = end_days if chain.active_days is None else min(end_days, chain.active_days)
    return region.trigger_time + timedelta(days=days)


def changes(before: Answer, after: Answer) -> list[Change]:
    """What differs, ordered by event, world and object."""
    found = []
    for key in sorted({*before.candidates, *after.candidates}):
        was, now = before.candidates.get(key), after.candidates.get(key)
        if was is None and now is not None:
            reasons = _why_not(after.engine.groups[key], key, before, "no longer ")
            found.append(_change("appears", key, was, now, reasons))
        elif now is None and was is not None:
            reasons = _why_not(before.engine.groups[key], key, after, "")
            found.append(_change("goes", key, was, now, reasons))
        elif was is not None and now is not None:
            columns = _columns(was, now)
            if columns:
                found.append(_change(_kind(was, now), key, was, now, _factors(was, now), columns))
    return found


def _columns(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    names = set(was) - fold.STATEMENT_COLUMNS - _VERSIONS
    return tuple(name for name in was if name in names and was[name] != now[name])


def _kind(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for name in ("tier", "score"):
        if was[name] != now[name]:
            return name
    return "columns"


def _change(
    kind: str,
    key: GroupKey,
    was: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    reasons: Sequence[str],
    columns: tuple[str, ...] = (),
) -> Change:
    one = now or was or {}
    return Change(
        kind=kind,
        event_id=key.event_id,
        role=str(one["role"]),
        streams=key.streams,
        counterpart_id=key.counterpart_id,
        object_id=key.object_id,
        tier_before=None if was is None else was["tier"],
        tier_after=None if now is None else now["tier"],
        score_before=None if was is None else was["score"],
        score_after=None if now is None else now["score"],
        reasons=tuple(reasons),
        columns=columns,
    )


def _factors(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What raised or held the tier before and does not now, and the other way round."""
    old, new = was["factors"], now["factors"]
    lost = [f"without {factor}" for factor in old if factor not in new]
    gained = [f"with {factor}" for factor in new if factor not in old]
    if was["n_alerts"] != now["n_alerts"]:
        gained.append(f"alerts: {now['n_alerts']} in place of {was['n_alerts']}")
    return lost + gained


def _why_not(group: Group, key: GroupKey, other: Answer, prefix: str) -> list[str]:
    """Why a configuration has none of the alerts that another one has of an object."""
    region = other.engine.events.region(*key.event)
    if region is None:
        return [f"{prefix}without a region of the event"]
    there = other.engine.groups.get(key)
    if there is not None and there.alerts and (there.standing or "").startswith(WITHHELD):
        return [f"{prefix}{str(there.standing).replace('.', ' by ')}"]
    matched = list(group.alerts.values())
    rows = pa.Table.from_pylist([dict(m.alert) for m in matched], schema=ALERT_SCHEMA)
    cut = apply_cuts(rows, other.settings.cuts)
    start, end = span_of(region)
    reasons: Counter[str] = Counter()
    for i, one in enumerate(matched):
        names = [name for name, removed in cut.by_name.items() if removed[i]]
        if names:
            reasons[f"{prefix}cut by {names[0]}"] += 1
        elif one.credible_level > region.level:
            reasons[f"{prefix}outside of level {region.level:g}"] += 1
        elif not start < one.alert["time_jd"] <= end:
            window = region.window
            span = f"{window.start_days:g} to {window.end_days:g} days"
            reasons[f"{prefix}outside of the window, {span}"] += 1
    many = len(matched) > 1
    return [f"{text} ({n} alerts)" if many else text for text, n in sorted(reasons.items())]
