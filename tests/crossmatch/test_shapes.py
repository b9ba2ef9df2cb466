"""Each shape against a sampled or brute-force truth; what all must hold, for all."""

import math

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.model import (
    Circle,
    Ellipse,
    Localization,
    MultiOrderMap,
    Polygon,
    SystematicTerm,
)
from crossmatch.shapes import shape_of

TERMS = (SystematicTerm(3.7, 0.9), SystematicTerm(14.3, 0.1))
SHAPES: dict[str, Localization] = {
    "circle": Circle(10.0, 80.0, 5.0, 0.9),
    "wide circle": Circle(200.0, -10.0, 70.0, 0.68),
    "tiny circle": Circle(0.0, -90.0, 1e-4, 0.9),
    "mixture": Circle(176.8, -39.8, 11.6, 0.68, TERMS),
    "ellipse": Ellipse(359.9, 0.0, 12.0, 3.0, 40.0, 0.9),
    "small ellipse": Ellipse(100.0, 89.9, 0.01, 0.002, 0.0, 0.68),
    "polygon": Polygon(((359, -1), (1, -1), (1, 1), (359, 1)), 0.9),
    "large polygon": Polygon(((10, 10), (60, 0), (70, 60), (20, 50)), 1.0),
}


@pytest.fixture(params=[*SHAPES, "map"])
def localization(request: pytest.FixtureRequest, gaussian_map: MultiOrderMap) -> Localization:
    return SHAPES.get(request.param, gaussian_map)


