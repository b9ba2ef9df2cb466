"""Which packets were acted on already, and which are being acted on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure


class SeenEvents:
    """Digests of the last ``capacity`` packets that were acted on.

    One instance may serve a receiver and several subscribers, so that a packet
    that comes by two ways is acted on once. For the reactor's thread only.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._capacity = capacity
        self._pending: dict[bytes, list[Deferred[bool]]] = {}

    def __contains__(self, digest: bytes) -> bool:
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, digest: bytes) -> None:
        """Remember ``digest``; the one not met for longest is forgotten."""
        self._digests[digest] = None
        if len(self._digests) > self._capacity:
            self._digests.popitem(last=False)

    def once(self, digest: bytes, act: Callable[[], Any]) -> Deferred[bool]:
        """Run ``act`` unless the packet was acted on before.

        Returns
        -------
        Deferred of bool
            True when ``act`` has succeeded (or its Deferred has), False for a
            repetition. Copies that come meanwhile wait for the first. A failure
            goes to all of them, and the packet does not count as seen.
        """
        if digest in self:
            return succeed(False)
        if digest in self._pending:
            waiting: Deferred[bool] = Deferred()
            self._pending[digest].append(waiting)
            return waiting
        self._pending[digest] = []

        def succeeded(result: object) -> bool:
            self.add(digest)
            for copy in self._pending.pop(digest):
                copy.callback(False)
            return True

        def failed(failure: Failure) -> Failure:
            for copy in self._pending.pop(digest):
                copy.errback(failure)
            return failure

        return maybeDeferred(act).addCallbacks(succeeded, failed)
