"""Regions: what a localisation says about positions, and how a notice becomes a region.

The rule of the whole product: a position is inside level L exactly when its credible
level is <= L. The credible level of a position is the smallest level of a credible
region that holds it; on a map, the cell in which L is crossed is therefore outside
(as in ``mocpy.MOC.from_valued_healpix_cells``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from crossmatch import sky
from crossmatch.chains import Chain, chain_name
from crossmatch.errors import RegionError
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
from crossmatch.shapes import MapShape, find_cells, shape_of


def cover_ranges(localization: Localization, level: float) -> IntArray:
    """Ranges that contain every position inside ``level``; for maps exactly those.

    Parameters
    ----------
    localization : Localization
    level : float
        In (0, 1]; level 1 is the whole sky.

    Returns
    -------
    (m, 2) int64
        Sorted, disjoint, half-open ranges of order-29 NESTED pixels.

    Raises
    ------
    RegionError
        If the localisation is not a probability on the sky.
    """
    return shape_of(localization).cover(level)


def credible_ranges(skymap: MultiOrderMap, level: float) -> IntArray:
    """Cells of a map that are inside ``level``, merged to a set of ranges, (m, 2) int64."""
    return MapShape(skymap).inside(level)


def density_per_sr(
    localization: Localization, ra_deg: FloatArray, dec_deg: FloatArray
) -> FloatArray:
    """Probability per steradian at positions in ICRS degrees, (n,) float64."""
    return _at(localization, ra_deg, dec_deg)[0]


def credible_level(
    localization: Localization, ra_deg: FloatArray, dec_deg: FloatArray
) -> FloatArray:
    """Smallest credible level that holds each position in ICRS degrees, (n,) float64.

    For maps the searched probability: cells by falling density (ties by falling UNIQ),
    cumulative, the position's own cell included; 1 where the map has no cell.
    """
    return _at(localization, ra_deg, dec_deg)[1]


def _at(
    localization: Localization, ra_deg: FloatArray, dec_deg: FloatArray
) -> tuple[FloatArray, FloatArray]:
    ra = np.atleast_1d(np.asarray(ra_deg, np.float64))
    dec = np.atleast_1d(np.asarray(dec_deg, np.float64))
    return shape_of(localization).at(ra, dec, sky.ipix29(ra, dec))


def area_deg2(localization: Localization, level: float) -> float:
    """Area in square degrees of the positions inside ``level``."""
    return shape_of(localization).area_deg2(level)


def best_position(localization: Localization) -> tuple[float, float]:
    """Most probable position, ICRS degrees; of a polygon its centre."""
    return shape_of(localization).best_deg


def distance_at(
    skymap: MultiOrderMap, ra_deg: FloatArray, dec_deg: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Mean and standard deviation of the distance, given the direction.

    Moments of p(r) ~ r**2 N(r; DISTMU, DISTSIGMA), r > 0 (Singer et al. 2016, ApJL 829,
    L15, section 3).

    Returns
    -------
    (n,) float64, (n,) float64, or None
        Mpc. NaN where the map has no cell or no estimate; None if it has no distances.
    """
    if skymap.distmu is None or skymap.distsigma is None:
        return None
    ra = np.atleast_1d(np.asarray(ra_deg, np.float64))
    cell, found = find_cells(skymap, sky.ipix29(ra, np.atleast_1d(dec_deg)))
    mu, sigma = skymap.distmu[cell], skymap.distsigma[cell]
    known = found & np.isfinite(mu) & np.isfinite(sigma) & (sigma > 0)
    mean, deviation = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    mean[known], deviation[known] = _distance_moments(mu[known], sigma[known])
    return mean, deviation


