"""Reading notices within bounds: what could take long or much is read in a process of its own.

Small notices of built-in formats are read here: their size bounds the work. Large ones,
those with a sky map inside, however small, and those that a parser, patterns or queries of
the operator's read (:mod:`gateway.listener.wary`) go to one long-lived child, which may be
killed without harm: when the time is over, when memory is short, or when a C library takes
it down. Both sides run our own code under the same user, so what
passes between them is pickled; nothing from outside is ever unpickled.

What an operator wrote has less time than our own, and after it failed badly three times in a
row its feed is paused: all other feeds wait while one is read.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Pipe
from typing import Any

from crossmatch.chains import Chain
from crossmatch.errors import ConfigError, NoticeError, Rejected, ServiceError
from gateway.feeds.registry import Registry
from gateway.listener.sandbox_child import Task, packed, receive, send
from gateway.listener.wary import Elsewhere, may_take_long, wary
from gateway.logs import EventLog
from gateway.understand import SkymapFile, Understood, understand

log = EventLog("sandbox")

# A VOEvent has 3 to 10 kB, a JSON notice without a map rarely more than 2.
SMALL_BYTES = 64 * 1024
STRIKES = 3
"""After so many notices in a row that an operator's parser could not read in its bounds."""
_FATAL = ("too_slow", "too_much_memory", "parser_died")
# The child imports NumPy, healpy and lxml before it can start; discs may be slow.
_START_SECONDS = 120.0
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from gateway.listener.sandbox_child import serve; serve(int(sys.argv[2]))"
)


