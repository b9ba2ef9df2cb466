"""Quality cuts on packet fields, each with a name and a count of what it removed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Thresholds of the quality cuts; the defaults stand in ``gateway/defaults.toml``.

    ``max_mag_difference`` is ``None`` when that cut is not made.
    """

    enabled: bool
    min_real_bogus: float
    min_deep_real_bogus: float
    max_bad_pixels: int
    max_mag_difference: float | None
    require_positive: bool
    moving_radius_arcsec: float
    min_star_score: float
    star_radius_arcsec: float
