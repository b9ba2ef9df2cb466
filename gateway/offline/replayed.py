"""Steps of the matcher done once more for some events, by the engine that did them first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from broker import fold
from broker.archive import Seen
from broker.engine import Batch, Engine
from broker.judge import Address, Matches, PacketDetail, PacketSource, address_of
from broker.regioncodec import RegionRecord
from broker.told import Lookup
from crossmatch.candidate import Versions
from crossmatch.chains import Chain
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import Cuts
from crossmatch.index import RegionIndex
from crossmatch.model import Region
from crossmatch.remote import NOWHERE, Answer, Remote
from crossmatch.verdicts import Verdict
from gateway.offline.logbook import Search, Step
from gateway.offline.pastalerts import Alerts

_PACKETS = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a configuration decides about candidates."""

    chains: Mapping[str, Chain]
    cuts: Cuts
    versions: Versions
    lookup: Lookup
    include_tests: bool
    remote: Remote = NOWHERE


@dataclass(slots=True)
class Replay:
    """What came of it: statements as they went to their topics, in their order.

    ``stopped`` is the first step that was done under another selection; the steps from there
    on were not done once more.
    """

    statements: list[dict[str, Any]] = field(default_factory=list)
    stopped: Step | None = None


class Packets:
    """Details of whole packets, read before they are asked for.

    Parameters
    ----------
    source : callable
        As the matcher's.

    Attributes
    ----------
    gone : dict
        Alerts whose packet can no longer be had, by its address.
    """

    def __init__(self, source: PacketSource) -> None:
        self._source = source
        self._known: dict[Address, PacketDetail] = {}
        self.gone: dict[Address, int] = {}

    def read(self, alerts: Alerts) -> None:
        """Read the packets of alerts that were not read before."""
        columns = ["topic", "partition", "offset", "alert_id"]
        rows = alerts.rows.filter(pa.array(~alerts.withdrawn)).select(columns).to_pylist()
        names = [n for n in rows if address_of(n) not in self._known]
        for at in range(0, len(names), _PACKETS):
            matched = [MatchedAlert(name, 0.0, 0.0, 0.0) for name in names[at : at + _PACKETS]]
            self._known.update(self._source(matched))
        for name in names:
            address = address_of(name)
            if address not in self._known:
                self.gone[address] = name["alert_id"]

    def details(self, matched: Sequence[MatchedAlert]) -> Mapping[Address, PacketDetail]:
        """What was read of the packets of alerts."""
        addresses = (address_of(one.alert) for one in matched)
        return {a: self._known[a] for a in addresses if a in self._known}


class _Given:
    """The archive of a replay: what its batches bring was new when it came."""

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """Nothing: it is archived."""

    def seen(self, alerts: pa.Table, before_batch: int) -> Seen:
        """None: repeats never came to the archive."""
        return Seen(*(np.zeros(alerts.num_rows, dtype=bool) for _ in range(3)))


def new_engine(settings: Settings, packets: PacketSource, clock: Callable[[], Any]) -> Engine:
    """An engine that knows no event yet and repeats nothing to an archive."""
    return Engine(
        chains=settings.chains,
        cuts=settings.cuts,
        versions=settings.versions,
        archive=_Given(),
        now=clock,
        packets=packets,
        lookup=settings.lookup,
        include_tests=settings.include_tests,
        remote=settings.remote,
    )


def replay(
    steps: Sequence[Step],
    records: Mapping[int, RegionRecord],
    verdicts: Mapping[int, Verdict],
    alerts: Alerts,
    settings: Settings,
    packets: PacketSource,
    lookups: Mapping[int, Answer] = MappingProxyType({}),
) -> Replay:
    """Do the steps once more for some events.

    Parameters
    ----------
    steps : sequence of Step
        All of them, in their order.
    records : mapping of int to RegionRecord
        Whole families of region messages, by their offsets.
    verdicts : mapping of int to Verdict
        All, by their offsets.
    alerts : Alerts
        Of all regions among the records.
    settings : Settings
    packets : callable
        What whole packets tell.
    lookups : mapping of int to Answer
        What catalogues elsewhere answered: all, by their offsets.
    """
    player = _Player(records, verdicts, alerts, settings, packets, lookups)
    result = Replay()
    selection: str | None = None
    for step in steps:
        if not player.has_begun(step):
            continue
        selection = selection or step.selection
        if step.selection != selection:
            result.stopped = step
            break
        for statement in player.play(step):
            result.statements += fold.copies(statement)
    return result


