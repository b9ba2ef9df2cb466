"""``mmgateway bench bounds``: what bursts, many regions and a long run do to memory and latency.

Each case runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from broker.archive import AlertArchive
from broker.regioncodec import RegionRecord
from crossmatch.errors import ServiceError
from crossmatch.model import Circle, Window
from crossmatch.times import datetime_from_jd
from gateway.bench import ending, sky30
from gateway.bench.bounds_world import (
    LONGEST_DAYS,
    World,
    events,
    peak_mb,
    record,
    resident_mb,
)
from gateway.bench.measure import OURS, Row, row_of

BENCH = "bounds"
PACKAGES = ("mmgateway", "deltalake", "pyarrow", "numpy")
BATCH = 50
STEADY_DAY = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the cases are."""

    burst: int = 100_000
    regions: int = 1000
    archived: int = 300_000
    days: int = 30
    alerts_a_day: int = 20_000
    batches_a_day: int = 20
    events_a_day: int = 20
    radius_deg: tuple[float, float] = (2.0, 10.0)
    calm: int = 60
    seed: int = 1

    def smaller(self) -> Sizes:
        """A tenth of each, but for the days."""
        return Sizes(
            burst=self.burst // 10,
            regions=self.regions // 10,
            archived=self.archived // 10,
            alerts_a_day=self.alerts_a_day // 10,
            events_a_day=self.events_a_day // 4,
            calm=self.calm // 3,
            seed=self.seed,
        )


