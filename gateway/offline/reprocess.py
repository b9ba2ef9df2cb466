"""Do the matcher's steps of a span of events once more, or ask another configuration.

Reads only, beside a gateway that runs: what was committed when the reading began is the past
that is looked at. Events go through in groups of families, so that memory is bounded by the
largest one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker import topics
from broker.details import packet_details
from broker.judge import PacketSource
from broker.kafka_io import PacketReader
from broker.packetkeeper import PacketKeeper
from broker.packetstore import PacketStore
from broker.regioncodec import RegionRecord, decode_region
from crossmatch.candidate import Versions
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import MultiOrderMap
from crossmatch.remote import Answer as LookupAnswer
from crossmatch.verdicts import Verdict
from gateway.config import Config
from gateway.lookup import lookup_of, remote_of
from gateway.matcher.wiring import (
    Readers,
    code_version,
    map_loader,
    selection_version,
    sources_of,
)
from gateway.offline.evidence import Topics
from gateway.offline.logbook import (
    Family,
    Step,
    chosen,
    eras,
    read_answers,
    read_families,
    read_steps,
    read_verdicts,
)
from gateway.offline.notes import Notes
from gateway.offline.otherwise import Answer, Change, adapted, answer, changes
from gateway.offline.pastalerts import PastAlerts
from gateway.offline.published import Account, Difference, Published
from gateway.offline.replayed import Packets, Replay, Settings, replay
from gateway.offline.statementfiles import StatementFiles

_FAMILIES = 100
_SIZE = 10_000.0
"""Families in a group, and their area times window in deg**2 d: some 100,000 alerts of ZTF that
pass the cuts. One that is larger goes by itself."""

Load = Callable[[str, str], MultiOrderMap]
Advance = Callable[[int, int], None]
"""Told how many families are done, and of how many."""


@dataclass(frozen=True, slots=True)
class World:
    """Where the past lies: topics, archive of alerts, sky maps, packets."""

    kafka: Topics
    archive: PastAlerts
    load_map: Load
    packets: PacketSource


@dataclass(frozen=True, slots=True)
class Past:
    """What was committed, and the families of events that are looked at."""

    steps: Sequence[Step]
    verdicts: Mapping[int, Verdict]
    families: Sequence[Family]
    messages: Mapping[int, bytes]
    lookups: Mapping[int, LookupAnswer] = field(default_factory=dict)

    @property
    def last_batch(self) -> int:
        """The last committed batch."""
        return self.steps[-1].batch_id


@dataclass(slots=True)
class Verified:
    """How the statements made once more compare with those published."""

    accounts: list[Account] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether every statement of every event was made once more, byte for byte."""
        return all(account.is_identical for account in self.accounts)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "identical": self.is_identical,
            "steps": self.steps,
            "events": [account.as_dict() for account in self.accounts],
            "differences": [difference.as_dict() for difference in self.differences],
            "notes": self.notes,
        }


@dataclass(slots=True)
class Compared:
    """What another configuration would give."""

    before: int = 0
    after: int = 0
    events: int = 0
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, dict[str, int]]:
        """Numbers of changes by event, then by kind and tier, as in ``goes silver``."""
        found: dict[str, Counter[str]] = {}
        for one in self.changes:
            tiers = " to ".join(dict.fromkeys(t for t in (one.tier_before, one.tier_after) if t))
            found.setdefault(one.event_id, Counter())[f"{one.kind} {tiers}"] += 1
        return {event: dict(sorted(counts.items())) for event, counts in sorted(found.items())}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "events": self.events,
            "in_force_before": self.before,
            "in_force_after": self.after,
            "counts": self.counts(),
            "changes": [change.as_dict() for change in self.changes],
            "notes": self.notes,
        }


def settings_of(config: Config) -> Settings:
    """What of a configuration decides about candidates.

    Raises
    ------
    ConfigError
        When a catalogue cannot be read, or a chain demands what none answers.
    """
    lookup, catalogs = lookup_of(config)
    return Settings(
        chains=config.chains,
        cuts=config.cuts,
        versions=Versions(cuts=selection_version(config), code=code_version(), catalogs=catalogs),
        lookup=lookup,
        include_tests=config.match.include_tests,
        remote=remote_of(config),
    )


def open_world(config: Config, bootstrap: str, kafka: Topics) -> World:
    """The past of a gateway, by its configuration.

    Raises
    ------
    ServiceError
        When there is no archive.
    """
    sources = sources_of(config, bootstrap)
    alerts_at = sources.alert_bootstrap or bootstrap
    properties = sources.alert_properties if sources.alert_bootstrap else sources.properties
    keeper = PacketKeeper(
        Readers(lambda: PacketReader(alerts_at, properties)),
        PacketStore(config.paths.state / "packets"),
        lambda: datetime.now(UTC),
        writes=False,
    )
    return World(
        kafka=kafka,
        archive=PastAlerts(config.paths.state / "alerts"),
        load_map=map_loader(config.paths.state),
        packets=packet_details(keeper.fetch, sources.survey, sources.lsst_schemas),
    )


def read_past(kafka: Topics, start: datetime, end: datetime) -> Past:
    """Steps, verdicts and the families with a first trigger in [start, end).

    Raises
    ------
    ServiceError
        When there is no event in the span, or the ledger does not say what steps took in.
    """
    return _past(
        kafka,
        lambda families: chosen(families, start, end),
        f"no event was triggered from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
    )