class Sandbox:
    """:func:`gateway.understand.understand`, bounded in time and memory.

    The child is started when it is first needed, or by :meth:`start`. Safe to call from
    several threads; one notice is read at a time.

    Parameters
    ----------
    registry : Registry
    chains : mapping
        Selection chains by name.
    seconds : float
        Wall-clock time that a notice may take in the child.
    megabytes : int
        Memory (address space) that it may take beyond what the idle child has.
    small_bytes : int
        Notices above this go to the child.
    parser_seconds : float, optional
        Of that time, what a parser, patterns or queries of the operator's may take.
    paused : callable, optional
        Told of a feed that was paused for its parser, and why.
    """

    def __init__(
        self,
        registry: Registry,
        chains: Mapping[str, Chain],
        *,
        seconds: float,
        megabytes: int,
        small_bytes: int = SMALL_BYTES,
        parser_seconds: float = math.inf,
        paused: Callable[[str, str], None] = lambda feed, why: None,
    ) -> None:
        self._chains = dict(chains)
        self._parser_seconds = parser_seconds
        self._paused = paused
        self._strikes: Counter[str] = Counter()
        self._seconds = seconds
        self._megabytes = megabytes
        self._small_bytes = small_bytes
        self._lock = threading.RLock()
        self._child: _Child | None = None
        self._adopt(registry)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the child, without waiting for it, so that the first map need not wait."""
        with self._lock:
            if self._child is None or not self._child.alive():
                self._end()
                self._child = _Child(self._registry, self._chains, self._megabytes)

    def understand(
        self,
        raw: bytes,
        *,
        topic: str = "",
        feed: str = "",
        skymap: SkymapFile | None = None,
        heed_pause: bool = True,
        audience: tuple[str, ...] = (),
    ) -> Understood:
        """What a message is; see :func:`gateway.understand.understand`.

        ``skymap`` is the map that the notice names by its address, if it was fetched.
        Rejected besides: ``too_slow``, ``too_much_memory``, ``parser_died``, and
        ``parser_failed`` for a fault of ours, which is logged with its traceback.

        Raises
        ------
        ServiceError
            If no child can be started.
        """
        with self._lock:
            if skymap is None and len(raw) <= self._small_bytes:
                try:
                    return self._here(Task(raw, topic, feed, None, heed_pause, audience))
                except Elsewhere:
                    pass
            return self._in_child(Task(raw, topic, feed, skymap, heed_pause, audience))

    def replace(self, registry: Registry) -> None:
        """Use other feeds from the next message on.

        Raises
        ------
        ConfigError
            If a parser of a feed is not a function of a module.
        """
        with self._lock:
            self._adopt(registry)
            self._strikes.clear()
            if self._child is not None:
                # A new one also reads the code of the parsers again.
                self._end()
                self.start()

    def close(self) -> None:
        """End the child. The sandbox may be used again: another one is started."""
        with self._lock:
            self._end()

    def _adopt(self, registry: Registry) -> None:
        _check_parsers(registry)
        self._registry = registry
        self._quick = wary(registry)
        # Feeds whose messages are read by what an operator wrote.
        self._own = frozenset(f.name for f in registry.feeds if f.parser or may_take_long(f))

    def _here(self, task: Task) -> Understood:
        raw, topic, feed = task.raw, task.topic, task.feed
        try:
            return understand(
                self._quick,
                self._chains,
                raw,
                topic=topic,
                feed=feed,
                heed_pause=task.heed_pause,
                audience=task.audience,
            )
        except Exception as error:
            # A fault of ours must cost one notice, not the stream, and be seen.
            log.error("parser_failed", exc_info=True, feed=feed, topic=topic, bytes=len(raw))
            detail = f"{type(error).__name__}: {error}"
            feed = feed or _named(self._quick, raw, topic)
            return self._refused(NoticeError("parser_failed", detail), feed, topic)

    def _in_child(self, task: Task) -> Understood:
        child = self._ready_child()
        answer = child.ask(task, self._seconds, self._own, self._parser_seconds)
        self._judge(answer)
        if not child.alive():
            self.start()
        if answer.understood is not None:
            return answer.understood
        assert answer.rejected is not None
        if answer.fault:
            log.error("parser_failed", feed=answer.feed, bytes=len(task.raw), detail=answer.fault)
        else:
            log.warning("notice_given_up", feed=answer.feed, reason=answer.rejected.reason)
        return self._refused(answer.rejected, answer.feed or task.feed, task.topic)

    def _judge(self, answer: _Answer) -> None:
        """Pause a feed of an operator whose parser does nothing but fail badly."""
        name, error = answer.feed, answer.rejected
        if name not in self._own:
            return
        if error is None or error.reason not in _FATAL:
            del self._strikes[name]
            return
        self._strikes[name] += 1
        if self._strikes[name] < STRIKES or name in self._registry.paused:
            return
        del self._strikes[name]
        # At once: until others have paused it too, its messages would each take their time.
        self._adopt(replace(self._registry, paused=self._registry.paused | {name}))
        why = f"{STRIKES} of its messages in a row could not be read ({error})"
        log.error("feed_paused", feed=name, detail=why)
        self._paused(name, why)

    def _ready_child(self) -> _Child:
        self.start()
        assert self._child is not None
        try:
            self._child.wait_until_ready()
        except ServiceError:
            self._end()
            raise
        return self._child

    def _refused(self, error: Rejected, feed: str, topic: str) -> Understood:
        """A rejection with what is known of the feed: by its name, else by the topic."""
        known = [f for f in self._registry.feeds if f.name == feed] or [
            f for f in self._registry.feeds if f.enabled and topic and topic in f.topics
        ]
        if len(known) != 1:
            return Understood("rejected", rejected=error)
        found = known[0]
        return Understood("rejected", found.name, found.version, found.audience, rejected=error)

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the child said, or why it said nothing.

    ``feed`` is the one that the message belongs to, as soon as that is known, and ``fault``
    the traceback of a fault of ours.
    """

    understood: Understood | None = None
    rejected: Rejected | None = None
    feed: str = ""
    fault: str = ""


def _named(registry: Registry, raw: bytes, topic: str) -> str:
    """Feed of a message that could not be understood, as far as it can be told."""
    try:
        routed = registry.route(raw, topic=topic)
    except Exception:
        return ""
    return "" if routed.feed is None else routed.feed.name


def _check_parsers(registry: Registry) -> None:
    try:
        pickle.dumps(registry.parsers, 5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the parser of a feed must be a function of a module that can be imported: {error}"
        ) from error