def around(localization: Localization, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Positions all over the sky and, on all scales, around the best position."""
    rng = np.random.default_rng(5)
    shape = shape_of(localization)
    size = math.sqrt(shape.area_deg2(0.9))
    near = SkyCoord(*shape.best_deg, unit="deg").directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, np.minimum(size * rng.uniform(0, 2, n), 180) * u.deg
    )
    far = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    ra = np.concatenate([near.ra.deg, rng.uniform(0, 360, n)])
    return ra, np.concatenate([near.dec.deg, far])


@pytest.mark.parametrize("level", [1e-3, 0.3, 0.9, 0.99, 1.0])
def test_the_cover_holds_every_position_inside(localization: Localization, level: float) -> None:
    shape = shape_of(localization)
    ra, dec = around(localization)
    pixels = sky.ipix29(ra, dec)
    _, levels = shape.at(ra, dec, pixels)
    covered = sky.contains(shape.cover(level), pixels)
    assert covered[levels <= level].all()
    # Covers are worth having: of what is far from inside, nothing is covered.
    if level < 1 and not isinstance(localization, Polygon):
        assert not covered[levels > 1 - (1 - level) / 100].any()


@pytest.mark.parametrize("level", [0.3, 0.9])
def test_the_area_is_the_share_of_positions_inside(
    localization: Localization, level: float
) -> None:
    shape = shape_of(localization)
    ranges = shape.cover(level)
    cells = sky.uniq_to_ranges(sky.ranges_to_uniq(ranges))
    rng = np.random.default_rng(9)
    size = (cells[:, 1] - cells[:, 0]) / (cells[:, 1] - cells[:, 0]).sum()
    start, end = cells[rng.choice(len(cells), 40_000, p=size)].T
    pixels = start + (rng.random(len(start)) * (end - start)).astype(np.int64)
    ra, dec = sky.to_radec(pixels)
    share = (shape.at(ra, dec, pixels)[1] <= level).mean()
    assert share * sky.area_deg2(ranges) == pytest.approx(shape.area_deg2(level), rel=0.015)


@pytest.mark.parametrize(
    "localization",
    [n for n in [*SHAPES, "map"] if n not in ("tiny circle", "small ellipse", "polygon")],
    indirect=True,
)
def test_the_density_adds_up_and_gives_the_levels(localization: Localization) -> None:
    """Integrated over fine cells: total 1, and level = what is denser than here."""
    shape = shape_of(localization)
    nside = 256
    ra, dec = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)
    density, level = shape.at(ra, dec, sky.ipix29(ra, dec))
    probability = density * 4 * np.pi / (12 * nside**2)
    expected = localization.containment if isinstance(localization, Polygon) else 1
    assert probability.sum() == pytest.approx(expected, rel=0.02)
    if isinstance(localization, Polygon):
        return
    # (An ellipse's density per steradian and its levels differ by r / sin r: 1 % at 14 deg.)
    for at in (0.2, 0.5, 0.9):
        assert probability[level <= at].sum() == pytest.approx(at, abs=0.01)


def test_the_best_position_has_the_highest_density(localization: Localization) -> None:
    shape = shape_of(localization)
    ra, dec = around(localization, 500)
    best_ra, best_dec = np.array(shape.best_deg)[:, None]
    density, level = shape.at(best_ra, best_dec, sky.ipix29(best_ra, best_dec))
    assert (shape.at(ra, dec, sky.ipix29(ra, dec))[0] <= density * (1 + 1e-9)).all()
    assert level[0] < 0.1


@given(
    st.floats(1e-6, 179),
    st.floats(0.05, 0.995).filter(lambda c: abs(c - 0.68) > 0.006),
)
@settings(max_examples=60)
def test_the_radius_of_a_circle_holds_its_containment(radius: float, containment: float) -> None:
    shape = shape_of(Circle(50.0, 0.0, radius, containment))
    on_it = SkyCoord(50, 0, unit="deg").directional_offset_by(30 * u.deg, radius * u.deg)
    ra, dec = np.array([on_it.ra.deg]), np.array([on_it.dec.deg])
    level = shape.at(ra, dec, sky.ipix29(ra, dec))[1][0]
    if math.sin(math.radians(radius) / 2) ** 2 >= containment:
        assert level == 0  # a uniform sky holds more: nothing is known
    else:
        assert level == pytest.approx(containment, rel=1e-5)


def test_sixty_eight_percent_is_one_sigma() -> None:
    """And so kappa is 1 / (0.66 sigma)**2 for small sigma."""
    sigma = 0.5
    density, _ = shape_of(Circle(0.0, 0.0, sigma, 0.68)).at(
        np.zeros(1), np.zeros(1), np.zeros(1, np.int64)
    )
    kappa = 1 / (0.66 * math.radians(sigma)) ** 2
    assert density[0] == pytest.approx(kappa / (2 * np.pi), rel=1e-3)


@pytest.mark.parametrize("radius", [180.0, 360.0, 1e9])
def test_a_circle_of_half_a_turn_or_more_is_the_whole_sky(radius: float) -> None:
    shape = shape_of(Circle(0.0, 0.0, radius, 0.9))
    ra, dec = around(SHAPES["circle"], 100)
    density, level = shape.at(ra, dec, sky.ipix29(ra, dec))
    assert density == pytest.approx(1 / (4 * np.pi))
    assert (level == 0).all()
    assert shape.area_deg2(0.9) == pytest.approx(41252.96125)
    assert np.array_equal(shape.cover(0.1), sky.whole_sky())


def test_an_ellipse_beyond_a_quarter_turn_is_the_whole_sky() -> None:
    assert np.array_equal(
        shape_of(Ellipse(0.0, 0.0, 120.0, 5.0, 0.0, 0.9)).cover(0.5), sky.whole_sky()
    )


def test_a_round_ellipse_is_a_circle() -> None:
    ra, dec = around(SHAPES["circle"], 300)
    pixels = sky.ipix29(ra, dec)
    circle = shape_of(Circle(10.0, 80.0, 2.0, 0.9)).at(ra, dec, pixels)
    ellipse = shape_of(Ellipse(10.0, 80.0, 2.0, 2.0, 33.0, 0.9)).at(ra, dec, pixels)
    assert ellipse[1] == pytest.approx(circle[1], abs=2e-3)


def test_the_position_angle_runs_from_north_through_east() -> None:
    shape = shape_of(Ellipse(0.0, 0.0, 10.0, 1.0, 90.0, 0.9))
    ra, dec = np.array([9.0, 0.0]), np.array([0.0, 9.0])
    level = shape.at(ra, dec, sky.ipix29(ra, dec))[1]
    assert level[0] < 0.9 < level[1]


def test_positions_in_no_cell_of_a_map() -> None:
    shape = shape_of(MultiOrderMap(np.array([0]), np.array([1 << 58]), np.array([3 / np.pi])))
    density, level = shape.at(np.zeros(1), np.zeros(1), np.array([1 << 58]))
    assert (density[0], level[0]) == (0, 1)


def test_equal_cells_come_by_falling_uniq() -> None:
    """As in ligo.skymap, which sorts by density, then UNIQ, and reverses."""
    start = np.array([0, 1, 2, 3], np.int64) << 56
    end = start + (1 << 56)
    density = np.array([1.0, 2.0, 1.0, 1.0])
    density /= (density * (1 << 56) * sky.PIXEL_SR).sum()
    level = shape_of(MultiOrderMap(start, end, density)).at(np.zeros(4), np.zeros(4), start)[1]
    assert level == pytest.approx([1.0, 0.4, 0.8, 0.6])


@pytest.mark.parametrize(
    ("localization", "reason"),
    [
        (Circle(0.0, 0.0, 0.0, 0.9), "radius_invalid"),
        (Circle(0.0, 0.0, -1.0, 0.9), "radius_invalid"),
        (Circle(0.0, 0.0, math.nan, 0.9), "radius_invalid"),
        (Circle(0.0, 0.0, 1.0, 0.0), "containment_invalid"),
        (Circle(0.0, 0.0, 1.0, 1.0), "containment_invalid"),
        (Circle(720.0, 0.0, 1.0, 0.9), "position_invalid"),
        (Circle(0.0, 91.0, 1.0, 0.9), "position_invalid"),
        (Circle(math.nan, 0.0, 1.0, 0.9), "position_invalid"),
        (Circle(0.0, 0.0, 1.0, 0.9, (SystematicTerm(3.0, 0.5),)), "systematic_invalid"),
        (Circle(0.0, 0.0, 1.0, 0.9, (SystematicTerm(-3.0, 1.0),)), "systematic_invalid"),
        (Ellipse(0.0, 0.0, 1.0, 0.0, 0.0, 0.9), "radius_invalid"),
        (Ellipse(0.0, 0.0, 1.0, 0.5, math.inf, 0.9), "angle_invalid"),
        (Polygon(((0, 0), (1, 0), (0, 1)), 1.1), "containment_invalid"),
        (Polygon(((0, 0), (1, 0)), 0.9), "polygon_invalid"),
    ],
)
def test_what_is_no_localisation_is_rejected(localization: Localization, reason: str) -> None:
    with pytest.raises(RegionError) as error:
        shape_of(localization)
    assert error.value.reason == reason


@pytest.mark.parametrize("size", [1e-300, 5e-324, 1e-20, 1e-7])
def test_a_position_with_hardly_any_error_is_still_a_region(size: float) -> None:
    ra, dec = np.array([80.0]), np.array([30.0])
    for shape in (
        shape_of(Circle(80.0, 30.0, size, 0.9)),
        shape_of(Ellipse(80.0, 30.0, size, size, 0.0, 0.9)),
        shape_of(Ellipse(80.0, 30.0, 1.0, size, 0.0, 0.9)),
    ):
        density, level = shape.at(ra, dec, sky.ipix29(ra, dec))
        assert np.isfinite(density).all()
        assert level[0] < 0.01
        assert 0 < shape.area_deg2(0.9) < 1
        assert sky.contains(shape.cover(0.9), sky.ipix29(ra, dec)).all()
