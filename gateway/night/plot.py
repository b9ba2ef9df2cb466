"""One picture of the night: the whole sky, the field of AT2017gfo, its light curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import healpy as hp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from crossmatch.model import FloatArray, MultiOrderMap
from gateway.night.facts import FILTERS, burst_position, facts, light_curve
from gateway.night.maps import area_deg2, level_at, unit_vectors
from gateway.night.notices import sky_maps

# The right ascension in the middle of the whole-sky map: the survey's nights lie around it.
CENTRE_RA_DEG = 255.0
_BACK, _INK, _FAINT = "#0b1020", "#e8ecf4", "#8a94ab"
_GW_WIDE, _GW, _GW_NEXT, _GRB, _SOURCE = "#4f8fd6", "#57d3ff", "#b9f0ff", "#ff9f5a", "#ffe45c"
_FILTER_COLORS = {"g": "#6fe08a", "r": "#ff7a6b", "i": "#d9a5ff", "z": "#c0885f", "y": "#b0b0b0"}
_ALERTS = LinearSegmentedColormap.from_list("alerts", [_BACK, "#22305c", "#4a4f8c", "#a06fa8"])


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """The region of a sky map that holds 90 %: its outline, and filled where it is small."""

    label: str
    skymap: MultiOrderMap
    color: str
    filled: bool = False
    style: str = "solid"


@dataclass(frozen=True, slots=True)
class Outline:
    """A circle on the sky, degrees."""

    label: str
    ra_deg: float
    dec_deg: float
    radius_deg: float
    style: str = "solid"


@dataclass(frozen=True, slots=True)
class Marked:
    """A source to point at, degrees."""

    label: str
    ra_deg: float
    dec_deg: float
    best: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LightCurve:
    """Measurements: (n,) days after the event, AB magnitudes, their errors, filter names."""

    days: FloatArray
    mag: FloatArray
    mag_error: FloatArray
    filters: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """All that is drawn. ``alert_ra_deg`` and ``alert_dec_deg`` are (n,) positions."""

    title: str
    subtitle: str
    contours: Sequence[Contour]
    outlines: Sequence[Outline]
    marked: Sequence[Marked]
    alert_ra_deg: FloatArray
    alert_dec_deg: FloatArray
    light_curve: LightCurve


def night_plot(
    alert_ra_deg: FloatArray,
    alert_dec_deg: FloatArray,
    measured: LightCurve,
    title: str = "The night of GW170817",
    subtitle: str = "",
) -> bytes:
    """PNG of the night: regions and sources from the facts, alerts and light curve as given.

    Parameters
    ----------
    alert_ra_deg, alert_dec_deg : (n,) float64
        Positions of the alerts, ICRS; n may be 0.
    measured : LightCurve
        Detections of AT2017gfo that the gateway found; may be empty.
    title, subtitle : str
        Texts at the top.
    """
    maps = sky_maps()
    table = facts()
    source, other = table["kilonova"], table["young_supernova"]
    contours = [
        Contour("GW170817, H1 alone", maps["S170817a PRELIMINARY"], _GW_WIDE),
        Contour("GW170817, three detectors", maps["S170817a INITIAL"], _GW, filled=True),
        Contour("GW170817, update", maps["S170817a UPDATE"], _GW_NEXT, style="dashed"),
    ]
    outlines = [
        Outline(f"Fermi GBM, {kind}", p["ra"], p["dec"], p["radius"], style)
        for kind, style in (("flight", "dotted"), ("ground", "dashed"), ("final", "solid"))
        for p in (burst_position(kind),)
    ]
    marked = [
        Marked(source["name"], source["ra"], source["dec"], best=True),
        Marked("unrelated supernova", other["ra"], other["dec"]),
    ]
    return sky_plot(
        Picture(title, subtitle, contours, outlines, marked, alert_ra_deg, alert_dec_deg, measured)
    )


def sky_plot(picture: Picture) -> bytes:
    """PNG of ``picture``; the light curve of AT2017gfo from the facts is drawn behind."""
    figure = Figure(figsize=(12.5, 9.4), dpi=120, facecolor=_BACK)
    FigureCanvasAgg(figure)
    sky = figure.add_axes((0.035, 0.365, 0.93, 0.545), projection="mollweide")
    zoom = figure.add_axes((0.065, 0.065, 0.36, 0.275))
    curve = figure.add_axes((0.53, 0.065, 0.435, 0.275))
    figure.text(0.035, 0.957, picture.title, color=_INK, fontsize=21, weight="bold")
    figure.text(0.035, 0.928, picture.subtitle, color=_FAINT, fontsize=11)
    _whole_sky(sky, picture)
    _zoomed(zoom, picture)
    _curve(curve, picture.light_curve)
    out = BytesIO()
    figure.savefig(out, format="png", facecolor=_BACK, metadata={"Software": None})
    return out.getvalue()


def _longitude(ra_deg: FloatArray) -> FloatArray:
    """Radians from the middle of the map; east is left, as seen from inside the sphere."""
    return np.asarray(-np.radians((np.asarray(ra_deg) - CENTRE_RA_DEG + 180) % 360 - 180))


def _grid(step_deg: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Longitude and latitude of a grid in radians, and right ascension and declination of it."""
    longitude = np.linspace(-180, 180, int(360 / step_deg) + 1)
    latitude = np.linspace(-90, 90, int(180 / step_deg) + 1)
    lon, lat = np.meshgrid(longitude, latitude)
    return np.radians(longitude), np.radians(latitude), (CENTRE_RA_DEG - lon) % 360, lat


