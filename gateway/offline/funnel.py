"""How many alerts and candidates survive each cut: of a period by the ledger, or of one event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from broker.events import Events
from broker.ledger import TOLD_PREFIX
from crossmatch.chains import Chain
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.errors import ServiceError
from crossmatch.model import TIERS, BoolArray, Region
from crossmatch.selections import BUILT_IN, NOT_KNOWN, Selection
from crossmatch.versions import world_of
from gateway.config import Config
from gateway.offline import accounts
from gateway.offline.notes import Notes
from gateway.offline.otherwise import answer
from gateway.offline.pastalerts import Alerts, PastAlerts
from gateway.offline.replayed import Packets, Settings
from gateway.offline.reprocess import Past, World, records_of

ALERTS, CANDIDATES = "alerts", "candidates"


@dataclass(frozen=True, slots=True)
class Level:
    """What is left after a cut, and how many it removed.

    ``of`` says what is counted: alerts, or candidates, which are objects in an event. ``objects``
    are those of the alerts that are left, where they were counted.
    """

    of: str
    name: str
    removed: int
    left: int
    objects: int | None = None


@dataclass(frozen=True, slots=True)
class Funnel:
    """Cuts in their order, with a title that says of what."""

    title: str
    levels: tuple[Level, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"title": self.title, "levels": [asdict(level) for level in self.levels]}


def of_period(entries: Sequence[accounts.Entry], since: str, config: Config) -> Funnel:
    """The funnel of the nights from ``since`` on (``YYYY-MM-DD``), and of what has no night.

    Alerts go by the night of their exposure, candidates by that of their first alert. Each counts
    once: a candidate as what it is after the last of the entries. The cuts are in the order of
    the configuration; those that were made at other times come after them.
    """
    counts = {ALERTS: Counter[str](), CANDIDATES: Counter[str]()}
    for row in accounts.rows(entries):
        if row["kind"] in counts and (not row["night"] or row["night"] >= since):
            counts[row["kind"]].update(row["counts"])
    chains = list(config.chains.values())
    levels = [*_of_alerts(counts[ALERTS], config), *_of_candidates(counts[CANDIDATES], chains)]
    return Funnel(f"Nights since {since}", tuple(levels))


def _of_alerts(counts: Mapping[str, int], config: Config) -> Iterator[Level]:
    left = counts.get("received", 0)
    yield Level(ALERTS, "received", 0, left)
    rejected = sum(n for name, n in counts.items() if name.startswith("rejected."))
    removed = {
        "repeated": counts.get("duplicate", 0) + counts.get("duplicate_other_night", 0),
        "rejected": rejected,
        "lost": counts.get("lost", 0),
        "withdrawn": counts.get("withdrawn", 0),
    }
    always = {"repeated", "rejected"}
    removed = {name: n for name, n in removed.items() if n or name in always}
    removed |= _in_order(counts, "cut.", config.cuts.names)
    removed["outside of all regions"] = counts.get("unmatched", 0)
    for name, n in removed.items():
        left -= n
        yield Level(ALERTS, name, n, left)


def _of_candidates(counts: Mapping[str, int], chains: Sequence[Chain]) -> Iterator[Level]:
    """Candidates as the ledger counts them: what chains demand, and the tiers of what is told."""
    withheld = _in_order(counts, "withheld.", demanded(c.demands for c in chains))
    lowered = _in_order(counts, "lowered.", demanded(c.silver_demands for c in chains))
    tiers = {tier: counts.get(f"{TOLD_PREFIX}{tier}", 0) for tier in TIERS}
    left = sum(tiers.values()) + sum(withheld.values())
    yield Level(CANDIDATES, "in events", 0, left)
    for name, n in withheld.items():
        left -= n
        yield Level(CANDIDATES, f"{name} (withheld)", n, left)
    # What a demand of silver lowers is bronze.
    tiers["bronze"] -= sum(lowered.values())
    for name, n in lowered.items():
        left -= n
        yield Level(CANDIDATES, f"{name} (bronze)", n, left)
    for tier in TIERS[:-1]:
        left -= tiers[tier]
        better = " or ".join(TIERS[TIERS.index(tier) + 1 :])
        yield Level(CANDIDATES, better, tiers[tier], left)


def _in_order(counts: Mapping[str, int], prefix: str, names: Sequence[str]) -> dict[str, int]:
    """Counts with a prefix, without it: those of ``names`` first, of these also zeros."""
    there = (name.removeprefix(prefix) for name in sorted(counts) if name.startswith(prefix))
    return {name: counts.get(f"{prefix}{name}", 0) for name in dict.fromkeys([*names, *there])}


def demanded(selections: Iterable[Selection | None]) -> tuple[str, ...]:
    """Names of the cuts of selections, as they are counted, each once.

    What chains demand by default is not among them: often there is no catalogue for it.
    """
    named = (one for one in selections if one is not None and one != BUILT_IN[NOT_KNOWN])
    steps = (step for selection in named for step in selection.steps)
    return tuple(dict.fromkeys(step.name for step in steps))


@dataclass(frozen=True, slots=True)
class Asked:
    """One event, and from which exposure on (JD) alerts count."""

    event: str
    since_jd: float = -np.inf


class _Since:
    """An archive of which the alerts before a moment are left out."""

    def __init__(self, archive: PastAlerts, since_jd: float) -> None:
        self._archive = archive
        self._since_jd = since_jd

    def of(self, regions: Sequence[Region], cuts: Cuts, last_batch: int) -> Alerts:
        """As the archive's."""
        rows = self._archive.of(regions, cuts, last_batch).rows
        late = rows["time_jd"].to_numpy() >= self._since_jd
        return Alerts.of(rows.filter(pa.array(late)))


