"""The vocabulary: localisations, notices, regions. Frozen records, no behaviour.

Positions are ICRS degrees, times are timezone-aware UTC ``datetime`` for single
events and float64 Julian dates (UTC) in arrays. HEALPix numbers are order-29
NESTED unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

Messenger = Literal["gw", "grb", "neutrino", "xray", "frb", "optical"]
Role = Literal["observation", "prediction", "utility", "test"]
AlertType = Literal["initial", "update", "retraction"]
MapOrigin = Literal["", "embedded", "fetched", "folder"]
Tier = Literal["bronze", "silver", "gold"]
TIERS: tuple[Tier, ...] = ("bronze", "silver", "gold")


@dataclass(frozen=True, slots=True)
class SystematicTerm:
    """One component of a mixture of systematic errors: a 68 % radius and its weight."""

    radius68_deg: float
    weight: float


@dataclass(frozen=True, slots=True)
class Circle:
    """A Fisher distribution around a point.

    ``radius_deg`` holds ``containment`` of the *statistical* probability;
    ``systematic`` is a mixture added in quadrature as 68 % radii (empty: none,
    or already included).
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float
    containment: float
    systematic: tuple[SystematicTerm, ...] = ()


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A Gaussian with elliptical contours on the tangent plane at its centre.

    The semi-axes hold ``containment`` of the probability; the position angle of
    the major axis is counted from north through east.
    """

    ra_deg: float
    dec_deg: float
    semi_major_deg: float
    semi_minor_deg: float
    position_angle_deg: float
    containment: float


@dataclass(frozen=True, slots=True)
class Polygon:
    """A uniform density inside a spherical polygon smaller than a hemisphere."""

    vertices_deg: tuple[tuple[float, float], ...]
    containment: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class MultiOrderMap:
    """Probability on disjoint HEALPix cells of any size.

    Parameters
    ----------
    start, end : (n,) int64
        Half-open order-29 NESTED ranges of the cells, sorted by ``start``.
    density : (n,) float64
        Probability per steradian, finite and not negative.
    distmu, distsigma, distnorm : (n,) float64, optional
        Distance columns in Mpc, Mpc, Mpc**-2 (Singer et al. 2016, ApJL 829,
        L15); non-finite ``distmu`` marks cells without an estimate.
    sha256 : str
        Digest of the FITS bytes the map was read from.
    """

    start: IntArray
    end: IntArray
    density: FloatArray
    distmu: FloatArray | None = None
    distsigma: FloatArray | None = None
    distnorm: FloatArray | None = None
    sha256: str = ""


Localization: TypeAlias = Circle | Ellipse | Polygon | MultiOrderMap


@dataclass(frozen=True, slots=True)
class Window:
    """When a detection may lie relative to the trigger: start < t - t0 <= end, in days."""

    start_days: float
    end_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message of a mission about one event, normalised.

    ``order`` sorts the notices of one event as the mission issued them, whatever
    the order of arrival: (issue time, rank of the kind, serial number).
    ``retracts`` names notices (or the event, when the mission retracts by event).
    ``sha256`` is the digest of the message, of a VOEvent that of its ``VOEvent`` element;
    ``skymap_sha256`` that of the map which is the localisation, ``map_origin`` where the
    map came from. ``chain`` and ``window`` replace what the messenger would give.
    ``streams`` are the private streams that may see the notice and what is derived from
    it; empty: everybody may. ``feed_version`` is the digest of the feed's file.
    """

    feed: str
    mission: str
    instrument: str
    kind: str
    notice_id: str
    event_id: str
    trigger_id: str
    messenger: Messenger
    role: Role
    alert_type: AlertType
    issued: datetime
    order: tuple[float, int, int]
    trigger_time: datetime | None
    localization: Localization | None
    sha256: str
    skymap_fits: bytes | None = field(default=None, repr=False)
    skymap_url: str | None = None
    significant: bool = True
    far_hz: float | None = None
    event_class: str = ""
    classification: Mapping[str, float] = field(default_factory=dict)
    distance_mpc: float | None = None
    distance_error_mpc: float | None = None
    cites: tuple[str, ...] = ()
    retracts: tuple[str, ...] = ()
    no_position_reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    skymap_sha256: str = ""
    map_origin: MapOrigin = ""
    known_source: bool = False
    chain: str = ""
    window: Window | None = None
    streams: tuple[str, ...] = ()
    feed_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One version of an event as sky and time: what alerts are matched with.

    ``localized_by`` is ``circle``, ``ellipse``, ``polygon`` or, of a sky map,
    ``map_embedded``, ``map_fetched`` or ``map_folder``. ``streams`` are the private
    streams that may see it and what is derived from it; empty: everybody may.
    """

    event_id: str
    version: int
    notice_id: str
    mission: str
    instrument: str
    kind: str
    messenger: Messenger
    role: Role
    alert_type: AlertType
    issued: datetime
    order: tuple[float, int, int]
    trigger_time: datetime
    localization: Localization
    chain: str
    window: Window
    level: float
    level_silver: float
    area90_deg2: float
    significant: bool
    far_hz: float | None
    event_class: str
    distance_mpc: float | None
    distance_error_mpc: float | None
    expires: datetime
    notice_sha256: str
    skymap_sha256: str
    feed: str
    systematic_included: bool = True
    localized_by: str = ""
    streams: tuple[str, ...] = ()
    feed_version: str = ""
