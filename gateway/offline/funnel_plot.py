"""A picture of a funnel: a bar for what each cut leaves, with what it removed."""

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gateway.offline.funnel import ALERTS, Funnel, Level

_INK, _FAINT, _ALERTS, _CANDIDATES = "#1b2333", "#667085", "#5b9bd8", "#d1331f"


def funnel_plot(funnel: Funnel) -> bytes:
    """PNG of a funnel; numbers on a logarithmic axis, as they fall by powers of ten."""
    levels = funnel.levels
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(levels)), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(levels))
    most = max([level.left for level in levels], default=1)
    colours = [_ALERTS if level.of == ALERTS else _CANDIDATES for level in levels]
    # From 0.7 on, so that a single one has a bar and none has not.
    widths = [max(level.left - 0.7, 0) for level in levels]
    axes.barh(places, widths, left=0.7, color=colours, height=0.72)
    axes.set_xscale("log")
    axes.set_xlim(0.7, max(most, 1) * 60)
    axes.set_ylim(len(levels) - 0.4, -0.6)
    axes.set_yticks(list(places), [_name(level) for level in levels])
    for place, level in zip(places, levels, strict=True):
        text = f" {level.left:,}" + (f"  ({level.removed:,} removed)" if level.removed else "")
        axes.text(max(level.left, 0.7), place, text, va="center", fontsize=8, color=_INK)
    axes.set_title(funnel.title, loc="left", color=_INK, fontsize=11)
    axes.set_xlabel("left after the cut; alerts blue, candidates red", color=_FAINT, fontsize=9)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8, labelcolor=_FAINT)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _name(level: Level) -> str:
    return level.name.replace("_", " ")
