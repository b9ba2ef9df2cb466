"""Timing of subjects that do the same, and the rows in which it is told."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

OURS = "mmgateway"
_GIT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One way to do a case.

    Parameters
    ----------
    name : str
        :data:`OURS`, or that of a peer with what it does.
    run : callable
        Does all items once.
    equal : bool or None
        Whether its results were found equal to ours; None where there is nothing to compare.
    """

    name: str
    run: Callable[[], object]
    equal: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: what one subject took for all items of a case.

    ``seconds`` is the median over ``runs``, ``ratio_to_ours`` how often slower than ours it
    is. ``compared`` says in words what was done and compared; ``facts`` holds further figures.
    Of a delay (:func:`delays_row`) there is one item, and ``quantiles_s`` has its distribution:
    0, 1, ... 100 %.
    """

    bench: str
    case: str
    subject: str
    items: int
    seconds: float
    per_s: float
    us_per_item: float
    ratio_to_ours: float
    equal: bool | None
    runs: int
    seconds_min: float
    seconds_max: float
    compared: str = ""
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    quantiles_s: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON line."""
        return asdict(self)


def measured(
    bench: str,
    case: str,
    subjects: Sequence[Subject],
    items: int,
    runs: int,
    compared: str,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Rows of the subjects, ours first; they take turns, so that a drift of the machine hits all.

    One run of each is made before and not counted.
    """
    taken: dict[str, list[float]] = {s.name: [] for s in subjects}
    for number in range(runs + 1):
        for subject in subjects:
            began = clock()
            subject.run()
            if number:
                taken[subject.name].append(clock() - began)
    ours = statistics.median(taken[OURS])
    return [
        row_of(bench, case, s.name, items, taken[s.name], ours, equal=s.equal, compared=compared)
        for s in subjects
    ]


def row_of(
    bench: str,
    case: str,
    subject: str,
    items: int,
    taken: Sequence[float],
    ours: float,
    *,
    equal: bool | None,
    compared: str,
    facts: Mapping[str, float | int | str] | None = None,
) -> Row:
    """Row of a subject from the seconds that its runs took; ``ours`` is our median."""
    seconds = statistics.median(taken)
    return Row(
        bench=bench,
        case=case,
        subject=subject,
        items=items,
        seconds=seconds,
        per_s=items / seconds,
        us_per_item=seconds / items * 1e6,
        ratio_to_ours=seconds / ours,
        equal=equal,
        runs=len(taken),
        seconds_min=min(taken),
        seconds_max=max(taken),
        compared=compared,
        facts=facts or {},
    )


def delays_row(
    bench: str,
    case: str,
    delays: Sequence[float],
    alone: Sequence[float],
    sent_per_s: float,
    *,
    compared: str,
) -> Row:
    """Row of seconds that single items waited; ``alone`` are those with nothing beside.

    The spread is from 1 % to 99 %.
    """
    p01, p50, p99 = np.percentile(delays, [1, 50, 99]).tolist()
    alone50, alone99 = np.percentile(alone, [50, 99]).tolist()
    row = row_of(bench, case, OURS, 1, [p50], alone50, equal=None, compared=compared)
    facts: dict[str, float | int | str] = {
        "measured": len(delays),
        "sent_per_s": sent_per_s,
        "p50_s": round(p50, 3),
        "p99_s": round(p99, 3),
        "max_s": round(max(delays), 3),
    }
    if alone is not delays:
        facts |= {"p50_ratio": round(p50 / alone50, 2), "p99_ratio": round(p99 / alone99, 2)}
    quantiles = np.percentile(delays, range(101)).round(5).tolist()
    return replace(row, seconds_min=p01, seconds_max=p99, facts=facts, quantiles_s=tuple(quantiles))


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """What was measured, and on what: date, code, load before, processors, versions.

    ``commit`` is that of the checkout from which this runs, as `commit` tells it.
    """
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "began_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "load_1min": round(os.getloadavg()[0], 2),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def commit(file: Path = Path(__file__)) -> str | None:
    """Short hash of the commit of a file, with ``+`` if the code was changed since.

    None where it is not under version control, as in an installed package. Documents do not
    count: the lines of benches are kept among them.
    """
    try:
        root = _git(file.parent, "rev-parse", "--show-toplevel")
        # An environment inside the checkout of something else is no part of that.
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        known = _git(file.parent, "rev-parse", "--short", "HEAD")
        changed = _git(Path(root), "status", "--porcelain", "-uno", "--", ".", ":(exclude)docs")
    except (OSError, subprocess.SubprocessError):
        # No git, no checkout, or one of somebody else: the version has to do.
        return None
    return f"{known}+" if changed else known


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
    )
    return done.stdout.strip()


def _processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """What the processors call themselves, where the system tells."""
    try:
        lines = table.read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def duration(seconds: float) -> str:
    """Seconds with three digits and a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
