"""A picture of one region: on the whole sky, and the part that holds 90 %."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise
from typing import Any

import healpy as hp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from crossmatch import sky
from crossmatch.model import BoolArray, Circle, FloatArray, IntArray, MultiOrderMap, Polygon, Region
from crossmatch.region import area_deg2, best_position, credible_level
from crossmatch.shapes import shape_of
from crossmatch.times import iso_utc
from gateway.offline.trial import radius90_deg

_BACK, _INK, _FAINT, _GRID = "#ffffff", "#1b2333", "#667085", "#d5dae3"
_OUTER, _INNER, _LINE, _MARK, _PLANE = "#bcd7f2", "#5b9bd8", "#15528f", "#d1331f", "#b08a2e"
# Wider than this, the zoom shows the part around the most probable position only.
_WIDEST_DEG = 60.0
_NSIDE = 32
_STEPS = (
    1 / 3600, 2 / 3600, 5 / 3600, 10 / 3600, 20 / 3600, 30 / 3600, 1 / 60, 2 / 60, 5 / 60, 10 / 60,
    0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 45.0, 90.0,
)  # fmt: skip
_UNITS = (("deg", 1.0), ("arcmin", 60.0), ("arcsec", 3600.0))


@dataclass(frozen=True, slots=True)
class Field:
    """What the zoom shows: a centre, half its width in degrees, and whether that is all."""

    ra_deg: float
    dec_deg: float
    half_deg: float
    whole: bool = True


def region_plot(region: Region) -> bytes:
    """PNG of a region: the whole sky, and its 90 % part with the 50 and 90 % contours.

    East is left in both, as seen from inside the sphere. The whole sky is centred on RA 0h
    or 12h, whichever keeps the region off the border.
    """
    figure = Figure(figsize=(12.5, 5.15), dpi=110, facecolor=_BACK)
    FigureCanvasAgg(figure)
    whole = figure.add_axes((0.03, 0.085, 0.57, 0.75), projection="mollweide")
    zoom = figure.add_axes((0.665, 0.115, 0.315, 0.69))
    _titles(figure, region)
    field = field_of(region)
    _whole_sky(whole, region, field)
    _zoomed(zoom, region, field)
    out = BytesIO()
    figure.savefig(out, format="png", facecolor=_BACK, metadata={"Software": None})
    return out.getvalue()


def field_of(region: Region) -> Field:
    """Field of the zoom: around all that holds 90 %, or around the best part of it.

    A region that spreads over more than 60 degrees is shown around its most probable
    position, as far as it hangs together there.
    """
    place = region.localization
    ra0, dec0 = best_position(place)
    ra, dec, size = _inside(region)
    whole = _around(ra, dec, ra0, dec0, size)
    if whole.half_deg <= _WIDEST_DEG or not isinstance(place, MultiOrderMap):
        return replace(whole, half_deg=min(whole.half_deg, 85.0))
    near = _connected(ra, dec, ra0, dec0)
    part = _around(ra[near], dec[near], ra0, dec0, size)
    return replace(part, half_deg=min(part.half_deg, 85.0), whole=bool(near.all()))


def _inside(region: Region) -> tuple[FloatArray, FloatArray, float]:
    """Positions all over what holds 90 %, and how far apart they are at most."""
    place = region.localization
    if isinstance(place, MultiOrderMap):
        ranges = shape_of(place).cover(0.9)
        if len(ranges) == 0:  # one cell holds more than 90 %
            ra, dec = best_position(place)
            cell = float((place.end - place.start).min())
            return np.array([ra]), np.array([dec]), (cell / sky.N_PIX * sky.WHOLE_SKY_DEG2) ** 0.5
        return _sample(ranges)
    if isinstance(place, Polygon):
        corners = np.array(place.vertices_deg, np.float64)
        return corners[:, 0], corners[:, 1], 0.0
    return _sample(shape_of(place).cover(0.9))


def _sample(ranges: IntArray, most: int = 40_000) -> tuple[FloatArray, FloatArray, float]:
    """Centres of cells of one order that cover the ranges, the finest that are not too many."""
    area = sky.area_deg2(ranges)
    for order in range(sky.MAX_ORDER, -1, -1):
        shift = 2 * (sky.MAX_ORDER - order)
        cell = sky.WHOLE_SKY_DEG2 / (12 * 4**order)
        if area / cell > most / 4:
            continue
        first, last = ranges[:, 0] >> shift, -(-ranges[:, 1] >> shift)
        if int((last - first).sum()) <= most:
            break
    pixels = np.unique(sky.expand(first, last))
    ra, dec = hp.pix2ang(1 << order, pixels, nest=True, lonlat=True)
    return np.asarray(ra), np.asarray(dec), float(cell**0.5)


def _around(ra: FloatArray, dec: FloatArray, ra0: float, dec0: float, size: float) -> Field:
    """Field around positions: centred on them, with room at the border."""
    mean = sky.unit_vectors(ra, dec).mean(axis=0)
    if np.linalg.norm(mean) > 1e-3:
        ra0, dec0 = (float(angle) for angle in _position(mean))
    reach = float(sky.separation_deg(ra0, dec0, ra, dec).max()) + size
    return Field(ra0, dec0, max(1.25 * reach, 1e-4))


def _connected(ra: FloatArray, dec: FloatArray, ra0: float, dec0: float) -> BoolArray:
    """Which positions hang together with the first one, over pixels of two degrees."""
    pixel = hp.ang2pix(_NSIDE, ra, dec, nest=True, lonlat=True)
    member = np.zeros(hp.nside2npix(_NSIDE), np.bool_)
    member[pixel] = True
    reached = np.zeros_like(member)
    new = np.array([hp.ang2pix(_NSIDE, ra0, dec0, nest=True, lonlat=True)])
    while len(new):
        reached[new] = True
        near = hp.get_all_neighbours(_NSIDE, new, nest=True).ravel()
        near = np.unique(near[near >= 0])
        new = near[member[near] & ~reached[near]]
    return np.asarray(reached[pixel], np.bool_)


def _titles(figure: Figure, region: Region) -> None:
    who = " ".join(filter(None, (region.mission, region.instrument, region.kind)))
    title = f"{region.event_id}   {who}"
    figure.text(0.03, 0.93, title, color=_INK, fontsize=16, weight="bold")
    marks = _marks(region)
    if marks:
        figure.text(0.97, 0.93, marks, color=_MARK, fontsize=16, weight="bold",
                    ha="right")  # fmt: skip
    by = region.localized_by.replace("_", ", ")
    area50 = area_deg2(region.localization, 0.5)
    text = (
        f"{iso_utc(region.trigger_time)}    localised by {by}    90 %: {_area(region.area90_deg2)}"
        f"    50 %: {_area(area50)}"
    )
    figure.text(0.03, 0.875, text, color=_FAINT, fontsize=11)


def _marks(region: Region) -> str:
    """What nobody may overlook: that it is a test, and that it is not for everybody."""
    role = "" if region.role == "observation" else region.role.upper()
    private = f"private: {', '.join(region.streams)}" if region.streams else ""
    return "   ".join(filter(None, (role, private)))


def _area(deg2: float) -> str:
    if deg2 >= 0.1:
        return f"{deg2:,.0f} deg²" if deg2 >= 1000 else f"{deg2:,.3g} deg²"
    return f"{deg2 * 3600:.3g} arcmin²" if deg2 * 3600 >= 0.1 else f"{deg2 * 3600**2:.3g} arcsec²"


# --- the whole sky ----------------------------------------------------------------------------


def _whole_sky(axes: Any, region: Region, field: Field) -> None:
    centre = 0.0 if abs((field.ra_deg + 180) % 360 - 180) < 80 else 180.0

    def longitude(ra_deg: FloatArray | float) -> FloatArray:
        return np.asarray(-np.radians((np.asarray(ra_deg) - centre + 180) % 360 - 180))

    axes.set_facecolor("#f7f8fa")
    lon, lat = np.meshgrid(np.linspace(-180, 180, 1441), np.linspace(-90, 90, 721))
    level = credible_level(
        region.localization, ((centre - lon) % 360).ravel(), lat.ravel()
    ).reshape(lon.shape)
    x, y = np.radians(lon), np.radians(lat)
    _contours(axes, x, y, level, width=0.9)
    _galaxy(axes, longitude)
    ra, dec = best_position(region.localization)
    if field.half_deg < 8:
        # Too small to be seen: a ring around it.
        axes.scatter(longitude(ra), np.radians(dec), s=240, facecolor="none", edgecolor=_MARK,
                     linewidth=1.6, zorder=6)  # fmt: skip
    axes.scatter(longitude(ra), np.radians(dec), marker="+", s=70, color=_MARK, linewidth=1.5,
                 zorder=7)  # fmt: skip
    axes.grid(color=_GRID, linewidth=0.6)
    steps = np.arange(-150, 151, 30)
    axes.set_xticks(np.radians(steps))
    labels = axes.set_xticklabels([f"{(centre - s) % 360 / 15:.0f}ʰ" for s in steps])
    for label in labels:
        label.set(
            color=_FAINT, fontsize=8, path_effects=[withStroke(linewidth=2.5, foreground=_BACK)]
        )
    axes.tick_params(axis="y", colors=_FAINT, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    axes.legend(handles=_legend(axes), loc="lower center", bbox_to_anchor=(0.5, -0.13), ncols=4,
                frameon=False, fontsize=9, labelcolor=_INK)  # fmt: skip


def _contours(axes: Any, x: FloatArray, y: FloatArray, level: FloatArray, width: float) -> None:
    """The 50 and 90 % regions, filled and outlined."""
    low, high = float(level.min()), float(level.max())
    if low <= 0.9:
        axes.contourf(x, y, level, levels=[-0.1, 0.5, 0.9], colors=[_INNER, _OUTER])
    for bound in (0.5, 0.9):
        if low < bound < high:
            axes.contour(x, y, level, levels=[bound], colors=[_LINE], linewidths=width)


def _galaxy(axes: Any, longitude: Any) -> None:
    """The plane of the Milky Way, 10 degrees to both sides of it, and its centre."""
    turn = hp.Rotator(coord=["G", "C"])
    along = np.linspace(-180, 180, 1441)
    for latitude, style in ((0.0, "solid"), (-10.0, "dotted"), (10.0, "dotted")):
        ra, dec = turn(along, np.full(len(along), latitude), lonlat=True)
        x = longitude(np.asarray(ra))
        # No line across the map where it goes over the border.
        x = np.where(np.abs(np.diff(x, append=x[-1])) > 1, np.nan, x)
        axes.plot(x, np.radians(dec), color=_PLANE, linewidth=1.1, linestyle=style, zorder=3)
    ra, dec = turn(0.0, 0.0, lonlat=True)
    axes.scatter(longitude(float(ra)), np.radians(dec), s=22, color=_PLANE, zorder=3)


def _legend(axes: Any) -> list[Any]:
    return [
        Patch(facecolor=_INNER, edgecolor=_LINE, label="50 %"),
        Patch(facecolor=_OUTER, edgecolor=_LINE, label="90 %"),
        Line2D([], [], color=_MARK, marker="+", markersize=9, linestyle="", label="best position"),
        Line2D([], [], color=_PLANE, label="Galactic plane, ±10°, centre"),
    ]


# --- the zoom ---------------------------------------------------------------------------------


def _zoomed(axes: Any, region: Region, field: Field) -> None:
    """The field on a plane on which distances from its centre are true."""
    half = field.half_deg
    east, north = np.meshgrid(np.linspace(-half, half, 601), np.linspace(-half, half, 601))
    ra, dec = from_plane(field, east, north)
    level = credible_level(region.localization, ra.ravel(), dec.ravel()).reshape(ra.shape)
    unit, scale = _unit(half)
    _contours(axes, east * scale, north * scale, level, width=1.3)
    _shape_lines(axes, region, field, scale)
    axes.set_xlim(half * scale, -half * scale)
    axes.set_ylim(-half * scale, half * scale)
    _graticule(axes, field, scale)
    best = best_position(region.localization)
    x, y = to_plane(field, np.array([best[0]]), np.array([best[1]]))
    axes.scatter(x * scale, y * scale, marker="+", s=130, color=_MARK, linewidth=1.8, zorder=7)
    axes.set_aspect("equal")
    axes.set_xlabel(f"east of the centre, {unit}", color=_FAINT, fontsize=9)
    axes.set_ylabel(f"north of the centre, {unit}", color=_FAINT, fontsize=9)
    axes.tick_params(colors=_FAINT, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    where = f"best position  RA {best[0]:.{_digits(half)}f}°  Dec {best[1]:+.{_digits(half)}f}°"
    if not field.whole:
        where = f"around the {where}"
    axes.set_title(where, color=_INK, fontsize=10, loc="left")


def from_plane(
    field: Field, east_deg: FloatArray, north_deg: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Positions of points of the zenithal equidistant plane at the field's centre."""
    centre, east, north = _axes_of(field)
    distance = np.radians(np.hypot(east_deg, north_deg))
    # sin(r) / r, which is 1 in the middle.
    stretch = np.radians(np.sinc(distance / np.pi))
    vectors = (
        np.cos(distance)[..., None] * centre
        + (stretch * east_deg)[..., None] * east
        + (stretch * north_deg)[..., None] * north
    )
    return _position(vectors)


