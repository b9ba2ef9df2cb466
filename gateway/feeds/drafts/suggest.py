"""Proposals of feeds for messages that no feed knows, each tried on its own samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmatch.chains import Chain
from crossmatch.errors import ConfigError, GatewayError, NoticeError
from gateway.feeds.drafts.guess import draft_from
from gateway.feeds.drafts.template import feed_toml
from gateway.feeds.drafts.unknown import Stranger, read_unknown, samples_of
from gateway.feeds.files import feed_from_toml
from gateway.feeds.loading import parser_of
from gateway.feeds.registry import Registry, registry_of
from gateway.understand import Understood, understand


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A stream of messages that no feed knows, and a feed file for it.

    Parameters
    ----------
    sign : str
        What the messages say of themselves: IVOID up to its ``#``, ``$schema``, members.
    first, last : str
        ISO 8601 UTC.
    name, toml : str
        Of the proposed feed; empty when none could be made.
    tried : Understood, optional
        What the proposed feed makes of the first sample.
    problem : str
        Why there is no proposal.
    """

    form: str
    sign: str
    packet_types: tuple[int, ...]
    sources: tuple[str, ...]
    topics: tuple[str, ...]
    count: int
    first: str
    last: str
    samples: int
    name: str = ""
    toml: str = ""
    tried: Understood | None = None
    problem: str = ""


def suggestions(state: Path, registry: Registry, chains: Mapping[str, Chain]) -> list[Suggestion]:
    """Proposals for what was heard and ``registry`` does not know, the most frequent first.

    Raises
    ------
    ServiceError
        When what was kept cannot be read.
    """
    groups: dict[tuple[str, str], list[tuple[Stranger, list[bytes]]]] = defaultdict(list)
    for stranger in read_unknown(state):
        samples = samples_of(state, stranger)
        if not (samples and all(_is_known(registry, s, stranger.topic) for s in samples)):
            groups[stranger.sign.form, stranger.sign.text].append((stranger, samples))
    taken = {feed.name for feed in registry.feeds}
    found = []
    for members in groups.values():
        suggestion = _suggestion(members, taken, chains)
        taken.add(suggestion.name)
        found.append(suggestion)
    return sorted(found, key=lambda s: (-s.count, s.sign))


def trial(toml: str, raw: bytes, chains: Mapping[str, Chain], topic: str = "") -> Understood:
    """What a feed file makes of a message, other feeds aside.

    Raises
    ------
    ConfigError
        When the file is not one of a feed.
    """
    feed = feed_from_toml(toml, "the draft")
    alone = registry_of([feed], {feed.name: parser_of(feed)})
    return understand(alone, chains, raw, topic=topic, feed=feed.name, heed_pause=False)


def free_name(name: str, taken: set[str]) -> str:
    """``name``, with a number if another feed has it."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}_{number}"
    return free


def _is_known(registry: Registry, raw: bytes, topic: str) -> bool:
    try:
        return registry.route(raw, topic=topic).feed is not None
    except NoticeError:
        return False


def _suggestion(
    members: Sequence[tuple[Stranger, Sequence[bytes]]],
    taken: set[str],
    chains: Mapping[str, Chain],
) -> Suggestion:
    strangers = [stranger for stranger, _ in members]
    samples = [raw for _, kept in members for raw in kept]
    topics = tuple(sorted({s.topic for s in strangers if s.topic}))
    types = {s.sign.packet_type for s in strangers}
    name = toml = problem = ""
    tried = None
    try:
        if not samples:
            raise NoticeError("no_sample", "no sample was kept: they were too large")
        draft = draft_from(samples, topic=topics[0] if topics else "")
        name = free_name(draft.name, taken)
        draft = draft_from(samples, topic=topics[0] if topics else "", name=name)
        about = f"Proposed from {len(samples)} of {sum(s.count for s in strangers)} heard."
        toml = feed_toml(draft, about)
        tried = trial(toml, samples[0], chains, topics[0] if topics else "")
    except ConfigError as error:
        name, toml, problem = "", "", str(error)
    except GatewayError as error:
        problem = str(error)
    return Suggestion(
        form=strangers[0].sign.form,
        sign=strangers[0].sign.text,
        packet_types=tuple(sorted(t for t in types if t is not None)),
        sources=tuple(sorted({s.source for s in strangers})),
        topics=topics,
        count=sum(s.count for s in strangers),
        first=min(s.first for s in strangers),
        last=max(s.last for s in strangers),
        samples=len(samples),
        name=name,
        toml=toml,
        tried=tried,
        problem=problem,
    )
