"""One thread that works arrivals through, in the order in which they were handed over."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sources import Arrival

_BATCH = 64
_BATCH_BYTES = 64 * 2**20
_WAITING = 1000


@dataclass(frozen=True, slots=True)
class _Job:
    arrivals: Sequence[Arrival]
    stored: Callable[[], None] | None
    done: Callable[[Sequence[str]], None] | None


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], Any]
    future: Future[Any]


class Worker:
    """One thread that feeds a pipeline from a bounded queue, in batches.

    Parameters
    ----------
    pipeline : NoticePipeline
    failed : callable
        Told the error that ended the thread.
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
        self._jobs: queue.Queue[_Job | _Call | None] = queue.Queue(_WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Work through what waits, then end."""
        self._put(None)
        self._thread.join(timeout)

    def deliver(
        self,
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Take arrivals; see :class:`gateway.listener.sources.Deliver`."""
        self._put(_Job([self._heard(a) for a in arrivals], stored, done))

    def offer(self, arrival: Arrival, stored: Callable[[], None]) -> bool:
        """As :meth:`deliver`, but never blocks; False when too much is waiting."""
        try:
            self._jobs.put_nowait(_Job([self._heard(arrival)], stored, None))
        except queue.Full:
            return False
        return True

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run ``function`` in the thread after what waits now; cancelled when the thread ends.

        An error of the function ends the thread, as one of the pipeline does.
        """
        future: Future[Any] = Future()
        if not self._put(_Call(function, future)):
            future.cancel()
        return future

    def _put(self, job: _Job | _Call | None) -> bool:
        while not self._over.is_set():
            try:
                self._jobs.put(job, timeout=0.5)
            except queue.Full:
                continue
            if self._over.is_set():
                self._cancel_rest()
            return True
        return False

    def _run(self) -> None:
        then: _Job | _Call | None = None
        try:
            while True:
                jobs, then = self._next()
                if jobs:
                    self.work(jobs)
                if then is None:
                    return
                if isinstance(then, _Call):
                    _run_call(then)
        except Exception as error:
            self._failed(error)
        finally:
            self._over.set()
            if isinstance(then, _Call):
                # Not run, because of what came before it; one that ran cannot be cancelled.
                then.future.cancel()
            self._cancel_rest()

    def _cancel_rest(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if isinstance(job, _Call):
                job.future.cancel()

    def _next(self) -> tuple[list[_Job], _Job | _Call | None]:
        """What waits, up to a batch, and what comes after it: a call, the end, or more jobs."""
        jobs: list[_Job] = []
        size = 0
        while len(jobs) < _BATCH and size < _BATCH_BYTES:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if not isinstance(job, _Job):
                return jobs, job
            jobs.append(job)
            size += sum(len(a.raw) for a in job.arrivals)
        return jobs, jobs[-1]

    def work(self, jobs: Sequence[_Job]) -> None:
        """Take the arrivals of some jobs as one batch and tell their sources."""

        def stored() -> None:
            for job in jobs:
                if job.stored is not None:
                    job.stored()

        outcomes = self._pipeline.take([a for job in jobs for a in job.arrivals], stored)
        begin = 0
        for job in jobs:
            end = begin + len(job.arrivals)
            if job.done is not None:
                job.done(outcomes[begin:end])
            begin = end


def _run_call(call: _Call) -> None:
    if not call.future.set_running_or_notify_cancel():
        return
    try:
        call.future.set_result(call.function())
    except BaseException as error:
        call.future.set_exception(error)
        raise
