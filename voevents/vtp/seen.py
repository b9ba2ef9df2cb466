"""Which packets were acted on already."""

from __future__ import annotations

from collections import OrderedDict


class SeenEvents:
    """Digests of the last ``capacity`` packets that were acted on.

    One instance may serve a receiver and several subscribers, so that a packet
    that comes by two ways is acted on once.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._capacity = capacity

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
