import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.polygon import SkyPolygon, polygon_ranges

SQUARE = ((359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0))
ARROW = ((10.0, 0.0), (14.0, 0.0), (14.0, 4.0), (12.0, 1.0), (10.0, 4.0))


def test_inside_and_outside_a_square_across_ra_zero() -> None:
    share = SkyPolygon(SQUARE).share(np.array([0, 359.5, 0.99, 1.01, 180]), np.zeros(5))
    assert share[0] == pytest.approx(0, abs=1e-12)
    assert share[1] == pytest.approx(0.25, abs=1e-3)
    assert share[2] == pytest.approx(0.98, abs=1e-3)
    assert np.isinf(share[3:]).all()


def test_area_of_an_octant_is_an_eighth_of_the_sky() -> None:
    octant = SkyPolygon(((0, 0), (90, 0), (0, 90)))
    assert octant.area_deg2 == pytest.approx(41252.96125 / 8)


def test_a_pole_may_lie_inside() -> None:
    cap = SkyPolygon(tuple((ra, 80.0) for ra in range(0, 360, 30)))
    assert cap.centre_deg[1] == pytest.approx(90)
    share = cap.share(np.array([0.0, 77.0, 10.0]), np.array([90.0, 85.0, 79.0]))
    assert (np.isfinite(share) == [True, True, False]).all()


def test_the_notch_of_an_arrow_is_outside() -> None:
    share = SkyPolygon(ARROW).share(np.array([12.0, 10.5, 13.5]), np.array([2.0, 2.0, 2.0]))
    assert (np.isfinite(share) == [False, True, True]).all()
    assert (share[1:] <= 1).all()


def test_a_repeated_first_vertex_changes_nothing() -> None:
    closed = (*SQUARE, SQUARE[0])
    assert SkyPolygon(closed).area_deg2 == pytest.approx(SkyPolygon(SQUARE).area_deg2)
    inside = sky.ipix29(np.array([0.9]), np.array([-0.9]))
    assert sky.contains(polygon_ranges(closed), inside).all()


@given(
    st.floats(0, 360),
    st.floats(-90, 90),
    st.lists(st.floats(0.2, 1), min_size=3, max_size=9),
    st.floats(0.01, 50),
)
@settings(max_examples=30, deadline=None)
def test_cover_agrees_with_share_and_with_mocpy(
    ra: float, dec: float, radii: list[float], size: float
) -> None:
    """Stars around any place: whatever is inside is covered, for mocpy's idea of inside too."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    lon, lat = offset(ra, dec, size * np.array(radii), angles)
    polygon = SkyPolygon(tuple(zip(lon.tolist(), lat.tolist(), strict=True)))
    rng = np.random.default_rng(1)
    ra2, dec2 = offset(ra, dec, size * rng.uniform(0, 1.1, 500), rng.uniform(0, 7, 500))
    inside = np.isfinite(polygon.share(ra2, dec2))
    covered = sky.contains(polygon.cover(), sky.ipix29(ra2, dec2))
    assert covered[inside].all()
    if size < 20:
        from astropy.coordinates import SkyCoord

        moc = MOC.from_polygon_skycoord(SkyCoord(lon, lat, unit="deg"), max_depth=16)
        theirs = moc.contains_skycoords(SkyCoord(ra2, dec2, unit="deg"))
        assert (theirs | ~inside).mean() > 0.99


def offset(
    ra: float, dec: float, radius_deg: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions at distances and position angles from a place."""
    d, r = np.radians(dec), np.radians(radius_deg)
    sine = np.sin(d) * np.cos(r) + np.cos(d) * np.sin(r) * np.cos(angle)
    lat = np.arcsin(np.clip(sine, -1, 1))
    y = np.sin(angle) * np.sin(r) * np.cos(d)
    lon = np.radians(ra) + np.arctan2(y, np.cos(r) - np.sin(d) * np.sin(lat))
    return np.degrees(lon) % 360, np.degrees(lat)


@pytest.mark.parametrize(
    "vertices",
    [
        ((0, 0), (1, 1)),
        ((0, 0), (1, 1), (np.nan, 0)),
        ((0, 0), (1, 1), (0, 91)),
        ((0, 0), (1, 0), (2, 0)),
        ((0, 0), (120, 0), (240, 0)),
        ((0, 0), (179, 0), (90, 1)),
    ],
)
def test_what_is_no_small_polygon_is_rejected(vertices: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(RegionError) as error:
        SkyPolygon(vertices)
    assert error.value.reason == "polygon_invalid"
