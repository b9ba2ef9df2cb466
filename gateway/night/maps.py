"""Sky maps of the night: densities on the sphere, made into multi-order maps.

The maps are models with the published areas and positions, not the maps that were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import healpy as hp
import numpy as np

from crossmatch.model import FloatArray, IntArray, MultiOrderMap

FINEST_ORDER = 8
COARSEST_ORDER = 3

# Unit vectors along the arms of LIGO Hanford in the Earth-fixed frame (LAL, LALDetectors.h).
_HANFORD_X = np.array([-0.22389266154, 0.79983062746, 0.55690487831])
_HANFORD_Y = np.array([-0.91397818574, 0.02609403989, -0.40492342125])

Density = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Distance:
    """Mean and standard deviation of the distance, Mpc; ``scale`` varies them by direction."""

    mean_mpc: float
    std_mpc: float
    scale: Density | None = None


def unit_vectors(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """(n, 3) unit vectors of (n,) positions."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def sidereal_angle_deg(jd: FloatArray | float) -> FloatArray:
    """Greenwich mean sidereal time in degrees, linear term (Meeus, eq. 12.4), to 0.01 deg."""
    turned: FloatArray = 280.46061837 + 360.98564736629 * (
        np.asarray(jd, dtype=np.float64) - 2451545.0
    )
    return turned % 360.0


def antenna_power(vectors: FloatArray, jd: float) -> FloatArray:
    """(n,) F+^2 + Fx^2 of LIGO Hanford towards (n, 3) ICRS unit vectors at ``jd`` (UTC).

    The response tensor is (xx - yy)/2 of the arms; any pair of axes across the line of
    sight gives the same sum (Anderson et al. 2001, PRD 63, 042003).
    """
    turn = np.radians(float(sidereal_angle_deg(jd)))
    to_sky = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    x, y = to_sky @ _HANFORD_X, to_sky @ _HANFORD_Y
    tensor = (np.outer(x, x) - np.outer(y, y)) / 2
    ra = np.arctan2(vectors[:, 1], vectors[:, 0])
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.cross(vectors, east)
    ee = np.einsum("ni,ij,nj->n", east, tensor, east)
    nn = np.einsum("ni,ij,nj->n", north, tensor, north)
    en = np.einsum("ni,ij,nj->n", east, tensor, north)
    power: FloatArray = (ee - nn) ** 2 + (2 * en) ** 2
    return power


def single_detector(jd: float, exponent: float) -> Density:
    """Density of a source heard by LIGO Hanford alone: a power of its antenna pattern.

    The volume in which a source of given loudness may lie grows as the 3/2 power of
    F+^2 + Fx^2; the exponent sets the area.
    """

    def density(vectors: FloatArray) -> FloatArray:
        return antenna_power(vectors, jd) ** exponent

    return density