def of_event(world: World, past: Past, settings: Settings, asked: Asked) -> Funnel:
    """The funnel of one event: alerts in its region and window, objects, candidates by tier.

    By the region in force, the archive and the configuration as it is now: as the matcher would
    have it, had everything come at once.

    Raises
    ------
    ServiceError
        When no region of the event is in force.
    """
    notes = Notes(settings.versions)
    records = list(records_of(world, past, settings, past.families, notes).values())
    events = Events(settings.include_tests)
    events.apply(records)
    region = _region(events, asked.event)
    archive = _Since(world.archive, asked.since_jd)
    everything = archive.of([region], replace(settings.cuts, enabled=False), past.last_batch)
    made = answer(
        records,
        past.verdicts.values(),
        archive,
        settings,
        Packets(world.packets),
        past.last_batch,
        past.lookups.values(),
    )
    name = region.event_id, world_of(region.role, region.streams)
    groups = {key: made.engine.groups[key] for key in made.engine.groups.of_event(name)}
    counts = Counter(n for g in groups.values() if g.counted for n in g.counted.names)
    levels = [
        *_archived(everything, past.last_batch, settings.cuts),
        *_of_candidates(counts, [settings.chains[region.chain]]),
    ]
    return Funnel(f"{region.event_id}, version {region.version}", tuple(levels))


def _region(events: Events, event: str) -> Region:
    for region in sorted(events.in_force(), key=lambda r: r.role == "test"):
        standing = events.standing(region.event_id, world_of(region.role, region.streams))
        members = () if standing is None else standing.members
        if event in (region.event_id, *members):
            return region
    raise ServiceError(f"no region of {event!r} is in force: it was retracted, or is a test")


def _archived(everything: Alerts, last_batch: int, cuts: Cuts) -> Iterator[Level]:
    kept = ~everything.withdrawn
    yield _level("in region and window", everything.rows, kept, 0)
    here = everything.taken_back_in > last_batch
    if (kept & ~here).any():
        yield _level("withdrawn", everything.rows, kept & here, int((kept & ~here).sum()))
    rows = everything.rows.filter(pa.array(kept & here))
    left = np.ones(rows.num_rows, np.bool_)
    for name, removed in apply_cuts(rows, cuts).by_name.items():
        left = left & ~removed
        yield _level(name, rows, left, int(removed.sum()))


def _level(name: str, rows: pa.Table, left: BoolArray, removed: int) -> Level:
    mine = rows.filter(pa.array(left)).select(["survey", "object_id"])
    objects = mine.group_by(["survey", "object_id"]).aggregate([]).num_rows
    return Level(ALERTS, name, removed, int(left.sum()), objects)
