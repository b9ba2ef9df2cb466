"""What catalogues have near a position: neighbours, and galaxies that may be its host."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crossmatch.model import FloatArray

SIGNIFICANT = 3.0
"""Parallaxes and proper motions of as many sigma show that a source is a star of our Galaxy."""
_CONSISTENT_SIGMA = 3.0
MOST_P_CC = 0.1
"""A galaxy that is near by chance with a larger probability is no host.

Berger 2010, ApJ 722, 1946, and others take 0.05 to 0.1.
"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One source of a catalogue near a position.

    Parameters
    ----------
    catalog : str
        Name of the catalogue.
    kind : str
        stars, galaxies, agn, variables, transients, minor_planets or other; simbad of Simbad's.
    separation_arcsec : float
    name, type : str or None
        As the catalogue has them.
    magnitude, redshift, distance_mpc : float or None
    parallax_sigma, motion_sigma : float or None
        Parallax and proper motion of a star in units of their errors.
    p_cc : float or None
        Probability that a galaxy as bright lies so near by chance.
    """

    catalog: str
    kind: str
    separation_arcsec: float
    name: str | None = None
    type: str | None = None
    magnitude: float | None = None
    redshift: float | None = None
    distance_mpc: float | None = None
    parallax_sigma: float | None = None
    motion_sigma: float | None = None
    p_cc: float | None = None

    @property
    def significance(self) -> float | None:
        """The larger one of parallax and proper motion in units of their errors."""
        sigmas = (self.parallax_sigma, self.motion_sigma)
        return max((sigma for sigma in sigmas if sigma is not None), default=None)

    @property
    def is_star(self) -> bool:
        """Whether its parallax or proper motion is significant."""
        return (self.significance or 0.0) >= SIGNIFICANT

    def text(self) -> str:
        """For people and candidates, as ``gaia: stars, 0.31 arcsec, parallax 12.0 sigma``."""
        parts = [f"{self.catalog}: {self.kind}", f"{self.separation_arcsec:.2f} arcsec"]
        parts += [text for text in (self.name, self.type) if text]
        for label, value, unit in (
            ("mag", self.magnitude, ""),
            ("z", self.redshift, ""),
            ("", self.distance_mpc, " Mpc"),
            ("parallax", self.parallax_sigma, " sigma"),
            ("proper motion", self.motion_sigma, " sigma"),
            ("p_cc", self.p_cc, ""),
        ):
            if value is not None:
                parts.append(f"{label} {value:.4g}{unit}".strip())
        return ", ".join(parts)


def chance_coincidence(separation_arcsec: FloatArray, magnitude: FloatArray) -> FloatArray:
    """Probability of a galaxy at least as bright within that separation by chance, (n,).

    Notes
    -----
    Berger 2010, ApJ 722, 1946, equations 1 and 2 (after Bloom et al. 2002): galaxies per
    square arcsecond brighter than ``magnitude`` (r band), and 1 - exp(-pi r^2 sigma).
    """
    slope = 0.33
    density = 10 ** (slope * (magnitude - 24) - 2.44) / (slope * math.log(10))
    return np.asarray(-np.expm1(-math.pi * separation_arcsec**2 * density), np.float64)


def nearest_by_kind(found: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    """The nearest of each kind; of stars the nearest that is significant.

    Of equally near ones it is the first.
    """
    nearest: dict[str, Neighbour] = {}
    for one in found:
        if one.kind == "stars" and not one.is_star:
            continue
        known = nearest.get(one.kind)
        if known is None or one.separation_arcsec < known.separation_arcsec:
            nearest[one.kind] = one
    return tuple(nearest.values())


def likely_hosts(galaxies: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    """Galaxies that may be the host, the most likely first.

    Those that are near by chance with more than `MOST_P_CC` are none. The others go by that
    probability, and after them those of which it is not known by separation; equal ones stay in
    their order.
    """

    def rank(one: Neighbour) -> tuple[bool, float]:
        return one.p_cc is None, one.separation_arcsec if one.p_cc is None else one.p_cc

    return tuple(sorted((g for g in galaxies if (g.p_cc or 0.0) <= MOST_P_CC), key=rank))


def host_at(
    hosts: Sequence[Neighbour], mean_mpc: float | None, sigma_mpc: float | None
) -> Neighbour:
    """The first of ``hosts`` that an event's distance allows.

    Those within three sigma of it go before those whose distance is unknown, and these
    before the others. Without the event's distance it is the first of all.
    """
    if mean_mpc is None or not sigma_mpc:
        return hosts[0]

    def away(host: Neighbour) -> int:
        if host.distance_mpc is None:
            return 1
        return 0 if abs(host.distance_mpc - mean_mpc) <= _CONSISTENT_SIGMA * sigma_mpc else 2

    return min(hosts, key=away)
