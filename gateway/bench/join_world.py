"""Regions and alerts for the bench of the join: circles and sky maps all over the sky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import healpy as hp
import numpy as np

from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import (
    Circle,
    FloatArray,
    IntArray,
    Localization,
    MultiOrderMap,
    Notice,
    Region,
    Window,
)
from crossmatch.region import make_region
from crossmatch.times import jd_from_datetime
from gateway.night.maps import Arc

LEVEL = 0.9
TRIGGER = datetime(2026, 11, 1, tzinfo=UTC)
_WINDOW = Window(0.0, 7.0)
# Radii and areas that hold 90 %: from a gamma-ray burst seen by several spacecraft to one
# seen by a single detector, and from three gravitational-wave detectors to one and a half.
_RADII_DEG = (0.05, 15.0)
_AREAS_DEG2 = (10.0, 2000.0)
# Every fifth region is a map: 200 of 1,000.
_EACH = 5
_FIRST_ORDER, _LAST_ORDER = 2, 12
# Area that holds 90 % of a plane Gaussian, in units of the product of its deviations.
_AREA_90 = -2 * math.pi * math.log(0.1)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Regions with open windows, and alerts (n,): JD UTC and ICRS degrees."""

    regions: tuple[Region, ...]
    time_jd: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray

    @property
    def cells(self) -> int:
        """Cells of all maps."""
        places = (region.localization for region in self.regions)
        return sum(len(p.start) for p in places if isinstance(p, MultiOrderMap))


def world(regions: Sequence[Region], alerts: int, seed: int) -> World:
    """``alerts`` all over the sky and all in the windows of ``regions``."""
    rng = np.random.default_rng([seed, 2])
    time = jd_from_datetime(TRIGGER) + rng.uniform(0.01, 6.99, alerts)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, alerts)))
    return World(tuple(regions), time, rng.uniform(0, 360, alerts), dec)


def regions(number: int, cells: int, seed: int, scale: float = 1.0) -> list[Region]:
    """Regions of level 0.9, four of five circles, the fifth (the first of all) a map.

    Parameters
    ----------
    number : int
    cells : int
        Mean number of cells of a map, about.
    seed : int
    scale : float
        Of all areas.
    """
    rng = np.random.default_rng([seed, 1])
    places: list[Localization] = []
    for i in range(number):
        ra, dec = float(rng.uniform(0, 360)), math.degrees(math.asin(rng.uniform(-1, 1)))
        if i % _EACH:
            radius = math.exp(rng.uniform(*np.log(_RADII_DEG))) * math.sqrt(scale)
            places.append(Circle(ra, dec, radius, LEVEL))
        else:
            area = math.exp(rng.uniform(*np.log(_AREAS_DEG2))) * scale
            places.append(arc_map(_arc(ra, dec, area, rng), cells))
    return [region_of(place, f"bench-{i}") for i, place in enumerate(places)]


def region_of(place: Localization, event: str) -> Region:
    """Region of the bench around a place."""
    notice = Notice(
        feed="bench",
        mission="bench",
        instrument="bench",
        kind="bench",
        notice_id=f"ivo://bench/{event}",
        event_id=event,
        trigger_id=event,
        messenger="grb",
        role="test",
        alert_type="initial",
        issued=TRIGGER,
        order=(0.0, 0, 0),
        trigger_time=TRIGGER,
        localization=place,
        sha256="0" * 64,
    )
    return make_region(notice, 1, DEFAULT_CHAINS, level=LEVEL, window=_WINDOW)


def _arc(ra_deg: float, dec_deg: float, area_deg2: float, rng: np.random.Generator) -> Arc:
    ratio = math.exp(rng.uniform(math.log(3), math.log(30)))
    along = min(math.sqrt(area_deg2 / _AREA_90 * ratio), 60.0)
    return Arc(
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        angle_deg=float(rng.uniform(0, 180)),
        along_deg=along,
        across_deg=area_deg2 / _AREA_90 / along,
        bend_deg=float(rng.uniform(40, 90)),
    )


def arc_map(arc: Arc, cells: int) -> MultiOrderMap:
    """Map of about ``cells`` cells: divided as long as one may hold much of the whole.

    From the top, so that it takes milliseconds whatever the finest order is.
    """
    most = 2.0 / cells
    ipix = np.arange(12 * 4**_FIRST_ORDER, dtype=np.int64)
    starts: list[IntArray] = []
    ends: list[IntArray] = []
    densities: list[FloatArray] = []
    for order in range(_FIRST_ORDER, _LAST_ORDER + 1):
        along, across = arc.coordinates(_centres(order, ipix))
        # Blurred by the size of the cell: what is narrow is not missed between centres.
        size = math.degrees(hp.nside2resol(1 << order)) / 2
        wide, high = math.hypot(arc.along_deg, size), math.hypot(arc.across_deg, size)
        blurred = np.exp(-0.5 * ((along / wide) ** 2 + (across / high) ** 2))
        share = blurred * (2 * size) ** 2 / (2 * math.pi * wide * high)
        whole = (share <= most) | (order == _LAST_ORDER)
        shift = 2 * (sky.MAX_ORDER - order)
        starts.append(ipix[whole] << shift)
        ends.append((ipix[whole] + 1) << shift)
        exact = (along / arc.along_deg) ** 2 + (across / arc.across_deg) ** 2
        densities.append(np.exp(-0.5 * exact[whole]) + 1e-9)
        ipix = (4 * ipix[~whole, None] + np.arange(4)).ravel()
    start, end = np.concatenate(starts), np.concatenate(ends)
    by_start = np.argsort(start)
    start, end, density = start[by_start], end[by_start], np.concatenate(densities)[by_start]
    return MultiOrderMap(start, end, density / (density * ((end - start) * sky.PIXEL_SR)).sum())


def _centres(order: int, ipix: IntArray) -> FloatArray:
    if not len(ipix):
        return np.empty((0, 3))
    return np.stack(hp.pix2vec(1 << order, ipix, nest=True), axis=-1)