def read_past_of(kafka: Topics, event: str) -> Past:
    """Steps, verdicts and the families that have an event of that name.

    Raises
    ------
    ServiceError
        When there is none, or the ledger does not say what steps took in.
    """
    return _past(
        kafka,
        lambda families: [family for family in families if event in family.events],
        f"no event is called {event!r}",
    )


def _past(kafka: Topics, choose: Callable[[Sequence[Family]], list[Family]], none: str) -> Past:
    steps = read_steps(kafka)
    verdicts = read_verdicts(kafka)
    last = max(step.verdicts[1] for step in steps)
    taken = steps[-1].regions[1]
    families = choose(read_families(kafka, taken))
    if not families:
        raise ServiceError(
            f"{none} of which the matcher has a region ({len(steps):,} steps are in"
            f" {topics.LEDGER})"
        )
    wanted = {offset for family in families for offset in family.offsets}
    messages = {}
    for message in kafka.read(topics.REGION_LOG, min(wanted)):
        if message.offset > max(wanted):
            break
        if message.offset in wanted:
            messages[message.offset] = message.value
    said = {offset: verdict for offset, verdict in verdicts.items() if offset < last}
    taken_in = max(step.lookups[1] for step in steps)
    lookups = {o: answer for o, answer in read_answers(kafka).items() if o < taken_in}
    return Past(steps, said, families, messages, lookups)


def groups_of(families: Sequence[Family]) -> Iterator[list[Family]]:
    """Families in groups that fit into memory."""
    group: list[Family] = []
    size = 0.0
    for family in families:
        if group and (len(group) >= _FAMILIES or size + family.size > _SIZE):
            yield group
            group, size = [], 0.0
        group.append(family)
        size += family.size
    if group:
        yield group


def verify(
    world: World, past: Past, settings: Settings, out: Path | None, advance: Advance
) -> Verified:
    """Make every statement of the events once more and compare it with the published one."""
    result = Verified(steps=len(past.steps))
    events = {event for family in past.families for event in family.events}
    published = Published(world.kafka, events)
    notes = Notes(settings.versions)
    with ExitStack() as stack:
        files = None if out is None else stack.enter_context(StatementFiles(out, "statements"))
        done = 0
        for first, families in eras(past.steps, past.families):
            for group in groups_of(families):
                made = Replay(stopped=first)
                # Its first word names the cuts and chains. Other code and catalogues are tried:
                # the statements tell by which they were made.
                if first.selection.split()[0] == settings.versions.cuts:
                    made = _replayed(world, past, settings, group, notes)
                notes.stopped(made.stopped)
                if files is not None:
                    files.add(made.statements)
                accounts = published.compare(
                    {event for family in group for event in family.events},
                    made.statements,
                    stopped=made.stopped is not None,
                    told=result.differences,
                )
                result.accounts += accounts.values()
                done += len(group)
                advance(done, len(past.families))
    if not result.is_identical:
        result.notes = notes.told(result.differences)
    return result


def _replayed(
    world: World, past: Past, settings: Settings, group: Sequence[Family], notes: Notes
) -> Replay:
    """The steps once more for the events of a group."""
    records = records_of(world, past, settings, group, notes)
    regions = [r.region for r in records.values() if r.region is not None]
    alerts = world.archive.of(regions, settings.cuts, past.last_batch)
    packets = Packets(world.packets)
    packets.read(alerts)
    notes.packets(packets.gone)
    return replay(
        past.steps, records, past.verdicts, alerts, settings, packets.details, past.lookups
    )


def compare(
    world: World,
    past: Past,
    settings: Settings,
    other: Settings,
    out: Path | None,
    advance: Advance,
) -> Compared:
    """Ask two configurations for the candidates in force, and tell what differs."""
    result = Compared()
    notes = Notes(settings.versions)
    with ExitStack() as stack:
        files = [
            stack.enter_context(StatementFiles(out, name))
            for name in (("before", "after") if out is not None else ())
            if out is not None
        ]
        done = 0
        for group in groups_of(past.families):
            packets = Packets(world.packets)
            records = records_of(world, past, settings, group, notes)
            answers = [
                _answer(world, past, settings, list(records.values()), packets),
                _answer(
                    world,
                    past,
                    other,
                    [adapted(r, settings.chains, other.chains) for r in records.values()],
                    packets,
                ),
            ]
            for file, one in zip(files, answers, strict=False):
                file.add(one.statements())
            notes.packets(packets.gone)
            before, after = answers
            result.before += len(before.candidates)
            result.after += len(after.candidates)
            result.changes += changes(before, after)
            result.events += len({e for family in group for e in family.events})
            done += len(group)
            advance(done, len(past.families))
    result.notes = notes.told(())
    return result


def _answer(
    world: World,
    past: Past,
    settings: Settings,
    records: Sequence[RegionRecord],
    packets: Packets,
) -> Answer:
    verdicts = list(past.verdicts.values())
    lookups = list(past.lookups.values())
    return answer(records, verdicts, world.archive, settings, packets, past.last_batch, lookups)


def records_of(
    world: World, past: Past, settings: Settings, group: Sequence[Family], notes: Notes
) -> dict[int, RegionRecord]:
    """Records of a group by offset; one that the matcher would refuse is left out and noted."""
    found = {}
    for offset in sorted(offset for family in group for offset in family.offsets):
        try:
            record = decode_region(past.messages[offset], world.load_map)
        except Rejected as error:
            notes.refused(offset, error)
            continue
        if record.region is not None and record.region.chain not in settings.chains:
            notes.refused(offset, Rejected("unknown_chain", record.region.chain))
            continue
        found[offset] = record
    return found