def _distance_moments(mu: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of r**2 N(r; mu, sigma) on r > 0.

    With a = mu / sigma and J_k = integral of (t + a)**k phi(t) over t > -a, the k-th
    moment is sigma**k J_{k+2} / J_2, and J_k = a J_{k-1} + (k-1) J_{k-2}. That recurrence
    is fine upwards for a > -2; below, its ratios J_k / J_{k-1} are found downwards
    (Miller's algorithm), since upwards everything cancels there.
    """
    a = mu / sigma
    third, fourth = np.empty(len(a)), np.empty(len(a))  # J_3 / J_2, J_4 / J_3
    up = a > -2
    b = a[up]
    j0 = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in b])
    j1 = b * j0 + np.exp(-0.5 * b**2) / math.sqrt(2 * math.pi)
    j2 = b * j1 + j0
    j3 = b * j2 + 2 * j1
    third[up], fourth[up] = j3 / j2, (b * j3 + 3 * j2) / j3
    if not up.all():
        third[~up], fourth[~up] = _ratios_downwards(a[~up])
    mean = sigma * third
    variance = sigma**2 * third * (fourth - third)
    return mean, np.sqrt(np.maximum(variance, 0.0))


def _ratios_downwards(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """J_3 / J_2 and J_4 / J_3 from a start so far above that it does not matter."""
    ratio = 0.5 * (a + np.sqrt(a**2 + 4 * 400))
    fourth = ratio
    for k in range(400, 3, -1):
        fourth = ratio
        ratio = (k - 1) / (ratio - a)
    return ratio, fourth


def make_region(
    notice: Notice,
    version: int,
    chains: Mapping[str, Chain],
    *,
    level: float | None = None,
    window: Window | None = None,
) -> Region:
    """Region of sky and time in which a notice's counterpart is looked for.

    Parameters
    ----------
    notice : Notice
        With a localisation and a trigger time.
    version : int
        Counts from 1 in the order in which the mission issued its notices.
    chains : mapping
        Selection chains by name, as :func:`crossmatch.chains.chains_with` gives.
    level, window : optional
        Replace those of the chain.

    Raises
    ------
    RegionError
        ``no_localization``, ``no_trigger_time``, ``no_chain``, ``level_invalid``, or what is wrong
        with the localisation.
    """
    localization, trigger = _where_and_when(notice)
    included = _systematic_included(notice, localization)
    chain = _chain(notice, included, chains)
    level = chain.level if level is None else level
    if not 0 < level <= 1:
        raise RegionError("level_invalid", f"a level of {level} is not in (0, 1]")
    window = window or notice.window or chain.window
    last_day = min(window.end_days, chain.active_days or math.inf)
    return Region(
        event_id=notice.event_id,
        version=version,
        notice_id=notice.notice_id,
        mission=notice.mission,
        instrument=notice.instrument,
        kind=notice.kind,
        messenger=notice.messenger,
        role=notice.role,
        alert_type=notice.alert_type,
        issued=notice.issued,
        order=notice.order,
        trigger_time=trigger,
        localization=localization,
        chain=chain.name,
        window=window,
        level=level,
        level_silver=chain.level_silver,
        area90_deg2=area_deg2(localization, 0.9),
        significant=notice.significant,
        far_hz=notice.far_hz,
        event_class=notice.event_class,
        distance_mpc=notice.distance_mpc,
        distance_error_mpc=notice.distance_error_mpc,
        expires=trigger + timedelta(days=last_day),
        notice_sha256=notice.sha256,
        skymap_sha256=localization.sha256 if isinstance(localization, MultiOrderMap) else "",
        feed=notice.feed,
        systematic_included=included,
        localized_by=_localized_by(notice, localization),
        streams=notice.streams,
        feed_version=notice.feed_version,
    )


def _where_and_when(notice: Notice) -> tuple[Localization, datetime]:
    if notice.localization is None:
        why = notice.no_position_reason or "the notice gives no position"
        raise RegionError("no_localization", why)
    if notice.trigger_time is None:
        raise RegionError("no_trigger_time", "the notice gives no time of the event")
    return notice.localization, notice.trigger_time


def _chain(notice: Notice, systematic_included: bool, chains: Mapping[str, Chain]) -> Chain:
    name = notice.chain or chain_name(notice, systematic_included=systematic_included)
    try:
        return chains[name]
    except KeyError:
        known = ", ".join(sorted(chains))
        raise RegionError("no_chain", f"no selection chain {name!r}; known: {known}") from None


def _localized_by(notice: Notice, localization: Localization) -> str:
    if isinstance(localization, MultiOrderMap):
        return f"map_{notice.map_origin or 'embedded'}"
    return type(localization).__name__.lower()


def _systematic_included(notice: Notice, localization: Localization) -> bool:
    if isinstance(localization, MultiOrderMap):
        return True
    if isinstance(localization, Circle) and localization.systematic:
        return True
    return notice.details.get("systematic_included") == "true"
