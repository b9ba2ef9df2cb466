"""A picture of a funnel: a bar for what each cut leaves, with what it removed."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gateway.offline.funnel import ALERTS, Funnel, Level

_INK, _FAINT, _ALERTS, _CANDIDATES = "#1b2333", "#667085", "#5b9bd8", "#d1331f"
_LEAST = 0.7
"""Where bars begin: a single one has a bar, and none has not."""
_BARS = 0.66
"""Part of the width for the longest bar; the rest is for its text."""


def funnel_plot(funnel: Funnel) -> bytes:
    """PNG of a funnel; numbers on a logarithmic axis, as they fall by powers of ten."""
    levels = funnel.levels
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(levels)), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(levels))
    most = max([level.left for level in levels], default=1)
    colours = [_ALERTS if level.of == ALERTS else _CANDIDATES for level in levels]
    widths = [max(level.left - _LEAST, 0) for level in levels]
    axes.barh(places, widths, left=_LEAST, color=colours, height=0.72)
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, _LEAST * (max(most, 10) / _LEAST) ** (1 / _BARS))
    axes.set_ylim(len(levels) - 0.4, -0.6)
    axes.set_yticks(list(places), _names(levels))
    for place, level in zip(places, levels, strict=True):
        axes.text(max(level.left, _LEAST), place, _text(level), va="center", fontsize=8, color=_INK)
    axes.set_title(funnel.title, loc="left", color=_INK, fontsize=11)
    axes.set_xlabel("left after the cut; alerts blue, candidates red", color=_FAINT, fontsize=9)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.tick_params(axis="x", labelsize=8, labelcolor=_FAINT)
    powers = [10**n for n in range(len(str(max(most, 10))))]
    axes.set_xticks(powers, [f"{power:,}" for power in powers])
    axes.set_xticks([], minor=True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _names(levels: Sequence[Level]) -> list[str]:
    """Names of cuts; where another thing begins to be counted, that before it."""
    before = [None, *(level.of for level in levels)]
    return [
        (level.name if level.of == of else f"{level.of} {level.name}").replace("_", " ")
        for level, of in zip(levels, before, strict=False)
    ]


def _text(level: Level) -> str:
    objects = "" if level.objects is None else f" of {level.objects:,} objects"
    return f" {level.left:,}{objects}" + (f" ({level.removed:,} removed)" if level.removed else "")
