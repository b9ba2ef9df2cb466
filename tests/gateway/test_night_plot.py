"""The picture can be drawn, with and without data."""

import numpy as np
import pytest

from gateway.night.plot import LightCurve, night_plot

EMPTY = LightCurve(np.empty(0), np.empty(0), np.empty(0), [])


@pytest.mark.parametrize("n", [0, 500])
def test_picture_is_a_png(n):
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, n), rng.uniform(-80, 30, n)
    days = np.array([0.46, 1.46])
    curve = EMPTY if n == 0 else LightCurve(days, days + 17, days / 10, ["i", "g"])
    png = night_plot(ra, dec, curve, subtitle="a test")
    assert png.startswith(b"\x89PNG")
    assert len(png) > 20_000
