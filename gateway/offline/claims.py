"""Which feeds know a message, which of them has it, and why."""

from __future__ import annotations

from dataclasses import dataclass

from crossmatch.errors import Rejected
from gateway.feeds.message import Message
from gateway.feeds.recognition import fits
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed, Transport

_BUILT_IN = "gateway/feeds/missions/"


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a message is when it is heard.

    ``winner`` is empty when no feed would have it. ``others`` know it too. ``sentence`` says
    why they do not have it; empty when there is nothing to tell.
    """

    winner: str = ""
    others: tuple[str, ...] = ()
    sentence: str = ""


def claim_on(registry: Registry, raw: bytes, of: str = "") -> Claim:
    """Whose ``raw`` would be, were it heard by a topic of the feed ``of``, or by any way.

    Parameters
    ----------
    of : str
        Name of the feed of which somebody thinks that it is its; empty: of none.
    """
    wanted = next((f for f in registry.feeds if f.name == of), None)
    topic = "" if wanted is None or wanted.transport.kafka else next(iter(wanted.topics), "")
    try:
        routed = registry.route(raw)
        if wanted is not None and not fits(wanted, routed.message):
            # It never could read it, whatever the way: only whose it is is of interest.
            has = "" if routed.feed is None else f"When it is heard, {routed.feed.name} has it."
            return Claim("" if routed.feed is None else routed.feed.name, (), has)
        routed = registry.route(raw, topic=topic)
    except Rejected:
        return Claim()
    winner = routed.feed
    knowing = [f for f in registry.feeds if f.enabled and _knows(f, routed.message)]
    others = [
        f
        for f in knowing
        # Those that take what is left know everything: that is worth no word.
        if (winner is None or f.name != winner.name) and (f.name == of or not f.fallback)
    ]
    names = tuple(f.name for f in others)
    if wanted is not None and (winner is None or winner.name != of):
        return Claim("" if winner is None else winner.name, names, _lost(wanted, winner, others))
    if winner is None or not others:
        return Claim("" if winner is None else winner.name, names)
    told = "; ".join(f"{f.name} knows it too, but {_why(winner, f)}" for f in others)
    return Claim(winner.name, names, f"{winner.name} has it; {told}.")


def _knows(feed: Feed, message: Message) -> bool:
    try:
        return feed.recognises(message)
    except Rejected:
        return False


def _lost(wanted: Feed, winner: Feed | None, others: list[Feed]) -> str:
    """Why a message would not be that of the feed that is asked about."""
    own = ""
    if wanted.transport != Transport():
        own = f" What comes by {wanted.name}'s own [transport] is its all the same."
    if not wanted.enabled:
        return f"{wanted.name} is off{'' if winner is None else f': {winner.name} has it'}.{own}"
    if winner is None:
        return (
            f"{wanted.name} does not know it by what it says of itself, nor does any other feed."
            f"{own}"
        )
    why = f"{wanted.name} does not know it by what it says of itself, and {winner.name} does"
    if wanted in others:
        why = _why(winner, wanted)
    return f"When it is heard, {winner.name} has it and not {wanted.name}: {why}.{own}"


def _why(winner: Feed, other: Feed) -> str:
    """Why ``other`` is asked after ``winner``."""
    if other.fallback:
        return f"{other.name} takes only what no other feed knows"
    if _is_own(winner) and not _is_own(other):
        return "feeds of your own are asked before the built-in ones"
    return f"{winner.name} is asked first, for feeds are asked in the order of their files' names"


def _is_own(feed: Feed) -> bool:
    return not feed.source.startswith(_BUILT_IN)