class _Late(Exception):
    """The time is over."""


class _Dead(Exception):
    """The child ended by itself."""


class _Child:
    """The parent's side of one child process."""

    def __init__(self, registry: Registry, chains: Mapping[str, Chain], megabytes: int) -> None:
        self._pipe, theirs = Pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a parser prints must not get into our output
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                # Out of the terminal's reach: the parent decides when it ends.
                start_new_session=True,
            )
        except OSError as error:
            self._pipe.close()
            raise ServiceError(f"no process can be started to read notices: {error}") from error
        finally:
            theirs.close()
        self._ready = False
        with contextlib.suppress(OSError):  # a child that is dead by now shows when it is asked
            send(self._pipe, packed(megabytes, dict(chains)))
            send(self._pipe, packed(registry))

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def wait_until_ready(self) -> None:
        """Return once it can be asked.

        Raises
        ------
        ServiceError
            If it cannot start.
        """
        if self._ready:
            return
        try:
            said = self._bounded(_START_SECONDS, lambda _: self._hear())
        except (_Late, _Dead) as error:
            raise ServiceError(
                "the process that reads large notices did not start;"
                " what it said stands on standard error"
            ) from error
        if said[0] != "ready":
            raise ServiceError(f"the process that reads large notices cannot start: {said[1]}")
        self._ready = True

    def ask(
        self, task: Task, seconds: float, own: Collection[str], parser_seconds: float
    ) -> _Answer:
        """Answer to one task; afterwards the child may be dead.

        Parsers of the feeds ``own`` have ``parser_seconds`` of the ``seconds``.
        """
        feed = ""
        limit = seconds
        over = time.monotonic() + seconds

        def talk(clock: _Clock) -> tuple[Any, ...]:
            nonlocal feed, limit
            send(self._pipe, packed(seconds, task))
            while True:
                what, *rest = said = self._hear()
                if what == "feed":
                    (feed,) = rest
                    if feed in own:
                        limit = min(limit, parser_seconds)
                        clock.set(min(parser_seconds, over - time.monotonic()))
                elif what == "parsed":
                    limit = seconds
                    clock.set(over - time.monotonic())
                else:
                    return said

        try:
            what, *rest = self._bounded(seconds, talk)
        except _Late:
            error = NoticeError("too_slow", f"took more than {limit:g} s")
            return _Answer(rejected=error, feed=feed)
        except _Dead as death:
            error = NoticeError("parser_died", f"the process that read it ended: {death}")
            return _Answer(rejected=error, feed=feed)
        if what == "done":
            return _Answer(understood=rest[0], feed=feed)
        if what == "memory":
            self.close()  # what is left of its memory is in pieces
            return _Answer(rejected=NoticeError("too_much_memory", rest[0]), feed=feed)
        detail, fault = rest
        return _Answer(rejected=NoticeError("parser_failed", detail), feed=feed, fault=fault)

    def _hear(self) -> tuple[Any, ...]:
        try:
            return receive(self._pipe)
        except (AttributeError, ImportError, TypeError) as error:
            return "failed", f"what the parser returned cannot be handed over: {error}", ""

    def _bounded(
        self, seconds: float, talk: Callable[[_Clock], tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        """What ``talk`` returns; the child is killed when the time is over."""
        clock = _Clock(self._process.kill)
        clock.set(seconds)
        try:
            return talk(clock)
        except (EOFError, OSError) as error:
            self._process.kill()
            status = self._process.wait()
            raise _Late if clock.late else _Dead(_ending(status)) from error
        finally:
            clock.stop()
            if clock.late:
                self._process.wait()


class _Clock:
    """Calls ``end`` when the time is over, which may be set anew until then."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._timer: threading.Timer | None = None
        self.late = False

    def set(self, seconds: float) -> None:
        """End so many seconds from now."""
        self.stop()
        if self.late:
            return
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Do not end, unless that has begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

    def _ring(self) -> None:
        self.late = True
        self._end()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
