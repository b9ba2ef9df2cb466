"""Pictures of the lines of benches, as SVG: the same lines give the same files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from gateway.bench.every import Line
from gateway.bench.measure import OURS
from gateway.bench.pipeline_costs import COST_BY_STEP, measurable

INK, FAINT, MARK = "#1f2933", "#9aa5b1", "#c2410c"
# Ours is dark blue; peers are told apart by colour and by the words beside their lines.
_OURS = ("#1d4ed8", "#60a5fa", "#93c5fd")
_PEERS = ("#b45309", "#15803d", "#7c3aed", "#be123c", "#0f766e", "#6b7280", "#a16207")
_PARTS = (
    "#cbd5e1", "#94a3b8", "#64748b", "#475569", "#15803d", "#1d4ed8", "#60a5fa", "#b45309",
    "#7c3aed",
)  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mmgateway",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_DELAYS = {
    ("latency", "alone"): "alert to candidate",
    ("notices", "latency"): "notice to region",
    ("notices", "latency, large maps"): "notice to region, its map fetched",
    ("late-region", "live alerts, alone"): "alert to candidate, before late maps",
    ("late-region", "live alerts, beside late maps"): "alert to candidate, beside late maps",
}
_REGIONS = re.compile(r"([\d,]+) regions?")


def drawn(lines: Sequence[Line], draw: Callable[[Sequence[Line]], Figure | None]) -> Figure | None:
    """A figure in the style of all of them; None where its bench has no lines."""
    with matplotlib.rc_context(_STYLE):
        return draw(lines)


def svg(figure: Figure) -> str:
    """The figure as text, without date."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    # Ends of lines carry blanks, which version control marks.
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def join(lines: Sequence[Line]) -> Figure | None:
    """Alerts a second against active regions, ours and peers."""
    series: dict[str, dict[int, float]] = {}
    for line in lines:
        if line["bench"] == "join" and (found := _REGIONS.fullmatch(line["case"])):
            number = int(found[1].replace(",", ""))
            series.setdefault(line["subject"], {})[number] = line["per_s"]
    if not series:
        return None
    figure, axes = _figure(7.2, 4.0)
    colours = _colours(list(series))
    ends: list[tuple[float, float, str]] = []
    for name, points in series.items():
        x, y = list(points), list(points.values())
        mine = name.startswith(OURS)
        axes.plot(x, y, "o-", color=colours[name], lw=2.2 if mine else 1.2, ms=5 if mine else 3.5)
        ends.append((y[-1], x[-1], name))
    axes.set(xscale="log", yscale="log", ylabel="alerts a second")
    axes.set_xlabel("active regions (beyond 1,000 their areas shrink)")
    axes.grid(color="#e5e7eb", lw=0.6)
    _labelled(axes, ends, colours)
    return figure


def _labelled(axes: Any, ends: list[tuple[float, float, str]], colours: Mapping[str, str]) -> None:
    """Names beside the ends of lines, moved apart where lines end together."""
    low, high = axes.get_ylim()
    least = (high / low) ** 0.055
    right = max(x for _, x, _ in ends)
    before = 0.0
    for y, x, name in sorted(ends):
        at = max(y, before * least)
        before = at
        axes.annotate(
            name,
            (x, y),
            (right * 1.5, at),
            color=colours[name],
            va="center",
            fontsize=8,
            annotation_clip=False,
            # To where the name begins: a line to its middle would strike through others.
            arrowprops={"arrowstyle": "-", "color": colours[name], "lw": 0.4, "relpos": (0, 0.5)},
        )


def latency(lines: Sequence[Line]) -> Figure | None:
    """How many candidates, and regions of notices, had come after how long."""
    curves = [line for line in lines if line.get("quantiles_s")]
    if not curves:
        return None
    figure, axes = _figure(7.2, 3.4)
    for number, line in enumerate(curves):
        name = _delay_name(line)
        colour = _OURS[0] if number == 0 else _PEERS[(number - 1) % len(_PEERS)]
        axes.plot(line["quantiles_s"], range(101), color=colour, lw=1.8, label=name)
    for x, y, mark, told in ((0.5, 50, "<", "half by 0.5 s"), (1.5, 99, "D", "99 % by 1.5 s")):
        axes.plot([x], [y], mark, color=MARK, ms=6, zorder=3, label=f"target for alerts: {told}")
    axes.set(xscale="log", xlabel="seconds from sending to reading", ylabel="% that had come")
    axes.set(ylim=(0, 103))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color="#e5e7eb", lw=0.6)
    rows = -(-(len(curves) + 2) // 2)
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=2,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        borderaxespad=0.3 * rows,
    )
    return figure


