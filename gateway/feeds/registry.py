"""The feeds: found in files, recognised by what a message says, never listed in code.

A feed is one TOML file, built in (beside this module) or in a folder of the
operator. What the three built-in formats cannot express, a function
``parse(message, feed) -> Notice | Ignored`` can: its name in the entry-point
group ``mmgateway.feeds``, or ``module:function``, stands as ``parser`` in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Notice, Window
from gateway.feeds.loading import Found, Trouble, built_in_files, parser_of, read_feeds
from gateway.feeds.loading import Parser as Parser
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers.strictjson import load_object
from gateway.feeds.recognition import Index, fits, may_claim
from gateway.feeds.spec import Feed
from gateway.near import did_you_mean
from voevents.parse import parse_voevent

HEARTBEAT = "gcn.heartbeat"


@dataclass(frozen=True, slots=True)
class Routed:
    """A message and the feed whose it is.

    ``feed`` is None when no feed knows it; ``service`` says what it is when it is a
    message that tells of no event whoever sends it. ``streams`` may see it, also when no
    feed knows it; empty: everybody may.
    """

    message: Message
    feed: Feed | None
    service: str = ""
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """All feeds with their parsers. Disabled ones are used only when named outright.

    Feeds are asked in the order of ``feeds``: those of the operator come before
    the built-in ones, fall-back feeds last. Messages of ``paused`` feeds are recognised
    as theirs; what becomes of them is for the caller to say. ``private_topics`` and
    ``private_feeds`` map topics and names of private feeds that are gone to who may see what
    still comes by them.
    """

    feeds: tuple[Feed, ...]
    parsers: Mapping[str, Parser]
    paused: frozenset[str] = frozenset()
    private_topics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    private_feeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _index: Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", Index(self.feeds))

    def topics(self) -> tuple[str, ...]:
        """Kafka topics of all enabled feeds without a Kafka of their own, each once."""
        feeds = [f for f in self._enabled() if not f.transport.kafka]
        return tuple(dict.fromkeys(t for f in feeds for t in f.topics))

    def feed(self, name: str) -> Feed:
        """Feed of that name.

        Raises
        ------
        ConfigError
            When there is none.
        """
        feed = self._index.by_name.get(name)
        if feed is not None:
            return feed
        hint = did_you_mean(name, self._index.by_name, "'mmgateway feeds list' shows all")
        raise ConfigError(f"no feed is called {name!r}; {hint}")

    def audience_of(self, topic: str, *, feed: str = "") -> tuple[str, ...]:
        """Private streams that may see what comes by a topic, or by a feed's own door.

        Parameters
        ----------
        topic : str
            Private to the streams of all feeds, on or off, that name it privately and have no
            Kafka of their own, and of feeds that did and are gone.
        feed : str
            The feed whose door it is; then its topic belongs to that door.

        Returns
        -------
        tuple of str
            Sorted; empty: everybody may.
        """
        if feed:
            known = self._index.by_name.get(feed)
            return self.private_feeds.get(feed, ()) if known is None else known.audience
        named = self._index.audiences.get(topic, ())
        return tuple(sorted({*named, *self.private_topics.get(topic, ())}))

    def route(
        self, raw: bytes, *, topic: str = "", feed: str = "", audience: tuple[str, ...] = ()
    ) -> Routed:
        """Read a message as far as it must be to say whose it is.

        What only an audience may see, no other feed than one for that audience or for some
        of it may claim, whatever the message says of itself: else it is nobody's, and its
        ``streams`` are that audience.

        Parameters
        ----------
        raw : bytes
            VOEvent or JSON, as received.
        topic : str
            Kafka topic it came from, if any; decides for JSON without ``$schema``.
        feed : str
            Name of the feed to use, when known; else it is recognised.
        audience : tuple of str
            Who might see it when it was heard; empty: as :meth:`audience_of` has it now.

        Raises
        ------
        NoticeError
            When it cannot be read.
        """
        audience = audience or self.audience_of(topic, feed=feed)
        if topic == HEARTBEAT:
            return Routed(Message(raw, topic), None, "heartbeat", audience)
        named = self._named(feed) if feed else None
        if named is not None and not may_claim(named, audience):
            named = None
        chosen = named if feed else self._index.told(topic, audience, None)
        if chosen is not None and chosen.format == "other":
            return _routed(Message(raw, topic), chosen, audience)
        message = _read(raw, topic)
        if _is_heartbeat(message) and (chosen is not None or not audience):
            return Routed(message, named, "heartbeat", audience)
        if feed:
            chosen = named if named is not None and fits(named, message) else None
        else:
            # What a message says of itself outranks the topic it came by; the topic outranks a
            # feed that takes what is left, or a private record would become everybody's.
            chosen = self._index.told(topic, audience, message)
            found = self._index.claimant(message, audience)
            if found is not None and (chosen is None or not found.fallback):
                chosen = found
        return _routed(message, chosen, audience)

    def owner_of(self, topic: str, audience: tuple[str, ...] = ()) -> Feed | None:
        """The only feed of a topic, if there is one: whose a message is that cannot be read."""
        return self._index.told(topic, audience, None)

    def understand(self, routed: Routed) -> Notice | Ignored:
        """Notice that a routed message holds, with the feed's marks, or a word on why it is none.

        Raises
        ------
        NoticeError
            When it cannot be understood; ``no_feed`` when no enabled feed knows it.
        """
        if routed.service:
            return Ignored(routed.service, "", "")
        if routed.feed is None:
            return _unclaimed(routed.message, routed.streams)
        found = self._run(routed.feed, routed.message)
        return found if isinstance(found, Ignored) else marked(found, routed.feed)

    def parse(self, raw: bytes, *, topic: str = "", feed: str = "") -> Notice | Ignored:
        """:meth:`route` and :meth:`understand` in one."""
        return self.understand(self.route(raw, topic=topic, feed=feed))

    def _enabled(self) -> Iterable[Feed]:
        return (f for f in self.feeds if f.enabled)

    def _named(self, name: str) -> Feed:
        try:
            return self.feed(name)
        except ConfigError as error:
            raise NoticeError("no_feed", str(error)) from error

    def _run(self, feed: Feed, message: Message) -> Notice | Ignored:
        parser = self.parsers[feed.name]
        try:
            found = parser(message, feed)
        except NoticeError:
            raise
        except Exception as error:
            # A feed of the operator's must not stop the stream; ours must show their faults.
            if not feed.parser:
                raise
            raise NoticeError(
                "parser_failed", f"feed {feed.name}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Notice | Ignored):
            raise NoticeError(
                "parser_failed", f"feed {feed.name} returned a {type(found).__name__}, not a Notice"
            )
        return found


def _routed(message: Message, feed: Feed | None, audience: tuple[str, ...]) -> Routed:
    return Routed(message, feed, streams=audience if feed is None else feed.audience)


def marked(notice: Notice, feed: Feed) -> Notice:
    """``notice`` with what the feed's file says of all its notices.

    Events of private feeds have names of their own (``ourteam:Own_12``), so that nothing
    that comes by them changes what everybody knows of an event, or its number of versions.
    """
    audience = feed.audience
    event_id, retracts = notice.event_id, notice.retracts
    if audience:
        world = "+".join(audience)
        event_id = f"{world}:{notice.event_id}"
        # Other events that a notice takes back have such names too.
        names = (n for r in retracts for n in _private_names(r, world, notice.event_id, feed))
        retracts = tuple(dict.fromkeys(names))
    window = Window(*feed.window_days) if feed.window_days else None
    return replace(
        notice,
        event_id=event_id,
        retracts=retracts,
        chain=notice.chain or feed.chain,
        window=notice.window or window,
        streams=audience,
        feed_version=feed.version,
    )


def _private_names(name: str, world: str, event_id: str, feed: Feed) -> tuple[str, ...]:
    """Names in a private world of what a notice takes back: an event or a notice."""
    event = f"{world}:{name}"
    if name == event_id or ":" not in name:
        return (event,)
    if name.startswith(("ivo://", f"{feed.prefix or feed.name}:")):
        return (name,)
    # It may be a notice of another feed of that world, or an event with a colon in its name.
    return (name, event)


def load_feeds(folders: Sequence[Path] = ()) -> Registry:
    """Registry of the built-in feeds and of all ``*.toml`` in ``folders``.

    A feed of the operator's with the name of a built-in one replaces it, so a
    copy with ``enabled = false`` switches it off.

    Raises
    ------
    ConfigError
        For a folder that cannot be read, a bad file, two operator feeds of one
        name, or a parser that is not there.
    """
    found = Found()

    def troubled(trouble: Trouble) -> None:
        raise ConfigError(trouble.sentence)

    def add(feed: Feed, text: str) -> None:
        found.add(feed, parser_of(feed), text)

    read_feeds(found, folders, built_in_files(), add, troubled)
    return registry_of(found.feeds.values(), found.parsers)


def registry_of(
    feeds: Iterable[Feed], parsers: Mapping[str, Parser], paused: frozenset[str] = frozenset()
) -> Registry:
    """Registry that asks ``feeds`` in their order, fall-back feeds last."""
    return Registry(tuple(sorted(feeds, key=lambda f: f.fallback)), parsers, paused)


def _read(raw: bytes, topic: str) -> Message:
    head = raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"<", b"\xff\xfe", b"\xfe\xff", b"\0<", b"\0\0\0<")):
        return Message(raw, topic, packet=parse_voevent(raw))
    if head.startswith((b"{", b"[")):
        return Message(raw, topic, record=load_object(raw))
    if not raw.strip():
        raise NoticeError("empty", "no bytes")
    hint = "; GCN's texts and 160-byte packets come as VOEvents on gcn.classic.voevent.* too"
    classic = hint if raw.startswith(b"TITLE:") or len(raw) == 160 else ""
    raise NoticeError("unknown_format", f"starts with {raw[:12]!r}; expected XML or JSON{classic}")


def _is_heartbeat(message: Message) -> bool:
    record = message.record
    return (
        record is not None
        and "alert_datetime" in record
        and record.keys()
        <= {
            "$schema",
            "alert_datetime",
            "alert_tense",
            "additional_info",
        }
    )


def _unclaimed(message: Message, audience: tuple[str, ...]) -> Ignored:
    """Answer to what no feed knows: service messages are ignored, the rest is refused."""
    nobody = f"no feed for {', '.join(audience)} alone" if audience else "no feed"
    if message.packet is not None:
        packet = message.packet
        if packet.role == "utility":
            return Ignored(
                "utility", "", packet.ivoid, role=packet.role, trigger_time=packet.isotime
            )
        raise NoticeError(
            "no_feed", f"{nobody} knows {packet.ivoid[:120]} (packet type {packet.packet_type})"
        )
    schema = str((message.record or {}).get("$schema", ""))
    raise NoticeError("no_feed", f"{nobody} knows JSON with $schema {schema[:120]!r}")
