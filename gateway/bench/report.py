"""The page of performance: tables, plots and text, from the lines of benches alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gateway.bench import bars, plots
from gateway.bench.every import Line
from gateway.bench.measure import duration
from gateway.bench.pipeline_costs import measurable
from gateway.bench.report_text import cluster, growth, words_of

_MADE = "<!-- Made by docs/make_performance.py from the lines of benches: run `make bench`. -->"
_TITLES = {
    "join": "Join",
    "decode": "Decoding",
    "pipeline": "Pipeline",
    "notices": "Notices",
    "catalogue": "Catalogues",
    "late-region": "Late regions",
    "latency": "Latency",
    "packets": "Keeping packets",
    "bounds": "Bounds",
    "burst": "Bursts",
}
_NOT_TOLD = ("items", "seconds")


def written(lines: Sequence[Line], page: Path, folder: Path) -> list[Path]:
    """Write the page and its plots; the files that were written.

    Parameters
    ----------
    lines : sequence of mapping
        As `gateway.bench.every.read` gives them.
    page : Path
        The text.
    folder : Path
        For the plots, which the page shows by their places seen from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, str] = {}
    files = []
    for bench, (draw, what) in plots.PLOTS.items():
        figure = plots.drawn(lines, draw)
        if figure is None:
            continue
        path = folder / f"{bench}.svg"
        path.write_text(plots.svg(figure), "utf-8")
        files.append(path)
        pictures[bench] = f"![{what}]({Path(os.path.relpath(path, page.parent)).as_posix()})"
    page.write_text(text(lines, pictures), "utf-8")
    return [page, *files]


def text(lines: Sequence[Line], pictures: Mapping[str, str]) -> str:
    """The page; ``pictures`` are shown at the heads of their benches."""
    parts = [
        "# Performance",
        _MADE,
        "What one machine does, ours beside what others use for the same. Peers run in the same"
        " process or the same run as ours, on the same input; what they find is compared before"
        " any time is taken (*equal*). Subjects take turns, and what is told is the median of the"
        " runs, with the shortest and the longest. *Ratio* is how many times as long as ours a"
        " subject takes. `make bench` measures all of it anew, `mmgateway bench` a part.",
    ]
    if any(line.get("short") for line in lines):
        parts.append(
            "> **A first look with small sizes** (`make bench-short`): these figures are no"
            " measure of anything but that all benches run."
        )
    head = ["what", "target", "measured", ""]
    parts += [
        "## What it should reach, and what it reaches",
        "Targets are for two quiet processors; times (a peer takes so many times as long) are of"
        " one run.",
        table(head, [found.row for found in bars.reached(lines)]),
        *bars.explained(lines),
        *_machines(lines),
        *growth(lines),
    ]
    benches = [name for name in dict.fromkeys(line["bench"] for line in lines) if name != "cluster"]
    for name in benches:
        mine = [line for line in lines if line["bench"] == name]
        parts += [f"## {_TITLES.get(name, name)}", *filter(None, [words_of(name)])]
        parts += [pictures[name]] if name in pictures else []
        parts += _cases(mine)
    parts += ["## On a cluster", *cluster(lines)]
    if mine := [line for line in lines if line["bench"] == "cluster"]:
        parts += [words_of("cluster"), *_cases(mine)]
    return "\n\n".join(parts) + "\n"


def _machines(lines: Sequence[Line]) -> list[str]:
    """The machine, and when and under which load each run of a bench began."""
    machines: dict[str, None] = {}
    versions: dict[str, dict[str, None]] = {}
    began = []
    runs = {
        (line["bench"], line["machine"].get("began_utc", "")): line["machine"]
        for line in lines
        if "machine" in line
    }
    for (name, moment), machine in runs.items():
        machines[
            f"{machine['processors']} processors ({machine.get('processor', '')}),"
            f" {machine.get('memory_gb', '?')} GB of memory, {machine['system']},"
            f" Python {machine['python']}"
        ] = None
        for package, version in machine["versions"].items():
            versions.setdefault(package, {})[version] = None
        # Lines of before commits were told have the version alone.
        code = [machine["versions"].get("mmgateway"), machine.get("commit")]
        began.append([name, moment, f"{machine['load_1min']}", " ".join(filter(None, code))])
    told = ", ".join(f"{name} {' or '.join(some)}" for name, some in sorted(versions.items()))
    return [
        "## Machine",
        "\n".join(f"- {machine}" for machine in machines),
        f"Versions: {told}.",
        table(["bench", "began (UTC)", "load before", "code"], began),
    ]


def _cases(lines: Sequence[Line]) -> list[str]:
    parts = []
    for case in dict.fromkeys(line["case"] for line in lines):
        mine = [line for line in lines if line["case"] == case]
        lost = [line["subject"] for line in mine if not measurable(line)]
        mine = [line for line in mine if measurable(line)]
        parts += [f"### {case[:1].upper()}{case[1:]}", _rows(mine)]
        told = dict.fromkeys(line.get("compared", "") for line in mine)
        parts += [_sentence(one) for one in told if one]
        if lost:
            parts.append(_sentence(f"not measurable beside the noise: {', '.join(lost)}"))
        if facts := [_facts(line, many=len(mine) > 1) for line in mine if line.get("facts")]:
            parts.append("\n".join(facts))
    return parts


def _rows(lines: Sequence[Line]) -> str:
    """A table of the subjects of a case."""
    head = ["subject", "items", "a second", "each", "ratio", "median", "spread", "runs", "equal"]
    rows = []
    for line in lines:
        spread = ""
        if "seconds_min" in line:
            spread = f"{duration(line['seconds_min'])} … {duration(line['seconds_max'])}"
        rows.append([
            line["subject"],
            f"{line['items']:,}",
            _rate(line["per_s"]) if line["items"] > 1 else "",
            duration(line["us_per_item"] / 1e6),
            f"{line['ratio_to_ours']:.3g}" if line["ratio_to_ours"] < 100 else
            f"{line['ratio_to_ours']:,.0f}",
            duration(line["seconds"]),
            spread,
            str(line.get("runs", "")),
            {None: "", True: "yes", False: "**no**"}[line["equal"]],
        ])  # fmt: skip
    return table(head, rows, right=range(1, 8))


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 20 else f"{per_s:.2g}"


def _facts(line: Line, many: bool) -> str:
    told = ", ".join(
        f"{name.replace('_', ' ')} {f'{value:,}' if isinstance(value, int) else value}"
        for name, value in line["facts"].items()
        if name not in _NOT_TOLD
    )
    return f"- {line['subject']}: {told}" if many else f"- {told}"


def _sentence(told: str) -> str:
    told = told[:1].upper() + told[1:]
    return told if told.endswith(".") else f"{told}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Markdown table; columns of these numbers are set to the right."""
    ends = set(right)
    marks = ["---:" if number in ends else "---" for number in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(marks) + "|"]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join(lines)
