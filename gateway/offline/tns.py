"""Verdicts from the table of public objects of the Transient Name Server (TNS)."""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.local import LocalCatalog
from crossmatch.errors import CatalogError
from crossmatch.sky import ipix29
from crossmatch.verdicts import EFFECTS, Effect, Verdict, content_id
from gateway.offline.counterparts import Counterpart, simultaneous
from gateway.offline.verdicts import Log, new_verdict

ID_PREFIX = "tns-"
AUTHOR = "TNS"
_COLUMNS = ("name", "ra", "declination", "type", "internal_names")
# A file of the web site begins with the time at which it was made.
_TIME_STAMP = re.compile(r'"?\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?"?')

# fmt: off
# In this order: the first whose expression begins the class decides.
_CLASSES: tuple[tuple[str, str], ...] = (
    (r"SN Ic-BL", "ic_bl"),
    (r"(SN|SLSN|PISN|Computed)\b", "supernova"),
    (r"Kilonova", "kilonova"),
    (r"Afterglow", "afterglow"),
    (r"TDE", "tde"),
    (r"Blazar", "blazar"),
    (r"(AGN|QSO)\b", "agn"),
    (r"Galaxy", "host"),
    (r"FBOT", "fbot"),
    (r"CV\b", "cv"),
    (r"(Nova|CN)\b", "nova"),
    (r"M dwarf", "flare"),
    (r"(Varstar|Mira|YSO|RR ?Lyr|Variable)", "variable"),
    (r"(LRN|ILRT|LBV|Gap|Impostor)", "lrn"),
    (r"(WR\b|WR-|WD\b|Star\b)", "star"),
    (r"Light-Echo", "unrelated"),
)
# fmt: on
_CONFIRMED_FOR: Mapping[str, frozenset[str]] = {
    "kilonova": frozenset({"gw", "grb"}),
    "afterglow": frozenset({"grb", "xray"}),
}
"""Messengers whose counterparts are of that class. In the region of a gravitational wave there
are afterglows of bursts that have nothing to do with it."""


@dataclass(frozen=True, slots=True)
class TnsObject:
    """One classified object; positions are ICRS degrees."""

    prefix: str
    name: str
    ra_deg: float
    dec_deg: float
    type: str
    redshift: str
    group: str
    internal_names: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """As people cite it: ``AT 2017gfo``."""
        return f"{self.prefix} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class TnsTable:
    """Classified objects of a table, with the numbers of all rows and of those without place."""

    objects: tuple[TnsObject, ...]
    rows: int
    without_position: int


