"""What ``mmgateway bench bounds`` measures in: an engine, bursts day by day, memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from broker.archive import AlertArchive
from broker.aside import Aside
from broker.coldsqlite import SqliteColdStore
from broker.coldstore import ColdStore
from broker.engine import Batch, Engine, Outcome
from broker.regioncodec import RegionRecord, decode_region, encode_region, encode_retraction
from broker.search import work_off
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.model import Circle, Notice, Window
from crossmatch.region import make_region
from crossmatch.times import datetime_from_jd
from gateway.bench import sky30
from gateway.config import load

OPEN_DAYS = 3.0
LONGEST_DAYS = 8.0
"""Of the windows in the month: what began in its first days is over by day 12."""
_MEGABYTE = 1 << 20


class World:
    """An engine with an archive, and a clock that is set.

    Parameters
    ----------
    archive : object
        As the engine and searches need it; one on disk is also tidied.
    store : ColdStore
        For what is put aside.
    """

    def __init__(self, archive: Any, store: ColdStore) -> None:
        self.now = datetime_from_jd(sky30.FIRST_JD)
        self.archive = archive
        self.engine = Engine(
            chains=DEFAULT_CHAINS,
            cuts=load(None, environ={}).cuts,
            versions=Versions(cuts="bench", code="bench"),
            archive=archive,
            now=lambda: self.now,
            aside=Aside(store, decode_region),
        )
        self.statements = 0
        self._batch = 0

    @classmethod
    def on_disk(cls, folder: Path) -> World:
        """A world whose archive and whose file of ended events are in a folder."""
        return cls(AlertArchive(folder / "alerts"), SqliteColdStore(folder / "aside.sqlite"))

    def take(self, alerts: Any = None, records: Sequence[RegionRecord] = ()) -> float:
        """Make a step of the next batch; the seconds that it took."""
        self._batch += 1
        rows = ALERT_SCHEMA.empty_table() if alerts is None else alerts
        begin = time.perf_counter()
        self.commit(lambda: self.engine.step(Batch(self._batch, rows, records)))
        return time.perf_counter() - begin

    def commit(self, take: Callable[[], Outcome | None]) -> Outcome | None:
        """Make a step."""
        outcome = take()
        self.statements += 0 if outcome is None else len(outcome.statements)
        return outcome

    def search(self) -> float:
        """Do what searches are owed; the seconds that it took."""
        begin = time.perf_counter()
        work_off(self.engine, self.archive, self.commit)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Put aside what is over."""
        while self.commit(lambda: self.engine.close_ended(self.engine.clock_jd - OPEN_DAYS)):
            pass

    def tidy(self) -> None:
        """Make few files of many, where there are files."""
        if isinstance(self.archive, AlertArchive):
            self.archive.tidy(datetime.now(UTC))

    def sizes(self) -> dict[str, int]:
        """How much is in memory."""
        engine = self.engine
        return {
            "events": len(engine.events.in_force()),
            "families": len(engine.events.families),
            "index": len(engine._index),
            "groups": len(engine.groups),
            "alerts": sum(len(group.alerts) for group in engine.groups.values()),
            "searches": len(engine.searches),
        }


def events(
    count: int,
    day: int,
    seed: int,
    *,
    version: int = 1,
    radius: tuple[float, float] = (2.0, 10.0),
) -> Iterator[RegionRecord]:
    """Bursts of a day; the second version of each is half as large, of every fifth a retraction."""
    rng = np.random.default_rng([seed, 3, day])
    for number in range(count):
        place = Circle(
            ra_deg=float(35.0 + day + rng.uniform(-80, 80)) % 360,
            dec_deg=float(np.degrees(np.arcsin(rng.uniform(-0.5, 1)))),
            radius_deg=float(rng.uniform(*radius)) / version,
            containment=0.9,
        )
        window = Window(-1.0, float(rng.uniform(3.0, LONGEST_DAYS)))
        # Apart by more than joins bursts of several missions.
        when = datetime_from_jd(sky30.FIRST_JD + day) + timedelta(minutes=3 * number)
        gone = version > 1 and number % 5 == 0
        yield record(
            f"grb-{day}-{number}", place, when, window, version=version, is_retraction=gone
        )


def record(
    event: str,
    place: Circle,
    trigger: datetime,
    window: Window,
    *,
    version: int = 1,
    level: float | None = None,
    is_retraction: bool = False,
) -> RegionRecord:
    """A version of a burst as it is on the topic of regions."""
    issued = trigger + timedelta(minutes=version)
    notice = Notice(
        feed="bench",
        mission="Fermi",
        instrument="GBM",
        kind="bench",
        notice_id=f"ivo://mmgateway.bench/{event}#{version}",
        event_id=event,
        trigger_id=event,
        messenger="grb",
        role="observation",
        alert_type="retraction" if is_retraction else "initial" if version == 1 else "update",
        issued=issued,
        order=(issued.timestamp(), 0, version),
        trigger_time=trigger,
        localization=place,
        sha256=f"{event}-{version}",
    )
    if is_retraction:
        return decode_region(encode_retraction(notice))
    region = make_region(notice, version, DEFAULT_CHAINS, level=level, window=window)
    return decode_region(encode_region(region))


def resident_mb() -> int:
    """Memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() // _MEGABYTE


def peak_mb() -> int:
    """The most memory that this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // _MEGABYTE
