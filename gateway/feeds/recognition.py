"""Whose a message is, by what it says of itself, without asking every feed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, KeysView, Sequence
from typing import Any, TypeAlias

from gateway.feeds.message import Message
from gateway.feeds.paths import alternatives
from gateway.feeds.spec import Feed

_MAX_REMEMBERED = 1000
_TOP = re.compile(r"\$\.([A-Za-z_][A-Za-z0-9_]*)")
_Needs: TypeAlias = tuple[tuple[str, ...], ...]


class Index:
    """Feeds by what messages say of themselves, in the order in which they are asked.

    It only narrows the choice: whose a message is, :meth:`Feed.recognises` decides. Feeds
    that are off claim nothing, but their private topics are private all the same.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.by_name = {f.name: f for f in reversed(feeds)}
        self.by_topic: dict[str, list[Feed]] = defaultdict(list)
        self.audiences: dict[str, set[str]] = defaultdict(set)
        enabled = [f for f in feeds if f.enabled]
        for feed in enabled:
            for topic in dict.fromkeys(feed.topics):
                self.by_topic[topic].append(feed)
        for feed in feeds:
            # The topics of a Kafka of its own are none of ours, whatever they are called.
            if feed.audience and not feed.transport.kafka:
                for topic in feed.topics:
                    self.audiences[topic].update(feed.audience)
        self._voevent = [f for f in enabled if f.format == "voevent"]
        self._json = [(f, tuple(map(_tops, f.members))) for f in enabled if f.format != "voevent"]
        # What the streams and schemas that were heard of give, so that each is looked up once.
        self._by_stream: dict[str, tuple[Feed, ...]] = {}
        self._by_schema: dict[str, tuple[tuple[Feed, _Needs], ...]] = {}

    def told(self, topic: str, audience: Sequence[str], message: Message | None) -> Feed | None:
        """The only feed of that topic that may have such a message; None before it is read.

        With ``message`` None the only feed of the topic at all.
        """
        having = [f for f in self.by_topic.get(topic, ()) if may_claim(f, audience)]
        if message is not None:
            having = [f for f in having if fits(f, message)]
        return having[0] if len(having) == 1 else None

    def claimant(self, message: Message, audience: Sequence[str]) -> Feed | None:
        """Feed whose the message is by what it says of itself, among those that may have it."""
        candidates = self._candidates(message)
        if audience:
            candidates = [f for f in candidates if may_claim(f, audience)]
        found = next((f for f in candidates if f.recognises(message)), None)
        if message.packet is not None and (found is None or found.fallback):
            # A packet of a type that its mission's feeds do not know is still that mission's.
            ivoid = message.packet.ivoid
            nearest = max(candidates, key=lambda f: f.claims(ivoid), default=None)
            if nearest is not None and nearest.claims(ivoid):
                return nearest
        return found

    def _candidates(self, message: Message) -> Iterable[Feed]:
        """Feeds whose the message may be; of packets a sequence."""
        if message.packet is not None:
            stream, mark, _ = message.packet.ivoid.partition("#")
            # Without a fragment each event may be a stream of its own.
            return self._of_stream(stream + mark) if mark else self._voevent
        record = message.record or {}
        schema = record.get("$schema")
        names = record.keys()
        kept = self._of_schema(schema if isinstance(schema, str) else "")
        return (feed for feed, needs in kept if _has(names, needs))

    def _of_stream(self, stream: str) -> tuple[Feed, ...]:
        found = self._by_stream.get(stream)
        if found is None:
            found = tuple(
                f
                for f in self._voevent
                if f.fallback or any(stream.startswith(i) or i.startswith(stream) for i in f.ivoids)
            )
            _remember(self._by_stream, stream, found)
        return found

    def _of_schema(self, schema: str) -> tuple[tuple[Feed, _Needs], ...]:
        found = self._by_schema.get(schema)
        if found is None:
            found = tuple(
                (f, needs)
                for f, needs in self._json
                if not f.schemas or any(s in schema for s in f.schemas)
            )
            _remember(self._by_schema, schema, found)
        return found


def may_claim(feed: Feed, audience: Sequence[str]) -> bool:
    """Whether a feed may have what only ``audience`` may see; empty: what everybody may.

    A feed that shows it to some of them is no leak, one that shows it to others is.
    """
    return not audience or (bool(feed.audience) and set(feed.audience) <= set(audience))


def fits(feed: Feed, message: Message) -> bool:
    """Whether a message that was read is of the feed's kind: VOEvent or JSON."""
    return feed.format != "other" and (feed.format == "voevent") == (message.packet is not None)


def _has(names: KeysView[str], needs: _Needs) -> bool:
    # A plain loop: a generator inside all() takes three times as long, for every message.
    for need in needs:  # noqa: SIM110
        if need and names.isdisjoint(need):
            return False
    return True


def _remember(table: dict[str, Any], key: str, value: object) -> None:
    if len(table) >= _MAX_REMEMBERED:
        # What strangers write must not fill the memory.
        table.clear()
    table[key] = value


def _tops(member: str) -> tuple[str, ...]:
    """Names of which a record must have one for ``member`` to be there; none: cannot be told."""
    found = []
    for path in alternatives(member):
        top = _TOP.match(path)
        name = path if path[:1] not in "/@" and not path.startswith(("$.", "$[")) else ""
        if not (top or name):
            return ()
        found.append(top[1] if top else name)
    return tuple(found)
