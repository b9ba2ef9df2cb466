"""Everything is killed, again and again, and nothing is lost or said twice: ``make chaos``.

As a program: ``python -m tests.chaos.run [--kills 100] [--interleavings 0] [--seed 1]``. The last
line is the verdict and the exit status says the same. What was played and killed follows from the
seed; when exactly a process dies does not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.config import ENV_PREFIX

from .checks import Check
from .interleave import Interleaving, interleavings
from .killer import KAFKA, TARGETS, Shot
from .night import Moment, moments, play
from .stack import Stack, running

_KEPT_VARIABLES = {f"{ENV_PREFIX}CACHE", f"{ENV_PREFIX}MAVEN"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; 0 when every promise was kept."""
    options = _options(arguments)
    # A gateway that is configured here must not change what is tried.
    for name in [n for n in os.environ if n.startswith(ENV_PREFIX) and n not in _KEPT_VARIABLES]:
        del os.environ[name]
    console = Console(
        stderr=options.json, highlight=False, width=None if sys.stdout.isatty() else 110
    )
    folder = Path(tempfile.mkdtemp(prefix="mmgateway-chaos-", dir=options.folder))
    console.print(f"seed {options.seed}; the gateway's folder is {folder}")
    rng = Random(options.seed)
    night = moments(options.scale, _stories(options), rng) if options.kills else []
    begin = time.monotonic()
    done: dict[str, Any] = {"seed": options.seed, "folder": str(folder)}
    try:
        with running(folder) as stack:
            console.print(f"the gateway is up after {time.monotonic() - begin:.0f} s")
            sentences = _run(stack, night, options, rng, console, done)
    except BaseException:
        console.print(f"{folder} is kept: logs lie in data/logs")
        raise
    done["seconds"] = round(time.monotonic() - begin, 1)
    ok = all(part["ok"] for part in done["parts"])
    if ok and not options.keep:
        shutil.rmtree(folder)
    else:
        console.print(f"{folder} is kept: logs lie in data/logs")
    word = "PASS" if ok else "FAIL"
    done["verdict"] = (
        f"chaos: {word} {', '.join(sentences)}, seed {options.seed}, {done['seconds']:.0f} s"
    )
    print(json.dumps(done) if options.json else done["verdict"])
    return 0 if ok else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.run",
        description="Kills services at random moments and compares what remains with the answer"
        " of a batch run.",
        epilog="make chaos KILLS=20 SEED=3; make interleavings COUNT=5",
    )
    parser.add_argument("--kills", type=int, default=100, help="kills during the night (100)")
    parser.add_argument(
        "--interleavings", type=int, default=0, help="random interleavings after it (0)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same play (1)")
    parser.add_argument("--scale", type=int, default=3000, help="alerts of the night (3000)")
    parser.add_argument(
        "--gap", type=float, default=4.0, help="longest pause between kills in seconds (4)"
    )
    parser.add_argument("--kafka-first", action="store_true", help="begin with Kafka")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--keep", action="store_true", help="keep the folder even after a PASS")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(arguments)


def _stories(options: argparse.Namespace) -> int:
    """Bursts that are told besides the night: two kills for each."""
    return max(4, options.kills // 2)


def _run(
    stack: Stack,
    night: list[Moment],
    options: argparse.Namespace,
    rng: Random,
    console: Console,
    done: dict[str, Any],
) -> list[str]:
    """The night and the interleavings; a sentence about each."""
    parts: list[dict[str, Any]] = []
    sentences = []
    done["parts"] = parts
    if night:
        parts.append(_night(stack, night, options, rng, console))
        sentences.append(f"{parts[-1]['kills']} kills")
    if options.interleavings and all(part["ok"] for part in parts):
        parts.append(_interleavings(stack, options, rng, console))
        sentences.append(f"{parts[-1]['count']} interleavings")
    for part in parts:
        sentences += [f"{c['name']}: {c['detail']}" for c in part["checks"] if not c["ok"]]
    return sentences


def _night(
    stack: Stack,
    night: list[Moment],
    options: argparse.Namespace,
    rng: Random,
    console: Console,
) -> dict[str, Any]:
    result = play(
        stack,
        night,
        options.kills,
        rng,
        console.print,
        first=(KAFKA,) if options.kafka_first else (),
        gap_seconds=options.gap,
    )
    shots, verdict = result.killer.shots, result.verdict
    console.print(_table_of_kills(shots))
    console.print(
        f"{verdict.cut_transactions} of {len(shots)} kills cut a transaction in two;"
        f" {verdict.cut_messages} messages of such never became visible."
    )
    console.print(f"Starts by the supervisor: {result.restarts}")
    console.print(_table_of_checks(verdict.checks))
    return {
        "ok": verdict.ok,
        "kills": len(shots),
        "cut_transactions": verdict.cut_transactions,
        "seconds": round(result.seconds, 1),
        "statements": verdict.statements,
        "shots": [_shot(shot) for shot in shots],
        "checks": [_as_dict(check) for check in verdict.checks],
    }


def _interleavings(
    stack: Stack, options: argparse.Namespace, rng: Random, console: Console
) -> dict[str, Any]:
    played: list[Interleaving] = []
    for one in interleavings(stack, options.interleavings, rng, _stories(options)):
        played.append(one)
        killed = ", ".join(shot.target.name for shot in one.kills)
        word = "ok" if one.verdict.ok else "DIFFERS"
        console.print(
            f"{one.number:>3} {word:<7} {one.seconds:5.1f} s  {one.alerts:>3} alerts,"
            f" {one.notices:>2} notices, {one.order}; killed: {killed}",
            soft_wrap=True,
        )
    last = played[-1].verdict
    console.print(_table_of_checks(last.checks))
    return {
        "ok": last.ok and len(played) == options.interleavings,
        "count": len(played),
        "kills": sum(len(one.kills) for one in played),
        "checks": [_as_dict(check) for check in last.checks],
        "shots": [_shot(shot) for one in played for shot in one.kills],
    }


def _shot(shot: Shot) -> dict[str, Any]:
    return {
        "service": shot.target.service,
        "what": shot.target.what,
        "mode": shot.mode,
        "unix_s": round(shot.at, 3),
        "recovery_s": None if shot.recovery_s is None else round(shot.recovery_s, 2),
        "cut": shot.cut,
    }


def _as_dict(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail}


def _table_of_kills(shots: Sequence[Shot]) -> Table:
    table = Table(title="Kills", title_justify="left")
    for name in ("service", "killed"):
        table.add_column(name)
    for name in ("kills", "amid a transaction", "back after, median s", "max s"):
        table.add_column(name, justify="right")
    by_target: dict[str, list[Shot]] = defaultdict(list)
    for shot in shots:
        by_target[shot.target.name].append(shot)
    for target in TARGETS:
        if found := by_target.get(target.name):
            seconds = [s.recovery_s for s in found if s.recovery_s is not None]
            table.add_row(
                target.service,
                target.what,
                str(len(found)),
                str(sum(bool(s.cut) for s in found)),
                f"{statistics.median(seconds):.1f}" if seconds else "-",
                f"{max(seconds):.1f}" if seconds else "-",
            )
    return table


def _table_of_checks(found: Sequence[Check]) -> Table:
    table = Table(title="Checks", title_justify="left")
    table.add_column("what must hold")
    table.add_column("")
    table.add_column("found", overflow="fold")
    for check in found:
        table.add_row(check.name, "ok" if check.ok else "[red]FAILS[/]", check.detail)
    return table


if __name__ == "__main__":
    sys.exit(main())
