"""What catalogues are of, and what follows from that alone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

BUILT_IN = "nearby_galaxies"
"""Names the small catalogue that is shipped with the package."""


class Kind(StrEnum):
    """What the sources of a catalogue are."""

    stars = "stars"
    galaxies = "galaxies"
    agn = "agn"
    variables = "variables"
    transients = "transients"
    minor_planets = "minor_planets"
    other = "other"


class Scale(StrEnum):
    """What clock the times of a table are of."""

    utc = "utc"
    tt = "tt"
    tdb = "tdb"


RADIUS_ARCSEC: Mapping[Kind, float] = {
    # A host's light reaches farther than any error of a position.
    Kind.galaxies: 60.0,
    # Positions of minor planets are predictions, and straight from one time to the next.
    Kind.minor_planets: 5.0,
    # Positions of X-ray and gamma-ray sources are worse than optical ones.
    Kind.agn: 3.0,
    Kind.transients: 2.0,
    Kind.stars: 1.5,
    Kind.variables: 1.5,
    Kind.other: 1.5,
}
"""Radius of a look-up, unless the catalogue was added with another."""
MAX_RADIUS_ARCSEC = 3600.0
"""A look-up reaches no farther."""
MAX_GAP_HOURS = 36.0
"""Between times of a minor planet that are farther apart nothing is known, unless said."""
MOST_GAP_HOURS = 48.0
"""And that is all that can be said: ways are not straight for longer."""


def is_radius(arcsec: float) -> bool:
    """Whether a look-up may have this radius; NaN is none."""
    return 0 < arcsec <= MAX_RADIUS_ARCSEC
