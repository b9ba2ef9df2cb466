"""Look-ups at CDS that candidates did not wait for: asked beside the steps, told on a topic.

What is to be asked follows from the groups (`broker.awaited`), so nothing here has to survive.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from broker import kafka_io, topics
from broker.awaited import Question
from broker.engine import Engine
from broker.lookuplog import encode_answer, readable
from catalogs.cds import CdsClient, Place, Settings
from catalogs.cds_cache import AnswerCache
from crossmatch.errors import CatalogError, GatewayError, ServiceError
from crossmatch.remote import Answer
from gateway import runfiles
from gateway.config import Config
from gateway.logs import EventLog
from gateway.lookup import remote_of

log = EventLog("match")

CHORE = "look candidates up at CDS"
REPORT = "lookups.json"
_FIRST_WAIT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 600.0
_ALONE_SECONDS = 3600.0
"""What a catalogue does not answer sensibly even by itself is asked again after so long."""
_READ_SECONDS = 300.0
"""An answer that the matcher did not take in within this time is asked for again."""
_SEND_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_STOP_SECONDS = 0.5


class Client(Protocol):
    """Who answers."""

    @property
    def version(self) -> str:
        """Of what is asked now."""

    def ask(self, catalog: str, places: Sequence[Place]) -> list[Answer]:
        """What a catalogue has near places, in their order."""


@dataclass(slots=True)
class _Course:
    """How it goes with one catalogue.

    ``size`` is how many positions are asked about at a time: an answer that is nonsense halves
    it, so that what the catalogue does not like is found, and a good one doubles it.
    """

    size: int
    failures: int = 0
    wait_until: float = 0.0
    trouble: GatewayError | None = None


@dataclass(slots=True)
class Report:
    """What a round of asking came to."""

    answered: Counter[str] = field(default_factory=Counter)
    from_cache: int = 0
    awaited: Counter[str] = field(default_factory=Counter)
    trouble: dict[str, str] = field(default_factory=dict)


class Backfill:
    """Asks what is awaited and tells what is answered.

    Parameters
    ----------
    questions : callable
        What is awaited now.
    client : Client
    cache : AnswerCache
        A fault of it is logged once; all is asked without it.
    tell : callable
        Puts answers on ``mm.lookups``; returns when they are there.
    batch : int
        Positions in a request, at most.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        questions: Callable[[], Sequence[Question]],
        client: Client,
        cache: AnswerCache,
        tell: Callable[[Sequence[Answer]], object],
        batch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._questions = questions
        self._client = client
        self._cache = cache
        self._tell = tell
        self._batch = batch
        self._clock = clock
        self._courses: dict[str, _Course] = {}
        # What is on the way to the matcher, by catalogue and object.
        self._told: dict[tuple[str, str], list[tuple[float, Answer]]] = {}
        self._failed: Counter[Question] = Counter()
        self._alone: dict[Question, float] = {}
        self._cache_faults: set[str] = set()

    def work(self) -> Report:
        """Ask everything that is due once; what fails waits for its time."""
        report = Report()
        awaited = self._questions()
        self._forget_all_but(set(awaited))
        for catalog in dict.fromkeys(one.catalog for one in awaited):
            mine = [one for one in awaited if one.catalog == catalog]
            course = self._courses.setdefault(catalog, _Course(self._batch))
            while course.wait_until <= self._clock() and (part := self._next(mine, course.size)):
                self._ask(catalog, part, course, report)
            report.awaited[catalog] = sum(not self._is_told(one) for one in mine)
            if course.trouble is not None and report.awaited[catalog]:
                report.trouble[catalog] = str(course.trouble)
        return report

    def note(self, answers: Iterable[Answer]) -> None:
        """Take note of answers that are on the topic and were not taken in yet."""
        now = self._clock()
        for answer in answers:
            of = (answer.catalog, answer.counterpart_id)
            self._told.setdefault(of, []).append((now, answer))

    def _is_told(self, one: Question) -> bool:
        """Whether an answer is on the way that holds for the place: perhaps of one beside it."""
        told = self._told.get((one.catalog, one.counterpart_id), ())
        radius = self._cache.radius_arcsec
        return any(answer.covers(one.ra_deg, one.dec_deg, radius) for _, answer in told)

    def _forget_all_but(self, awaited: set[Question]) -> None:
        old = self._clock() - _READ_SECONDS
        objects = {(one.catalog, one.counterpart_id) for one in awaited}
        young = {
            of: [(at, answer) for at, answer in told if at > old]
            for of, told in self._told.items()
            if of in objects
        }
        self._told = {of: told for of, told in young.items() if told}
        self._alone = {one: at for one, at in self._alone.items() if one in awaited}
        for one in [one for one in self._failed if one not in awaited]:
            del self._failed[one]

    def _next(self, questions: Sequence[Question], size: int) -> list[Question]:
        """What is asked next: what failed least, first."""
        now = self._clock()
        due = [q for q in questions if self._alone.get(q, now) <= now and not self._is_told(q)]
        return sorted(due, key=lambda q: self._failed[q])[:size]

    def _ask(self, catalog: str, part: Sequence[Question], course: _Course, report: Report) -> None:
        places = [Place(q.counterpart_id, q.ra_deg, q.dec_deg) for q in part]
        known = self._known(catalog, places)
        cached = [answer for answer in known if answer is not None]
        self._say(catalog, cached, report)
        report.from_cache += len(cached)
        left = [q for q, a in zip(part, known, strict=True) if a is None]
        asked = [p for p, a in zip(places, known, strict=True) if a is None]
        if not left:
            return
        try:
            answers = self._client.ask(catalog, asked)
        except CatalogError as error:
            self._failed.update(left)
            if len(left) == 1:
                self._alone[left[0]] = self._clock() + _ALONE_SECONDS
            course.size = max(1, len(left) // 2)
            self._fail(catalog, course, error)
            return
        except ServiceError as error:
            self._fail(catalog, course, error)
            return
        course.size = min(self._batch, 2 * course.size)
        course.failures, course.trouble, course.wait_until = 0, None, 0.0
        self._keep(answers)
        self._say(catalog, answers, report)

    def _known(self, catalog: str, places: Sequence[Place]) -> Sequence[Answer | None]:
        """What the cache has, (n,). It only spares questions: without it all are asked."""
        try:
            return self._cache.get(catalog, self._client.version, places)
        except ServiceError as error:
            self._note_fault(error)
            return [None] * len(places)

    def _keep(self, answers: Sequence[Answer]) -> None:
        try:
            self._cache.put(answers)
        except ServiceError as error:
            self._note_fault(error)

    def _note_fault(self, error: ServiceError) -> None:
        if str(error) not in self._cache_faults:
            self._cache_faults.add(str(error))
            log.warning("lookup_cache_failed", detail=str(error))

    def _say(self, catalog: str, answers: Sequence[Answer], report: Report) -> None:
        if answers:
            self._tell(answers)
            self.note(answers)
            report.answered[catalog] += len(answers)

    def _fail(self, catalog: str, course: _Course, error: GatewayError) -> None:
        wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**course.failures)
        course.failures = min(course.failures + 1, 10)
        course.trouble, course.wait_until = error, self._clock() + wait
        log.warning("lookup_failed", catalog=catalog, detail=str(error), again_after_s=wait)