@dataclass(frozen=True, slots=True)
class Match:
    """A counterpart and its object; ``separation_arcsec`` is None when it is matched by name."""

    counterpart: Counterpart
    object: TnsObject
    separation_arcsec: float | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What is done about a match: ``new``, ``known``, ``kept`` or ``no_verdict``.

    ``known``: the same was said from TNS before. ``kept``: the latest verdict is a person's.
    ``verdict`` is None but for ``new``.
    """

    match: Match
    action: str
    verdict: Verdict | None = None


def classification(tns_class: str) -> str | None:
    """Our word for a class of TNS; None for those that decide nothing, such as ``Other``.

    Examples
    --------
    >>> classification("SN Ia-91T-like"), classification("SN Ic-BL"), classification("Varstar")
    ('supernova', 'ic_bl', 'variable')
    >>> classification("Other") is None
    True
    """
    for pattern, word in _CLASSES:
        if re.match(pattern, tns_class.strip(), re.IGNORECASE):
            return word
    return None


def read_table(path: Path) -> TnsTable:
    """Classified objects of ``tns_public_objects.csv``, also inside of a .zip.

    Raises
    ------
    CatalogError
        ``no_such_file``, ``unreadable``, ``not_a_table``.
    """
    objects: list[TnsObject] = []
    rows = without = 0
    try:
        with _lines(path) as lines:
            for row in _rows(lines, path):
                rows += 1
                if not (row.get("type") or "").strip():
                    continue
                found = _object(row)
                if found is None:
                    without += 1
                else:
                    objects.append(found)
    except FileNotFoundError as error:
        raise CatalogError("no_such_file", f"there is no file {path}") from error
    except (OSError, csv.Error, zipfile.BadZipFile) as error:
        raise CatalogError("unreadable", f"{path} cannot be read: {error}") from error
    return TnsTable(tuple(objects), rows, without)


@contextmanager
def _lines(path: Path) -> Iterator[Iterable[str]]:
    # Names of people may be in any encoding; what is read of the table is ASCII.
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            tables = [n for n in archive.namelist() if n.lower().endswith(".csv")]
            if len(tables) != 1:
                raise CatalogError("not_a_table", f"{path} holds {len(tables)} .csv files, not one")
            raw = archive.open(tables[0])
            with io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
                yield text
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        yield file


def _rows(lines: Iterable[str], path: Path) -> Iterator[dict[str, str]]:
    reader = csv.reader(lines)
    header = next(reader, [])
    if len(header) == 1 and _TIME_STAMP.fullmatch(header[0].strip()):
        header = next(reader, [])
    names = [name.strip() for name in header]
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise CatalogError(
            "not_a_table",
            f"{path} is no table of TNS objects: it has no column {', '.join(missing)};"
            " take tns_public_objects.csv.zip of https://www.wis-tns.org",
        )
    for values in reader:
        if values:
            yield dict(zip(names, values, strict=False))


def _object(row: Mapping[str, str]) -> TnsObject | None:
    name = (row.get("name") or "").strip()
    try:
        ra, dec = float(row["ra"]), float(row["declination"])
    except (KeyError, ValueError):
        return None
    if not name or not (math.isfinite(ra) and -90 <= dec <= 90):
        return None
    internal = (row.get("internal_names") or "").split(",")
    return TnsObject(
        prefix=(row.get("name_prefix") or "").strip(),
        name=name,
        ra_deg=ra % 360.0,
        dec_deg=dec,
        type=row["type"].strip(),
        redshift=(row.get("redshift") or "").strip(),
        group=(row.get("reporting_group") or "").strip(),
        internal_names=tuple(n.strip() for n in internal if n.strip()),
    )


def matches(
    objects: Sequence[TnsObject], counterparts: Sequence[Counterpart], radius_arcsec: float
) -> list[Match]:
    """Each counterpart with its object: the one that names it, else the nearest in the radius.

    By position only counterparts that are a candidate now are matched.
    """
    by_name = {name: o for o in objects for name in _names(o)}
    found = []
    rest = []
    for one in counterparts:
        named = by_name.get(str(one.newest["id"]))
        if named is not None:
            found.append(Match(one, named, None))
        elif one.best.in_force:
            rest.append(one)
    found += _near(objects, rest, radius_arcsec)
    return sorted(found, key=lambda m: m.counterpart.counterpart_id)


def _names(one: TnsObject) -> Iterator[str]:
    for name in one.internal_names:
        yield name
        number = name.rpartition("-")[2]
        # Rubin's objects are numbers, which TNS writes behind the name of the survey.
        if number.isdigit() and len(number) >= 12:
            yield number


def _near(
    objects: Sequence[TnsObject], counterparts: Sequence[Counterpart], radius_arcsec: float
) -> list[Match]:
    if not objects or not counterparts:
        return []
    ra = np.array([o.ra_deg for o in objects])
    dec = np.array([o.dec_deg for o in objects])
    pixels = ipix29(ra, dec)
    order = np.argsort(pixels, kind="stable")
    rows = pa.table({"row": order})
    catalog = LocalCatalog("tns", "", ra[order], dec[order], pixels[order], rows)
    near = catalog.closest(
        np.array([float(c.newest["ra"]) for c in counterparts]),
        np.array([float(c.newest["dec"]) for c in counterparts]),
        radius_arcsec,
    )
    return [
        Match(counterparts[i], objects[int(order[near.row[i]])], float(near.separation_arcsec[i]))
        for i in np.flatnonzero(near.row >= 0).tolist()
    ]


def plan(
    found: Iterable[Match], log: Log, now: datetime, *, overrule: bool = False
) -> list[Planned]:
    """What to say about each match, given all that was said before.

    The same table a second time gives nothing new. What a person said last is never replaced,
    be it ``unclear``, unless ``overrule``.
    """
    result = []
    for match in found:
        word = classification(match.object.type)
        if word is None:
            result.append(Planned(match, "no_verdict"))
            continue
        said = sorted(
            log.of(match.counterpart.counterpart_id), key=lambda v: (v.stated, v.verdict_id)
        )
        from_tns = [v for v in said if v.verdict_id.startswith(ID_PREFIX)]
        base = _id(match)
        by_person = bool(said) and said[-1] not in from_tns
        if by_person and not overrule:
            result.append(Planned(match, "kept"))
        elif not by_person and said and said[-1].verdict_id.partition(".")[0] == base:
            result.append(Planned(match, "known"))
        else:
            # A class that comes back after another verdict is a verdict of its own.
            name = f"{base}.{len(from_tns)}" if from_tns else base
            result.append(Planned(match, "new", _verdict(match, word, name, now)))
    return result


def counts(planned: Iterable[Planned]) -> dict[str, int]:
    """How many matches there are of each action."""
    return dict(sorted(Counter(p.action for p in planned).items()))


def _id(match: Match) -> str:
    one = match.object
    return ID_PREFIX + content_id(match.counterpart.counterpart_id, one.name, one.type)


def _verdict(match: Match, word: str, verdict_id: str, now: datetime) -> Verdict:
    one = match.object
    effect, event = _effect(match.counterpart, word)
    note = f"TNS class {one.type}"
    if one.redshift:
        note += f", z = {one.redshift}"
    if match.separation_arcsec is not None:
        note += f", {match.separation_arcsec:.1f} arcsec away"
    made = new_verdict(
        match.counterpart.counterpart_id,
        word,
        now=now,
        event_id=event,
        note=note,
        reference=one.full_name,
        author=AUTHOR,
        effect=effect,
    )
    return replace(made, verdict_id=verdict_id)


def _effect(counterpart: Counterpart, word: str) -> tuple[Effect, str]:
    """Effect and event: what confirms does so where it is clear for which event."""
    if EFFECTS[word] != "confirm":
        return EFFECTS[word], ""
    messengers = _CONFIRMED_FOR.get(word, frozenset())
    in_force = [t for t in counterpart.tracks if t.in_force]
    fitting = [t for t in in_force if t.latest["messenger"] in messengers]
    if len(fitting) == 1:
        return "confirm", fitting[0].event_id
    if fitting and len(fitting) == len(in_force) and simultaneous(fitting):
        return "confirm", ""
    return "neutral", ""
