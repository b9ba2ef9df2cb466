"""The picture of a region: its projection, its field, its colours."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import astropy.units as u
import matplotlib.image
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from crossmatch import sky
from crossmatch.chains import chains_with
from crossmatch.model import (
    Circle,
    Ellipse,
    FloatArray,
    Localization,
    MultiOrderMap,
    Notice,
    Polygon,
    Region,
    SystematicTerm,
)
from crossmatch.region import make_region
from gateway.offline.plot import Field, _marks, field_of, from_plane, region_plot, to_plane

INNER, OUTER = (0x5B, 0x9B, 0xD8), (0xBC, 0xD7, 0xF2)


def region(place: Localization) -> Region:
    notice = Notice(
        feed="x", mission="Mission", instrument="I", kind="k", notice_id="n", event_id="X_1",
        trigger_id="1", messenger="grb", role="observation", alert_type="initial",
        issued=datetime(2024, 1, 12, tzinfo=UTC), order=(0.0, 0, 0),
        trigger_time=datetime(2024, 1, 12, tzinfo=UTC), localization=place, sha256="0" * 64,
    )  # fmt: skip
    return make_region(notice, 1, chains_with({}))


def lobes(*centres: tuple[float, float, float]) -> MultiOrderMap:
    """Map of order 6 with a Gaussian of 2 degrees for each (ra, dec, weight)."""
    cells = np.arange(12 * 4**6, dtype=np.int64)
    start, end = cells << 46, (cells + 1) << 46
    ra, dec = sky.cell_centres(start, end)
    density: FloatArray = np.zeros(len(cells))
    for ra0, dec0, weight in centres:
        density += weight * np.exp(-0.5 * (sky.separation_deg(ra0, dec0, ra, dec) / 2) ** 2)
    return MultiOrderMap(start, end, density / (density.sum() * 4 * np.pi / len(cells)))


def picture(place: Localization) -> FloatArray:
    png = region_plot(region(place))
    return np.asarray(np.round(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255))


def share_of(image: FloatArray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(image - colour) <= 2).all(axis=-1).mean())


@pytest.mark.parametrize("centre", [(10.0, 20.0), (359.9, -89.0), (180.0, 90.0)])
def test_plane_keeps_distances_and_directions(centre: tuple[float, float]) -> None:
    field = Field(*centre, 40.0)
    east, north = np.meshgrid(np.linspace(-40, 40, 9), np.linspace(-40, 40, 9))
    ra, dec = from_plane(field, east, north)
    middle = SkyCoord(centre[0] * u.deg, centre[1] * u.deg)
    found = SkyCoord(ra * u.deg, dec * u.deg)
    distance = np.hypot(east, north)
    np.testing.assert_allclose(middle.separation(found).deg, distance, atol=1e-7)
    if abs(centre[1]) < 90:
        angle = middle.position_angle(found).deg
        off = distance > 0
        expected = np.degrees(np.arctan2(east, north)) % 360
        np.testing.assert_allclose(angle[off] % 360, expected[off] % 360, atol=1e-6)
    back = to_plane(field, ra, dec)
    np.testing.assert_allclose(back, (east, north), atol=1e-7)


@pytest.mark.parametrize(
    ("place", "half_deg"),
    [
        (Circle(83.6, 22.0, 4 / 60, 0.9), 4 / 60),
        (Ellipse(10.0, 60.0, 3.0, 0.4, 35.0, 0.9), 3.0),
        (Polygon(((359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0))), 2**0.5),
        (Polygon(((10.0, 86.0), (130.0, 86.0), (250.0, 86.0))), 4.0),
    ],
)
def test_field_holds_the_region_and_little_more(place: Localization, half_deg: float) -> None:
    field = field_of(region(place))
    assert field.whole
    assert half_deg < field.half_deg < 1.8 * half_deg


def test_near_lobes_are_shown_together() -> None:
    field = field_of(region(lobes((13.0, -25.0, 1.0), (22.0, -33.0, 0.6))))
    assert field.whole
    assert 5 < field.half_deg < 20


def test_of_far_lobes_the_likelier_is_shown() -> None:
    field = field_of(region(lobes((20.0, 10.0, 1.0), (200.0, -10.0, 0.5))))
    assert not field.whole
    assert sky.separation_deg(20.0, 10.0, field.ra_deg, field.dec_deg) < 1
    assert field.half_deg < 10


def test_map_of_one_cell_has_a_field() -> None:
    one = MultiOrderMap(*(np.array([v], np.int64) << 46 for v in (5, 6)), np.array([3912.0]))
    assert 0 < field_of(region(one)).half_deg < 10


@pytest.mark.parametrize(
    "place",
    [
        Circle(83.6, 22.01, 4 / 60, 0.9),
        Circle(238.4, -40.2, 4.4, 0.68, (SystematicTerm(1.8, 0.52), SystematicTerm(4.1, 0.48))),
        Ellipse(10.0, 60.0, 3.0, 0.4, 35.0, 0.9),
        Polygon(((358.0, -3.0), (2.0, -3.5), (1.5, 2.5), (357.5, 1.0)), 0.9),
        lobes((13.0, -25.0, 1.0), (22.0, -33.0, 0.6)),
        Circle(0.0, 0.0, 170.0, 0.9),
    ],
    ids=["small", "gbm", "ellipse", "polygon", "map", "anywhere"],
)
def test_zoom_shows_the_50_and_90_percent_regions(place: Localization) -> None:
    image = picture(place)
    height, width, _ = image.shape
    assert width > 1000 > height > 400
    zoom = image[:, int(0.66 * width) :]
    assert share_of(zoom, INNER) > 0.003
    if not isinstance(place, Circle) or place.radius_deg < 90:
        assert share_of(zoom, OUTER) > 0.003


@pytest.mark.parametrize("change", [{"role": "test"}, {"streams": ("ourteam",)}])
def test_tests_and_private_regions_are_marked(change: dict[str, Any]) -> None:
    real = region(Circle(83.6, 22.01, 1.0, 0.9))
    plain, marked = region_plot(real), region_plot(replace(real, **change))
    corner = [
        matplotlib.image.imread(io.BytesIO(png))[:60, -200:, :3].min() for png in (plain, marked)
    ]
    assert corner[0] == 1.0  # nothing but paper
    assert corner[1] < 0.5


def test_marks_are_words() -> None:
    real = region(Circle(83.6, 22.01, 1.0, 0.9))
    assert _marks(real) == ""
    both = replace(real, role="test", streams=("a", "ourteam"))
    assert _marks(both) == "TEST   private: a, ourteam"