class Told:
    """Puts answers on ``mm.lookups``.

    Parameters
    ----------
    bootstrap : str
    properties : mapping of str to str
    """

    def __init__(self, bootstrap: str, properties: Mapping[str, str]) -> None:
        self._producer = kafka_io.producer(bootstrap, properties)

    def __call__(self, answers: Sequence[Answer]) -> None:
        """Return when Kafka has them all.

        Raises
        ------
        ServiceError
            When it does not take them.
        """
        failed: list[str] = []

        def delivered(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error.str())

        for answer in answers:
            key = f"{answer.catalog}/{answer.counterpart_id}".encode()
            value = encode_answer(answer)
            kafka_io.send(self._producer, topics.LOOKUPS, value, key, on_delivery=delivered)
        left = self._producer.flush(_SEND_SECONDS)
        if left or failed:
            why = failed[0] if failed else f"no answer within {_SEND_SECONDS:.0f} s"
            raise ServiceError(f"{topics.LOOKUPS}: {len(failed) or left} not written: {why}")


def unread(bootstrap: str, properties: Mapping[str, str], begin: int) -> list[Answer]:
    """Answers on the topic that no step took in yet: those from an offset on."""
    messages = kafka_io.read_all(bootstrap, properties, topics.LOOKUPS, start=begin)
    return readable(m.value for m in messages)


