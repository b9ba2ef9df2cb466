"""A small sky for the model: places, events of several missions, and what may be said of them.

Everything is taken from short lists, so that what the model works out is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

from broker.regioncodec import RegionRecord
from crossmatch.candidate import Context
from crossmatch.model import Circle, Window
from crossmatch.neighbours import Neighbour
from crossmatch.remote import Answer, RemoteSource
from crossmatch.verdicts import EFFECTS, Verdict

from .conftest import T0, alert, cells_map, notice, record

DEC = 2.0
PLACES = tuple(150.0 + 1.5 * i for i in range(4))
"""Right ascensions; all regions and objects lie at ``DEC``."""

# --- alerts -----------------------------------------------------------------------------------

# Two in a night, and the last moment of a window of 20 days.
DAYS = (0.01, 0.02, 1.2, 2.0, 20.0)
SCORES = (0.9, 0.6, 0.4)
N_OBJECTS = 5


def _alert(number: int) -> dict:
    """Alert ``number`` of the pool: an object has a place and a survey, its alerts differ."""
    thing, at = divmod(number, len(DAYS))
    return alert(
        10 * thing + at,
        PLACES[thing % len(PLACES)] + 0.1 * (thing // len(PLACES)),
        DEC,
        days=DAYS[at],
        survey="lsst" if thing == 3 else "ztf",
        topic="alerts.lsst" if thing == 3 else "alerts.ztf",
        real_bogus=SCORES[(thing + at) % 3] if thing % 2 else 0.9,
        mag=18.0 + 0.1 * at,
        first_detection_jd=None,
        n_detections=at + 1,
    )


ALERTS = tuple(_alert(i) for i in range(N_OBJECTS * len(DAYS)))


def other_night(row: dict) -> dict:
    """The same alert as if it were of another night."""
    return row | {"time_jd": row["time_jd"] + 1.0, "mag": 21.0}


def taken_back(row: dict) -> dict:
    """The alert as its survey takes it back."""
    return row | {"withdrawn": True}


# --- notices ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A mission's event: what its notices have in common; ``seconds`` is its trigger."""

    event: str
    mission: str
    messenger: str
    seconds: float
    changed: tuple[tuple[str, object], ...] = ()


SHORT = (("window", Window(-0.5, 1.5)),)
SOURCES = (
    Source("F1", "Fermi", "grb", 0.0),
    # 40 s after F1 and 40 s before E1, which are too far apart to be joint by themselves.
    Source("S1", "Swift", "grb", 40.0),
    Source("E1", "EP", "xray", 80.0),
    # Of F1's mission: one with it only by way of others.
    Source("F2", "Fermi", "grb", 20.0, SHORT),
    Source("G1", "LVC", "gw", 0.0, SHORT),
    Source("B1", "Fermi", "grb", 10.0, (("significant", False),)),
)
FOCUS = ((0, 1, 2), (0, 1, 3), (0, 4, 5), (1, 2, 4))
"""Sources of one play: what has to do with one another comes together more often."""
WORLDS = (("observation", ()), ("test", ()), ("observation", ("ourteam",)))
RADII = (0.4, 1.2, 2.2)
"""Radii of 90 %; those of 99 % are 1.41 times as large."""
MAP = "map"
KINDS = ("region", "retraction", "by_event", "by_citation", "superseder")


@dataclass(frozen=True)
class Said:
    """One notice of the pool, by numbers of the lists above."""

    source: int
    serial: int
    kind: str = "region"
    world: int = 0
    place: int = 0
    radius: int = 0
    is_map: bool = False
    earlier: bool = False
    other: tuple[int, int] = (0, 1)
    """Source and serial that are cited."""


def notice_id(source: int, serial: int) -> str:
    return f"ivo://test/{SOURCES[source].event}#{serial}"


@cache
def record_of(said: Said) -> RegionRecord:
    """The record of a notice."""
    source = SOURCES[said.source]
    role, streams = WORLDS[said.world]
    seconds = source.seconds - (50.0 if said.earlier else 0.0)
    fields: dict = {
        "mission": source.mission,
        "messenger": source.messenger,
        "role": role,
        "streams": streams,
        "trigger_time": T0 + timedelta(seconds=seconds),
        "sha256": repr((said.kind, said.place, said.radius, said.earlier, said.other)),
        **dict(source.changed),
    }
    retracts: tuple[str, ...] = ()
    if said.kind in ("by_citation", "superseder"):
        retracts = (notice_id(*said.other),)
    elif said.kind == "by_event":
        retracts = (SOURCES[said.other[0]].event,)
    if said.kind in ("retraction", "by_event", "by_citation"):
        fields |= {"alert_type": "retraction", "localization": None}
    elif said.is_map:
        # The notice is the same, and was placed anew by its map.
        place = PLACES[said.place]
        skymap = cells_map(
            f"map-{said.place}-{said.radius}",
            (place, DEC, 0.7),
            (PLACES[(said.place + said.radius) % len(PLACES)] + 0.01, DEC, 0.2),
            (place + 60, DEC, 0.1),
            order=6,
        )
        fields |= {"localization": skymap, "skymap_sha256": skymap.sha256}
    else:
        fields["localization"] = Circle(PLACES[said.place], DEC, RADII[said.radius], 0.9)
    of = notice(source.event, said.serial, 0, 0, 1, retracts=retracts, **fields)
    return record(of, said.serial)


# --- a catalogue of stars ---------------------------------------------------------------------

STAR = Neighbour("gaia", "stars", 0.5, parallax_sigma=9.0)


def stars(ra_deg: Iterable[float], *_: object) -> list[Context]:
    """What it has near positions: a star at the second place, nothing elsewhere."""
    asked = Context(("gaia",), catalog_versions=("gaia@1",), kinds=frozenset(["stars"]))
    there = replace(asked, near=(STAR.text(),), nearest=(STAR,))
    return [there if abs(ra - PLACES[1]) < 0.05 else asked for ra in ra_deg]


# --- answers of catalogues elsewhere ----------------------------------------------------------


@cache
def answer_of(thing: int, catalog: str, minute: int, shift: int) -> Answer:
    """What a catalogue says of an object, or of a place beside it: too far for some shifts."""
    row = ALERTS[thing * len(DAYS)]
    dec_deg = row["dec_deg"] + (0.0, 0.8, 1.4)[shift] / 3600
    source = RemoteSource(f"S{thing}", "Star", row["ra_deg"], dec_deg, 0.0)
    return Answer(
        counterpart_id=f"MM-{row['survey'].upper()}-{row['object_id']}",
        catalog=catalog,
        version=f"2024-03-{minute + 1:02d}",
        ra_deg=row["ra_deg"],
        dec_deg=dec_deg,
        radius_arcsec=2.0,
        answered=f"2024-03-01T03:{minute:02d}:00.000000Z",
        via="xmatch",
        sources=(source,) if minute else (),
    )


# --- verdicts ---------------------------------------------------------------------------------

WORDS = ("afterglow", "asteroid", "unclear")


@cache
def verdict_of(thing: int, word: int, minute: int, event: int) -> Verdict:
    """A verdict on an object; on all its events if ``event`` is none of the list."""
    row = ALERTS[thing * len(DAYS)]
    return Verdict(
        verdict_id=f"v{thing}-{word}-{minute}-{event}",
        counterpart_id=f"MM-{row['survey'].upper()}-{row['object_id']}",
        classification=WORDS[word],
        effect=EFFECTS[WORDS[word]],
        stated=f"2024-03-01T03:{minute:02d}:00.000000Z",
        event_id=SOURCES[event].event if event < len(SOURCES) else "",
    )
