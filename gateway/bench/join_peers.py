"""Others that join alerts with regions: the same pairs, each in its own way.

What a peer prepares once for its regions is not timed; what it does with the alerts is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import healpy as hp
import numpy as np
import pyarrow as pa

from crossmatch import sky
from crossmatch.model import Circle, FloatArray, IntArray, MultiOrderMap
from crossmatch.region import cover_ranges
from crossmatch.shapes import MapShape
from gateway.bench.join_world import LEVEL, World

_CHUNK = 100_000
_DISC_NSIDE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Pairs (p,) of alerts and regions in any order, and their levels where they are known."""

    alert: IntArray
    region: IntArray
    level: FloatArray | None = None


Run: TypeAlias = Callable[[], Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another way to the same pairs.

    Parameters
    ----------
    name : str
    module : str
        Python module that it needs.
    package : str
        What that module is installed by.
    prepare : callable
        From a world to what is timed.
    one_by_one : bool
        Asks one region after another: its time is that of some regions times their share.
    all_regions : int
        With more regions than these it is given a tenth of the alerts.
    """

    name: str
    module: str
    package: str
    prepare: Callable[[World], Run]
    one_by_one: bool = False
    all_regions: int = 1_000_000

    def missing(self) -> str | None:
        """Why it cannot be asked; None if it can."""
        try:
            importlib.import_module(self.module)
        except ImportError as e:
            return str(e)
        return None


class _Exact:
    """Exact tests for pairs that a coarse join found, all regions together."""

    def __init__(self, world: World) -> None:
        n = len(world.regions)
        self._centre, self._versine, self._rate = np.zeros((3, n)), np.zeros(n), np.zeros(n)
        keys, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row, region in enumerate(world.regions):
            place = region.localization
            if isinstance(place, Circle):
                self._centre[:, row] = sky.unit_vectors(place.ra_deg, place.dec_deg)
                self._versine[row] = 2 * np.sin(np.radians(place.radius_deg) / 2) ** 2
            elif isinstance(place, MultiOrderMap):
                shape = MapShape(place)
                inside = shape.levels <= region.level
                keys.append(row << 44 | place.start[inside] >> 18)
                ends.append(row << 44 | place.end[inside] >> 18)
        self.is_circle = self._versine > 0
        self._keys, self._ends = np.concatenate(keys), np.concatenate(ends)

    def found(
        self, ra: FloatArray, dec: FloatArray, pixel: IntArray, alert: IntArray, row: IntArray
    ) -> Found:
        """The pairs that are inside."""
        circles = self.is_circle[row]
        a, r = alert[circles], row[circles]
        versine = 0.5 * np.square(sky.unit_vectors(ra[a], dec[a]).T - self._centre[:, r]).sum(0)
        near = versine <= self._versine[r]
        m, s = alert[~circles], row[~circles]
        wanted = s << 44 | pixel[m] >> 18
        order = np.argsort(wanted)
        cell = np.empty(len(wanted), np.int64)
        cell[order] = np.searchsorted(self._keys, wanted[order], side="right") - 1
        held = (cell >= 0) & (wanted < self._ends[np.maximum(cell, 0)]) if len(m) else cell > 0
        return Found(np.concatenate([a[near], m[held]]), np.concatenate([r[near], s[held]]))


def _within(place: Circle, ra: FloatArray, dec: FloatArray, alert: IntArray) -> IntArray:
    """The alerts at most a radius away."""
    chord = sky.unit_vectors(ra[alert], dec[alert]) - sky.unit_vectors(place.ra_deg, place.dec_deg)
    limit = 4 * np.sin(np.radians(place.radius_deg) / 2) ** 2
    near: IntArray = alert[np.square(chord).sum(axis=1) <= limit]
    return near


def _rows(parts: list[IntArray]) -> Found:
    """Pairs of the alerts of region 0, 1, ..."""
    rows = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    return Found(np.concatenate(parts), rows)


def mocpy_run(world: World) -> Run:
    """``MOC.contains_lonlat`` of one region after another; circles then by distance."""
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude
    from mocpy import MOC

    mocs = []
    for region in world.regions:
        place = region.localization
        if isinstance(place, Circle):
            lon, lat = Longitude(place.ra_deg, u.deg), Latitude(place.dec_deg, u.deg)
            depth = min(sky.cover_order(place.radius_deg), 12)
            moc = MOC.from_cone(lon, lat, radius=place.radius_deg * u.deg, max_depth=depth)
        else:
            assert isinstance(place, MultiOrderMap)
            uniq = sky.uniq_of_cells(place.start, place.end)
            held = place.density * ((place.end - place.start) * sky.PIXEL_SR)
            depth = int(sky.cell_orders(place.start, place.end).max())
            moc = MOC.from_valued_healpix_cells(uniq, held, max_depth=depth, cumul_to=region.level)
        mocs.append(moc)
    lon, lat = Longitude(world.ra_deg, u.deg), Latitude(world.dec_deg, u.deg)

    def run() -> Found:
        parts = []
        for region, moc in zip(world.regions, mocs, strict=True):
            inside = np.flatnonzero(moc.contains_lonlat(lon, lat))
            if isinstance(place := region.localization, Circle):
                inside = _within(place, world.ra_deg, world.dec_deg, inside)
            parts.append(inside)
        return _rows(parts)

    return run


def ligo_run(world: World) -> Run:
    """``crossmatch`` of one map after another; of circles the separation from their centres."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from ligo.skymap.postprocess.crossmatch import crossmatch

    asked: list[Any] = []
    for region in world.regions:
        place = region.localization
        if isinstance(place, Circle):
            asked.append(SkyCoord(place.ra_deg, place.dec_deg, unit="deg"))
        else:
            assert isinstance(place, MultiOrderMap)
            uniq = sky.uniq_of_cells(place.start, place.end)
            asked.append(Table({"UNIQ": uniq, "PROBDENSITY": place.density}))
    places = SkyCoord(world.ra_deg, world.dec_deg, unit="deg")

    def run() -> Found:
        parts, levels = [], []
        for region, one in zip(world.regions, asked, strict=True):
            if isinstance(place := region.localization, Circle):
                away = places.separation(one).to_value(u.rad)
                inside = np.flatnonzero(away <= np.radians(place.radius_deg))
                share = np.sin(away[inside] / 2) / np.sin(np.radians(place.radius_deg) / 2)
                levels.append(-np.expm1(np.log(1 - LEVEL) * share**2))
            else:
                level = crossmatch(one, places).searched_prob
                inside = np.flatnonzero(level <= region.level)
                levels.append(level[inside])
            parts.append(inside)
        rows = _rows(parts)
        return Found(rows.alert, rows.region, np.concatenate(levels))

    return run


def healpy_run(world: World) -> Run:
    """``query_disc`` of one circle after another as a mask of pixels, then the distance."""
    centres = [
        (hp.ang2vec(p.ra_deg, p.dec_deg, lonlat=True), np.radians(p.radius_deg))
        for p in (region.localization for region in world.regions)
        if isinstance(p, Circle)
    ]

    def run() -> Found:
        pixel = hp.ang2pix(_DISC_NSIDE, world.ra_deg, world.dec_deg, nest=True, lonlat=True)
        parts = []
        for region, (centre, radius) in zip(world.regions, centres, strict=True):
            disc = hp.query_disc(_DISC_NSIDE, centre, radius, inclusive=True, nest=True)
            mask = np.zeros(hp.nside2npix(_DISC_NSIDE), np.bool_)
            mask[disc] = True
            place = region.localization
            assert isinstance(place, Circle)
            parts.append(_within(place, world.ra_deg, world.dec_deg, np.flatnonzero(mask[pixel])))
        return _rows(parts)

    return run


def duckdb_run(world: World) -> Run:
    """A range join of pixels with the ranges of all regions; circles then by distance."""
    import duckdb

    exact = _Exact(world)
    covers = [cover_ranges(r.localization, r.level) for r in world.regions]
    low, high = np.concatenate(covers).T
    owner = np.repeat(np.arange(len(covers)), [len(c) for c in covers])
    ranges = pa.table({"low": low, "high": high, "region": owner})
    connection = duckdb.connect(config={"threads": 1})
    connection.register("given", ranges)
    connection.execute("CREATE TABLE ranges AS SELECT * FROM given")

    def run() -> Found:
        pixel = sky.ipix29(world.ra_deg, world.dec_deg)
        connection.register("alerts", pa.table({"alert": np.arange(len(pixel)), "pixel": pixel}))
        found = connection.execute(
            "SELECT alert, region FROM alerts JOIN ranges ON pixel >= low AND pixel < high"
        ).fetchnumpy()
        alert, row = np.asarray(found["alert"]), np.asarray(found["region"])
        circles = exact.is_circle[row]
        place = world.ra_deg, world.dec_deg, pixel
        near = exact.found(*place, alert[circles], row[circles])
        return Found(
            np.concatenate([near.alert, alert[~circles]]),
            np.concatenate([near.region, row[~circles]]),
        )

    return run


def one_thread() -> str | None:
    """Let polars use one thread, as all others here do; why it cannot, if so.

    It must be said before polars is imported for the first time.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    if importlib.util.find_spec("polars") is None:
        return None
    import polars as pl

    threads = pl.thread_pool_size()
    return None if threads == 1 else f"polars was imported before and uses {threads} threads"


def equi_join_run(order: int) -> Callable[[World], Run]:
    """An equi-join in polars on pixels of an order, then exact tests of what it gives."""

    def prepare(world: World) -> Run:
        import polars as pl

        exact = _Exact(world)
        shift = 2 * (sky.MAX_ORDER - order)
        touched = []
        for region in world.regions:
            cover = cover_ranges(region.localization, region.level)
            touched.append(np.unique(sky.expand(cover[:, 0] >> shift, -(-cover[:, 1] >> shift))))
        owner = np.repeat(np.arange(len(touched)), [len(t) for t in touched])
        regions = pl.DataFrame({"pixel": np.concatenate(touched), "region": owner})

        def run() -> Found:
            parts = []
            for begin in range(0, len(world.ra_deg), _CHUNK):
                ra, dec = (a[begin : begin + _CHUNK] for a in (world.ra_deg, world.dec_deg))
                pixel = sky.ipix29(ra, dec)
                alerts = pl.DataFrame({"alert": np.arange(len(pixel)), "pixel": pixel >> shift})
                joined = alerts.join(regions, on="pixel")
                alert, row = joined["alert"].to_numpy(), joined["region"].to_numpy()
                found = exact.found(ra, dec, pixel, alert, row)
                parts.append((found.alert + begin, found.region))
            return Found(*map(np.concatenate, zip(*parts, strict=True)))

        return run

    return prepare


PEERS = (
    Peer(
        name="ligo.skymap crossmatch, region by region",
        module="ligo.skymap.postprocess.crossmatch",
        package="ligo.skymap",
        prepare=ligo_run,
        one_by_one=True,
    ),
    Peer(
        name="mocpy, region by region",
        module="mocpy",
        package="mocpy",
        prepare=mocpy_run,
        one_by_one=True,
    ),
    Peer(name="DuckDB, range join", module="duckdb", package="duckdb", prepare=duckdb_run),
    Peer(
        name="polars, nside-64 equi-join and exact test",
        module="polars",
        package="polars",
        prepare=equi_join_run(6),
    ),
    Peer(
        name="polars, nside-4 equi-join and exact test",
        module="polars",
        package="polars",
        prepare=equi_join_run(2),
        all_regions=100,
    ),
)
CIRCLE_PEERS = (
    Peer(
        name="healpy.query_disc, circle by circle",
        module="healpy",
        package="healpy",
        prepare=healpy_run,
        one_by_one=True,
    ),
)
