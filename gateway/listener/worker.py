"""Two threads: one stores arrivals, the other works them through, in the order in which they came.

So a notice that takes long to read delays no receipt of another.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sources import Arrival

_BATCH = 64
_BATCH_BYTES = 64 * 2**20
_WAITING = 1000
_WAITING_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Job:
    arrivals: Sequence[Arrival]
    stored: Callable[[], None] | None
    done: Callable[[Sequence[str]], None] | None

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(arrival.raw) for arrival in self.arrivals)


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], Any]
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A job whose arrivals are stored, and where."""

    job: _Job
    places: Sequence[tuple[Arrival, int]]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(arrival.raw) for arrival, _ in self.places)


_T = TypeVar("_T", _Job, _Kept)


class _Line(Generic[_T]):
    """What waits for a thread, in order: jobs in batches, calls, and the end (None)."""

    def __init__(self) -> None:
        self._waiting: deque[_T | _Call | None] = deque()
        self._size = 0
        self._open = True
        self._changed = threading.Condition()

    def put(self, thing: _T | _Call | None) -> None:
        """Add a thing when there is room; when the line is closed, a call is cancelled."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open or self._has_room())
            if self._open:
                self._add(thing)
            elif isinstance(thing, _Call):
                thing.future.cancel()

    def offer(self, thing: _T) -> bool:
        """Add a thing if there is room now; whether it was added."""
        with self._changed:
            if not self._open or not self._has_room():
                return False
            self._add(thing)
            return True

    def take(self) -> list[_T] | _Call | None:
        """The jobs that come next, up to a batch, or the call that does; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open or self._waiting)
            if not self._open:
                return None
            first = self._pop()
            if first is None or isinstance(first, _Call):
                return first
            jobs, size = [first], first.size
            while self._waiting and len(jobs) < _BATCH and size < _BATCH_BYTES:
                thing = self._waiting[0]
                if thing is None or isinstance(thing, _Call):
                    break
                jobs.append(thing)
                size += thing.size
                self._pop()
            return jobs

    def close(self) -> None:
        """Take and give no more; calls that wait are cancelled."""
        with self._changed:
            self._open = False
            for thing in self._waiting:
                if isinstance(thing, _Call):
                    thing.future.cancel()
            self._waiting.clear()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._waiting) < _WAITING and self._size < _WAITING_BYTES

    def _add(self, thing: _T | _Call | None) -> None:
        self._waiting.append(thing)
        self._size += _size_of(thing)
        self._changed.notify_all()

    def _pop(self) -> _T | _Call | None:
        thing = self._waiting.popleft()
        self._size -= _size_of(thing)
        self._changed.notify_all()
        return thing


def _size_of(thing: _Job | _Kept | _Call | None) -> int:
    return thing.size if isinstance(thing, _Job | _Kept) else 0


class Worker:
    """Feeds a pipeline from a bounded queue, in batches: a thread that stores, one that works.

    Parameters
    ----------
    pipeline : NoticePipeline
    failed : callable
        Told the error that ended the threads.
    heard : callable, optional
        Marks an arrival with what is known of its door, in the thread that hands it over:
        who may see it is settled before it waits.
    """

    def __init__(
        self,
        pipeline: NoticePipeline,
        failed: Callable[[Exception], None],
        heard: Callable[[Arrival], Arrival] = lambda arrival: arrival,
    ) -> None:
        self._pipeline = pipeline
        self._failed = failed
        self._heard = heard
        self._jobs: _Line[_Job] = _Line()
        self._kept: _Line[_Kept] = _Line()
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("storing", self._store), ("notices", self._work))
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Work through what waits, then end."""
        self._jobs.put(None)
        limit = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(limit - time.monotonic(), 0))

    def deliver(
        self,
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Take arrivals; see :class:`gateway.listener.sources.Deliver`."""
        self._jobs.put(_Job([self._heard(a) for a in arrivals], stored, done))

    def offer(self, arrival: Arrival, stored: Callable[[], None]) -> bool:
        """As :meth:`deliver`, but never blocks; False when too much is waiting."""
        return self._jobs.offer(_Job([self._heard(arrival)], stored, None))

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run ``function`` in the working thread after what waits now; cancelled when that ends.

        An error of the function ends the threads, as one of the pipeline does.
        """
        future: Future[Any] = Future()
        self._jobs.put(_Call(function, future))
        return future

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # What is stored by now is worked through at the next start.
            self._kept.close()
            self._failed(error)
        finally:
            self._jobs.close()

    def _store(self) -> None:
        """Store what comes, tell its sources, and hand it over."""
        while (jobs := self._jobs.take()) is not None:
            if isinstance(jobs, _Call):
                self._kept.put(jobs)
            else:
                self._store_batch(jobs)
        self._kept.put(None)

    def _store_batch(self, jobs: Sequence[_Job]) -> None:
        places = self._pipeline.store([a for job in jobs for a in job.arrivals])
        for job in jobs:
            if job.stored is not None:
                job.stored()
        begin = 0
        for job in jobs:
            end = begin + len(job.arrivals)
            self._kept.put(_Kept(job, places[begin:end]))
            begin = end

    def _work(self) -> None:
        """Work through what is stored, and tell its sources."""
        while (batch := self._kept.take()) is not None:
            if isinstance(batch, _Call):
                _run_call(batch)
            else:
                self._work_batch(batch)

    def _work_batch(self, batch: Sequence[_Kept]) -> None:
        outcomes = self._pipeline.work([place for kept in batch for place in kept.places])
        begin = 0
        for kept in batch:
            end = begin + len(kept.places)
            if kept.job.done is not None:
                kept.job.done(outcomes[begin:end])
            begin = end


def _run_call(call: _Call) -> None:
    if not call.future.set_running_or_notify_cancel():
        return
    try:
        call.future.set_result(call.function())
    except BaseException as error:
        call.future.set_exception(error)
        raise
