"""An object over all nights: its archived alerts, the limits of its packets, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.dates
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from broker.archive import AlertArchive, night_of
from broker.history import history
from broker.packets import decode_packet
from broker.packetstore import PacketStore
from crossmatch.errors import AlertError, ConfigError
from crossmatch.lightcurve import Detection, merged
from crossmatch.times import datetime_from_jd, iso_utc

_INK, _FAINT, _GRID = "#1b2333", "#667085", "#e4e7ec"
# As Rubin's publications have them; ZTF's g, r and i look the same in them.
_COLOURS = {"u": "#0c71ff", "g": "#49be61", "r": "#c61c00", "i": "#ffc200", "z": "#f341a2",
            "y": "#5d0000"}  # fmt: skip
_MARKERS = {"u": "o", "g": "o", "r": "s", "i": "D", "z": "p", "y": "h"}
_MJD = 2400000.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHistory:
    """An object's alerts, and its light curve with what kept packets add to them.

    ``alerts`` are rows of the archive in the order of exposures, those that the survey took
    back included; ``curve`` is without these. ``packets`` were read for earlier
    detections and limits, ``broken`` could not be.
    """

    survey: str
    object_id: str
    alerts: list[dict[str, Any]]
    curve: list[Detection]
    packets: int = 0
    broken: int = 0

    @property
    def nights(self) -> int:
        """Number of nights with an alert."""
        return len({alert["night"] for alert in self.alerts})

    @property
    def position(self) -> tuple[float, float]:
        """ICRS degrees of the newest alert."""
        return self.alerts[-1]["ra_deg"], self.alerts[-1]["dec_deg"]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "survey": self.survey,
            "object_id": self.object_id,
            "ra_deg": self.position[0],
            "dec_deg": self.position[1],
            "nights": self.nights,
            "packets_read": self.packets,
            "packets_broken": self.broken,
            "alerts": self.alerts,
            "curve": [_point(point) for point in self.curve],
        }


def object_history(
    archive: AlertArchive,
    survey: str,
    object_id: str,
    near: tuple[float, float] | None = None,
    packets: PacketStore | None = None,
    lsst_schemas: Mapping[int, str] | None = None,
) -> ObjectHistory:
    """All that is known of an object.

    Raises
    ------
    ConfigError
        When the archive has no such object.
    """
    rows = archive.history(survey, object_id, near)
    if rows.num_rows == 0:
        raise ConfigError(
            f"the archive {archive.path} has no {survey} object {object_id!r}"
            + (f" near {near[0]:g} {near[1]:g}" if near else "")
            + "; names are the survey's own, upper and lower case differ"
        )
    nights = night_of(rows["time_jd"]).to_pylist()
    alerts = [
        {**alert, "night": night, "time_utc": iso_utc(datetime_from_jd(alert["time_jd"]))}
        for alert, night in zip(rows.to_pylist(), nights, strict=True)
    ]
    gone = {alert["alert_id"] for alert in alerts if alert["withdrawn"]}
    good = [alert for alert in alerts if alert["alert_id"] not in gone]
    older: list[Detection] = []
    stored = _stored(packets, good)
    broken = 0
    for packet in stored:
        try:
            records = decode_packet(packet, survey, lsst_schemas or {})
            older += [point for record in records for point in history(record, survey)]
        except AlertError:
            broken += 1
    curve = merged([_detection(alert) for alert in good if alert["filter"]], older)
    return ObjectHistory(
        survey=survey,
        object_id=object_id,
        alerts=alerts,
        curve=curve,
        packets=len(stored) - broken,
        broken=broken,
    )


def _stored(packets: PacketStore | None, alerts: Sequence[Mapping[str, Any]]) -> list[bytes]:
    if packets is None or not packets.path.is_dir():
        return []
    return list(packets.get([(a["topic"], a["partition"], a["offset"]) for a in alerts]).values())


def _detection(alert: Mapping[str, Any]) -> Detection:
    return Detection(
        time_jd=alert["time_jd"],
        filter=alert["filter"],
        mag=alert["mag"],
        mag_error=alert["mag_error"],
        limiting_mag=alert["limiting_mag"],
        positive=alert["positive"] is not False,
    )


def _point(point: Detection) -> dict[str, Any]:
    return {
        "time_jd": point.time_jd,
        "time_utc": iso_utc(datetime_from_jd(point.time_jd)),
        "filter": point.filter,
        "mag": point.mag,
        "mag_error": point.mag_error,
        "limiting_mag": point.limiting_mag,
        "positive": point.positive,
    }


def history_plot(found: ObjectHistory) -> bytes:
    """PNG of the light curve: points with errors, limits as triangles, fainter is lower.

    Open points are fainter than the reference image. Times are MJD (UTC), dates on top.
    """
    figure = Figure(figsize=(9.5, 5.4), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.12, 0.775, 0.69))
    names = sorted({p.filter for p in found.curve}, key=lambda n: ("ugrizy".find(n), n))
    for name in names:
        _draw_filter(axes, name, [p for p in found.curve if p.filter == name])
    _dress(axes, found.curve)
    _explain(axes, found.curve)
    figure.text(0.085, 0.935, found.object_id, color=_INK, fontsize=15, weight="bold")
    figure.text(0.085, 0.895, _subtitle(found), color=_FAINT, fontsize=9)
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _subtitle(found: ObjectHistory) -> str:
    ra, dec = found.position
    count = len(found.alerts)
    texts = [
        f"{found.survey.upper()}, {ra:.5f} {dec:+.5f}",
        f"{count:,} {'alert' if count == 1 else 'alerts'}",
        f"{found.nights:,} {'night' if found.nights == 1 else 'nights'}",
    ]
    if found.packets:
        texts.append("earlier points and limits from kept packets")
    return "   ".join(texts)


def _draw_filter(axes: Any, name: str, points: Sequence[Detection]) -> None:
    colour, marker = _COLOURS.get(name, _FAINT), _MARKERS.get(name, "o")
    label: str | None = name
    for positive in (True, False):
        seen = [p for p in points if p.mag is not None and p.positive is positive]
        if not seen:
            continue
        axes.errorbar(
            [p.time_jd - _MJD for p in seen],
            [p.mag for p in seen],
            yerr=[p.mag_error or 0.0 for p in seen],
            fmt=marker, markersize=5, color=colour, ecolor=colour, elinewidth=1, capsize=2,
            markerfacecolor=colour if positive else "white", label=label, zorder=3,
        )  # fmt: skip
        label = None
    limits = [p for p in points if p.mag is None and p.limiting_mag is not None]
    if limits:
        axes.plot(
            [p.time_jd - _MJD for p in limits],
            [p.limiting_mag for p in limits],
            marker="v", linestyle="none", markersize=5, color=colour, alpha=0.35,
            markeredgewidth=0, label=label, zorder=2,
        )  # fmt: skip


def _dress(axes: Any, curve: Sequence[Detection]) -> None:
    axes.invert_yaxis()
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("MJD (UTC)", color=_INK)
    axes.set_ylabel("magnitude (AB)", color=_INK)
    axes.tick_params(colors=_FAINT, labelsize=9)
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    times = np.array([p.time_jd for p in curve])
    if len(times):
        span = max(float(np.ptp(times)), 0.5)
        axes.set_xlim(times.min() - _MJD - 0.04 * span, times.max() - _MJD + 0.04 * span)
    for side in axes.spines.values():
        side.set_color(_GRID)
    # Matplotlib counts days from 1970, which is MJD 40587.
    top = axes.secondary_xaxis("top", functions=(lambda x: x - 40587.0, lambda x: x + 40587.0))
    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator(maxticks=7)
    top.xaxis.set_major_locator(locator)
    top.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    top.tick_params(colors=_FAINT, labelsize=9)
    top.spines["top"].set_color(_GRID)


def _explain(axes: Any, curve: Sequence[Detection]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    shape = {"linestyle": "none", "color": _FAINT, "markersize": 5}
    if any(p.mag is None and p.limiting_mag is not None for p in curve):
        handles += axes.plot([], [], marker="v", alpha=0.5, **shape)
        labels.append("limit")
    if any(p.mag is not None and not p.positive for p in curve):
        handles += axes.plot([], [], marker="o", markerfacecolor="white", **shape)
        labels.append("fainter than\nreference")
    axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
        labelcolor=_INK,
    )  # fmt: skip


def folder_bytes(folder: Path) -> tuple[int, int]:
    """Files below a folder and their bytes; zeros where there is none."""
    sizes = [file.stat().st_size for file in folder.rglob("*.parquet")] if folder.is_dir() else []
    return len(sizes), sum(sizes)
