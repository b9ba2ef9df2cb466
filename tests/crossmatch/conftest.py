"""Regions, notices and maps made by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Circle, MultiOrderMap, Notice, Region, Window
from crossmatch.region import make_region

TRIGGER = datetime(2024, 1, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def notice_of() -> Callable[..., Notice]:
    """Maker of notices: a circle of the GRB chain unless told otherwise."""

    def make(**changes: Any) -> Notice:
        fields: dict[str, Any] = {
            "feed": "test",
            "mission": "Test",
            "instrument": "Test",
            "kind": "TEST",
            "notice_id": "ivo://test/1",
            "event_id": "E1",
            "trigger_id": "1",
            "messenger": "grb",
            "role": "test",
            "alert_type": "initial",
            "issued": TRIGGER,
            "order": (0.0, 0, 0),
            "trigger_time": TRIGGER,
            "localization": Circle(30.0, 10.0, 5.0, 0.9),
            "sha256": "0" * 64,
        }
        return Notice(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def region_of(notice_of: Callable[..., Notice]) -> Callable[..., Region]:
    """Maker of regions around a localisation."""

    def make(localization: Any, level: float = 0.9, window: Window | None = None) -> Region:
        notice = notice_of(localization=localization)
        window = Window(0.0, 7.0) if window is None else window
        return make_region(notice, 1, DEFAULT_CHAINS, level=level, window=window)

    return make


@pytest.fixture(scope="session")
def gaussian_map() -> MultiOrderMap:
    """Cells of orders 3 and 5 around (40, -20), falling off over 8 degrees, with distances."""
    fine_parents = np.arange(12 * 4**3)
    ra, dec = sky.cell_centres(fine_parents << 52, (fine_parents + 1) << 52)
    near = sky.separation_deg(40.0, -20.0, ra, dec) < 25
    coarse = fine_parents[~near] << 52
    fine = (16 * fine_parents[near][:, None] + np.arange(16)).ravel() << 48
    start = np.concatenate([coarse, fine])
    end = np.concatenate([coarse + (1 << 52), fine + (1 << 48)])
    rank = np.argsort(start)
    start, end = start[rank], end[rank]
    ra, dec = sky.cell_centres(start, end)
    density = np.exp(-0.5 * (sky.separation_deg(40.0, -20.0, ra, dec) / 8) ** 2) + 1e-9
    density /= (density * (end - start) * sky.PIXEL_SR).sum()
    distance = np.full(len(start), 100.0)
    return MultiOrderMap(start, end, density, distance, distance / 5, 1 / distance**2)
