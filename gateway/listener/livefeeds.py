"""Feeds that change while we run: looked for, and taken up between two notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from crossmatch.errors import ConfigError, ServiceError
from gateway.feeds.history import Change
from gateway.feeds.registry import Registry
from gateway.feeds.store import FeedStore, Loaded, Problem
from gateway.listener.outbox import Held
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sources import Arrival
from gateway.listener.worker import Worker
from gateway.logs import EventLog

log = EventLog("listen")

_BY_US = "paused by the gateway"


class Reader(Protocol):
    """What reads messages (:class:`gateway.listener.sandbox.Sandbox`)."""

    def replace(self, registry: Registry) -> None:
        """Use other feeds from the next message on."""


class Sources(Protocol):
    """Where messages come from (:class:`gateway.listener.doors.Doors`)."""

    def prepare(self, registry: Registry) -> None:
        """Make what must exist before the feeds are used, and close what they no longer have."""

    def follow(self, registry: Registry) -> None:
        """Hear what the feeds hear."""


def streams_of(registry: Registry) -> tuple[str, ...]:
    """Private streams of all feeds, sorted."""
    return tuple(sorted({s for feed in registry.feeds for s in feed.audience}))


class LiveFeeds:
    """Keeps the feeds in force as the files have them.

    Parameters
    ----------
    store : FeedStore
    loaded : Loaded
        What ``store`` gave at the start.
    reader : Reader
    pipeline : NoticePipeline
    held : callable
        Messages that wait on the held topic, from (feed, offset).
    """

    def __init__(
        self,
        store: FeedStore,
        loaded: Loaded,
        reader: Reader,
        pipeline: NoticePipeline,
        held: Callable[[str, int], Iterator[Held]],
    ) -> None:
        self._store = store
        self._reader = reader
        self._pipeline = pipeline
        self._held = held
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: set[Problem] = set()
        # Feeds that are not in force yet, and whether the sources may be those of other ones.
        self._next: Registry | None = None
        self._behind = False
        # Feeds that the reader paused, and why; written down at the next look.
        self._given_up: dict[str, str] = {}
        self.registry = loaded.registry
        self.broken: dict[str, str] = {}
        # Taken up at the first look.
        self._try_again(loaded)
        self._tell(loaded)

    def audience(self, feed: str) -> tuple[str, ...]:
        """Private streams that see what ``feed`` brings."""
        return self.registry.feed(feed).audience

    def heard(self, arrival: Arrival) -> Arrival:
        """``arrival`` with the private streams of its topic and feed (from any thread)."""
        door = self.registry.audience_of(arrival.topic, feed=arrival.feed)
        if set(door) <= set(arrival.streams):
            return arrival
        return replace(arrival, streams=tuple(sorted({*arrival.streams, *door})))

    def give_up(self, feed: str, why: str) -> None:
        """Pause a feed that the reader cannot read and holds already (from any thread)."""
        self._given_up[feed] = why

    def release(self) -> int:
        """Work through what waited for feeds that are on now; how many messages."""
        count = 0
        on = {f.name for f in self.registry.feeds if f.enabled} - self.registry.paused
        for feed, place in list(self._pipeline.held.items()):
            if place.waiting and feed in on:
                released = self._pipeline.release(feed, self._held(feed, place.next))
                log.info("notices_released", feed=feed, notices=released)
                count += released
        return count

    def start(
        self,
        worker: Worker,
        sources: Sources,
        seconds: float,
        failed: Callable[[Exception], None],
    ) -> None:
        """Look for changes every ``seconds``; ``failed`` is told what ended that."""

        def watch() -> None:
            try:
                while not self._over.wait(seconds):
                    self.look(worker, sources)
            except Exception as error:
                failed(error)

        self._thread = threading.Thread(target=watch, name="feeds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; the sources may then be closed."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(30.0)

    def look(self, worker: Worker, sources: Sources) -> bool:
        """Take up what changed, without losing a message; whether anything did.

        What fails because Kafka is away is tried again at the next look.
        """
        self._switch()
        if self._store.changed():
            loaded = self._store.load()
            if self._try_again(loaded):
                loaded = self._store.load()
            self._tell(loaded)
            self._next = loaded.registry
        taken = False
        try:
            if self._next is not None:
                registry = self._next
                # Whatever becomes of the change, the sources must be opened again after this.
                self._behind = True
                sources.prepare(registry)
                # In the worker's thread: each message is read with the old feeds or the new.
                taken = worker.call(lambda: self._swap(registry)).result()
                self._next = None
            if self._behind:
                sources.follow(self.registry)
                self._behind = False
        except CancelledError:
            return False
        except ServiceError as error:
            log.warning("feeds_must_wait", detail=str(error))
        return taken

    def _switch(self) -> None:
        """Pause what the reader gave up, as the operator would: it stays so over restarts."""
        for feed, why in list(self._given_up.items()):
            try:
                self._store.switch(feed, False, f"{_BY_US}: {why}")
            except ServiceError as error:
                # The reader holds its messages all the same, and the next look tries again.
                log.warning("feed_not_switched", feed=feed, detail=str(error))
                continue
            except ConfigError as error:
                # Its file went away.
                log.warning("feed_not_switched", feed=feed, detail=str(error))
            del self._given_up[feed]

    def _try_again(self, loaded: Loaded) -> bool:
        """Enable the feeds that were given up and whose files changed; whether there were any."""
        changed = [
            name
            for name, change in self._paused_by_us(loaded).items()
            if loaded.registry.feed(name).version != change.version
        ]
        for name in changed:
            try:
                self._store.switch(name, True, "its file changed")
            except ServiceError as error:
                log.warning("feed_not_switched", feed=name, detail=str(error))
        return bool(changed)

    def _paused_by_us(self, loaded: Loaded) -> dict[str, Change]:
        try:
            found = {name: self._store.why_paused(name) for name in sorted(loaded.registry.paused)}
        except ConfigError as error:
            log.warning("history_not_read", detail=str(error))
            return {}
        return {name: change for name, change in found.items() if change is not None}

    def _swap(self, registry: Registry) -> bool:
        try:
            self._reader.replace(registry)
        except ConfigError as error:
            log.error("feed_broken", detail=str(error))
            self.broken = {**self.broken, "feeds": f"no change is taken up: {error}"}
            return False
        before = {f.name: f.version for f in self.registry.feeds}
        after = {f.name: f.version for f in registry.feeds}
        changed = sorted({n for n, _ in before.items() ^ after.items()})
        self.registry = registry
        self._pipeline.forget_repeats()
        log.info("feeds_changed", feeds=",".join(changed), paused=",".join(sorted(registry.paused)))
        self.release()
        return True

    def _tell(self, loaded: Loaded) -> None:
        """Problems that were not there at the last look."""
        problems = [*loaded.problems, *map(_problem, self._paused_by_us(loaded).values())]
        found = set(problems)
        for problem in sorted(found - self._told, key=lambda p: (str(p.path), p.sentence)):
            log.error("feed_broken", file=problem.path, feed=problem.feed, detail=problem.sentence)
        self._told = found
        self.broken = {p.feed or str(p.path): p.sentence for p in problems}


def _problem(change: Change) -> Problem:
    """A feed that the gateway paused, for people."""
    sentence = (
        f"{change.feed} was {change.detail}; its messages wait until you mend its parser and write"
        f" 'mmgateway feeds enable {change.feed}', or change its file"
    )
    return Problem(Path(change.source), sentence, change.feed)
