"""What people found out about a counterpart, and what that does to its tier."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from crossmatch.errors import Rejected

Effect = Literal["confirm", "demote", "neutral"]

# fmt: off
CLASSIFICATIONS: dict[str, tuple[Effect, str]] = {
    "counterpart": ("confirm", "the counterpart of the event, by whatever evidence"),
    "afterglow": ("confirm", "an afterglow: power-law spectrum or decay, absorption lines, radio"),
    "kilonova": ("confirm", "a kilonova: fast reddening, or its spectrum"),
    "candidate": ("neutral", "worth following, nothing is decided yet"),
    "ic_bl": ("neutral", "a broad-lined supernova Ic, as bursts leave: yours or another's"),
    "fbot": ("neutral", "a fast blue transient, such as AT2018cow"),
    "tde": ("neutral", "a star torn apart by a black hole"),
    "blazar": ("neutral", "a flaring blazar: for neutrinos a counterpart, else background"),
    "not_detected": ("neutral", "looked for and not seen any more; the note says how deep"),
    "unclear": ("neutral", "takes an earlier verdict back"),
    "supernova": ("demote", "a supernova of any other type"),
    "nova": ("demote", "a nova"),
    "cv": ("demote", "a dwarf nova or another cataclysmic variable"),
    "flare": ("demote", "a stellar flare, as of an M dwarf"),
    "variable": ("demote", "a variable star"),
    "star": ("demote", "a star, seen because of its motion or of a bad subtraction"),
    "lrn": ("demote", "between novae and supernovae: red nova, luminous blue variable, impostor"),
    "agn": ("demote", "an active nucleus or quasar that varies as it always does"),
    "host": ("demote", "the light is the host galaxy's"),
    "asteroid": ("demote", "it moves: asteroid, comet, satellite"),
    "artefact": ("demote", "no source: ghost, spike, cosmic ray, bad subtraction"),
    "older": ("demote", "seen in images taken before the event"),
    "outside": ("demote", "at another distance, or outside of a better localisation"),
    "unrelated": ("demote", "not the counterpart, for another reason"),
}
# fmt: on
"""What people may say, what it does unless they say otherwise, and what it means."""

EFFECTS: dict[str, Effect] = {name: effect for name, (effect, _) in CLASSIFICATIONS.items()}
"""What each verdict does unless whoever gives it says otherwise."""

SYNONYMS: dict[str, str] = {
    "artifact": "artefact",
    "bogus": "artefact",
    "broad_lined_ic": "ic_bl",
    "cataclysmic": "cv",
    "comet": "asteroid",
    "dwarf_nova": "cv",
    "galaxy": "host",
    "kn": "kilonova",
    "m_dwarf": "flare",
    "moving": "asteroid",
    "qso": "agn",
    "quasar": "agn",
    "satellite": "asteroid",
    "slsn": "supernova",
    "sn": "supernova",
    "sn_ic_bl": "ic_bl",
    "stellar_flare": "flare",
    "varstar": "variable",
}
"""Other words for the same, as circulars and brokers use them."""

MAX_LENGTHS: dict[str, int] = {
    "verdict_id": 128,
    "counterpart_id": 256,
    "classification": 64,
    "stated": 27,
    "author": 256,
    "note": 2000,
    "reference": 500,
    "event_id": 512,
}
"""Characters at most; a verdict goes out with every statement about its candidate."""

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_STATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
# What XML 1.0 cannot bear (section 2.2, Char): verdicts go into VOEvents.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict; ``event_id`` is empty when it holds for all events of the counterpart.

    ``stated`` is ISO 8601 UTC with microseconds and Z, so that texts sort as times do.
    """

    verdict_id: str
    counterpart_id: str
    classification: str
    effect: Effect
    stated: str
    author: str = ""
    note: str = ""
    reference: str = ""
    event_id: str = ""


def holding(verdicts: Iterable[Verdict], event_id: str) -> Verdict | None:
    """The verdict that holds for one event: the latest one, whatever the order of arrival."""
    mine = [v for v in verdicts if v.event_id in ("", event_id)]
    return max(mine, key=lambda v: (v.stated, v.verdict_id), default=None)


def known_word(text: str) -> str | None:
    """The classification that ``text`` means; None when it is none of ours.

    Examples
    --------
    >>> known_word("Dwarf nova")
    'cv'
    >>> known_word("AGN")
    'agn'
    >>> known_word("pulsar") is None
    True
    """
    word = re.sub(r"[\s\-/]+", "_", text.strip().lower())
    word = SYNONYMS.get(word, word)
    return word if word in CLASSIFICATIONS else None


def content_id(*parts: str) -> str:
    """Id of a verdict from what makes it the same verdict: equal parts, equal ids."""
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"v-{digest[:16]}"


def checked(verdict: Verdict) -> Verdict:
    """``verdict`` if it can be heeded and sent on.

    The classification may be any word in lower case: one that a later version knows
    is no error, and the effect says what to do.

    Raises
    ------
    Rejected
        ``unknown_effect``, ``unknown_time``, ``bad_verdict`` for ids and words that are missing
        or malformed or characters that XML cannot bear, ``verdict_too_long``.
    """
    for name, most in MAX_LENGTHS.items():
        text = getattr(verdict, name)
        if len(text) > most:
            raise Rejected("verdict_too_long", f"{name}: {len(text)} characters, at most {most}")
        if _NO_XML.search(text):
            raise Rejected("bad_verdict", f"{name} has characters that are no text")
    if verdict.effect not in get_args(Effect):
        raise Rejected("unknown_effect", f"{verdict.effect[:40]!r} is not confirm, demote, neutral")
    if not verdict.verdict_id or not verdict.counterpart_id:
        raise Rejected("bad_verdict", "verdict_id and counterpart_id must not be empty")
    if not _WORD.fullmatch(verdict.classification):
        raise Rejected("bad_verdict", f"classification {verdict.classification!r} is no word")
    if not _is_time(verdict.stated):
        raise Rejected(
            "unknown_time", f"stated {verdict.stated!r}: not 2026-01-31T00:00:00.000000Z"
        )
    return verdict


def _is_time(text: str) -> bool:
    if not _STATED.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