def burst(world: World, sizes: Sizes) -> dict[str, Any]:
    """A batch of very many alerts among small ones, with 200 regions in force."""
    world.take(records=list(events(200, 0, sizes.seed)))
    world.search()
    calm = 2 * sizes.calm * BATCH
    rows = _night(sizes.burst + calm, sizes.seed)
    world.take(rows.slice(0, BATCH))
    before = [world.take(rows.slice(at, BATCH)) for at in range(BATCH, calm // 2, BATCH)]
    base = resident_mb()
    took = world.take(rows.slice(calm // 2, sizes.burst))
    rest = range(calm // 2 + sizes.burst, rows.num_rows, BATCH)
    after = [world.take(rows.slice(at, BATCH)) for at in rest]
    quick = 2 * median(before)
    return {
        "told": f"{sizes.burst:,} alerts in one batch, 200 regions in force",
        "items": sizes.burst,
        "seconds": took,
        "step_before_ms": _ms(median(before)),
        "burst_s": round(took, 2),
        "step_after_ms": _ms(median(after)),
        "batches_until_as_before": next((i for i, s in enumerate(after) if s <= quick), -1),
        "statements": world.statements,
        "memory_before_mb": base,
        "peak_mb": peak_mb(),
        "bounded": median(after) <= quick and peak_mb() - base < 1500,
    }


def regions(world: World, sizes: Sizes) -> dict[str, Any]:
    """Very many regions in one batch, each of which owes a search of the archive."""
    rows = _filled(world, sizes)
    before = [world.take(rows.slice(at, BATCH)) for at in range(0, sizes.calm * BATCH, BATCH)]
    base = resident_mb()
    took = world.take(records=list(events(sizes.regions, 0, sizes.seed, radius=(0.5, 4.0))))
    searched = world.search()
    after = [
        world.take(rows.slice(at, BATCH))
        for at in range(sizes.calm * BATCH, 2 * sizes.calm * BATCH, BATCH)
    ]
    return {
        "told": f"{sizes.regions:,} regions in one batch, {sizes.archived:,} alerts archived",
        "items": sizes.regions,
        "seconds": took + searched,
        "step_before_ms": _ms(median(before)),
        "step_with_regions_s": round(took, 2),
        "searches_s": round(searched, 2),
        "step_after_ms": _ms(median(after)),
        "statements": world.statements,
        **world.sizes(),
        "memory_before_mb": base,
        "peak_mb": peak_mb(),
        "bounded": world.engine.searches == {} and peak_mb() - base < 1500,
    }


def half_sky(world: World, sizes: Sizes) -> dict[str, Any]:
    """A region of half the sky, and the archive below it."""
    _filled(world, sizes)
    base = resident_mb()
    place = Circle(ra_deg=35.0, dec_deg=20.0, radius_deg=90.0, containment=0.9)
    region = record("half", place, datetime_from_jd(sky30.FIRST_JD), Window(0.0, 20.0), level=0.9)
    took = world.take(records=[region])
    searched = world.search()
    return {
        "told": f"half the sky, {sizes.archived:,} alerts archived",
        "items": sizes.archived,
        "seconds": took + searched,
        "step_s": round(took, 2),
        "search_s": round(searched, 2),
        "statements": world.statements,
        **world.sizes(),
        "memory_before_mb": base,
        "peak_mb": peak_mb(),
        "bounded": world.engine.searches == {} and peak_mb() - base < 1500,
    }


def month(world: World, sizes: Sizes) -> dict[str, Any]:
    """Alerts and events day after day; what is over is put aside."""
    days: list[dict[str, int]] = []
    begin = time.perf_counter()
    sky_of = sky30.sources(sizes.alerts_a_day, sizes.seed)
    took: list[float] = []
    for day in range(sizes.days):
        world.now = datetime_from_jd(sky30.FIRST_JD + day + 1)
        rows = sky30.night(sky_of, day, sizes.alerts_a_day, sizes.seed)
        world.take(records=list(_events_of(sizes, day, 1)))
        size = max(1, rows.num_rows // sizes.batches_a_day)
        steps = [world.take(rows.slice(at, size)) for at in range(0, rows.num_rows, size)]
        world.search()
        # All are revised, some of them taken back.
        world.take(records=list(_events_of(sizes, day, 2)))
        world.search()
        world.close()
        world.tidy()
        took.append(median(steps))
        days.append(world.sizes() | {"memory_mb": resident_mb()})
    grown = {
        name: round(_largest(days[-7:], name) / max(_largest(days[STEADY_DAY:-7], name), 1), 2)
        for name in days[-1]
    }
    return {
        "told": f"{sizes.days} days of {sizes.alerts_a_day:,} alerts and {sizes.events_a_day}"
        f" events with windows of 3 to {LONGEST_DAYS:g} days",
        "items": sizes.days * sizes.alerts_a_day,
        "seconds": time.perf_counter() - begin,
        "statements": world.statements,
        "step_first_week_ms": _ms(median(took[:7])),
        "step_last_week_ms": _ms(median(took[-7:])),
        "last_week_to_steady": grown,
        "day": days,
        "peak_mb": peak_mb(),
        "bounded": all(ratio <= 1.3 for ratio in grown.values()),
    }


CASES: dict[str, Callable[[World, Sizes], dict[str, Any]]] = {
    "burst": burst,
    "regions": regions,
    "half-sky": half_sky,
    "month": month,
}


def measured(
    names: Sequence[str], *, small: bool, seed: int, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Results of cases, each measured in a fresh process.

    Raises
    ------
    ServiceError
        For an unknown case, or when a process failed.
    """
    sizes = Sizes(seed=seed).smaller() if small else Sizes(seed=seed)
    results = []
    for name in names:
        if name not in CASES:
            raise ServiceError(f"no case {name!r}; known: {', '.join(CASES)}")
        tell(name)
        command = [sys.executable, "-m", __name__, name, json.dumps(asdict(sizes))]
        done = ending.run(command, stderr=subprocess.PIPE)
        if done.returncode:
            raise ServiceError(f"the case {name} failed: {done.stderr.strip()[-500:]}")
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return results


def row(result: dict[str, Any]) -> Row:
    """A result as a row: the items that the case took in, and the seconds that it took for them."""
    seconds = [result["seconds"]]
    facts = {name: value for name, value in result.items() if isinstance(value, int | float)}
    return row_of(
        BENCH,
        result["case"],
        OURS,
        result["items"],
        seconds,
        seconds[0],
        equal=None,
        compared=f"{result['told']}; memory and time of one run in a process of its own",
        facts=facts | {"bounded": "yes" if result["bounded"] else "no"},
    )


def _filled(world: World, sizes: Sizes) -> Any:
    """Alerts of a fourth night, after three have been archived."""
    alerts = max(sizes.archived // 3, 2 * sizes.calm * BATCH)
    sky_of = sky30.sources(alerts, sizes.seed)
    for number in range(3):
        rows = sky30.night(sky_of, number, alerts, sizes.seed)
        for at in range(0, alerts, 20_000):
            world.take(rows.slice(at, 20_000))
    world.now = datetime_from_jd(sky30.FIRST_JD + 4)
    if isinstance(world.archive, AlertArchive):
        world.archive.compact(now=datetime.now(UTC))
    return sky30.night(sky_of, 3, alerts, sizes.seed)


def _night(alerts: int, seed: int) -> Any:
    return sky30.night(sky30.sources(alerts, seed), 0, alerts, seed)


def _events_of(sizes: Sizes, day: int, version: int) -> Iterator[RegionRecord]:
    return events(sizes.events_a_day, day, sizes.seed, version=version, radius=sizes.radius_deg)


def _largest(days: Sequence[dict[str, int]], name: str) -> int:
    return max((day[name] for day in days), default=0)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main() -> None:
    """Measure the case that the arguments name, and print its result as JSON."""
    name, sizes = sys.argv[1], Sizes(**json.loads(sys.argv[2]))
    with ending.cleanly(), tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
        result = CASES[name](World.on_disk(Path(folder)), sizes)
    print(json.dumps({"bench": BENCH, "case": name} | result))


if __name__ == "__main__":
    main()
