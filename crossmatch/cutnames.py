"""The registry of cuts: each by its name, with its parameters, what it needs and where it is from.

``missing`` says what becomes of a row of which the cut cannot tell: it passes, or it fails. A
selection may say it otherwise for each of its cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from crossmatch import predicates as p

Needs: TypeAlias = Literal["alert", "event", "light curve", "distance", "catalogue"]
"""What a cut looks at beyond the alert: its event, the object's light curve, how far it or the
event is, an answer of a catalogue."""
Missing: TypeAlias = Literal["pass", "fail"]
Value: TypeAlias = float | str | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of a cut: name, default (None: no bound), unit (VOUnits) and whether it may be none.

    ``choices`` are all that a text may be, if any are given.
    """

    name: str
    default: Value
    unit: str = ""
    may_be_none: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A cut: what passes it, by which test, on which columns.

    ``columns`` are those of `crossmatch.columns.ALERT_FIELDS` that it looks at, if it needs
    no more than the alert. ``counted_as`` is its name in the ledger, where that differs; it may
    have parameters in braces. ``kind`` is that of the local catalogues that it looks at, if no
    parameter says it.
    """

    name: str
    doc: str
    test: p.Test
    parameters: tuple[Parameter, ...] = ()
    needs: Needs = "alert"
    columns: tuple[str, ...] = ()
    missing: Missing = "pass"
    missing_means: str
    source: str
    counted_as: str = ""
    kind: str = ""


_MOELLER = "Möller et al. 2021, MNRAS 501, 3272"
_CHOICE = "choice"
_PS1 = ("ps1_distance_arcsec", "ps1_star_score")
_WINDOW = (Parameter("start_seconds", -600.0, "s"), Parameter("end_days", 20.0, "d"))
_SPAN = ("time_jd", "first_detection_jd")
_KINDS = ("agn", "transients", "variables", "minor_planets")

_ON_ALERTS = (
    Cut(
        name="positive",
        doc="brighter than the reference image (isdiffpos)",
        test=p.positive,
        columns=("positive",),
        missing_means="the packet does not say",
        source="a new source brightens",
        counted_as="not_positive",
    ),
    Cut(
        name="real_bogus",
        doc="one of the scores rb and drb reaches its minimum; false: it is not looked at",
        test=p.real_bogus,
        parameters=(
            Parameter("min_real_bogus", 0.55, may_be_none=True),
            Parameter("min_deep_real_bogus", 0.3, may_be_none=True),
        ),
        columns=("real_bogus", "deep_real_bogus"),
        missing_means="no score in the packet",
        source=f"rb: {_MOELLER}; drb: nuztf",
    ),
    Cut(
        name="bad_pixels",
        doc="at most so many bad pixels in the stamp (nbad)",
        test=p.bad_pixels,
        parameters=(Parameter("max_bad_pixels", 0.0),),
        columns=("n_bad",),
        missing_means="not in the packet, as of LSST",
        source=_MOELLER,
    ),
    Cut(
        name="mag_difference",
        doc="aperture and PSF magnitude differ by less (magdiff)",
        test=p.mag_difference,
        parameters=(Parameter("max_mag_difference", 0.1, "mag"),),
        columns=("mag_difference",),
        missing_means="no aperture magnitude",
        source=f"{_MOELLER}; it removes transients on bright hosts",
    ),
    Cut(
        name="moving",
        doc="no known minor body within the radius (ssdistnr)",
        test=p.not_moving,
        parameters=(Parameter("radius_arcsec", 5.0, "arcsec"),),
        columns=("moving_distance_arcsec",),
        missing_means="none is known near it",
        source="follow-up teams use the same radius",
    ),
    Cut(
        name="star",
        doc="not star-like: no Pan-STARRS source within the radius whose star score is above the"
        " minimum (distpsnr1, sgscore1)",
        test=p.not_star,
        parameters=(Parameter("radius_arcsec", 2.0, "arcsec"), Parameter("min_star_score", 0.76)),
        columns=_PS1,
        missing_means="no source near it, or none with a score",
        source=f"score: {_MOELLER}; radius: {_CHOICE}",
    ),
    Cut(
        name="galaxy_like",
        doc="the nearest Pan-STARRS source has a star score below the maximum (sgscore1)",
        test=p.galaxy_like,
        parameters=(Parameter("max_star_score", 0.76),),
        columns=("ps1_star_score",),
        missing_means="no source near it, or none with a score",
        source=_MOELLER,
    ),
    Cut(
        name="far_from_ps1",
        doc="at least so far from any Pan-STARRS source (distpsnr1)",
        test=p.far_from_ps1,
        parameters=(Parameter("radius_arcsec", 5.0, "arcsec"),),
        columns=("ps1_distance_arcsec",),
        missing_means="no source within 30 arcsec",
        source=f"{_MOELLER}; it removes events inside visible galaxies",
    ),
    Cut(
        name="far_from_gaia",
        doc="at least so far from any Gaia source (neargaia)",
        test=p.far_from_gaia,
        parameters=(Parameter("radius_arcsec", 5.0, "arcsec"),),
        columns=("gaia_distance_arcsec",),
        missing_means="no source within 90 arcsec",
        source=_MOELLER,
    ),
    Cut(
        name="detections",
        doc="that many previous detections, this one included (ndethist)",
        test=p.detections,
        parameters=(
            Parameter("min_detections", 2.0, may_be_none=True),
            Parameter("max_detections", None, may_be_none=True),
        ),
        columns=("n_detections",),
        missing_means="the packet does not say",
        source=_CHOICE,
    ),
    Cut(
        name="two_detections",
        doc="at least so long between the first detection and the latest (jdstarthist)",
        test=p.two_detections,
        parameters=(Parameter("min_minutes", 15.0, "min"),),
        columns=_SPAN,
        missing="fail",
        missing_means="no first detection is known",
        source="an unknown asteroid moves away (GCN Circulars 33848, 34755)",
    ),
    Cut(
        name="short_lived",
        doc="at most so long between the first detection and the latest (jdstarthist)",
        test=p.short_lived,
        parameters=(Parameter("max_minutes", 30.0, "min"),),
        columns=_SPAN,
        missing_means="no first detection is known",
        source=_MOELLER,
    ),
    Cut(
        name="galactic_latitude",
        doc="at least so far from the plane of the Galaxy",
        test=p.galactic_latitude,
        parameters=(Parameter("min_deg", 10.0, "deg"),),
        columns=("ra_deg", "dec_deg"),
        missing_means="never",
        source=_CHOICE,
    ),
    Cut(
        name="magnitude",
        doc="between two magnitudes, ends included",
        test=p.magnitude,
        parameters=(
            Parameter("brightest", None, "mag", may_be_none=True),
            Parameter("faintest", 20.5, "mag", may_be_none=True),
        ),
        columns=("mag",),
        missing_means="no magnitude, as of negative fluxes",
        source=_CHOICE,
    ),
)

_ON_CANDIDATES = (
    Cut(
        name="window",
        doc="the latest detection lies in the window after the trigger: start < t <= end",
        test=p.window,
        parameters=_WINDOW,
        needs="event",
        missing_means="never",
        source=_MOELLER,
    ),
    Cut(
        name="first_detected",
        doc="the first detection lies in the window after the trigger: start < t <= end",
        test=p.first_detected,
        parameters=_WINDOW,
        needs="event",
        missing="fail",
        missing_means="no first detection is known",
        source=_MOELLER,
    ),
    Cut(
        name="separation",
        doc="at most so many error radii, as the mission tells them, and so many degrees from the"
        " event",
        test=p.separation,
        parameters=(
            Parameter("max_sigma", 3.0, may_be_none=True),
            Parameter("max_deg", None, "deg", may_be_none=True),
        ),
        needs="event",
        missing_means="the event has no error radius, as with a sky map",
        source=_MOELLER,
    ),
    Cut(
        name="credible_level",
        doc="inside the region of that credible level",
        test=p.credible_level,
        parameters=(Parameter("max_level", 0.9),),
        needs="event",
        missing_means="never",
        source=_CHOICE,
    ),
    Cut(
        name="upper_limit",
        doc="a limit before the first detection, at most so long before it; false: whenever",
        test=p.upper_limit,
        parameters=(Parameter("within_days", None, "d", may_be_none=True),),
        needs="light curve",
        missing="fail",
        missing_means="no limit before the first detection in the history",
        source=_CHOICE,
    ),
    Cut(
        name="fading",
        doc="fades so fast in one filter, at so many sigma: weighted fit over 0.1 d or more",
        test=p.fading,
        parameters=(
            Parameter("min_mag_per_day", p.FADE_MAG_PER_DAY, "mag/d"),
            Parameter("min_sigma", p.FADE_SIGNIFICANCE),
        ),
        needs="light curve",
        missing="fail",
        missing_means="too few detections in any filter",
        source="AT2017gfo: 0.3 to 1.6 mag/d; afterglows 1 to 2",
    ),
    Cut(
        name="rising",
        doc="rose so fast in one filter, from the last limit to the first detection",
        test=p.rising,
        parameters=(Parameter("min_mag_per_day", p.RISE_MAG_PER_DAY, "mag/d"),),
        needs="light curve",
        missing="fail",
        missing_means="no limit fainter than the first detection, in its filter",
        source=_CHOICE,
    ),
    Cut(
        name="changing",
        doc="fades, or rose, so fast: one of the two suffices",
        test=p.changing,
        parameters=(
            Parameter("min_fade", p.FADE_MAG_PER_DAY, "mag/d"),
            Parameter("min_sigma", p.FADE_SIGNIFICANCE),
            Parameter("min_rise", p.RISE_MAG_PER_DAY, "mag/d"),
        ),
        needs="light curve",
        missing="fail",
        missing_means="no rate is known",
        source=_CHOICE,
    ),
    Cut(
        name="absolute_magnitude",
        doc="as luminous as a kilonova, at the host's distance or the event's within 3 sigma",
        test=p.absolute_magnitude,
        parameters=(Parameter("brightest", -17.5, "mag"), Parameter("faintest", -10.0, "mag")),
        needs="distance",
        missing_means="no distance is known",
        source="AT2017gfo: -16.1 at discovery (Kasliwal et al. 2020); limits: choice",
    ),
    Cut(
        name="far_from",
        doc="at least so far from any source of a catalogue, local or at CDS, as far as it is"
        " searched",
        test=p.far_from,
        parameters=(Parameter("catalog", "simbad"), Parameter("radius_arcsec", 1.0, "arcsec")),
        needs="catalogue",
        missing_means="it was not asked, or has not answered yet",
        source=_MOELLER,
    ),
    Cut(
        name="far_from_kind",
        doc="at least so far from any source of local catalogues of a kind; false: as far as they"
        " are searched",
        test=p.far_from_kind,
        parameters=(
            Parameter("kind", "agn", choices=_KINDS),
            Parameter("radius_arcsec", 3.0, "arcsec", may_be_none=True),
        ),
        needs="catalogue",
        missing_means="no catalogue of that kind was asked",
        source=_CHOICE,
        counted_as="near_{kind}",
    ),
    Cut(
        name="known_star",
        doc="no star within the radius: no source of local catalogues of stars with a parallax or"
        " proper motion of 3 sigma, unless one of active galaxies or galaxies has a source there",
        test=p.known_star,
        parameters=(Parameter("radius_arcsec", 1.5, "arcsec"),),
        needs="catalogue",
        missing_means="no catalogue of stars was asked",
        source=_CHOICE,
        kind="stars",
    ),
    Cut(
        name="known_minor_planet",
        doc="no minor planet of local catalogues within the radius, or detections span that long:"
        " what stays at its place does not move",
        test=p.known_minor_planet,
        parameters=(
            Parameter("radius_arcsec", 5.0, "arcsec"),
            Parameter("max_minutes", 30.0, "min"),
        ),
        needs="catalogue",
        missing_means="no catalogue of minor planets was asked",
        source=f"main-belt objects move by 30 arcsec an hour; radius and span: {_CHOICE}",
        kind="minor_planets",
    ),
)

CUTS: dict[str, Cut] = {cut.name: cut for cut in (*_ON_ALERTS, *_ON_CANDIDATES)}
"""All cuts by name, those on alerts alone first."""
