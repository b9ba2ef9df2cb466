"""The child of :mod:`gateway.listener.sandbox`: reads one notice after another, within bounds."""

from __future__ import annotations

import faulthandler
import pickle
import resource
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from crossmatch.chains import Chain
from crossmatch.model import Notice
from gateway.feeds.message import Ignored, Message
from gateway.feeds.registry import Parser, Registry
from gateway.feeds.spec import Feed
from gateway.understand import SkymapFile, understand

# So long after its time is over the kernel ends a child whose parent is gone.
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """One message to read, as :func:`gateway.understand.understand` takes it."""

    raw: bytes
    topic: str
    feed: str
    skymap: SkymapFile | None
    heed_pause: bool
    audience: tuple[str, ...] = ()


def serve(descriptor: int) -> None:
    """Be the child: answer tasks from the pipe until its other end is closed."""
    # A service manager may signal everything at once; the parent ends us when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.enable()
    pipe = Connection(descriptor)
    try:
        megabytes, chains = receive(pipe)
        try:
            registry = _telling(receive(pipe)[0], pipe)
        except (AttributeError, ImportError) as error:
            send(pipe, packed("cannot", f"{type(error).__name__}: {error}"))
            return
        _limit_memory(megabytes)
        send(pipe, packed("ready"))
        while True:
            seconds, task = receive(pipe)
            # The kernel's own clock: it also ends us when the parent is gone meanwhile.
            signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_SECONDS)
            send(pipe, _answered(registry, chains, task))
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (EOFError, OSError):
        return


def packed(*words: Any) -> list[Any]:
    """Objects of ours as parts for :func:`send`; arrays are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(words, 5, buffer_callback=buffers.append)
    return [head, *(buffer.raw() for buffer in buffers)]


def send(pipe: Connection, parts: list[Any]) -> None:
    """Send what :func:`packed` made."""
    pipe.send_bytes(len(parts).to_bytes(4, "big"))
    for part in parts:
        pipe.send_bytes(part)


def receive(pipe: Connection) -> tuple[Any, ...]:
    """The objects that the other side packed and sent; arrays are read-only."""
    count = int.from_bytes(pipe.recv_bytes(), "big")
    head, *buffers = [pipe.recv_bytes() for _ in range(count)]
    return tuple(pickle.loads(head, buffers=buffers))


def _telling(registry: Registry, pipe: Connection) -> Registry:
    """Feeds whose parsers tell the parent whose the message is, and when they are done."""

    def with_word(parser: Parser) -> Parser:
        def parse(message: Message, feed: Feed) -> Notice | Ignored:
            send(pipe, packed("feed", feed.name))
            try:
                return parser(message, feed)
            finally:
                send(pipe, packed("parsed"))

        return parse

    return replace(registry, parsers={n: with_word(p) for n, p in registry.parsers.items()})


def _limit_memory(megabytes: int) -> None:
    """Bound the address space to what is in use now and ``megabytes`` more, where Linux is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
    except OSError:
        return
    most = pages * resource.getpagesize() + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _answered(registry: Registry, chains: Mapping[str, Chain], task: Task) -> list[Any]:
    try:
        found = understand(
            registry,
            chains,
            task.raw,
            topic=task.topic,
            feed=task.feed,
            find_map=lambda notice: task.skymap,
            heed_pause=task.heed_pause,
            audience=task.audience,
        )
        if (error := found.rejected) is not None and _wants_memory(error):
            raise MemoryError(error.detail)
        return packed("done", found)
    except MemoryError as error:
        return packed("memory", f"more memory than allowed was asked for: {error}")
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return packed("failed", detail, traceback.format_exc())


def _wants_memory(error: BaseException) -> bool:
    """Whether a want of memory is behind an error, which a parser may have renamed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
