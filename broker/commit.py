"""Steps become visible one after another, whoever makes them: the live path or a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.engine import Engine, Outcome
from broker.ledger import added
from broker.writer import Marker, Writer
from crossmatch.errors import GatewayError, ServiceError


@dataclass(frozen=True, slots=True)
class Input:
    """What a batch took from the topics, beside what the engine makes of it.

    Parameters
    ----------
    query : str
        Id of Spark's checkpoint.
    regions_next, verdicts_next, lookups_next : int or None
        First messages that were not taken in; None: as before.
    alerts_next : mapping of str to int
        Next offset of alert partitions, ``topic/partition``.
    letters : sequence of bytes
        Dead letters.
    """

    query: str
    regions_next: int | None = None
    verdicts_next: int | None = None
    lookups_next: int | None = None
    alerts_next: Mapping[str, int] = field(default_factory=dict)
    letters: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """A step that is visible, and how long its making and its telling took."""

    outcome: Outcome
    marker: Marker
    step_seconds: float
    publish_seconds: float


class Turnstile:
    """A lock that goes to who waits for it, before who just had it and wants it again.

    A search that commits one step after another would else keep the live path waiting.
    """

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._inside = threading.Lock()

    def __enter__(self) -> None:
        # Who waits inside here is the next: the one before must queue behind.
        with self._next:
            self._inside.acquire()

    def __exit__(self, *_: object) -> None:
        self._inside.release()


class Committer:
    """Makes steps and commits them; nobody makes one while another is not yet committed.

    Parameters
    ----------
    engine : Engine
    writer : Writer
    marker : Marker or None
        The last committed step.
    on_commit : callable, optional
        Called after each commit, in the thread that made the step.
    """

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        marker: Marker | None,
        on_commit: Callable[[Committed], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._on_commit = on_commit
        self._lock = Turnstile()
        self.marker = marker
        self.rules = engine.rules
        """What the marker says everything open is judged by."""
        self.failure: GatewayError | None = None
        """Why a step was not committed. The engine is ahead of what was committed then, and
        nothing more is made of it: the process has to begin anew."""

    def commit(
        self, take: Callable[[], Outcome | None], read: Input | None = None
    ) -> Outcome | None:
        """Make a step by ``take`` and commit it; nothing is committed if it gives None.

        Raises
        ------
        ServiceError
            When it could not be committed, or an earlier one was not.
        """
        with self._lock:
            if self.failure is not None:
                raise ServiceError(f"no further step after one that failed: {self.failure}")
            try:
                begin = time.perf_counter()
                outcome = take()
                if outcome is None:
                    return None
                made = time.perf_counter()
                marker = self._next(outcome, read or Input(self._query))
                letters = () if read is None else read.letters
                self._writer.publish(outcome, marker, letters, self.marker)
                self.marker = marker
            except GatewayError as error:
                self.failure = error
                raise
            except Exception as error:
                self.failure = ServiceError(f"a step failed: {error!r}")
                raise
            published = time.perf_counter()
        self._on_commit(Committed(outcome, marker, made - begin, published - made))
        return outcome

    @property
    def _query(self) -> str:
        return "" if self.marker is None else self.marker.query

    def _next(self, outcome: Outcome, read: Input) -> Marker:
        before = self.marker or Marker(-1, "", 0)
        regions, verdicts, lookups = read.regions_next, read.verdicts_next, read.lookups_next
        return replace(
            before,
            batch_id=outcome.batch_id,
            query=read.query,
            regions_next=before.regions_next if regions is None else regions,
            verdicts_next=before.verdicts_next if verdicts is None else verdicts,
            lookups_next=before.lookups_next if lookups is None else lookups,
            lookups=self._engine.answers.count(),
            totals=added([before.totals, outcome.ledger]),
            alerts_next={**before.alerts_next, **read.alerts_next},
            step=outcome.step,
            selection=self._engine.selection,
            rules=self.rules,
            archived=max(before.archived, self._engine.archived),
            groups=len(self._engine.groups),
            aside=self._engine.put_aside,
        )
