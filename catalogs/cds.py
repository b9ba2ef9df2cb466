"""Simbad and tables of VizieR's by the services of CDS: slow, far, and not always there.

Many positions are asked about at a time, with a deadline, some repeats and a pace that the
service bears. What comes back is looked at before it is believed. An answer tells what lies
within twice the radius of a place, so that it holds for all places nearby: an object's next
alert, which lies a tenth of an arcsecond beside it, need not be asked about again.
"""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import requests

from catalogs.cds_http import BoundedSession
from catalogs.cds_tables import Row, rows_of
from catalogs.kinds import Kind
from catalogs.roles import Roles
from catalogs.tables import text_of
from crossmatch.errors import CatalogError, ServiceError
from crossmatch.remote import MAX_SOURCES, Answer, RemoteSource, separation_arcsec
from crossmatch.times import iso_utc

SIMBAD = "simbad"
_ROWS_A_PLACE = 200
_TAP_PLACES = 100
_TRIES = 3
# Positions are written with nine digits, and services round separations to a milliarcsecond.
_AGREES_ARCSEC = 0.05
_SIMBAD_ROLES = {"name": "main_id", "type": "main_type", "redshift": "redshift"}
_POSITIONS = (
    ("ra", "dec"),
    ("RA_ICRS", "DE_ICRS"),
    ("RAJ2000", "DEJ2000"),
    ("_RAJ2000", "_DEJ2000"),
    ("RAdeg", "DEdeg"),
    ("raj2000", "dej2000"),
)
_PLAUSIBLE = {"magnitude": (-5.0, 50.0), "redshift": (-0.1, 30.0)}
_ADDRESS = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>:? ?")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Place(NamedTuple):
    """A place of an object, ICRS."""

    counterpart_id: str
    ra_deg: float
    dec_deg: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and how the services are asked.

    Parameters
    ----------
    url : str
        The xMatch service.
    tap_url : str
        Simbad's TAP service, asked when xMatch does not answer; empty: none.
    radius_arcsec : float
        Sources within it are wanted; twice as far is asked.
    timeout_seconds : float
        For an answer.
    per_minute : float
        Requests.
    """

    url: str
    tap_url: str = ""
    radius_arcsec: float = 1.0
    timeout_seconds: float = 30.0
    per_minute: float = 10.0


class Pace:
    """Lets requests begin in even steps.

    Parameters
    ----------
    per_minute : float
    clock, sleep : callable
        Monotonic seconds.
    """

    def __init__(
        self, per_minute: float, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._step = 60.0 / per_minute
        self._clock = clock
        self._sleep = sleep
        self._next = -math.inf

    def wait(self) -> None:
        """Until the next request may begin."""
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._step


class CdsClient:
    """Asks the services of CDS.

    Parameters
    ----------
    settings : Settings
    now : callable
        UTC.
    clock, sleep : callable
        Monotonic seconds; ``sleep`` may raise a `GatewayError` to end the waiting.
    session : requests.Session, optional
        The transport.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        session: requests.Session | None = None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._sleep = sleep
        self._session = session or BoundedSession(settings.timeout_seconds, clock=clock)
        self._session.headers["User-Agent"] = "mmgateway"
        self._pace = Pace(settings.per_minute, clock, sleep)
        # The widest that CDS takes is 180 arcsec.
        self._radius_arcsec = min(180.0, 2 * settings.radius_arcsec)

    @property
    def version(self) -> str:
        """Of what is asked now: CDS names none, and Simbad changes daily."""
        return f"{self._now():%Y-%m-%d}"

    def ask(self, catalog: str, places: Sequence[Place]) -> list[Answer]:
        """What a catalogue has near places, an answer each, in their order.

        Parameters
        ----------
        catalog : str
            ``simbad``, or ``vizier:`` and the name of a table.
        places : sequence of Place

        Raises
        ------
        ServiceError
            When no service answers.
        CatalogError
            ``cds_nonsense``: what came is no answer to this. ``cds_refused``: the service
            refuses it. ``cds_overflow``: it has more than it tells.
        """
        if not places:
            return []
        try:
            return self._told(catalog, places, "xmatch", self._xmatch(catalog, places))
        except ServiceError as error:
            if catalog != SIMBAD or not self._settings.tap_url:
                raise
            try:
                return self._told(catalog, places, "tap", self._tap(places))
            except ServiceError as other:
                raise ServiceError(f"{error}; {other}") from other

    def _xmatch(self, catalog: str, places: Sequence[Place]) -> list[list[Row]]:
        lines = [f"{i},{p.ra_deg:.9f},{p.dec_deg:.9f}" for i, p in enumerate(places)]
        upload = "\n".join(["mm_id,mm_ra,mm_dec", *lines, ""])

        def request() -> requests.Response:
            from astropy import units

            from catalogs.cds_query import xmatch

            # A file that was read is at its end: each try has its own.
            response: requests.Response = xmatch(self._settings.url, self._session).query_async(
                io.StringIO(upload),
                catalog,
                self._radius_arcsec * units.arcsec,
                colRA1="mm_ra",
                colDec1="mm_dec",
                cache=False,
                MAXREC=_ROWS_A_PLACE * len(places),
            )
            return response

        rows = rows_of(self._answered("xMatch", request), needed=("angDist", "mm_id"))
        found: list[list[Row]] = [[] for _ in places]
        for row in rows:
            number, away = _whole(row["mm_id"]), row["angDist"]
            if number is None or number >= len(places):
                asked = row["mm_id"]
                raise CatalogError("cds_nonsense", f"xMatch tells of {asked!r}, not asked about")
            if not isinstance(away, float) or not 0 <= away <= self._radius_arcsec + 0.01:
                raise CatalogError("cds_nonsense", f"xMatch gives a distance of {away!r} arcsec")
            found[number].append(row)
        return found

    def _tap(self, places: Sequence[Place]) -> list[list[Row]]:
        from catalogs.cds_query import cones, tap

        found: list[list[Row]] = []
        for begin in range(0, len(places), _TAP_PLACES):
            part = places[begin : begin + _TAP_PLACES]
            adql = cones([(p.ra_deg, p.dec_deg) for p in part], self._radius_arcsec / 3600)
            most = _ROWS_A_PLACE * len(part)
            submit = tap(self._settings.tap_url, self._session, adql, most)
            rows = rows_of(self._answered("TAP", submit), needed=("main_id", "ra", "dec"))
            found += self._assigned(rows, part)
        return found

    def _assigned(self, rows: Sequence[Row], places: Sequence[Place]) -> list[list[Row]]:
        """Rows of a cone search by the places that they are near."""
        found: list[list[Row]] = [[] for _ in places]
        for row in rows:
            position = _position(row, ("ra", "dec"))
            if position is None:
                raise CatalogError("cds_nonsense", f"TAP gives {row['main_id']!r} no position")
            near = 0
            for number, place in enumerate(places):
                away = separation_arcsec(place.ra_deg, place.dec_deg, *position)
                if away <= self._radius_arcsec:
                    found[number].append({**row, "angDist": away})
                near += away <= self._radius_arcsec + _AGREES_ARCSEC
            if not near:
                raise CatalogError("cds_nonsense", f"TAP gives {row['main_id']!r}, far from all")
        return found

    def _answered(self, service: str, request: Callable[[], requests.Response]) -> bytes:
        """Body of the response; what may pass is tried again."""
        trouble = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(2.0**attempt)
            self._pace.wait()
            try:
                response = request()
            except requests.HTTPError as error:
                # Banned, says astroquery of status 403 alone.
                raise ServiceError(f"CDS {service} refuses us: {error}") from error
            except requests.RequestException as error:
                trouble = _short(error)
                continue
            if response.status_code in _PASSING:
                trouble = f"HTTP {response.status_code}"
                continue
            if response.status_code != 200:
                said = _short(response.text)
                raise CatalogError("cds_refused", f"{service}: {response.status_code} {said}")
            return bytes(response.content)
        raise ServiceError(f"CDS {service} does not answer: {trouble}")

    def _told(
        self, catalog: str, places: Sequence[Place], via: str, found: Sequence[Sequence[Row]]
    ) -> list[Answer]:
        now = self._now()
        return [
            self._answer(catalog, place, rows, via, now)
            for place, rows in zip(places, found, strict=True)
        ]

    def _answer(
        self, catalog: str, place: Place, rows: Sequence[Row], via: str, now: datetime
    ) -> Answer:
        sources = sorted(
            (_source(catalog, place, row) for row in rows),
            key=lambda s: (s.separation_arcsec, s.name or ""),
        )
        radius = self._radius_arcsec
        if len(sources) > MAX_SOURCES or any(s.ra_deg is None for s in sources):
            # How far they are from another place is not known: it holds for this one alone.
            radius = self._settings.radius_arcsec + _AGREES_ARCSEC
        return Answer(
            counterpart_id=place.counterpart_id,
            catalog=catalog,
            version=f"{now:%Y-%m-%d}",
            ra_deg=place.ra_deg,
            dec_deg=place.dec_deg,
            radius_arcsec=radius,
            answered=iso_utc(now),
            via=via,
            sources=tuple(s for s in sources if s.separation_arcsec <= radius)[:MAX_SOURCES],
        )


