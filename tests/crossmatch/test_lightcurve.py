"""Rates, limits and colours of light curves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmatch.lightcurve import (
    Detection,
    fade_rate,
    first_detection_jd,
    last_limit,
    latest_color,
    merged,
    rise_rate,
)


def seen(time: float, name: str, mag: float, error: float = 0.05) -> Detection:
    return Detection(time, name, mag, error, 20.5)


def limit(time: float, name: str, mag: float) -> Detection:
    return Detection(time, name, None, None, mag)


def test_the_slope_of_two_points_is_their_difference_per_day():
    rate = fade_rate([seen(0.0, "i", 17.5), seen(2.0, "i", 18.5)])
    assert rate is not None
    assert rate.mag_per_day == pytest.approx(0.5)
    assert rate.error == pytest.approx(0.05 * 2**0.5 / 2)


def test_filters_are_never_mixed():
    assert fade_rate([seen(0.0, "g", 17.0), seen(1.0, "i", 19.0)]) is None


def test_the_most_significant_filter_counts():
    rate = fade_rate(
        [seen(0, "g", 17, 0.3), seen(1, "g", 18, 0.3), seen(0, "r", 17), seen(1, "r", 17.5)]
    )
    assert rate is not None
    assert rate.filter == "r"


def test_one_night_is_no_slope():
    assert fade_rate([seen(0.0, "r", 17.0), seen(0.02, "r", 17.3)]) is None


@given(st.lists(st.floats(0, 10), min_size=2, max_size=8, unique=True), st.floats(-2, 2))
def test_a_straight_line_gives_its_slope(times, slope):
    if max(times) - min(times) < 0.1:
        return
    rate = fade_rate([seen(t, "r", 18 + slope * t) for t in times])
    assert rate is not None
    assert rate.mag_per_day == pytest.approx(slope, abs=1e-6)


def test_the_rise_counts_from_the_last_limit_in_the_same_filter():
    curve = [limit(0.0, "r", 20.0), limit(1.0, "r", 20.5), seen(2.0, "r", 18.5)]
    assert rise_rate(curve) == pytest.approx(2.0)
    assert rise_rate([limit(1.0, "g", 20.5), seen(2.0, "r", 18.5)]) is None
    assert rise_rate([limit(1.0, "r", 17.0), seen(2.0, "r", 18.5)]) is None


def test_limits_after_the_first_detection_are_not_the_last_limit():
    curve = [limit(0.0, "r", 20.0), seen(1.0, "r", 18.0), limit(2.0, "r", 19.0)]
    found = last_limit(curve)
    assert found is not None
    assert found.time_jd == 0.0
    assert first_detection_jd(curve) == 1.0


def test_colour_is_bluer_minus_redder_of_the_newest_near_pair():
    curve = [seen(0.0, "g", 17.0), seen(0.1, "i", 17.2), seen(2.0, "i", 18.0), seen(2.1, "g", 19.0)]
    color = latest_color(curve)
    assert color is not None
    assert color[0] == "g-i"
    assert color[1] == pytest.approx(1.0)
    assert latest_color([seen(0.0, "g", 17.0), seen(1.0, "i", 17.0)]) is None


def test_the_same_exposure_counts_once_whatever_the_order():
    a, b = seen(1.0, "r", 18.0), seen(1.0000001, "r", 18.0)
    assert merged([a], [b]) == merged([b, a]) == [a]
    assert merged([limit(1.0, "r", 20.0)], [a]) == [a]
