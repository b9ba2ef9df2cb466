"""Which alerts match which regions: the one rule of live stream, archive search and replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from broker.groups import Group, GroupKey
from broker.places import Good
from crossmatch.ahead import Found, match_found
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import CutResult, Cuts, apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.lightcurve import Detection
from crossmatch.match import Pairs, match
from crossmatch.model import IntArray, Region
from crossmatch.versions import world_of

Address: TypeAlias = tuple[str, int, int]
Matches: TypeAlias = dict[GroupKey, list[MatchedAlert]]

_PACKETS = 500
"""Whole packets in memory at a time: a region of half the sky matches a hundred thousand."""


@dataclass(frozen=True, slots=True)
class PacketDetail:
    """What only the whole packet tells: its light curve and its digest."""

    history: tuple[Detection, ...] = ()
    sha256: str = ""


PacketSource: TypeAlias = Callable[[Sequence[MatchedAlert]], Mapping[Address, PacketDetail]]


def no_packets(_: Sequence[MatchedAlert]) -> Mapping[Address, PacketDetail]:
    """A source without whole packets."""
    return {}


def address_of(alert: Mapping[str, object]) -> Address:
    """Where the packet of an alert lies: topic, partition, offset."""
    return alert["topic"], alert["partition"], alert["offset"]  # type: ignore[return-value]


class Judge:
    """Cuts, the join with regions, and what whole packets add.

    Parameters
    ----------
    cuts : Cuts
    packets : callable
        From matched alerts to what their packets tell, by address.
    """

    def __init__(self, cuts: Cuts, packets: PacketSource = no_packets) -> None:
        self.cuts = cuts
        self._packets = packets

    def cut(self, alerts: pa.Table) -> CutResult:
        """Which alerts pass the quality cuts."""
        return apply_cuts(alerts, self.cuts)

    def pairs(self, alerts: pa.Table, index: RegionIndex, found: Found | None = None) -> Pairs:
        """All pairs of alerts and regions; with ``found`` only what it lacks is looked for."""
        time_jd, ra, dec = (alerts[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg"))
        if found is None:
            return match(time_jd, ra, dec, index)
        return match_found(time_jd, ra, dec, index, found)

    def grouped(self, alerts: pa.Table, pairs: Pairs, index: RegionIndex) -> Matches:
        """Pairs as matched alerts of groups, with what their packets tell."""
        groups: defaultdict[tuple[int, str, str], list[MatchedAlert]] = defaultdict(list)
        wanted, where = np.unique(pairs.alert_row, return_inverse=True)
        for begin in range(0, len(wanted), _PACKETS):
            some = wanted[begin : begin + _PACKETS]
            mine = np.flatnonzero((where >= begin) & (where < begin + _PACKETS))
            matched = _matched(alerts.take(pa.array(some)), pairs[mine], where[mine] - begin)
            details = self._packets(list({address_of(m.alert): m for m in matched}.values()))
            for one, row in zip(matched, pairs.region_row[mine].tolist(), strict=True):
                if details and (detail := details.get(address_of(one.alert))) is not None:
                    one = _with_detail(one, detail)
                groups[row, one.alert["survey"], one.alert["object_id"]].append(one)
        found: Matches = {}
        for (row, _, _), members in groups.items():
            # Two regions may be of one event, as of two worlds that became one.
            found.setdefault(key_of(members[0].alert, index.regions[row]), []).extend(members)
        return found

    def search(self, alerts: pa.Table, index: RegionIndex, before_batch: IntArray) -> Matches:
        """Alerts of the archive that pass the cuts and lie in regions.

        Parameters
        ----------
        alerts : pyarrow.Table
            With the column ``batch_id`` beside those of an alert.
        index : RegionIndex
        before_batch : (len(index),) int64
            A region is searched in alerts of batches below this one.
        """
        good = alerts.filter(pa.array(self.cut(alerts).keep))
        pairs = self.pairs(good, index)
        earlier = good["batch_id"].to_numpy()[pairs.alert_row] < before_batch[pairs.region_row]
        return self.grouped(good, pairs[earlier], index)

    @property
    def good(self) -> Good:
        """The cuts, for who reads alerts only to search among them."""
        return Good(self.cuts.columns, lambda alerts: self.cut(alerts).keep)

    def again(self, groups: Mapping[GroupKey, Group], region: Region | None) -> Matches:
        """Alerts of groups judged anew, by another version of their event's region.

        What packets told of them stays: they may have left Kafka since.
        """
        held = [(key, alert) for key, group in groups.items() for alert in group.alerts.values()]
        if region is None or not held:
            return {}
        rows = pa.Table.from_pylist([dict(a.alert) for _, a in held], schema=ALERT_SCHEMA)
        keep = np.flatnonzero(self.cut(rows).keep)
        rows = rows.take(pa.array(keep))
        pairs = self.pairs(rows, RegionIndex.build([region]))
        found: Matches = {}
        for row, one in zip(pairs.alert_row, _matched(rows, pairs, pairs.alert_row), strict=True):
            key, old = held[keep[row]]
            detail = PacketDetail(old.history, old.sha256)
            found.setdefault(key, []).append(_with_detail(one, detail))
        return found


def key_of(alert: Mapping[str, object], region: Region) -> GroupKey:
    """Group of an alert inside a region."""
    world = world_of(region.role, region.streams)
    return GroupKey(region.event_id, str(alert["survey"]), str(alert["object_id"]), *world)


def _matched(alerts: pa.Table, pairs: Pairs, row_of_pair: Iterable[int]) -> list[MatchedAlert]:
    rows = alerts.select(ALERT_SCHEMA.names).to_pylist()
    told = (pairs.credible_level, pairs.density_per_sr, pairs.separation_deg)
    return [
        MatchedAlert(rows[row], level, density, separation)
        for row, level, density, separation in zip(
            row_of_pair, *(values.tolist() for values in told), strict=True
        )
    ]


def _with_detail(one: MatchedAlert, detail: PacketDetail) -> MatchedAlert:
    return MatchedAlert(
        one.alert,
        one.credible_level,
        one.density_per_sr,
        one.separation_deg,
        detail.history,
        detail.sha256,
    )
