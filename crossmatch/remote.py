"""What catalogues elsewhere answered about objects, and what of it holds for a place.

Such an answer comes when it comes: it is asked for after the candidate went out, and is a message
of its own. Which one holds depends on the answers that there are, not on their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

from crossmatch.candidate import Context
from crossmatch.errors import CatalogError
from crossmatch.neighbours import Neighbour

SIMBAD = "simbad"
"""Name of the catalogue, and kind of its sources."""
MAX_SOURCES = 50
"""Of one answer; in crowded fields the nearest ones."""
_SLACK_ARCSEC = 1e-6


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A source that a catalogue has near a place.

    Parameters
    ----------
    name, type : str or None
        As the catalogue has them.
    ra_deg, dec_deg : float or None
        ICRS; None where the catalogue does not say, or says it for another time.
    separation_arcsec : float
        From the place that was asked about.
    magnitude, redshift : float or None
    """

    name: str | None
    type: str | None
    ra_deg: float | None
    dec_deg: float | None
    separation_arcsec: float
    magnitude: float | None = None
    redshift: float | None = None

    def text(self, catalog: str, separation_arcsec: float) -> str:
        """For people and candidates, as ``simbad: 0.31 arcsec, NGC 4993, Galaxy, z 0.009783``."""
        parts = [f"{catalog}: {separation_arcsec:.2f} arcsec"]
        parts += [text for text in (self.name, self.type) if text]
        for label, value in (("mag", self.magnitude), ("z", self.redshift)):
            if value is not None:
                parts.append(f"{label} {value:.4g}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one catalogue has near a place of an object.

    Parameters
    ----------
    counterpart_id : str
        The object.
    catalog, version : str
        As the configuration calls it; for one that changes daily the day.
    ra_deg, dec_deg : float
        The place that was asked about, ICRS.
    radius_arcsec : float
        All sources within it are told.
    answered : str
        ISO 8601 UTC.
    via : str
        The service that answered.
    sources : tuple of RemoteSource
        The nearest first.
    """

    counterpart_id: str
    catalog: str
    version: str
    ra_deg: float
    dec_deg: float
    radius_arcsec: float
    answered: str
    via: str
    sources: tuple[RemoteSource, ...] = ()

    def covers(self, ra_deg: float, dec_deg: float, radius_arcsec: float) -> bool:
        """Whether all that the catalogue has within a radius of a place is told."""
        away = separation_arcsec(self.ra_deg, self.dec_deg, ra_deg, dec_deg)
        return away + radius_arcsec <= self.radius_arcsec + _SLACK_ARCSEC

    def nearest(
        self, ra_deg: float, dec_deg: float, radius_arcsec: float
    ) -> tuple[float, RemoteSource] | None:
        """The source nearest to a place within a radius, and how far it is, arcsec."""
        found = [(_away(source, ra_deg, dec_deg), source) for source in self.sources]
        near = [one for one in found if one[0] <= radius_arcsec]
        return min(near, key=lambda one: (one[0], one[1].name or ""), default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answer:
        """The inverse of :meth:`to_json`."""
        sources = tuple(RemoteSource(**source) for source in data["sources"])
        return cls(**{**data, "sources": sources})


Answers: TypeAlias = Mapping[str, Sequence[Answer]]
"""By counterpart."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Which catalogues elsewhere candidates are looked up in.

    Parameters
    ----------
    catalogs : tuple of str
    radius_arcsec : float
        A source within it is told.
    with_private : bool
        Whether they are asked about counterparts of private events.
    """

    catalogs: tuple[str, ...] = ()
    radius_arcsec: float = 1.0
    with_private: bool = False

    @property
    def rule(self) -> str:
        """For the digest of what everything open is judged by; empty if none is asked."""
        return f"{'+'.join(self.catalogs)}<{self.radius_arcsec:g}" if self.catalogs else ""

    def joined(
        self, context: Context, answers: Sequence[Answer], ra_deg: float, dec_deg: float
    ) -> Context:
        """``context`` with what is known of a place, and with what is not looked up yet."""
        if not self.catalogs:
            return context
        held = {name: self._holding(answers, name, ra_deg, dec_deg) for name in self.catalogs}
        known = {name: answer for name, answer in held.items() if answer is not None}
        near, distances = [], []
        nearest = list(context.nearest)
        for name, answer in known.items():
            found = answer.nearest(ra_deg, dec_deg, self.radius_arcsec)
            if found is not None:
                near.append(found[1].text(name, found[0]))
                distances.append((name, found[0]))
                if name == SIMBAD:
                    nearest.append(_of_simbad(*found))
        return replace(
            context,
            looked_up=(*context.looked_up, *known),
            not_looked_up=tuple(name for name in self.catalogs if name not in known),
            catalog_versions=(
                *context.catalog_versions,
                *(f"{name}@{answer.version}" for name, answer in known.items()),
            ),
            near=(*context.near, *near),
            distances=(*context.distances, *distances),
            nearest=tuple(nearest),
        )

    def _holding(
        self, answers: Sequence[Answer], catalog: str, ra_deg: float, dec_deg: float
    ) -> Answer | None:
        """The latest answer of a catalogue that holds for a place."""
        mine = (
            answer
            for answer in answers
            if answer.catalog == catalog and answer.covers(ra_deg, dec_deg, self.radius_arcsec)
        )
        return max(mine, key=_order, default=None)


NOWHERE = Remote()
"""No catalogue is asked."""


def separation_arcsec(ra1_deg: float, dec1_deg: float, ra2_deg: float, dec2_deg: float) -> float:
    """Angle between two places; of single ones arrays take twenty times as long."""
    ra1, dec1, ra2, dec2 = map(math.radians, (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    half = (
        math.sin((dec2 - dec1) / 2) ** 2
        + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    )
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half)))) * 3600


def checked(answer: Answer) -> Answer:
    """``answer`` if everything in it can be meant.

    Raises
    ------
    CatalogError
        ``bad_answer``, with what is wrong.
    """
    wrong = _wrong(answer)
    if wrong:
        raise CatalogError("bad_answer", f"{answer.catalog}: {wrong}")
    return answer


def read_answer(data: Any) -> Answer:
    """An answer of plain values, as of a message.

    Raises
    ------
    CatalogError
        ``bad_answer`` if it is none.
    """
    names = {f.name for f in fields(Answer)}
    if not isinstance(data, dict) or set(data) != names:
        raise CatalogError("bad_answer", "no record with the fields of an answer")
    try:
        answer = Answer.from_json(data)
    except TypeError as error:
        raise CatalogError("bad_answer", f"no sources as an answer has them: {error}") from error
    return checked(answer)


def _of_simbad(separation_arcsec: float, source: RemoteSource) -> Neighbour:
    return Neighbour(SIMBAD, SIMBAD, separation_arcsec, source.name, source.type)


def _order(answer: Answer) -> tuple[str, str]:
    """The latest is the last; of one moment any order that does not depend on how they came."""
    return answer.answered, repr(answer)


def _away(source: RemoteSource, ra_deg: float, dec_deg: float) -> float:
    if source.ra_deg is None or source.dec_deg is None:
        return source.separation_arcsec
    return separation_arcsec(ra_deg, dec_deg, source.ra_deg, source.dec_deg)


def _wrong(answer: Answer) -> str:
    texts = (answer.counterpart_id, answer.catalog, answer.version, answer.answered)
    if not all(isinstance(text, str) and text for text in texts):
        return "an empty name, version or time"
    if not isinstance(answer.via, str):
        return "via is no text"
    if not _is_place(answer.ra_deg, answer.dec_deg):
        return f"{answer.ra_deg} {answer.dec_deg} is no place"
    if not (_is_number(answer.radius_arcsec) and 0 < answer.radius_arcsec <= 180):
        return f"radius {answer.radius_arcsec}"
    if len(answer.sources) > MAX_SOURCES:
        return f"{len(answer.sources)} sources, at most {MAX_SOURCES}"
    wrongs = (_wrong_source(source, answer.radius_arcsec) for source in answer.sources)
    return next(filter(None, wrongs), "")


def _wrong_source(source: RemoteSource, radius_arcsec: float) -> str:
    if any(text is not None and not isinstance(text, str) for text in (source.name, source.type)):
        return "a source's name or type is no text"
    if not _is_number(source.separation_arcsec):
        return f"separation {source.separation_arcsec}"
    if not 0 <= source.separation_arcsec <= radius_arcsec + 0.01:
        return f"a source at {source.separation_arcsec:.2f} arcsec, within {radius_arcsec:g} asked"
    place = (source.ra_deg, source.dec_deg)
    if place != (None, None) and not _is_place(*place):
        return f"{source.ra_deg} {source.dec_deg} is no place of a source"
    if any(v is not None and not _is_number(v) for v in (source.magnitude, source.redshift)):
        return "a magnitude or redshift is no number"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_place(ra_deg: Any, dec_deg: Any) -> bool:
    numbers = _is_number(ra_deg) and _is_number(dec_deg)
    return numbers and 0 <= ra_deg <= 360 and -90 <= dec_deg <= 90