def _whole_sky(axes: Any, picture: Picture) -> None:
    axes.set_facecolor(_BACK)
    lon, lat, ra, dec = _grid(0.5)
    if len(picture.alert_ra_deg):
        image = _smooth_counts(picture.alert_ra_deg, picture.alert_dec_deg, ra, dec)
        top = max(1e-6, float(np.nanpercentile(image, 99.7)))
        axes.pcolormesh(
            lon, lat, image, cmap=_ALERTS, norm=LogNorm(top / 25, top), shading="nearest",
            rasterized=True,
        )  # fmt: skip
    axes.grid(color="#2b3550", linewidth=0.6)
    fine = _grid(0.25)
    for contour in picture.contours:
        _draw_contour(axes, contour, fine)
    for outline in picture.outlines:
        _draw_outline(axes, outline, (lon, lat, ra, dec))
    for mark in picture.marked:
        if mark.best:
            _star(axes, float(_longitude(np.array(mark.ra_deg))), np.radians(mark.dec_deg), 210)
            _note(axes, mark.label, float(_longitude(np.array(mark.ra_deg))),
                  np.radians(mark.dec_deg), (13, -4))  # fmt: skip
    steps = np.arange(-150, 151, 30)
    axes.set_xticks(np.radians(steps))
    hours = (CENTRE_RA_DEG - steps) % 360 / 15
    axes.set_xticklabels([f"{h:.0f}ʰ" for h in hours], color=_FAINT, fontsize=8)
    axes.tick_params(axis="y", colors=_FAINT, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color("#5b6785")
    _sky_legend(axes, picture)


def _smooth_counts(
    alert_ra: FloatArray, alert_dec: FloatArray, ra: FloatArray, dec: FloatArray
) -> FloatArray:
    """Alerts per pixel around grid positions, NaN where there are none."""
    nside = 32
    pixels = hp.ang2pix(nside, alert_ra, alert_dec, lonlat=True)
    counts = np.bincount(pixels, minlength=hp.nside2npix(nside)).astype(np.float64)
    smooth = hp.smoothing(counts, fwhm=np.radians(3.0))
    image = hp.get_interp_val(smooth, ra.ravel(), dec.ravel(), lonlat=True).reshape(ra.shape)
    near = hp.smoothing((counts > 0).astype(np.float64), fwhm=np.radians(3.0))
    seen = hp.get_interp_val(near, ra.ravel(), dec.ravel(), lonlat=True).reshape(ra.shape) > 0.4
    return np.where(seen & (image > 0), image, np.nan)


def _levels(skymap: MultiOrderMap, ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Credible levels on a grid; large maps are smoothed, for their cells are coarse."""
    if area_deg2(skymap, 0.9) < 1000:
        return level_at(skymap, ra.ravel(), dec.ravel()).reshape(ra.shape)
    nside = 64
    centres = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)), lonlat=True)
    ipix29 = hp.ang2pix(1 << 29, *centres, nest=True, lonlat=True)
    density = skymap.density[np.searchsorted(skymap.start, ipix29, side="right") - 1]
    smooth = hp.smoothing(density, fwhm=np.radians(6.0))
    falling = np.argsort(-smooth)
    level = np.empty(len(smooth))
    level[falling] = np.cumsum(smooth[falling]) / smooth.sum()
    found = hp.get_interp_val(level, ra.ravel(), dec.ravel(), lonlat=True)
    return np.asarray(found).reshape(ra.shape)


def _draw_contour(axes: Any, contour: Contour, grid: tuple[FloatArray, ...]) -> None:
    lon, lat, ra, dec = grid
    level = _levels(contour.skymap, ra, dec)
    if contour.filled:
        axes.contourf(lon, lat, level, levels=[0, 0.9], colors=[contour.color], alpha=0.75)
    axes.contour(lon, lat, level, levels=[0.9], colors=[contour.color],
                 linewidths=1.4, linestyles=contour.style)  # fmt: skip


def _draw_outline(axes: Any, outline: Outline, grid: tuple[FloatArray, ...]) -> None:
    lon, lat, ra, dec = grid
    axis = unit_vectors(np.array(outline.ra_deg), np.array(outline.dec_deg))
    angle = np.degrees(np.arccos(np.clip(unit_vectors(ra, dec) @ axis, -1, 1)))
    axes.contour(lon, lat, angle, levels=[outline.radius_deg], colors=[_GRB],
                 linewidths=1.5, linestyles=outline.style)  # fmt: skip


def _star(axes: Any, x: float, y: float, size: float) -> None:
    axes.scatter([x], [y], marker="*", s=size, color=_SOURCE, edgecolor=_BACK, linewidth=0.8,
                 zorder=9)  # fmt: skip


def _note(axes: Any, text: str, x: float, y: float, shift: tuple[float, float]) -> None:
    axes.annotate(
        text, (x, y), xytext=shift, textcoords="offset points", color=_SOURCE, fontsize=11,
        weight="bold", zorder=10, path_effects=[withStroke(linewidth=3, foreground=_BACK)],
    )  # fmt: skip


def _sky_legend(axes: Any, picture: Picture) -> None:
    handles = [
        axes.plot([], [], color=c.color, linestyle=c.style, linewidth=5 if c.filled else 1.6,
                  label=f"{c.label}, 90 %")[0]
        for c in picture.contours
    ]  # fmt: skip
    handles += [
        axes.plot([], [], color=_GRB, linestyle=o.style, linewidth=1.6,
                  label=f"{o.label}, {o.radius_deg:g}° (68 %)")[0]
        for o in picture.outlines
    ]  # fmt: skip
    if len(picture.alert_ra_deg):
        label = f"{len(picture.alert_ra_deg):,} optical alerts"
        handles.append(axes.plot([], [], color="#6a5f9c", linewidth=5, label=label)[0])
    legend = axes.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1.02, 1.1), frameon=False, fontsize=8.5
    )
    for text in legend.get_texts():
        text.set_color(_INK)


def _zoomed(axes: Any, picture: Picture) -> None:
    """The field around the best source on a plane, degrees east (left) and north."""
    _plain(axes)
    best = next(m for m in picture.marked if m.best)
    # Between the source and the middle of the small regions.
    ra0, dec0, half = best.ra_deg - 3.0, best.dec_deg + 5.9, 11.5
    wide = half * 1.75

    def plane(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
        east = ((np.asarray(ra) - ra0 + 180) % 360 - 180) * np.cos(np.radians(dec0))
        return np.asarray(east), np.asarray(dec) - dec0

    x, y = np.meshgrid(np.linspace(-wide, wide, 700), np.linspace(-half, half, 400))
    ra, dec = ra0 + x / np.cos(np.radians(dec0)), dec0 + y
    for contour in (c for c in picture.contours if area_deg2(c.skymap, 0.9) < 1000):
        level = _levels(contour.skymap, ra % 360, dec)
        if contour.filled:
            for bound, alpha in ((0.9, 0.3), (0.5, 0.35)):
                axes.contourf(x, y, level, levels=[0, bound], colors=[contour.color], alpha=alpha)
        axes.contour(x, y, level, levels=[0.9], colors=[contour.color], linewidths=1.3,
                     linestyles=contour.style)  # fmt: skip
    east, north = plane(picture.alert_ra_deg, picture.alert_dec_deg)
    inside = (np.abs(east) < wide) & (np.abs(north) < half)
    axes.scatter(east[inside], north[inside], s=2.5, color="#b58fce", alpha=0.55, linewidth=0)
    for mark in picture.marked:
        mx, my = (float(v) for v in plane(np.array(mark.ra_deg), np.array(mark.dec_deg)))
        if mark.best:
            _star(axes, mx, my, 260)
            _note(axes, mark.label, mx, my, (14, -4))
        else:
            axes.scatter([mx], [my], s=42, facecolor="none", edgecolor=_INK, linewidth=1.4)
            axes.annotate(
                mark.label, (mx, my), xytext=(9, -3), textcoords="offset points", color=_INK,
                fontsize=8.5, path_effects=[withStroke(linewidth=3, foreground=_BACK)],
            )  # fmt: skip
    axes.set_xlim(wide, -wide)
    axes.set_ylim(-half, half)
    _ticks_in_sky(axes, ra0, dec0, wide, half)


def _ticks_in_sky(axes: Any, ra0: float, dec0: float, wide: float, half: float) -> None:
    stretch = np.cos(np.radians(dec0))
    ras = np.arange(np.ceil((ra0 - wide / stretch) / 10) * 10, ra0 + wide / stretch, 10)
    decs = np.arange(np.ceil((dec0 - half) / 5) * 5, dec0 + half, 5)
    axes.set_xticks((ras - ra0) * stretch)
    axes.set_xticklabels([f"{r:.0f}°" for r in ras])
    axes.set_yticks(decs - dec0)
    axes.set_yticklabels([f"{d:.0f}°".replace("-", "−") for d in decs])
    axes.set_title("Where the three detectors point", color=_INK, fontsize=11, loc="left")


def _plain(axes: Any) -> None:
    axes.set_facecolor("#0e1529")
    axes.tick_params(colors=_FAINT, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_color("#3a4666")


def _curve(axes: Any, measured: LightCurve) -> None:
    """Magnitudes by days: the published medians as lines, what was measured as points."""
    _plain(axes)
    axes.grid(color="#1f2942", linewidth=0.6)
    last = max(5.0, float(measured.days.max()) + 0.4) if len(measured.days) else 5.0
    names = np.array(list(measured.filters))
    for name in FILTERS:
        table = light_curve(name)
        table = table[table[:, 0] <= last + 0.6]
        color = _FILTER_COLORS[name]
        axes.fill_between(table[:, 0], table[:, 1] - table[:, 2], table[:, 1] + table[:, 2],
                          color=color, alpha=0.13, linewidth=0)  # fmt: skip
        axes.plot(table[:, 0], table[:, 1], color=color, alpha=0.6, linewidth=1.2)
        here = names == name if len(names) else np.zeros(0, dtype=bool)
        axes.errorbar(
            measured.days[here], measured.mag[here], yerr=measured.mag_error[here], fmt="o",
            markersize=5.5, color=color, ecolor=color, label=name, markeredgecolor=_BACK,
            markeredgewidth=0.6, linewidth=1.2,
        )  # fmt: skip
    axes.set_xlim(0, last)
    axes.set_ylim(22.3, 16.8)
    axes.set_xlabel("days after the merger", color=_FAINT, fontsize=9)
    axes.set_ylabel("AB magnitude", color=_FAINT, fontsize=9)
    axes.set_title("AT2017gfo fades and reddens", color=_INK, fontsize=11, loc="left")
    axes.text(0.985, 0.955, "points: alerts   lines: Villar et al. 2017", color=_FAINT,
              fontsize=8, ha="right", va="top", transform=axes.transAxes)  # fmt: skip
    legend = axes.legend(loc="lower left", frameon=False, fontsize=9, ncols=3)
    for text in legend.get_texts():
        text.set_color(_INK)
