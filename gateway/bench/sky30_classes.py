"""Where each class of source stands on the sky, what is next to it, and how bright it is."""

from __future__ import annotations

import numpy as np

from crossmatch.model import BoolArray, FloatArray, IntArray
from gateway.night.population import AGN, ASTEROID, BOGUS, NEW_SN, OLD_SN, STAR
from gateway.night.sky import ecliptic_coordinates, fields, galactic_coordinates

SOUTH_DEG = -30.0
"""The survey sees nothing below."""


def positions(
    kind: int,
    count: int,
    rng: np.random.Generator,
    middle_deg: float,
    reach_deg: float,
    within: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Positions near a right ascension, as dense as the class is; none below -30 degrees.

    ``within`` (f,) says which fields count; None: all.
    """
    grid = fields()
    low = np.sin(np.radians(SOUTH_DEG))
    ras, decs, have = [np.empty(0)], [np.empty(0)], 0
    while have < count:
        tried = max(1000, min(3 * (count - have), 2_000_000))
        ra = (middle_deg + rng.uniform(-reach_deg, reach_deg, tried)) % 360
        dec = np.degrees(np.arcsin(rng.uniform(low, 1.0, tried)))
        keep = rng.random(tried) < _density(kind, ra, dec)
        if within is not None:
            keep[keep] = within[grid.of(ra[keep], dec[keep])]
        ras.append(ra[keep])
        decs.append(dec[keep])
        have += int(keep.sum())
    return np.concatenate(ras)[:count], np.concatenate(decs)[:count]


def _density(kind: int, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """(n,) density of a class, 1 where it is densest."""
    if kind == ASTEROID:
        latitude = ecliptic_coordinates(ra_deg, dec_deg)[1]
        return np.asarray(0.02 + 0.98 * np.exp(-0.5 * (latitude / 9) ** 2))
    height = np.abs(galactic_coordinates(ra_deg, dec_deg)[1])
    if kind == STAR:
        return np.asarray(0.08 + 0.92 * np.exp(-height / 10))
    if kind == BOGUS:
        # Crowded fields subtract badly.
        return np.asarray(0.35 + 0.65 * np.exp(-height / 12))
    # Dust hides what lies behind the plane.
    return np.where(height > 5, 10 ** (-0.06 / np.sin(np.radians(height + 1))), 0.0)


def neighbours(kind: IntArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Distance (arcsec) and star score of the nearest PS1 source, by class."""
    n = len(kind)
    itself = (kind == STAR) | (kind == AGN)
    host = (kind == OLD_SN) | (kind == NEW_SN)
    distance = rng.rayleigh(np.where(itself, 0.25, 8.0), n)
    distance = np.where(host, 0.5 + rng.exponential(3.0, n), distance)
    score = np.where(rng.random(n) < 0.45, rng.beta(9, 0.6, n), rng.beta(0.8, 5, n))
    score = np.where(kind == STAR, 1 - rng.beta(0.5, 12, n), score)
    # Too crowded or too faint to be told from a galaxy.
    score = np.where((kind == STAR) & (rng.random(n) < 0.04), 0.5, score)
    return distance, np.where(host, rng.beta(0.5, 20, n), score)


def magnitudes(kind: IntArray, rng: np.random.Generator) -> FloatArray:
    """Magnitudes whose counts rise towards the limit."""
    faint = 20.7 - rng.exponential(np.where(kind == STAR, 1.5, 0.85), len(kind))
    return np.clip(faint, 12.5, 20.6)
