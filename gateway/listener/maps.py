"""Sky maps that a notice names by its address: asked for until they are there.

In the listener::

    fetcher = MapFetcher(config.maps, on_map, on_give_up, now=now)
    fetcher.start(listener.fail)      # two threads of its own
    fetcher.want(Wanted(...))         # from the worker; returns at once
    fetcher.settle(wanted)            # what on_map got will do, or
    fetcher.refuse(wanted, reason)    # it will not: it is asked for again
    fetcher.waiting                   # for FeedHealth.note_waiting
    fetcher.stop()

``on_map`` and ``on_give_up`` are called in the fetcher's threads, and may block; what they
raise ends the thread and goes to ``failed``. Nothing is kept on disk: who wants a map asks
again after a restart.

The core is without threads: :meth:`MapFetcher.due` says what is to be tried,
:meth:`MapFetcher.step` tries it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from urllib.parse import urlsplit

from gateway.config import Maps
from gateway.listener.fetch import FetchFailed, Limits, fetch
from gateway.logs import EventLog

__all__ = ["MapFetcher", "Waiting", "Wanted", "next_try"]

log = EventLog("listen")

_LONGEST_WAIT = timedelta(hours=1)
_SHORTEST_STEP = timedelta(minutes=1)
_IDLE_SECONDS = 60.0

Fetch = Callable[[str, Limits], bytes]
_Key: TypeAlias = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A map that is not there yet.

    ``notice_offset`` is where the notice lies in ``mm.notices``; ``since`` is when it was
    received, ISO 8601 UTC; ``streams`` are those that alone may see it.
    """

    url: str
    notice_offset: int
    notice_sha256: str
    event_id: str
    feed: str
    since: str
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How far we are with a map.

    Parameters
    ----------
    wanted : Wanted
    tries : int
        So far.
    next_try : datetime
        UTC.
    last_reason : str
        Why the last try failed; empty before the first.
    hopeless : bool
        Nothing is left but to say that it is given up.
    """

    wanted: Wanted
    tries: int
    next_try: datetime
    last_reason: str = ""
    hopeless: bool = False


def next_try(
    since: datetime, after: datetime, settings: Maps, *, patient: bool = True
) -> datetime | None:
    """When a map is asked for again.

    Parameters
    ----------
    since : datetime
        When the notice was received; ``[maps] retry_minutes`` count from here.
    after : datetime
        The try that failed.
    patient : bool
        Whether the last step (the time between the last two of ``retry_minutes``, at
        least a minute) is repeated until ``give_up_hours``.

    Returns
    -------
    datetime or None
        Later than ``after``; None: never.
    """
    end = since + timedelta(hours=settings.give_up_hours)
    minutes = sorted(settings.retry_minutes)
    times = [since + timedelta(minutes=m) for m in minutes]
    for time in times:
        if time > after:
            return time if time <= end else None
    if not patient:
        return None
    step = max(times[-1] - (times[-2] if len(times) > 1 else since), _SHORTEST_STEP)
    time = times[-1] + step * ((after - times[-1]) // step + 1)
    return time if time <= end else None


class MapFetcher:
    """Asks for maps in threads of its own and hands over what it gets.

    Parameters
    ----------
    settings : Maps
    on_map : callable
        Gets the wanted map and its bytes (FITS, gzipped or not). Until :meth:`settle` or
        :meth:`refuse` says what came of it, it is not asked for again.
    on_give_up : callable
        Gets the wanted map and a stable reason code (:func:`gateway.listener.fetch.fetch`).
    now : callable
        UTC.
    fetch : callable
        Bytes of an address within limits; raises FetchFailed.
    threads : int
        How many maps are asked for at a time.
    """

    def __init__(
        self,
        settings: Maps,
        on_map: Callable[[Wanted, bytes], None],
        on_give_up: Callable[[Wanted, str], None],
        *,
        now: Callable[[], datetime],
        fetch: Fetch = fetch,
        threads: int = 2,
    ) -> None:
        self._settings = settings
        self._on_map = on_map
        self._on_give_up = on_give_up
        self._now = now
        self._fetch = fetch
        self._limits = Limits(
            settings.hosts, settings.max_megabytes * 2**20, settings.timeout_seconds
        )
        self._waiting: dict[_Key, Waiting] = {}
        self._underway: set[_Key] = set()
        self._handed: set[_Key] = set()
        self._changed = threading.Condition()
        self._over = False
        self._number = threads
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> list[Waiting]:
        """What is wanted and not there yet, the next to be tried first."""
        with self._changed:
            return sorted(self._waiting.values(), key=lambda w: w.next_try)

    def settle(self, wanted: Wanted) -> None:
        """The map that was handed over will do, or is needed no more (from any thread)."""
        key = _key(wanted)
        with self._changed:
            self._handed.discard(key)
            self._waiting.pop(key, None)

    def refuse(self, wanted: Wanted, reason: str, *, patient: bool = False) -> None:
        """What was handed over will not do: ask again as scheduled (from any thread).

        ``patient`` repeats the last step of the schedule, as for a map that is not there yet.
        No callback is called here.
        """
        key = _key(wanted)
        with self._changed:
            entry = self._waiting.get(key)
            if entry is None or key not in self._handed:
                return
            self._handed.discard(key)
            now = self._now()
            then = next_try(_since(wanted), now, self._settings, patient=patient)
            self._waiting[key] = dataclasses.replace(
                entry,
                tries=entry.tries + 1,
                next_try=now if then is None else then,
                last_reason=reason,
                hopeless=then is None,
            )
            self._changed.notify_all()
        log.warning(
            "map_refused", event_id=wanted.event_id, feed=wanted.feed, reason=reason, next_try=then
        )

    def want(self, wanted: Wanted) -> None:
        """Ask for a map, unless fetching is off or it is asked for already.

        It is tried at least once, however long ago the notice came.
        """
        if not self._settings.fetch:
            return
        key = _key(wanted)
        first = _since(wanted) + timedelta(minutes=min(self._settings.retry_minutes))
        with self._changed:
            if key in self._waiting:
                return
            self._waiting[key] = Waiting(wanted=wanted, tries=0, next_try=first)
            self._changed.notify()

    def start(self, failed: Callable[[Exception], None] | None = None) -> None:
        """Begin; ``failed`` is told what ends a thread, which is the callbacks' fault or ours."""

        def work() -> None:
            try:
                while self._wait():
                    self._one(self._now())
            except Exception as error:
                log.error("map_fetcher_failed", exc_info=True, detail=str(error))
                if failed is not None:
                    failed(error)

        for number in range(self._number):
            thread = threading.Thread(target=work, name=f"maps {number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Begin no new try; one that is under way is waited for, ``timeout`` seconds at most."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def due(self, now: datetime) -> list[Waiting]:
        """What is to be tried by then and is not under way."""
        return [w for w in self.waiting if w.next_try <= now and self._is_free(_key(w.wanted))]

    def _is_free(self, key: _Key) -> bool:
        return key not in self._underway and key not in self._handed

    def step(self, now: datetime) -> int:
        """Try all that is due, in this thread; how many tries that were."""
        count = 0
        while self._one(now):
            count += 1
        return count

    def _wait(self) -> bool:
        """Sleep until something is due; False when it is all over."""
        with self._changed:
            while not self._over:
                free = [w for k, w in self._waiting.items() if self._is_free(k)]
                seconds = _IDLE_SECONDS
                if free:
                    first = min(w.next_try for w in free)
                    seconds = min((first - self._now()).total_seconds(), seconds)
                if seconds <= 0:
                    return True
                self._changed.wait(seconds)
            return False

    def _one(self, now: datetime) -> bool:
        """Try the first that is due; False if none is."""
        with self._changed:
            due = [w for k, w in self._waiting.items() if self._is_free(k) and w.next_try <= now]
            if not due or self._over:
                return False
            entry = min(due, key=lambda w: w.next_try)
            keys = [_key(entry.wanted)]
            if not entry.hopeless:
                # All that want the same file get it at once.
                keys = [
                    k
                    for k, w in self._waiting.items()
                    if w.wanted.url == entry.wanted.url and self._is_free(k) and not w.hopeless
                ]
            self._underway.update(keys)
        try:
            if entry.hopeless:
                self._give_up(entry)
            else:
                self._try(entry, keys, now)
        finally:
            with self._changed:
                self._underway.difference_update(keys)
                self._changed.notify_all()
        return True

    def _try(self, entry: Waiting, keys: list[_Key], now: datetime) -> None:
        try:
            fits = self._fetch(entry.wanted.url, self._limits)
        except FetchFailed as error:
            self._failed(error, keys, max(now, self._now()))
            return
        log.info("map_fetched", host=urlsplit(entry.wanted.url).hostname, bytes=len(fits))
        for key in keys:
            with self._changed:
                waiting = self._waiting.get(key)
                self._handed.add(key)
            if waiting is not None:
                self._on_map(waiting.wanted, fits)

    def _failed(self, error: FetchFailed, keys: list[_Key], now: datetime) -> None:
        wait = min(timedelta(seconds=error.wait_seconds), _LONGEST_WAIT)
        for key in keys:
            entry = self._waiting.get(key)
            if entry is None:
                continue
            then = None
            if error.again != "never":
                then = next_try(
                    _since(entry.wanted), now, self._settings, patient=error.again == "later"
                )
            if then is None:
                tried = dataclasses.replace(entry, tries=entry.tries + 1, last_reason=error.reason)
                self._give_up(tried, error.detail)
                continue
            with self._changed:
                self._waiting[key] = dataclasses.replace(
                    entry,
                    tries=entry.tries + 1,
                    next_try=max(then, now + wait),
                    last_reason=error.reason,
                )

    def _give_up(self, entry: Waiting, detail: str = "") -> None:
        log.warning(
            "map_given_up",
            event_id=entry.wanted.event_id,
            feed=entry.wanted.feed,
            url=entry.wanted.url,
            tries=entry.tries,
            reason=entry.last_reason,
            detail=detail,
        )
        self._on_give_up(entry.wanted, entry.last_reason)
        with self._changed:
            self._waiting.pop(_key(entry.wanted), None)


def _key(wanted: Wanted) -> _Key:
    # What is private is wanted for itself, though the same notice came in public too.
    return wanted.url, wanted.notice_sha256, wanted.streams


def _since(wanted: Wanted) -> datetime:
    since = datetime.fromisoformat(wanted.since)
    return since if since.tzinfo is not None else since.replace(tzinfo=UTC)
