"""Jobs that ``mmgateway bench pipeline`` times: the live matcher, and Spark alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker import checkpoint, cycles
from broker.ahead import Ahead
from broker.archive import AlertArchive
from broker.carried import Carried
from broker.commit import Committed, Committer
from broker.details import packet_details
from broker.engine import Engine
from broker.kafka_io import PacketReader
from broker.lsstschemas import LsstSchemas
from broker.regioncodec import RegionRecord
from broker.sources import Sources, raw_rows, slim_columns
from broker.stream import LiveMatcher
from broker.told import Lookup, no_lookup
from broker.writer import Writer
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.cuts import Cuts
from crossmatch.errors import Rejected, ServiceError
from gateway.bench import lsstpackets
from gateway.bench.lsstpackets import SCHEMA_ID
from gateway.bench.pipeline_costs import Costs, TimedArchive, TimedJudge
from gateway.bench.pipeline_world import TOPIC, Matches, Sizes, Tell
from gateway.night import packets as ztf_packets

_PATIENCE_S = 900.0


@dataclass(slots=True)
class Run:
    """Ends of batches and the alerts they took in; what steps cost an alert, if that is known.

    ``statements`` is how many of them an alert made, a mean; 0 for jobs that make none.
    """

    batches: list[tuple[float, int]] = field(default_factory=list)
    matches: Matches = field(default_factory=set)
    costs: dict[str, float] = field(default_factory=dict)
    statements: float = 0.0

    def note(self, alerts: int) -> None:
        """A batch has ended."""
        self.batches.append((time.monotonic(), alerts))

    @property
    def alerts(self) -> int:
        """All that was taken in."""
        return sum(alerts for _, alerts in self.batches)

    @property
    def per_s(self) -> float:
        """Alerts a second from the end of the first batch to that of the last full one.

        Spark gives each partition its share of a batch and drops what is left of the division:
        after the full batches comes one of a few alerts.
        """
        (begin, _), *later = self.batches
        most = max(alerts for _, alerts in later)
        full = [(end, alerts) for end, alerts in later if alerts > most / 2]
        return sum(alerts for _, alerts in full) / (full[-1][0] - begin)


class Jobs:
    """Ours and those of Spark alone, by one Spark on one topic."""

    def __init__(
        self,
        spark: Any,
        bootstrap: str,
        work: Path,
        sizes: Sizes,
        late: Sequence[RegionRecord],
        cuts: Cuts,
        lookup: Lookup,
    ) -> None:
        self._spark, self._bootstrap, self._work, self._sizes = spark, bootstrap, work, sizes
        self._late = late
        self._cuts, self._lookup = cuts, lookup
        is_ztf = sizes.survey == "ztf"
        self._schemas = LsstSchemas(known={SCHEMA_ID: lsstpackets.schema_json()})
        self._learned = {"ztf": (ztf_packets.schema_json(),) if is_ztf else (), "lsst": ()}
        self._sources = Sources(
            bootstrap=bootstrap,
            properties={},
            ztf=(TOPIC,) if is_ztf else (),
            lsst=() if is_ztf else (TOPIC,),
            lsst_schemas=self._schemas,
            max_offsets_per_trigger=sizes.batch,
        )
        self._number = 0

    def bare(self) -> Run:
        """The live matcher without catalogues."""
        return self.matching(lookup=no_lookup)

    def matching(self, *, in_workers: bool = False, lookup: Lookup | None = None) -> Run:
        """The live matcher: decoding, archive, cuts, join, candidates, one transaction a batch."""
        folder, run = self._new_folder(), Run()
        costs = Costs()
        reader = PacketReader(self._bootstrap, {})
        carried = Carried(self._cuts, reader.fetch)
        engine = Engine(
            chains=DEFAULT_CHAINS,
            cuts=self._cuts,
            versions=Versions(cuts="bench", code="bench"),
            archive=TimedArchive(AlertArchive(folder / "alerts"), costs.watch),
            now=lambda: datetime.now(UTC),
            lookup=lookup or self._lookup,
        )
        packets = packet_details(
            carried.fetch, self._sources.survey, self._schemas, read=carried.records
        )
        engine.judge = TimedJudge(self._cuts, packets, costs.watch)
        engine.restore(self._late, {})
        writer = Writer(self._bootstrap, {})
        writer.start()

        def committed(done: Committed) -> None:
            costs.committed(done)
            run.note(done.outcome.ledger.get("received", 0))

        matcher = LiveMatcher(
            engine=engine,
            committer=Committer(engine, writer, None, committed),
            sources=self._sources,
            new_reader=lambda: PacketReader(self._bootstrap, {}),
            read_region=_none,
            query_id=lambda: checkpoint.checkpoint_id(folder / "checkpoint"),
            now=lambda: datetime.now(UTC),
            carried=carried,
            ahead=Ahead(self._cuts, self._sources, folder / "regions") if in_workers else None,
            on_batch=costs.decoded,
        )
        try:
            with cycles.rarely_looked_for():
                self._play(matcher.take, folder, run)
        except ServiceError as error:
            # Spark wraps what a batch raised beyond recognition.
            raise matcher.failure or error from error
        finally:
            matcher.close()
            reader.close()
        run.matches = {(key.event_id, key.object_id) for key in engine.groups}
        run.costs = costs.per_alert()
        run.statements = costs.statements_per_alert()
        return run

    def decoding(self) -> Run:
        """The same columns decoded in the JVM, and dropped there."""
        columns = slim_columns(self._sources, self._learned)

        def take(frame: Any, _batch_id: int) -> None:
            frame.select(*columns).write.format("noop").mode("append").save()

        return self._counted(take)

    def counting(self) -> Run:
        """Reading alone."""

        def take(frame: Any, _batch_id: int) -> None:
            frame.selectExpr("sum(length(value))").collect()

        return self._counted(take)

    def _counted(self, take: Callable[[Any, int], None]) -> Run:
        folder, run = self._new_folder(), Run()

        def note(frame: Any, batch_id: int) -> None:
            take(frame, batch_id)
            run.note(planned(folder / "checkpoint", batch_id) - run.alerts)

        self._play(note, folder, run)
        return run

    def _play(self, take: Callable[[Any, int], None], folder: Path, run: Run) -> None:
        query = (
            raw_rows(self._spark, self._sources)
            .writeStream.foreachBatch(take)
            .option("checkpointLocation", str(folder / "checkpoint"))
            .start()
        )
        until = time.monotonic() + _PATIENCE_S
        while run.alerts < self._sizes.packets:
            if not query.isActive:
                # What Spark says last is what went wrong in the JVM.
                why = str(query.exception())
                raise ServiceError(f"the query ended: {why[:300]} … {why[-700:]}")
            if time.monotonic() > until:
                raise ServiceError(f"a query did not end within {_PATIENCE_S:.0f} s")
            time.sleep(0.01)
        query.stop()

    def _new_folder(self) -> Path:
        self._number += 1
        folder = self._work / f"run-{self._number}"
        folder.mkdir()
        return folder


def planned(checkpoint: Path, batch_id: int) -> int:
    """Alerts of the topic up to the end of a batch, as Spark has noted before it began.

    The topic is the bench's own: its offsets begin with 0, and each is an alert.
    """
    *_, source = (checkpoint / "offsets" / str(batch_id)).read_text("utf-8").splitlines()
    return sum(json.loads(source)[TOPIC].values())


def in_turns(
    subjects: Mapping[str, Callable[[], Run]], runs: int, tell: Tell, where: str = ""
) -> dict[str, list[Run]]:
    """Runs of jobs, which take turns; one of each is made before and not counted."""
    found: dict[str, list[Run]] = {name: [] for name in subjects}
    for number in range(runs + 1):
        for name, run in subjects.items():
            tell(f"run {number} of {runs}: {name}{where}")
            done = run()
            if number:
                found[name].append(done)
    return found


def _none(_: bytes) -> RegionRecord:
    raise Rejected("no_region", "the bench has no topic of regions")