def client_of(
    config: Config,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], object] = time.sleep,
) -> CdsClient:
    """The client of CDS, from the configuration."""
    cds = config.cds
    settings = Settings(
        url=cds.url,
        tap_url=cds.tap_url,
        radius_arcsec=cds.radius_arcsec,
        timeout_seconds=cds.timeout_seconds,
        per_minute=cds.per_minute,
    )
    return CdsClient(settings, now, sleep=sleep)


def cache_of(config: Config) -> AnswerCache:
    """What CDS answered lately."""
    return AnswerCache(config.paths.state / "cds.sqlite", config.cds.radius_arcsec)


class BackfillThread(threading.Thread):
    """Asks CDS beside everything else; nothing waits for it.

    Parameters
    ----------
    backfill : Backfill
    path : Path
        File that says how it goes, for ``mmgateway catalogs backfill status``.
    on_end : callable
        Told what went wrong, None when nothing does; when that changes.
    now : callable
        UTC.
    over : threading.Event
        Set by :meth:`stop`: who waits for a next try looks at it.
    """

    def __init__(
        self,
        backfill: Backfill,
        path: Path,
        on_end: Callable[[str, Exception | None], None],
        now: Callable[[], datetime],
        over: threading.Event,
    ) -> None:
        super().__init__(name="cds", daemon=True)
        self._backfill = backfill
        self._path = path
        self._on_end = on_end
        self._now = now
        self._over = over
        self._last: str | None = None
        self._written: dict[str, Any] = {}

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._over.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Ask what is due, and tell how it went."""
        try:
            self._work()
        except Exception as error:
            # Whatever it is must not end the looking up, and is told.
            self._tell(error)
        else:
            self._tell(None)

    def stop(self) -> None:
        """End; what is being asked is asked again after the next start."""
        self._over.set()
        if self.is_alive():
            self.join(_STOP_SECONDS)

    def _work(self) -> None:
        report = self._backfill.work()
        for catalog, number in report.answered.items():
            log.info("looked_up", catalog=catalog, answers=number, from_cache=report.from_cache)
        facts = {"awaited": dict(report.awaited), "trouble": report.trouble}
        if facts != self._written or report.answered:
            self._written = facts
            record = {**facts, "told": self._now().isoformat(timespec="seconds")}
            runfiles.write_json(self._path, record)
        if report.trouble:
            raise ServiceError("; ".join(f"{n}: {t}" for n, t in sorted(report.trouble.items())))

    def _tell(self, error: Exception | None) -> None:
        # It looks every second; an alarm is told when something changes.
        said = None if error is None else str(error)
        if said != self._last and not self._over.is_set():
            self._last = said
            self._on_end(CHORE, error)


def started(
    config: Config,
    bootstrap: str,
    engine: Engine,
    lookups_next: int,
    on_end: Callable[[str, Exception | None], None],
    now: Callable[[], datetime],
) -> BackfillThread | None:
    """A thread that asks what an engine awaits; None if nothing is looked up at CDS.

    Parameters
    ----------
    lookups_next : int
        First message of ``mm.lookups`` that no step took in.
    """
    if not remote_of(config).catalogs:
        return None
    over = threading.Event()

    def sleep(seconds: float) -> None:
        if over.wait(seconds):
            raise ServiceError("the service stops")

    properties = config.kafka.properties
    backfill = Backfill(
        engine.awaited.questions,
        client_of(config, now, sleep),
        cache_of(config),
        Told(bootstrap, properties),
        config.cds.batch,
    )
    backfill.note(unread(bootstrap, properties, lookups_next))
    path = runfiles.run_folder(config.paths.state) / REPORT
    thread = BackfillThread(backfill, path, on_end, now, over)
    thread.start()
    return thread