def _source(catalog: str, place: Place, row: Row) -> RemoteSource:
    """A row as a source; where its position does not fit its distance it is not believed."""
    away = float(row["angDist"])
    pairs = _POSITIONS[:1] if catalog == SIMBAD else _POSITIONS
    position = None
    for pair in pairs:
        given = _position(row, pair)
        if given is None:
            continue
        if abs(separation_arcsec(place.ra_deg, place.dec_deg, *given) - away) <= _AGREES_ARCSEC:
            position = given
            break
    if position is None and catalog == SIMBAD:
        raise CatalogError("cds_nonsense", f"Simbad's {row.get('main_id')!r} is not where it is")
    roles = _SIMBAD_ROLES if catalog == SIMBAD else Roles.of(Kind.other, row).columns
    ra_deg, dec_deg = position or (None, None)
    return RemoteSource(
        name=_text(row, roles.get("name")),
        type=_text(row, roles.get("type")),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        separation_arcsec=away,
        magnitude=_number(row, roles, "magnitude"),
        redshift=_number(row, roles, "redshift"),
    )


def _position(row: Row, names: tuple[str, str]) -> tuple[float, float] | None:
    ra_deg, dec_deg = (row.get(name) for name in names)
    if not isinstance(ra_deg, float) or not isinstance(dec_deg, float):
        return None
    return (ra_deg, dec_deg) if 0 <= ra_deg <= 360 and -90 <= dec_deg <= 90 else None


def _whole(value: Any) -> int | None:
    """A number of a row of ours; the service finds out the types of columns by itself."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else None


def _text(row: Row, column: str | None) -> str | None:
    found = None if column is None else text_of(row.get(column))
    return None if found is None else " ".join(found.split())[:200]


def _number(row: Row, roles: Mapping[str, str], role: str) -> float | None:
    value: Any = row.get(roles[role]) if role in roles else None
    if not isinstance(value, float) or (role == "magnitude" and value == 0):
        # Tables write 0 for a magnitude that was not measured.
        return None
    low, high = _PLAUSIBLE[role]
    return value if low < value < high else None


def _short(text: object) -> str:
    """For people, and the same for the same trouble: without addresses in memory."""
    return " ".join(_ADDRESS.sub("", str(text)).split())[:300]
