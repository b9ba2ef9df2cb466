"""One step of the broker: a batch of alerts and regions in, statements out.

No Spark and no Kafka here: the live query, the in-memory runner of the tests and the
replay of an archive call the same :meth:`Engine.step`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from broker import fold
from broker.archive import night_of
from broker.codec import RegionRecord
from broker.events import Change, Events
from broker.fold import Group, GroupKey
from crossmatch.candidate import Context, EventDistance, MatchedAlert, Versions, assess
from crossmatch.chains import Chain
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.lightcurve import Detection
from crossmatch.match import Pairs, match
from crossmatch.model import FloatArray, IntArray, MultiOrderMap, Region
from crossmatch.region import cover_ranges, distance_at
from crossmatch.times import iso_utc, jd_from_datetime
from crossmatch.versions import World, world_of

Address = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class PacketDetail:
    """What only the whole packet tells: its light curve and its digest."""

    history: tuple[Detection, ...] = ()
    sha256: str = ""


class Archive(Protocol):
    """The archive as a step needs it."""

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """Add the alerts of a batch once."""

    def search(
        self, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        """Alerts of earlier batches in a span of time and sky."""

    def known_ids(self, survey: str, night: str, before_batch: int) -> IntArray:
        """Alert ids of a survey's night that came in earlier batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a step: good alerts, region records in order, how many alerts were rejected."""

    batch_id: int
    alerts: pa.Table
    records: Sequence[RegionRecord] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Output of a step; it becomes visible in one transaction."""

    batch_id: int
    statements: list[dict[str, Any]]
    groups: dict[GroupKey, Group]
    ledger: dict[str, int]


PacketSource = Callable[[Sequence[Address]], Mapping[Address, PacketDetail]]
Lookup = Callable[[FloatArray, FloatArray], Sequence[Context]]


def no_packets(_: Sequence[Address]) -> Mapping[Address, PacketDetail]:
    """A source without whole packets."""
    return {}


def no_lookup(ra_deg: FloatArray, _: FloatArray) -> Sequence[Context]:
    """A look-up without catalogues."""
    return [Context()] * len(ra_deg)


class Engine:
    """Events, groups and the index of one broker.

    Parameters
    ----------
    chains : mapping of str to Chain
    cuts : Cuts
    versions : Versions
    archive : Archive
    now : callable
        The clock for ``alert_datetime``.
    packets, lookup : callable
        Whole packets by address; catalogue answers by position.
    include_tests : bool
        Whether test events are matched.
    """

    def __init__(
        self,
        *,
        chains: Mapping[str, Chain],
        cuts: Cuts,
        versions: Versions,
        archive: Archive,
        now: Callable[[], datetime],
        packets: PacketSource = no_packets,
        lookup: Lookup = no_lookup,
        include_tests: bool = False,
    ) -> None:
        self.chains = chains
        self._cuts = cuts
        self._versions = versions
        self._archive = archive
        self._now = now
        self._packets = packets
        self._lookup = lookup
        self.events = Events(include_tests)
        self.groups: dict[GroupKey, Group] = {}
        self._index = RegionIndex.build([])

    def restore(self, records: Iterable[RegionRecord], groups: Mapping[GroupKey, Group]) -> None:
        """State as after the last committed step: region records taken in, groups as stored."""
        self.events.apply(records)
        self.groups = dict(groups)
        self._index = RegionIndex.build(self.events.in_force())

    def step(self, batch: Batch) -> Outcome:
        """Take a batch in.

        A region that arrives with the batch is searched in the archive of the batches
        before it; the batch's own alerts meet all regions in force after it. So each
        pair of alert and region version is evaluated once, by one of the two paths.
        """
        moment = iso_utc(self._now())
        ledger: Counter[str] = Counter(
            {f"rejected.{reason}": n for reason, n in batch.rejected.items()}
        )
        ledger["received"] = batch.alerts.num_rows + sum(batch.rejected.values())
        touched: dict[GroupKey, str] = {}
        statements: list[dict[str, Any]] = []
        for change in self.events.apply(batch.records):
            statements += self._change_region(change, batch.batch_id, touched, moment)
        fresh = self._without_repeats(batch, ledger)
        self._archive.append(fresh, batch.batch_id)
        self._match_live(fresh, touched, ledger)
        statements += self._state(touched, moment)
        ledger["statements"] = len(statements)
        return Outcome(
            batch_id=batch.batch_id,
            statements=statements,
            groups={key: self.groups[key] for key in touched},
            ledger={k: v for k, v in ledger.items() if v},
        )

    def _change_region(
        self, change: Change, batch_id: int, touched: dict[GroupKey, str], moment: str
    ) -> list[dict[str, Any]]:
        """Search the archive for a new region; withdraw what it no longer holds."""
        if change.before is not None:
            self._index.discard(lambda region: region is change.before)
        found: dict[GroupKey, list[MatchedAlert]] = {}
        if change.after is not None:
            self._index.add(change.after)
            found = self._search(change.after, batch_id)
        reason = "event_retracted" if change.after is None else "outside_revised_region"
        statements = []
        event = (change.event_id, change.world)
        for key in [k for k in self.groups if (k.event_id, k.world) == event]:
            if key not in found:
                statement = fold.withdrawn(key, self.groups[key], reason, moment)
                touched.setdefault(key, reason)
                statements += [statement] if statement else []
        for key, alerts in found.items():
            group = self.groups.setdefault(key, Group())
            known = group.alerts
            group.alerts = {
                a.alert["alert_id"]: _keep_detail(a, known.get(a.alert["alert_id"])) for a in alerts
            }
            touched[key] = "new_candidate" if group.last is None else "region_revised"
        return statements

    def _search(self, region: Region, before_batch: int) -> dict[GroupKey, list[MatchedAlert]]:
        trigger = jd_from_datetime(region.trigger_time)
        rows = self._archive.search(
            cover_ranges(region.localization, region.level),
            trigger + region.window.start_days,
            trigger + region.window.end_days,
            before_batch,
        ).select(ALERT_SCHEMA.names)
        rows = rows.filter(pa.array(apply_cuts(rows, self._cuts).keep))
        index = RegionIndex.build([region])
        return self._grouped(rows, _match_table(rows, index), index)

    def _without_repeats(self, batch: Batch, ledger: Counter[str]) -> pa.Table:
        """Alerts whose number neither came earlier in this batch nor in their archived night."""
        alerts = batch.alerts
        keep = np.zeros(alerts.num_rows, dtype=bool)
        ids = alerts["alert_id"].to_numpy()
        surveys = np.asarray(alerts["survey"])
        for survey in np.unique(surveys):
            # Numbers are a survey's own.
            rows = np.flatnonzero(surveys == survey)
            _, first = np.unique(ids[rows], return_index=True)
            rows = rows[first]
            nights = np.asarray(night_of(alerts["time_jd"].take(pa.array(rows))))
            for night in np.unique(nights):
                tonight = rows[nights == night]
                known = self._archive.known_ids(str(survey), str(night), batch.batch_id)
                keep[tonight] = ~np.isin(ids[tonight], known)
        ledger["duplicate"] += int((~keep).sum())
        return alerts.filter(pa.array(keep))

    def _match_live(
        self, alerts: pa.Table, touched: dict[GroupKey, str], ledger: Counter[str]
    ) -> None:
        cut = apply_cuts(alerts, self._cuts)
        for name, count in cut.removed.items():
            ledger[f"cut.{name}"] += count
        rows = alerts.filter(pa.array(cut.keep))
        pairs = _match_table(rows, self._index)
        matched = len(np.unique(pairs.alert_row))
        ledger["matched"] += matched
        ledger["unmatched"] += rows.num_rows - matched
        ledger["pairs"] += len(pairs.alert_row)
        for key, alerts_of_group in self._grouped(rows, pairs, self._index).items():
            group = self.groups.setdefault(key, Group())
            for alert in alerts_of_group:
                group.alerts[alert.alert["alert_id"]] = alert
            if not group.in_force:
                # Also when it was withdrawn a moment ago, in this very step.
                touched[key] = "new_candidate"
            touched.setdefault(key, "new_alert")

    def _grouped(
        self, rows: pa.Table, pairs: Pairs, index: RegionIndex
    ) -> dict[GroupKey, list[MatchedAlert]]:
        wanted, where = np.unique(pairs.alert_row, return_inverse=True)
        survivors = rows.take(pa.array(wanted)).to_pylist()
        addresses = [(a["topic"], a["partition"], a["offset"]) for a in survivors]
        details = self._packets(addresses)
        groups: dict[GroupKey, list[MatchedAlert]] = {}
        for i, survivor in enumerate(where):
            alert = survivors[survivor]
            region = index.regions[pairs.region_row[i]]
            detail = details.get(addresses[survivor], PacketDetail())
            world = world_of(region.role, region.streams)
            key = GroupKey(region.event_id, alert["survey"], alert["object_id"], *world)
            groups.setdefault(key, []).append(
                MatchedAlert(
                    alert=alert,
                    credible_level=float(pairs.credible_level[i]),
                    density_per_sr=float(pairs.density_per_sr[i]),
                    separation_deg=float(pairs.separation_deg[i]),
                    history=detail.history,
                    sha256=detail.sha256,
                )
            )
        return groups

    def _state(self, touched: Mapping[GroupKey, str], moment: str) -> list[dict[str, Any]]:
        """Statements about the touched groups that have alerts."""
        keys = [k for k in sorted(touched) if self.groups[k].alerts]
        if not keys:
            return []
        places = np.array([_place(self.groups[k]) for k in keys], dtype=np.float64)
        contexts = self._lookup(places[:, 0], places[:, 1])
        distances = self._distances(keys, places)
        statements = []
        for key, context, distance in zip(keys, contexts, distances, strict=True):
            group = self.groups[key]
            group.context = context
            region = self.events.region(key.event_id, key.world)
            assert region is not None, "a group with alerts has a region in force"
            columns = assess(
                region,
                self.chains[region.chain],
                list(group.alerts.values()),
                context,
                distance,
                self._versions,
            )
            statement = fold.revised(key, group, columns, touched[key], moment)
            statements += [statement] if statement else []
        return statements

    def _distances(self, keys: Sequence[GroupKey], places: FloatArray) -> list[EventDistance]:
        found = [EventDistance()] * len(keys)
        by_event: dict[tuple[str, World], list[int]] = {}
        for i, key in enumerate(keys):
            by_event.setdefault((key.event_id, key.world), []).append(i)
        for event, rows in by_event.items():
            region = self.events.region(*event)
            if region is None or not isinstance(region.localization, MultiOrderMap):
                continue
            at = distance_at(region.localization, places[rows, 0], places[rows, 1])
            if at is None:
                continue
            for row, mean, sigma in zip(rows, *at, strict=True):
                if np.isfinite(mean) and np.isfinite(sigma):
                    found[row] = EventDistance(float(mean), float(sigma))
        return found


def _match_table(rows: pa.Table, index: RegionIndex) -> Pairs:
    return match(
        rows["time_jd"].to_numpy(), rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), index
    )


def _keep_detail(new: MatchedAlert, old: MatchedAlert | None) -> MatchedAlert:
    """A packet that could be read once may have left Kafka since: what it told is kept."""
    if old is None or new.sha256 or not old.sha256:
        return new
    return MatchedAlert(
        new.alert,
        new.credible_level,
        new.density_per_sr,
        new.separation_deg,
        old.history,
        old.sha256,
    )


def _place(group: Group) -> tuple[float, float]:
    latest = max(group.alerts.values(), key=lambda a: (a.alert["time_jd"], a.alert["alert_id"]))
    return latest.alert["ra_deg"], latest.alert["dec_deg"]
