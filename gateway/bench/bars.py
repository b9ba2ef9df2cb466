"""What is to be reached, beside what lines of benches say that is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.bench.every import Line
from gateway.bench.figures import Figures, facts_of, us
from gateway.bench.measure import OURS, duration
from gateway.bench.pipeline_costs import (
    BARE,
    CANDIDATES,
    COST_BY_STEP,
    DECODING,
    PACKETS,
    PUBLISH,
)

_EQUI_JOIN = "polars, nside-64"
# Of an alert of the pipeline's world, where lines are too old to tell it.
_STATEMENTS = 0.25
# What is at most so many times as slow as ours is as fast.
_AS_FAST = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A target, and where its figure stands.

    Parameters
    ----------
    name : str
    line : (str, str, str)
        Bench, case, and how the subject begins; ours by its whole name.
    figure : callable
        From the line to what is compared.
    target : float
    is_least : bool
        Whether the figure is to be as large as the target; else it is to be below.
    told : callable
        From a figure to words.
    why : str
        Which of `_WHY` explains a miss.
    """

    name: str
    line: tuple[str, str, str]
    figure: Callable[[Line], float]
    target: float
    is_least: bool
    told: Callable[[float], str]
    why: str = ""

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"{'at least' if self.is_least else 'below'} {self.told(self.target)}"


