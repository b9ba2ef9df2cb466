import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from crossmatch import sky
from crossmatch.errors import RegionError

RA = st.floats(0, 360)
DEC = st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0])
PIXEL = st.integers(0, sky.N_PIX) | st.integers(0, 200)
RANGES = st.lists(st.tuples(PIXEL, PIXEL).map(sorted), max_size=12).map(
    lambda pairs: np.array(pairs, np.int64).reshape(-1, 2)
)


def random_sky(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def as_moc(ranges: np.ndarray) -> MOC:
    filled = ranges[ranges[:, 0] < ranges[:, 1]]  # mocpy keeps empty ranges
    return MOC.from_depth29_ranges(29, filled.astype(np.uint64))


def from_moc(moc: MOC) -> np.ndarray:
    return np.asarray(moc.to_depth29_ranges, np.int64).reshape(-1, 2)


class TestPixels:
    def test_cdshealpix_agrees_but_for_pixel_edges(self) -> None:
        from astropy.coordinates import Latitude, Longitude
        from cdshealpix import lonlat_to_healpix

        ra, dec = random_sky(20_000)
        other = lonlat_to_healpix(Longitude(ra * u.deg), Latitude(dec * u.deg), 29)
        assert (sky.ipix29(ra, dec) != other.astype(np.int64)).sum() <= 2

    @given(RA, DEC)
    def test_the_centre_of_a_pixel_is_a_milliarcsecond_from_what_it_holds(
        self, ra: float, dec: float
    ) -> None:
        back = sky.to_radec(sky.ipix29(np.array([ra]), np.array([dec])))
        assert sky.separation_deg(ra, dec, *back)[0] * 3.6e6 < 1

    def test_right_ascension_is_taken_modulo_a_turn(self) -> None:
        same = sky.ipix29(np.array([-10.0, 350.0, 710.0]), np.zeros(3))
        assert len(set(same.tolist())) == 1
        assert sky.ipix29(np.array([0.0]), np.zeros(1)) == sky.ipix29(
            np.array([360.0]), np.zeros(1)
        )

    def test_no_positions_give_no_pixels(self) -> None:
        assert sky.ipix29(np.empty(0), np.empty(0)).shape == (0,)
        assert sky.to_radec(np.empty(0, np.int64))[0].shape == (0,)

    @pytest.mark.parametrize(("ra", "dec"), [(np.nan, 0), (0, np.nan), (np.inf, 0), (0, 90.1)])
    def test_what_is_no_position_is_refused(self, ra: float, dec: float) -> None:
        with pytest.raises(ValueError, match=r"right ascension|declination"):
            sky.ipix29(np.array([ra]), np.array([dec]))


class TestCells:
    @given(st.lists(st.integers(4, 2**62 - 1) | st.sampled_from([4**k for k in range(1, 31)])))
    def test_uniq_to_ranges_and_back(self, numbers: list[int]) -> None:
        uniq = np.array(numbers, np.int64)
        ranges = sky.uniq_to_ranges(uniq)
        assert (sky.uniq_of_cells(ranges[:, 0], ranges[:, 1]) == uniq).all()

    def test_orders_just_below_a_power_of_four_are_right(self) -> None:
        """Where a float logarithm rounds up to the next order."""
        ranges = sky.uniq_to_ranges(np.array([4**30 - 1, 4**30, 4**31 - 1]))
        assert (ranges[:, 1] - ranges[:, 0]).tolist() == [4, 1, 1]

    @pytest.mark.parametrize("number", [-1, 0, 3, 2**62])
    def test_numbers_that_are_no_cells_are_rejected(self, number: int) -> None:
        with pytest.raises(RegionError) as error:
            sky.uniq_to_ranges(np.array([16, number]))
        assert error.value.reason == "cells_invalid"

    @pytest.mark.parametrize("cell", [(0, 3), (1, 5), (-4, 0), (0, 0), (sky.N_PIX, sky.N_PIX + 1)])
    def test_ranges_that_are_no_cells_are_rejected(self, cell: tuple[int, int]) -> None:
        with pytest.raises(RegionError) as error:
            sky.uniq_of_cells(np.array(cell[:1]), np.array(cell[1:]))
        assert error.value.reason == "cells_invalid"

    @given(RANGES)
    @settings(max_examples=50)
    def test_canonical_cells_are_those_of_mocpy(self, ranges: np.ndarray) -> None:
        ranges = sky.merge(ranges)
        cells = sky.ranges_to_uniq(ranges)
        assert (sky.merge(sky.uniq_to_ranges(cells)) == ranges).all()
        assert sorted(cells.tolist()) == sorted(int(u) for u in as_moc(ranges).uniq_hpx)

    def test_cell_centres_agree_with_healpy(self) -> None:
        cells = sky.uniq_to_ranges(np.array([4 + 11, 16 + 3, 4**9 + 77]))
        ra, dec = sky.cell_centres(cells[:, 0], cells[:, 1])
        expected = [healpy.pix2ang(2**k, i, True, True) for k, i in ((0, 11), (1, 3), (8, 77))]
        assert np.allclose(np.stack([ra, dec], axis=1), expected)


class TestSets:
    @given(RANGES)
    def test_merge_is_mocpys(self, ranges: np.ndarray) -> None:
        assert np.array_equal(sky.merge(ranges), from_moc(as_moc(ranges)))

    @given(RANGES, RANGES)
    def test_union_and_intersection_are_mocpys(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = sky.merge(a), sky.merge(b)
        assert np.array_equal(sky.union(a, b), from_moc(as_moc(a).union(as_moc(b))))
        assert np.array_equal(sky.intersection(a, b), from_moc(as_moc(a).intersection(as_moc(b))))

    @given(RANGES, st.lists(PIXEL, max_size=20))
    def test_contains_is_the_definition(self, ranges: np.ndarray, pixels: list[int]) -> None:
        ranges = sky.merge(ranges)
        edges = ranges.ravel().tolist()
        pixels = pixels + edges + [p - 1 for p in edges]
        expected = [any(a <= p < b for a, b in ranges.tolist()) for p in pixels]
        assert sky.contains(ranges, np.array(pixels, np.int64)).tolist() == expected

    def test_touching_ranges_become_one(self) -> None:
        assert sky.merge(np.array([[5, 9], [0, 5], [9, 9]])).tolist() == [[0, 9]]

    def test_area(self) -> None:
        assert sky.area_deg2(sky.whole_sky()) == pytest.approx(41252.96124941927)
        assert sky.area_deg2(np.empty((0, 2), np.int64)) == 0


class TestAscii:
    @given(RANGES, st.integers(0, 29))
    @settings(max_examples=50)
    def test_mocpy_reads_the_same_set(self, ranges: np.ndarray, max_order: int) -> None:
        text = sky.moc_ascii(sky.merge(ranges), max_order)
        moc = MOC.from_string(text, "ascii")
        assert np.array_equal(from_moc(moc), sky.ranges_from_ascii(text))
        assert moc.max_order == max_order

    @given(RANGES, st.integers(0, 29))
    @settings(max_examples=50)
    def test_a_coarse_moc_covers_the_set(self, ranges: np.ndarray, max_order: int) -> None:
        ranges = sky.merge(ranges)
        wide = sky.ranges_from_ascii(sky.moc_ascii(ranges, max_order))
        assert np.array_equal(sky.intersection(ranges, wide), ranges)

    def test_full_order_loses_nothing(self) -> None:
        ranges = np.array([[3, 77], [80, 4096]])
        assert np.array_equal(sky.ranges_from_ascii(sky.moc_ascii(ranges)), ranges)

    @pytest.mark.realdata
    def test_the_example_of_the_standard(self, shared_data) -> None:
        text = (shared_data / "mocs" / "smoc.ascii.txt").read_text()
        ranges = sky.ranges_from_ascii(text)
        assert np.array_equal(ranges, from_moc(MOC.from_string(text, "ascii")))
        assert sky.moc_ascii(ranges) == " ".join(text.split())

    @pytest.mark.parametrize(
        "text", ["", "3", "3/x", "30/1", "1/48", "1/5-3", "1/-3", "t61/1 s3/2", "3/1²"]
    )
    def test_what_is_no_moc_is_rejected(self, text: str) -> None:
        with pytest.raises(RegionError) as error:
            sky.ranges_from_ascii(text)
        assert error.value.reason == "moc_invalid"


class TestAngles:
    def test_agree_with_astropy(self) -> None:
        ra, dec = random_sky(500)
        ra2, dec2 = random_sky(500, seed=2)
        a, b = SkyCoord(ra, dec, unit="deg"), SkyCoord(ra2, dec2, unit="deg")
        assert np.allclose(sky.separation_deg(ra, dec, ra2, dec2), a.separation(b).deg, atol=1e-12)
        from_first = sky.position_angle_deg(10.0, 20.0, ra2, dec2) % 360
        expected = SkyCoord(10, 20, unit="deg").position_angle(b).deg
        assert np.allclose(from_first, expected, atol=1e-9)

    def test_tiny_and_opposite_separations_are_exact(self) -> None:
        assert sky.separation_deg(10.0, 80.0, 10.0, 80.0 + 1e-10) == pytest.approx(1e-10, rel=1e-3)
        assert sky.separation_deg(0.0, 30.0, 180.0, -30.0) == pytest.approx(180)
        assert sky.separation_deg(0.0, 0.0, 360.0, 0.0) == pytest.approx(0, abs=1e-12)

    def test_latitudes_agree_with_astropy_to_an_arcsecond(self) -> None:
        ra, dec = random_sky(300)
        place = SkyCoord(ra, dec, unit="deg")
        arcsec = 1 / 3600
        assert np.allclose(
            sky.galactic_latitude_deg(ra, dec), place.galactic.b.deg, rtol=0, atol=arcsec
        )
        ecliptic = place.transform_to("barycentricmeanecliptic").lat.deg
        assert np.allclose(sky.ecliptic_latitude_deg(ra, dec), ecliptic, rtol=0, atol=arcsec)


class TestCovers:
    @pytest.mark.parametrize("radius", [1e-5, 0.01, 1, 30, 100, 179.9])
    @pytest.mark.parametrize("centre", [(0.0, 90.0), (0.0, -90.0), (359.999, 0.1), (45.0, 41.8)])
    def test_a_cone_covers_what_is_near_and_little_more(
        self, centre: tuple[float, float], radius: float
    ) -> None:
        ranges = sky.cone_ranges(*centre, radius)
        near = SkyCoord(*centre, unit="deg").directional_offset_by(
            np.linspace(0, 360, 300) * u.deg, np.tile([1, 0.99, 0.5], 100) * radius * u.deg
        )
        assert sky.contains(ranges, sky.ipix29(near.ra.deg, near.dec.deg)).all()
        cap = 41252.96 * np.sin(np.radians(radius) / 2) ** 2
        assert sky.area_deg2(ranges) <= 1.6 * cap
        assert len(ranges) < 500

    @given(RA, DEC, st.floats(0.001, 179), st.integers(0, 2**31))
    @settings(max_examples=30)
    def test_a_cone_covers_whatever_a_brute_force_search_finds(
        self, ra: float, dec: float, radius: float, seed: int
    ) -> None:
        ra2, dec2 = random_sky(2000, seed)
        near = sky.separation_deg(ra, dec, ra2, dec2) <= radius
        ranges = sky.cone_ranges(ra, dec, radius)
        assert sky.contains(ranges, sky.ipix29(ra2, dec2))[near].all()

    def test_half_a_turn_and_more_is_the_whole_sky(self) -> None:
        assert np.array_equal(sky.cone_ranges(10, 20, 180), sky.whole_sky())
        assert np.array_equal(sky.cone_ranges(10, 20, 1e6), sky.whole_sky())

    @given(RA, DEC, st.floats(0.01, 80), st.floats(0.02, 1), st.floats(-180, 180), st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_an_ellipse_covers_its_border(
        self, ra: float, dec: float, a: float, ratio: float, angle: float, swap: bool
    ) -> None:
        axes = (a * ratio, a) if swap else (a, a * ratio)
        ranges = sky.ellipse_ranges(ra, dec, *axes, angle)
        phase = np.linspace(0, 2 * np.pi, 200)
        x, y = axes[0] * np.cos(phase), axes[1] * np.sin(phase)
        border = SkyCoord(ra, dec, unit="deg").directional_offset_by(
            (angle + np.degrees(np.arctan2(y, x))) * u.deg, np.hypot(x, y) * (1 - 1e-9) * u.deg
        )
        assert sky.contains(ranges, sky.ipix29(border.ra.deg, border.dec.deg)).all()

    def test_a_thin_ellipse_is_much_smaller_than_its_circle(self) -> None:
        thin = sky.area_deg2(sky.ellipse_ranges(50, 60, 10, 0.5, 30))
        assert thin < 2.2 * np.pi * 10 * 0.5

    def test_no_cell_reaches_beyond_the_radius_that_refining_assumes(self) -> None:
        for order in range(0, 8):
            ipix = np.arange(12 * 4**order)
            corners = healpy.boundaries(2**order, ipix, step=8, nest=True)
            centres = np.stack(healpy.pix2vec(2**order, ipix, nest=True), axis=1)
            reach = np.arccos(np.einsum("ik,ikj->ij", centres, corners).min())
            assert np.degrees(reach) <= sky._cell_radius_deg(order)


@pytest.mark.parametrize("most", [30, 1000, 100_000])
def test_a_short_moc_covers_what_the_long_one_does(most: int) -> None:
    """Every second cell of order 8 would take 1.8 million characters."""
    ipix = np.arange(0, 12 * 4**8, 2) << 2 * (sky.MAX_ORDER - 8)
    ranges = np.stack([ipix, ipix + 4 ** (sky.MAX_ORDER - 8)], axis=1)

    text = sky.short_moc(ranges, 10, most)

    assert len(text) <= most
    covered = sky.ranges_from_ascii(text)
    assert np.array_equal(sky.intersection(covered, ranges), ranges)


def test_a_moc_that_is_short_stays_as_it_is() -> None:
    ranges = sky.cone_ranges(10.0, 20.0, 3.0)
    assert sky.short_moc(ranges, 10, 100_000) == sky.moc_ascii(ranges, 10)


@pytest.mark.parametrize("dec", np.degrees(np.arcsin([2 / 3, -2 / 3, 0.0])).tolist())
@pytest.mark.parametrize("ra", [np.nextafter(360, 0), 360.0, -6e-14, -1e-300, 720.0, -360.0])
def test_the_seam_of_right_ascension_is_one_place(ra: float, dec: float) -> None:
    """healpy gives pixels 58 degrees away for some of these."""
    some = dec + np.linspace(-5, 5, 41) * np.spacing(dec)
    ra_found, dec_found = sky.to_radec(sky.ipix29(np.full(41, ra), some))
    assert np.abs(dec_found - dec).max() < 1e-6
    assert np.minimum(ra_found, 360 - ra_found).max() < 1e-6
