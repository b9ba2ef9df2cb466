"""All benches one after another, each in a process of its own, and the file of their lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from crossmatch.errors import ConfigError, ServiceError
from gateway.bench import ending

Line: TypeAlias = Mapping[str, Any]
KEYS = (
    "bench", "case", "subject", "items", "seconds", "per_s", "us_per_item", "ratio_to_ours",
    "equal",
)  # fmt: skip
"""What every line has; more may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A bench, and the arguments of each time that it is run: in full, and for a first look."""

    name: str
    full: tuple[tuple[str, ...], ...] = ((),)
    short: tuple[tuple[str, ...], ...] = (("--small",),)


# Packets of 3 kB.
_LSST = ("--survey", "lsst", "--stamps", "0")
_SLOW_CDS = ("--cds-seconds", "10")
BENCHES = (
    Asked(name="join"),
    Asked(name="decode"),
    Asked(
        name="pipeline",
        full=((), (*_LSST, "--packets", "200000")),
        short=(("--small",), (*_LSST, "--small")),
    ),
    Asked(
        name="notices",
        short=(
            (
                "--voevents", "100", "--records", "100", "--cells", "20000", "--runs", "2",
                "--live-notices", "100", "--live-maps", "3",
            ),
        ),
    ),
    Asked(name="catalogue"),
    Asked(name="late-region", short=(("--small", "--no-live", "--runs", "1"),)),
    Asked(name="latency", full=(_SLOW_CDS,), short=((*_SLOW_CDS, "--small"),)),
    Asked(name="packets", short=(("--packets", "1000", "--batch", "500", "--runs", "1"),)),
    Asked(name="burst"),
    Asked(name="cluster"),
    Asked(name="bounds", short=(("burst", "half-sky", "--small"),)),
)  # fmt: skip
"""In the order in which they are run and told."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a bench ended, and what it printed."""

    status: int
    printed: str


Run: TypeAlias = Callable[[Sequence[str]], Done]


def in_process(arguments: Sequence[str]) -> Done:
    """Run ``mmgateway`` in a process of its own; what it says to people goes on to them.

    Raises
    ------
    SystemExit
        As `gateway.bench.ending.run` does.
    """
    done = ending.run([sys.executable, "-m", "gateway.cli", *arguments])
    return Done(done.returncode, done.stdout)


def chosen(names: Sequence[str]) -> list[Asked]:
    """Benches of these names in their order; all of them if there are no names.

    Raises
    ------
    ConfigError
        For a name that is none.
    """
    known = [asked.name for asked in BENCHES]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"no bench {unknown[0]!r}; there are: {', '.join(known)}")
    return [asked for asked in BENCHES if not names or asked.name in names]


def run_all(
    benches: Sequence[Asked],
    path: Path,
    *,
    short: bool,
    run: Run = in_process,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Run benches and put their lines into a file, in place of those that it had of them.

    The file is written after each bench, and lines of others stay: a run that was broken off
    can be gone on with, and a single bench be measured anew. A bench of which a part told nothing
    keeps the lines that it had.

    Raises
    ------
    ConfigError
        Before anything is run, if the file cannot take the lines.
    ServiceError
        When a bench failed or found results that differ; the others were run nevertheless.
    """
    _check(path, short=short)
    problems = []
    for asked in benches:
        found: list[Line] = []
        is_whole = True
        for arguments in asked.short if short else asked.full:
            told = " ".join(["bench", asked.name, *arguments])
            tell(told)
            done = run(["bench", asked.name, *arguments, "--json"])
            try:
                lines = [json.loads(text) for text in done.printed.splitlines() if text.strip()]
            except json.JSONDecodeError:
                problems.append(f"mmgateway {told} printed what is no JSON")
                is_whole = False
                continue
            is_whole &= bool(lines)
            found += [line | {"short": short} for line in lines]
            if done.status:
                problems.append(f"mmgateway {told} ended with status {done.status}")
        if is_whole:
            write(path, _merged(read(path) if path.exists() else [], asked.name, found))
    if problems:
        raise ServiceError("; ".join(problems))


def _check(path: Path, *, short: bool) -> None:
    """Raise ConfigError if the file cannot be written, or has lines that are worth more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: its folder cannot be made: {error}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK) or path.is_dir():
        raise ConfigError(f"{path}: cannot be written")
    if not path.exists():
        return
    before = read(path)
    if short and not all(line.get("short") for line in before):
        raise ConfigError(
            f"{path} has lines of full runs, which short ones would replace: give another --out"
        )


def _merged(before: Sequence[Line], name: str, found: Sequence[Line]) -> list[Line]:
    order = {asked.name: number for number, asked in enumerate(BENCHES)}
    lines = [line for line in before if line["bench"] != name] + list(found)
    return sorted(lines, key=lambda line: order.get(line["bench"], len(order)))


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a line is none of a bench.
    """
    try:
        lines = [json.loads(t) for t in path.read_text("utf-8").splitlines() if t.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no lines of benches: {error}") from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or (missing := [k for k in KEYS if k not in line]):
            lacks = f"lacks {', '.join(missing)}" if isinstance(line, dict) else "is no object"
            raise ConfigError(f"{path}: line {number} {lacks}")
    return lines


def write(path: Path, lines: Sequence[Line]) -> None:
    """Put lines into a file, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    os.replace(part, path)