@dataclass(frozen=True, slots=True)
class Reached:
    """What was measured of a bar; ``line`` is None where nothing was."""

    bar: Bar
    line: Line | None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None if it was not measured."""
        if self.line is None:
            return None
        figure = self.bar.figure(self.line)
        enough = figure >= self.bar.target if self.bar.is_least else figure < self.bar.target
        return enough and self.line["equal"] is not False

    @property
    def row(self) -> list[str]:
        """Name, target, figure and verdict."""
        if self.line is None:
            return [self.bar.name, self.bar.wanted, "", "not measured"]
        told = self.bar.told(self.bar.figure(self.line))
        if (longest := facts_of(self.line).get("longest_ms")) is not None:
            told += f" (longest {duration(longest / 1e3)})"
        verdict = "met" if self.is_met else "**missed**"
        if self.line["equal"] is False:
            verdict = "**missed**, results differ"
        return [self.bar.name, self.bar.wanted, told, verdict]


def reached(lines: Sequence[Line]) -> list[Reached]:
    """Each bar with what full lines say of it."""
    figures = Figures([line for line in lines if not line.get("short")])
    return [Reached(bar, figures.beginning(*bar.line)) for bar in BARS]


def explained(lines: Sequence[Line]) -> list[str]:
    """A paragraph on each kind of miss, and one on what is faster with few regions."""
    figures = Figures([line for line in lines if not line.get("short")])
    missed = [found for found in reached(lines) if found.is_met is False]
    parts = []
    for why, words in _WHY.items():
        if mine := [found for found in missed if found.bar.why == why]:
            parts.append(words(figures, mine))
    if rest := [found.bar.name for found in missed if not found.bar.why]:
        parts.append(f"**Missed, and the lines do not tell why**: {'; '.join(rest)}.")
    return [*parts, *_few_regions(figures)]


def _pipeline(figures: Figures, missed: Sequence[Reached]) -> str:
    parts = [
        "**Pipeline**: each statement, of a candidate that is told or told anew, has its state and"
        " its message made by Python, one by one, on processors that Spark wants, too."
    ]
    for case in dict.fromkeys(found.bar.line[1] for found in missed):
        ours = figures.of("pipeline", case)
        steps = figures.subjects("pipeline", f"{COST_BY_STEP}{case}")
        spent = sum(steps[n]["us_per_item"] for n in (PACKETS, CANDIDATES, PUBLISH) if n in steps)
        if ours is None or not spent:
            continue
        stated = facts_of(ours).get("statements_per_alert", _STATEMENTS)
        parts.append(
            f"With packets of {case.split(',')[0]} an alert of this world makes {stated:.2g}"
            f" statements of about {us(spent / stated)} each: {us(spent)},"
            f" {100 * spent / ours['us_per_item']:.0f} % of the {us(ours['us_per_item'])} that pass"
            " from one alert to the next."
        )
    return " ".join(parts)


def _equi_join(figures: Figures, missed: Sequence[Reached]) -> str:
    told = [
        f"{line['ratio_to_ours']:.2g} times as long as ours with {case}"
        for case, line in figures.cases("join", missed[0].bar.line[2]).items()
        if case in ("1,000 regions", "10,000 regions")
    ]
    return (
        "**Equi-join**: a pixel of nside 64 is about a degree wide, less than most of these"
        " regions, so that most pairs of an equi-join pass the exact test, and an index can spare"
        f" little more. It takes {' and '.join(told)}."
    )


def _few_regions(figures: Figures) -> list[str]:
    told = []
    for case in ("1 region", "10 regions", "100 regions"):
        as_fast = [
            f"{name.partition(' equi-join')[0]} takes {line['ratio_to_ours']:.2g}"
            for name, line in figures.subjects("join", case).items()
            if not name.startswith(OURS) and line["ratio_to_ours"] < _AS_FAST
        ]
        if as_fast:
            told.append(f"with {case} {', '.join(as_fast)}")
    if not told:
        return []
    return [
        "**Few regions**: for a handful of regions others are as fast as ours or faster, general"
        f" joins first of all: {'; '.join(told)} times as long. The index is made for hundreds and"
        " thousands."
    ]


_WHY = {"pipeline": _pipeline, "equi-join": _equi_join}


def _times(figure: float) -> str:
    return f"{figure:,.0f} times" if figure >= 100 else f"{figure:.3g} times"


def _percent(figure: float) -> str:
    return f"{100 * figure:.3g} %"


def _per_s(figure: float) -> str:
    return f"{figure:,.0f} a second"


def _gigabytes(figure: float) -> str:
    return f"{figure:.3g} GB"


def _slower(name: str, line: tuple[str, str, str], target: float, why: str = "") -> Bar:
    """How many times as long as ours a peer is to take."""
    return Bar(
        name=name,
        line=line,
        figure=lambda x: float(x["ratio_to_ours"]),
        target=target,
        is_least=True,
        told=_times,
        why=why,
    )


def _fact(line: Line, name: str) -> float:
    return float(line["facts"][name])


def _joins() -> list[Bar]:
    peers = (
        ("1,000 regions", "ligo.skymap", 200, ""),
        ("1,000 regions", "mocpy", 200, ""),
        ("1,000 regions", "DuckDB", 4, ""),
        ("1,000 regions", _EQUI_JOIN, 3, "equi-join"),
        ("100 regions", "ligo.skymap", 60, ""),
        ("100 regions", "mocpy", 60, ""),
    )
    return [
        *(
            _slower(f"Join with {case}, against {peer}", ("join", case, peer), target, why)
            for case, peer, target, why in peers
        ),
        Bar(
            name="Join, growth of an alert's cost from 100 to 10,000 regions",
            line=("join", "growth", f"{OURS}, 10,000 regions"),
            figure=lambda x: float(x["ratio_to_ours"]),
            target=4,
            is_least=False,
            told=_times,
        ),
        Bar(
            name="Join, adding a map of 20,000 cells to 1,000 regions, median",
            line=("join", "add a map", OURS),
            figure=lambda x: float(x["seconds"]),
            target=0.01,
            is_least=False,
            told=duration,
        ),
    ]


def _decodings() -> list[Bar]:
    cases = [("ztf 82 kB", "fastavro, whole container")]
    cases += [(f"lsst {size} kB", "fastavro, whole record") for size in (3, 47, 82)]
    return [
        _slower(
            f"Decoding, {case.split()[0].upper()} {case.partition(' ')[2]}, against {peer}",
            ("decode", case, peer),
            200,
        )
        for case, peer in cases
    ]


def _pipelines() -> list[Bar]:
    large, small = "82 kB, 1,000 regions", "3 kB, 1,000 regions"
    rates = (("82 kB", large, 5_000.0), ("3 kB", small, 60_000.0))
    return [
        Bar(
            name="Pipeline, 82 kB, part of the rate of a job that reads and decodes",
            line=("pipeline", large, DECODING),
            figure=lambda x: _fact(x, "our_part_of_its_rate"),
            target=0.8,
            is_least=True,
            told=_percent,
            why="pipeline",
        ),
        *(
            Bar(
                name=f"Pipeline, {size}, alerts",
                line=("pipeline", case, OURS),
                figure=lambda x: float(x["per_s"]),
                target=target,
                is_least=True,
                told=_per_s,
                why="pipeline",
            )
            for size, case, target in rates
        ),
        *(
            Bar(
                name=f"Pipeline, {size}, loss of rate by five catalogues",
                line=("pipeline", case, BARE),
                figure=lambda x: 1 - _fact(x, "our_part_of_its_rate"),
                target=0.1,
                is_least=False,
                told=_percent,
            )
            for size, case, _ in rates
        ),
    ]


def _gateways() -> list[Bar]:
    delays = (("half", "p50_s", 0.5), ("99 %", "p99_s", 1.5))
    return [
        *(
            Bar(
                name=f"Latency at 50 alerts a second, {share} of candidates within",
                line=("latency", "alone", OURS),
                figure=partial(_fact, name=fact),
                target=target,
                is_least=False,
                told=duration,
            )
            for share, fact, target in delays
        ),
        Bar(
            name="Memory of all processes in a burst of 100,000 alerts of 82 kB",
            line=("burst", "82 kB, 800 circles", OURS),
            figure=lambda x: _fact(x, "peak_MB_all") / 1e3,
            target=6,
            is_least=False,
            told=_gigabytes,
        ),
    ]


def _catalogues() -> list[Bar]:
    batch, whole, few = (f"{n} of 10,000,000" for n in ("10,000", "1,000,000", "400"))
    return [
        *(
            Bar(
                name=f"Catalogue of 10,000,000 sources, {count} positions",
                line=("catalogue", case, OURS),
                figure=lambda x: float(x["seconds"]),
                target=target,
                is_least=False,
                told=duration,
            )
            for count, case, target in (("400", few, 1e-3), ("10,000", batch, 6e-3))
        ),
        Bar(
            name="Catalogue of 10,000,000 sources, positions in bulk",
            line=("catalogue", whole, OURS),
            figure=lambda x: float(x["per_s"]),
            target=2e6,
            is_least=True,
            told=_per_s,
        ),
        *(
            _slower(
                f"Catalogue, 10,000 positions, against {peer}", ("catalogue", batch, peer), target
            )
            for peer, target in (("scipy", 3), ("astropy", 10), ("STILTS", 300))
        ),
    ]


BARS = (*_joins(), *_decodings(), *_pipelines(), *_gateways(), *_catalogues())
"""Targets, in the order in which the page has them."""