class _Player:
    """An engine with what the steps bring to some events."""

    def __init__(
        self,
        records: Mapping[int, RegionRecord],
        verdicts: Mapping[int, Verdict],
        alerts: Alerts,
        settings: Settings,
        packets: PacketSource,
        lookups: Mapping[int, Answer],
    ) -> None:
        self._records = records
        self._offsets = sorted(records)
        self._verdicts = verdicts
        self._said = sorted(verdicts)
        self._lookups = lookups
        self._answered = sorted(lookups)
        self._alerts = alerts
        self._batches = alerts.batches()
        self._step: Step | None = None
        self._engine = new_engine(settings, packets, self._now)
        self._learned = self._looked_up = 0
        self._searched: dict[Search, Matches] = {}

    def has_begun(self, step: Step) -> bool:
        """Whether any of the events was heard of in a step or before it."""
        return bool(self._offsets) and step.regions[1] > self._offsets[0]

    def play(self, step: Step) -> list[dict[str, Any]]:
        """What a step says of the events."""
        self._step = step
        if step.kind == "search":
            return self._search(step)
        return self._take(step) if step.kind == "alerts" else []

    def _now(self) -> Any:
        assert self._step is not None
        return self._step.moment

    def _take(self, step: Step) -> list[dict[str, Any]]:
        records = [self._records[o] for o in _within(self._offsets, *step.regions)]
        # Also those that came before the events.
        said = _within(self._said, self._learned, step.verdicts[1])
        self._learned = max(self._learned, step.verdicts[1])
        answered = _within(self._answered, self._looked_up, step.lookups[1])
        self._looked_up = max(self._looked_up, step.lookups[1])
        if not records and not said and not answered and step.batch_id not in self._batches:
            return []
        batch = Batch(
            step.batch_id,
            self._alerts.batch(step.batch_id),
            records,
            verdicts=[self._verdicts[o] for o in said],
            lookups=[self._lookups[o] for o in answered],
        )
        return self._engine.step(batch).statements

    def _search(self, step: Step) -> list[dict[str, Any]]:
        found = Matches()
        owed = []
        # Steps that take some of what was found come one after another, or another search's,
        # of a smaller region, in between. A search that is owed anew is of another batch.
        self._searched = {
            search: matches
            for search, matches in self._searched.items()
            if any(replace(told, objects=None) == search for told in step.searches)
        }
        for told in step.searches:
            search = self._engine.searches.get((told.event_id, (told.is_test, told.streams)))
            region = None if search is None else self._engine.plan(search)
            if search is None or region is None:
                continue
            owed.append(search)
            found |= self._matches(told, region, step)
        if not owed:
            return []
        # That it was the last part is not told. What is owed still, and searched no more, says
        # nothing.
        outcome = self._engine.take_found(owed, found, step.searches[0].until, is_last=False)
        return [] if outcome is None else outcome.statements

    def _matches(self, told: Search, region: Region, step: Step) -> Matches:
        """What a step took of what a search found."""
        whole = replace(told, objects=None)
        if (found := self._searched.get(whole)) is None:
            rows = self._alerts.found(
                told.after, told.until, told.before_batch, step.batch_id, told.through
            )
            before = np.array([told.before_batch], dtype=np.int64)
            found = self._engine.judge.search(rows, RegionIndex.build([region]), before)
            self._searched[whole] = found
        if told.objects is None:
            return found
        first, last = told.objects
        return {key: some for key, some in found.items() if first <= key.text <= last}


def _within(offsets: Sequence[int], begin: int, end: int) -> Sequence[int]:
    return offsets[bisect_left(offsets, begin) : bisect_left(offsets, end)]