@dataclass(frozen=True, slots=True)
class Arc:
    """A banana: Gaussian along and across a small circle, as delays between detectors give.

    The circle has ``bend_deg`` as its angular radius; its direction at the middle is
    ``angle_deg``, from north through east. Widths are standard deviations.
    """

    ra_deg: float
    dec_deg: float
    angle_deg: float
    along_deg: float
    across_deg: float
    bend_deg: float

    def coordinates(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(n,) degrees along the arc from its middle, and across it, for (n, 3) unit vectors."""
        ra, angle = np.radians(self.ra_deg), np.radians(self.angle_deg)
        middle = unit_vectors(np.array(self.ra_deg), np.array(self.dec_deg))
        east = np.array([-np.sin(ra), np.cos(ra), 0.0])
        north = np.cross(middle, east)
        along = np.cos(angle) * north + np.sin(angle) * east
        side = np.cross(middle, along)
        bend = np.radians(self.bend_deg)
        pole = np.cos(bend) * middle + np.sin(bend) * side
        zero = np.sin(bend) * middle - np.cos(bend) * side
        from_pole = np.arccos(np.clip(vectors @ pole, -1, 1))
        azimuth = np.arctan2(vectors @ along, vectors @ zero)
        return np.degrees(azimuth) * np.sin(bend), np.degrees(from_pole) - self.bend_deg

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """(n,) relative density at (n, 3) unit vectors."""
        along, across = self.coordinates(vectors)
        return np.exp(-0.5 * ((along / self.along_deg) ** 2 + (across / self.across_deg) ** 2))


def multi_order_map(
    density: Density, distance: Distance | None, split_above: float = 5e-4
) -> MultiOrderMap:
    """A normalised multi-order map of ``density``: fine cells where the probability is.

    Parameters
    ----------
    density : callable
        From (n, 3) unit vectors to (n,) relative densities.
    distance : Distance, optional
        For the distance columns.
    split_above : float
        Four sibling cells stay apart when they hold more probability than this together.
    """
    order = FINEST_ORDER
    cells = np.arange(hp.order2npix(order), dtype=np.int64)
    vectors = _centres(order, cells)
    mass = density(vectors)
    mass = mass / mass.sum()
    starts: list[IntArray] = []
    ends: list[IntArray] = []
    masses: list[FloatArray] = []
    while True:
        together = mass.reshape(-1, 4).sum(axis=1)
        whole = ~np.isnan(together)
        keep_apart = (together > split_above) | ~whole
        if order == COARSEST_ORDER:
            keep_apart[:] = True
        apart = np.repeat(keep_apart, 4) & ~np.isnan(mass)
        shift = 2 * (29 - order)
        starts.append(cells[apart] << shift)
        ends.append((cells[apart] + 1) << shift)
        masses.append(mass[apart])
        if order == COARSEST_ORDER:
            break
        # NaN marks cells whose children were kept: they must not merge further.
        mass = np.where(keep_apart, np.nan, together)
        order -= 1
        cells = np.arange(len(mass), dtype=np.int64)
    return _assembled(starts, ends, masses, distance)


def _centres(order: int, cells: IntArray) -> FloatArray:
    x, y, z = hp.pix2vec(hp.order2nside(order), cells, nest=True)
    return np.stack([x, y, z], axis=-1)


def _assembled(
    starts: list[IntArray],
    ends: list[IntArray],
    masses: list[FloatArray],
    distance: Distance | None,
) -> MultiOrderMap:
    start, end, mass = np.concatenate(starts), np.concatenate(ends), np.concatenate(masses)
    by_start = np.argsort(start)
    start, end, mass = start[by_start], end[by_start], mass[by_start]
    area = (end - start) * (4 * np.pi / (12 * 4.0**29))
    bare = MultiOrderMap(start=start, end=end, density=mass / area)
    if distance is None:
        return bare
    mu, sigma, norm = _distance_columns(start, end, mass, distance)
    return replace(bare, distmu=mu, distsigma=sigma, distnorm=norm)


def _distance_columns(
    start: IntArray, end: IntArray, mass: FloatArray, distance: Distance
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """DISTMU, DISTSIGMA, DISTNORM: over the whole sky the posterior is ``distance``."""
    scale = np.ones(len(start))
    if distance.scale is not None:
        vectors = np.empty((len(start), 3))
        orders = 29 - (np.round(np.log2(end - start)) / 2).astype(np.int64)
        for order in np.unique(orders):
            here = orders == order
            vectors[here] = _centres(int(order), start[here] >> (2 * (29 - int(order))))
        scale = distance.scale(vectors)
        scale = scale / (mass @ scale)
    spread = distance.std_mpc / distance.mean_mpc
    # Part of the deviation is already in the scale; the rest is left to each cell.
    within = np.sqrt((1 + spread**2) / (mass @ scale**2) - 1)
    mu, sigma, norm = distance_parameters(float(within))
    scale = scale * distance.mean_mpc
    return mu * scale, sigma * scale, norm / scale**2


def distance_parameters(spread: float) -> tuple[float, float, float]:
    """DISTMU, DISTSIGMA and DISTNORM of the distance posterior with mean 1 and given spread.

    The posterior is N/(sqrt(2 pi) sigma) exp(-(r - mu)^2 / (2 sigma^2)) r^2 for r > 0
    (Singer et al. 2016, ApJL 829, L15). Moments are taken numerically; mu and sigma come
    from Newton's method.
    """
    r = np.linspace(1e-4, 1 + 12 * spread, 4001)
    step = r[1] - r[0]

    def moments(p: FloatArray) -> tuple[float, float, float]:
        weight = np.exp(-0.5 * ((r - p[0]) / p[1]) ** 2) / (np.sqrt(2 * np.pi) * p[1]) * r**2
        total = weight.sum() * step
        mean = (weight * r).sum() * step / total
        return total, mean, float(np.sqrt((weight * (r - mean) ** 2).sum() * step / total))

    p = np.array([1 - 2 * spread**2, spread])
    for _ in range(50):
        _, mean, std = moments(p)
        miss = np.array([mean - 1, std - spread])
        slope = np.empty((2, 2))
        for k in range(2):
            moved = p.copy()
            moved[k] += 1e-5
            _, mean_k, std_k = moments(moved)
            slope[:, k] = (np.array([mean_k - 1, std_k - spread]) - miss) / 1e-5
        p = p - np.linalg.solve(slope, miss)
        if np.abs(miss).max() < 1e-10:
            break
    return float(p[0]), float(p[1]), 1 / moments(p)[0]


def area_deg2(sky: MultiOrderMap, level: float) -> float:
    """Area of the smallest region that holds ``level`` of the probability."""
    size = (sky.end - sky.start) * (4 * np.pi / (12 * 4.0**29))
    by_density = np.argsort(-sky.density, kind="stable")
    inside = np.cumsum((sky.density * size)[by_density]) <= level
    return float(np.degrees(np.degrees(size[by_density][inside].sum())))


def level_at(sky: MultiOrderMap, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """(n,) smallest credible level that holds each of (n,) positions, its own cell included."""
    size = (sky.end - sky.start) * (4 * np.pi / (12 * 4.0**29))
    by_density = np.argsort(-sky.density, kind="stable")
    level = np.empty(len(size))
    level[by_density] = np.cumsum((sky.density * size)[by_density])
    ipix29 = hp.ang2pix(1 << 29, ra_deg, dec_deg, nest=True, lonlat=True)
    found: FloatArray = level[np.searchsorted(sky.start, ipix29, side="right") - 1]
    return found


def fits_header(
    object_id: str, instruments: list[str], when: str, created: str, distance: Distance | None
) -> Mapping[str, str | float]:
    """Header cards that LIGO/Virgo/KAGRA maps carry, without the parts that name software."""
    cards: dict[str, str | float] = {
        "OBJECT": object_id,
        "INSTRUME": ",".join(instruments),
        "DATE-OBS": when,
        "DATE": created,
        "CREATOR": "mmgateway",
        "ORIGIN": "replay of 17 August 2017: not the map that was sent",
    }
    if distance is not None:
        cards |= {"DISTMEAN": distance.mean_mpc, "DISTSTD": distance.std_mpc}
    return cards