def to_plane(
    field: Field, ra_deg: FloatArray, dec_deg: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The inverse of :func:`from_plane`: degrees to the east and north."""
    _, east, north = _axes_of(field)
    vectors = sky.unit_vectors(ra_deg, dec_deg)
    distance = sky.separation_deg(field.ra_deg, field.dec_deg, ra_deg, dec_deg)
    x, y = sky.dot(vectors, east), sky.dot(vectors, north)
    length = np.hypot(x, y)
    scale = np.where(length > 0, distance / np.where(length > 0, length, 1.0), 0.0)
    return x * scale, y * scale


def _axes_of(field: Field) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit vectors to the centre, to its east and to its north, (3,) each."""
    ra, dec = np.radians(field.ra_deg), np.radians(field.dec_deg)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    return sky.unit_vectors(field.ra_deg, field.dec_deg), east, north


def _unit(half_deg: float) -> tuple[str, float]:
    """Unit in which the axes have readable numbers, and how many are a degree."""
    for name, scale in _UNITS:
        if half_deg * scale >= 1.5:
            return name, scale
    return _UNITS[-1]


def _digits(half_deg: float) -> int:
    return int(np.clip(np.ceil(1.5 - np.log10(half_deg)), 1, 6))


def _shape_lines(axes: Any, region: Region, field: Field, scale: float) -> None:
    """The error without the systematic, dashed; the sides of a polygon."""
    place = region.localization
    if isinstance(place, Circle) and place.systematic:
        alone = replace(place, systematic=())
        radius = radius90_deg(alone, area_deg2(alone, 0.9)) or 0.0
        turn = np.linspace(0, 2 * np.pi, 361)
        _dashed(axes, radius * scale * np.sin(turn), radius * scale * np.cos(turn))
        _label_dashed(axes, "90 % without the systematic error")
    if isinstance(place, Polygon):
        corners = sky.unit_vectors(*np.array((*place.vertices_deg, place.vertices_deg[0])).T)
        part = np.linspace(0, 1, 101)[:, None]
        for start, end in pairwise(corners):
            ra, dec = _position((1 - part) * start + part * end)
            x, y = to_plane(field, ra, dec)
            _dashed(axes, x * scale, y * scale)
        _label_dashed(axes, "polygon as sent")


def _dashed(axes: Any, x: FloatArray, y: FloatArray) -> None:
    axes.plot(x, y, color=_LINE, linewidth=1.2, linestyle="dashed")


def _label_dashed(axes: Any, text: str) -> None:
    handle = Line2D([], [], color=_LINE, linewidth=1.2, linestyle="dashed", label=text)
    legend = axes.legend(handles=[handle], loc="lower left", fontsize=8, labelcolor=_INK,
                         framealpha=0.9, edgecolor=_GRID)  # fmt: skip
    legend.set_zorder(9)


def _position(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination of vectors (..., 3) of any length."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _graticule(axes: Any, field: Field, scale: float) -> None:
    """Lines of equal right ascension and declination, each with its value."""
    half = field.half_deg
    step = next((s for s in _STEPS if 2 * half / s <= 5), 90.0)
    low, high = field.dec_deg - 1.5 * half, field.dec_deg + 1.5 * half
    pole = 90 - abs(field.dec_deg) <= 1.5 * half
    reach = 180.0 if pole else 1.5 * half / np.cos(np.radians(max(abs(low), abs(high))))
    reach = min(reach, 180.0)
    wide = 30.0 if pole else next((s for s in _STEPS if 2 * reach / s <= 9), 30.0)
    for dec in np.arange(np.ceil(max(low, -90) / step), min(high, 90) / step + 1e-9) * step:
        if abs(dec) < 90 - 1e-9:
            ra = field.ra_deg + np.linspace(-reach, reach, 721)
            _line(axes, field, scale, ra, np.full(721, dec), _value(dec, step))
    first, last = field.ra_deg - min(reach, 179.9), field.ra_deg + min(reach, 179.9)
    for ra in np.arange(np.ceil(first / wide), last / wide) * wide:
        dec = np.linspace(max(low, -90.0), min(high, 90.0), 721)
        _line(axes, field, scale, np.full(721, ra), dec, _value(ra % 360, wide))


def _value(degrees: float, step: float) -> str:
    digits = 0 if step >= 1 else int(np.ceil(-np.log10(step)))
    return f"{degrees:.{digits}f}°".replace("-", "−")


def _line(
    axes: Any, field: Field, scale: float, ra: FloatArray, dec: FloatArray, text: str
) -> None:
    """One line of the graticule; its value stands where it leaves the field."""
    x, y = to_plane(field, ra, dec)
    half = field.half_deg
    inside = (np.abs(x) <= half) & (np.abs(y) <= half)
    seen = np.flatnonzero(inside)
    if len(seen) < 2:
        return
    axes.plot(np.where(inside, x, np.nan) * scale, np.where(inside, y, np.nan) * scale,
              color=_GRID, linewidth=0.7, zorder=2)  # fmt: skip
    if ra[0] == ra[-1]:
        # At the top; where a pole is in the field, away from it, for there all lines meet.
        pole = 90 - abs(field.dec_deg) <= half
        end = seen[np.argmin(np.abs(dec[seen]))] if pole else seen[np.argmax(y[seen])]
    else:
        # At the right: the numbers of the axes stand at the left.
        end = seen[np.argmin(x[seen])]
    inwards = 13 / max(float(np.hypot(x[end], y[end])), 1e-12)
    axes.annotate(text, (x[end] * scale, y[end] * scale), color=_FAINT, fontsize=7.5, zorder=8,
                  xytext=(inwards * x[end], -inwards * y[end]), textcoords="offset points",
                  ha="center", va="center",
                  path_effects=[withStroke(linewidth=2, foreground=_BACK)])  # fmt: skip
