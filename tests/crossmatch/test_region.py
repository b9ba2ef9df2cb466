from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import RegionError
from crossmatch.model import Circle, MultiOrderMap, Notice, Polygon, SystematicTerm, Window
from crossmatch.region import (
    area_deg2,
    best_position,
    cover_ranges,
    credible_level,
    credible_ranges,
    density_per_sr,
    distance_at,
    make_region,
)

AT2017GFO = (np.array([197.45035]), np.array([-23.38148]))
FINAL = Circle(176.8, -39.8, 11.6, 0.68, (SystematicTerm(3.7, 0.9), SystematicTerm(14.3, 0.1)))
GROUND = Circle(186.62, -48.84, 17.45, 0.68, (SystematicTerm(3.7, 0.8), SystematicTerm(13.7, 0.2)))


@pytest.mark.parametrize(
    ("circle", "expected"),
    [
        (FINAL, 0.974),
        (GROUND, 0.902),
        (Circle(176.8, -39.8, 11.6, 0.68), 0.992),
        (Circle(186.62, -48.84, 17.45, 0.68), 0.932),
    ],
)
def test_the_level_of_at2017gfo_in_the_burst_positions(circle: Circle, expected: float) -> None:
    """With and without the systematic errors of Connaughton et al. (2015)."""
    assert credible_level(circle, *AT2017GFO)[0] == pytest.approx(expected, abs=5e-4)


def test_inside_a_map_is_exactly_in_its_credible_ranges(gaussian_map: MultiOrderMap) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 5000), rng.uniform(-90, 90, 5000)
    level = credible_level(gaussian_map, ra, dec)
    for limit in (0.5, 0.9, 0.99):
        ranges = credible_ranges(gaussian_map, limit)
        assert np.array_equal(cover_ranges(gaussian_map, limit), ranges)
        assert np.array_equal(sky.contains(ranges, sky.ipix29(ra, dec)), level <= limit)
        assert sky.area_deg2(ranges) == pytest.approx(area_deg2(gaussian_map, limit))


def test_one_position_may_be_given_as_numbers(gaussian_map: MultiOrderMap) -> None:
    ra, dec = best_position(gaussian_map)
    assert sky.separation_deg(ra, dec, 40.0, -20.0) < 2
    assert credible_level(gaussian_map, ra, dec)[0] < 0.01  # type: ignore[arg-type]
    assert density_per_sr(gaussian_map, ra, dec)[0] == gaussian_map.density.max()  # type: ignore[arg-type]


class TestDistance:
    @given(st.floats(-1000, 1000), st.floats(1, 500))
    @settings(max_examples=60, deadline=None)
    def test_moments_are_those_of_the_integral(self, mu: float, sigma: float) -> None:
        skymap = MultiOrderMap(
            np.array([0]),
            np.array([sky.N_PIX]),
            np.array([1 / (4 * np.pi)]),
            np.array([mu]),
            np.array([sigma]),
            np.array([1.0]),
        )
        found = distance_at(skymap, np.array([10.0]), np.array([20.0]))
        assert found is not None
        # Where the density is: around mu, or, if mu < 0, within a few scale lengths of 0.
        scale = sigma if mu > -sigma else sigma**2 / -mu
        low, high = max(0.0, mu - 12 * sigma), max(mu, 0.0) + 60 * min(sigma, scale)
        r = np.linspace(low, high, 100_001)
        exponent = -0.5 * ((r - mu) / sigma) ** 2
        p = r**2 * np.exp(exponent - exponent.max())
        mean = (r * p).sum() / p.sum()
        deviation = np.sqrt(((r - mean) ** 2 * p).sum() / p.sum())
        assert found[0][0] == pytest.approx(mean, rel=1e-5)
        assert found[1][0] == pytest.approx(deviation, rel=1e-4)

    def test_where_there_is_no_estimate(self, gaussian_map: MultiOrderMap) -> None:
        bare = MultiOrderMap(gaussian_map.start, gaussian_map.end, gaussian_map.density)
        assert distance_at(bare, np.zeros(1), np.zeros(1)) is None
        infinite = np.full(len(bare.start), np.inf)
        unknown = MultiOrderMap(
            bare.start, bare.end, bare.density, infinite, np.ones_like(infinite), infinite
        )
        found = distance_at(unknown, np.zeros(1), np.zeros(1))
        assert found is not None
        assert np.isnan(found[0][0])
        assert np.isnan(found[1][0])