def _delay_name(line: Line) -> str:
    told = _DELAYS.get((line["bench"], line["case"]), str(line["case"]))
    # What was beside it, if its subject says so.
    told += str(line["subject"]).removeprefix(OURS)
    rate = line["facts"].get("sent_per_s", 0)
    return told if "map" in line["case"] else f"{told}, {rate:g} a second"


def split(lines: Sequence[Line]) -> Figure | None:
    """What each step costs an alert."""
    bars: dict[str, dict[str, float]] = {}
    whole: dict[str, float] = {}
    for line in lines:
        if line["bench"] != "pipeline":
            continue
        case = line["case"].removeprefix(COST_BY_STEP)
        if case != line["case"] and measurable(line):
            bars.setdefault(case, {})[line["subject"]] = line["us_per_item"]
        elif line["subject"] == OURS:
            whole[case] = line["us_per_item"]
    if not bars:
        return None
    figure = _stacked(bars, "µs an alert")
    axes = figure.axes[0]
    for number, case in enumerate(bars):
        if (us := whole.get(case)) is not None:
            axes.plot([us, us], [number - 0.4, number + 0.4], color=MARK, lw=1.2, ls="--")
            axes.text(us, number - 0.42, f" measured: {us:.3g}", color=MARK, fontsize=8)
    axes.set_xlabel("µs an alert; steps overlap, so that less than their sum is measured")
    return figure


def late(lines: Sequence[Line]) -> Figure | None:
    """What the search for a late region takes, and in what time it is to be answered."""
    found = [line for line in lines if "judge_s" in line.get("facts", {})]
    if not found:
        return None
    names = {"read_s": "reading the archive", "judge_s": "matching", "steps_s": "steps and commits"}
    bars = {
        line["case"]: {text: line["facts"][name] for name, text in names.items()} for line in found
    }
    figure = _stacked(bars, "seconds from the region to its last candidate")
    axes = figure.axes[0]
    for number, line in enumerate(found):
        bar = line["facts"]["bar_s"]
        axes.plot([bar, bar], [number - 0.4, number + 0.4], color=MARK, lw=1.2, ls="--")
        axes.text(
            bar, number - 0.42, f" to be below {bar:g} s", color=MARK, fontsize=8, va="bottom"
        )
    return figure


def _stacked(bars: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    figure, axes = _figure(7.2, 1.3 + 0.62 * len(bars))
    names = list(dict.fromkeys(name for parts in bars.values() for name in parts))
    colours = dict(zip(names, _PARTS if len(names) > 3 else ("#64748b", *_OURS), strict=False))
    labelled: set[str] = set()
    for number, parts in enumerate(bars.values()):
        left = 0.0
        for name, value in parts.items():
            label_once = name if name not in labelled else None
            labelled.add(name)
            axes.barh(number, value, 0.6, left, color=colours[name], label=label_once)
            left += value
        axes.text(left, number, f" {left:.3g}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.08)
    columns = min(len(names), 5)
    rows = -(-len(names) // columns)
    height = figure.get_size_inches()[1]
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=columns,
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0 + 0.05 * rows / height),
    )
    return figure


def _colours(names: Sequence[str]) -> dict[str, str]:
    ours = [name for name in names if name.startswith(OURS)]
    peers = [name for name in names if not name.startswith(OURS)]
    return {
        name: palette[number % len(palette)]
        for some, palette in ((ours, _OURS), (peers, _PEERS))
        for number, name in enumerate(some)
    }


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), facecolor="white")
    return figure, figure.subplots()


PLOTS: Mapping[str, tuple[Callable[[Sequence[Line]], Figure | None], str]] = {
    "join": (join, "Alerts a second against active regions, whose areas shrink beyond 1,000"),
    "pipeline": (split, "What each step costs an alert, and what was measured of all of them"),
    "late-region": (late, "Parts of the searches for late regions"),
    "latency": (latency, "Share that had come after so many seconds"),
}
"""By bench: what draws its picture, and what the picture shows."""