class TestMakeRegion:
    def test_the_chain_gives_window_levels_and_end(self, notice_of: Callable[..., Notice]) -> None:
        notice = notice_of(localization=FINAL)
        region = make_region(notice, 3, DEFAULT_CHAINS)
        assert (region.chain, region.version, region.level) == ("grb", 3, 0.99)
        assert region.window == DEFAULT_CHAINS["grb"].window
        assert region.expires == region.trigger_time + timedelta(days=20)
        assert region.area90_deg2 == area_deg2(FINAL, 0.9)
        assert region.notice_sha256 == notice.sha256
        assert region.skymap_sha256 == ""
        assert region.systematic_included

    def test_level_and_window_may_be_replaced(self, notice_of: Callable[..., Notice]) -> None:
        region = make_region(notice_of(), 1, DEFAULT_CHAINS, level=0.5, window=Window(0.0, 7.0))
        assert (region.level, region.window) == (0.5, Window(0.0, 7.0))
        assert region.expires == region.trigger_time + timedelta(days=7)

    def test_a_low_significance_event_ends_early(
        self, notice_of: Callable[..., Notice], gaussian_map: MultiOrderMap
    ) -> None:
        notice = notice_of(messenger="gw", significant=False, localization=gaussian_map)
        region = make_region(notice, 1, DEFAULT_CHAINS, window=Window(0.0, 200.0))
        assert region.chain == "gw_low"
        assert region.expires == region.trigger_time + timedelta(days=3)

    @pytest.mark.parametrize(
        ("localization", "details", "included"),
        [
            (Circle(0.0, 0.0, 1.0, 0.9), {}, False),
            (Circle(0.0, 0.0, 1.0, 0.9), {"systematic_included": "false"}, False),
            (Circle(0.0, 0.0, 1.0, 0.9), {"systematic_included": "true"}, True),
            (FINAL, {}, True),
            ("map", {}, True),
            (Polygon(((0, 0), (1, 0), (0, 1))), {}, False),
        ],
    )
    def test_neutrinos_without_systematic_errors_have_a_chain_of_their_own(
        self,
        notice_of: Callable[..., Notice],
        gaussian_map: MultiOrderMap,
        localization: object,
        details: dict[str, str],
        included: bool,
    ) -> None:
        where = gaussian_map if localization == "map" else localization
        notice = notice_of(messenger="neutrino", localization=where, details=details)
        region = make_region(notice, 1, DEFAULT_CHAINS)
        assert region.systematic_included is included
        assert region.chain == ("neutrino" if included else "neutrino_statistical")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"localization": None}, "no_localization"),
            ({"trigger_time": None}, "no_trigger_time"),
            ({"localization": Circle(0.0, 0.0, 0.0, 0.9)}, "radius_invalid"),
        ],
    )
    def test_notices_that_are_no_region(
        self, notice_of: Callable[..., Notice], changes: dict[str, object], reason: str
    ) -> None:
        with pytest.raises(RegionError) as error:
            make_region(notice_of(**changes), 1, DEFAULT_CHAINS)
        assert error.value.reason == reason

    def test_the_notice_says_why_there_is_no_position(
        self, notice_of: Callable[..., Notice]
    ) -> None:
        notice = notice_of(localization=None, no_position_reason="the detector's pointing")
        with pytest.raises(RegionError, match="the detector's pointing"):
            make_region(notice, 1, DEFAULT_CHAINS)

    @pytest.mark.parametrize("level", [0.0, -0.1, 1.1, float("nan")])
    def test_levels_out_of_range(self, notice_of: Callable[..., Notice], level: float) -> None:
        with pytest.raises(RegionError, match="level_invalid"):
            make_region(notice_of(), 1, DEFAULT_CHAINS, level=level)
