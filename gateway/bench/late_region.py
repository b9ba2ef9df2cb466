"""``mmgateway bench late-region``: a late sky map and a late circle against a month of alerts.

The engine, the search and the archive are those of the live path. What they find is compared
with a plain look at every row.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from broker.archive import AlertArchive
from broker.engine import Batch, Engine, Outcome
from broker.regioncodec import RegionRecord, decode_region, encode_region
from broker.search import Commit, work_off
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts
from crossmatch.model import BoolArray, Circle, FloatArray, Messenger, MultiOrderMap, Notice, Region
from crossmatch.region import make_region
from crossmatch.times import datetime_from_jd, jd_from_datetime
from gateway.bench import sky30
from gateway.night.maps import Arc, Distance, level_at, multi_order_map

Found: TypeAlias = set[tuple[str, int]]
"""Objects and alerts of an event."""

# Half of it lies south of what the survey sees, as half of most maps is not to be seen.
_ARC = Arc(ra_deg=48.0, dec_deg=-25.0, angle_deg=60.0, along_deg=17.0, across_deg=4.0, bend_deg=70)
_CIRCLE = Circle(ra_deg=52.0, dec_deg=24.0, radius_deg=0.05, containment=0.9)
DISTANCE = Distance(mean_mpc=150.0, std_mpc=40.0)
FIRST_BATCH = 1
"""Of the live path: the archived alerts are of batch 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """A region that comes after the alerts, and the seconds in which it is to be answered."""

    name: str
    record: RegionRecord
    bar_s: float

    @property
    def region(self) -> Region:
        """Region of the record."""
        assert self.record.region is not None
        return self.record.region


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a search came to, and in which time.

    ``seconds`` is from the record to the last statement, ``first_seconds`` to the first one;
    ``parts`` are seconds by what they were spent on.
    """

    found: Found
    statements: int
    candidates: int
    seconds: float
    first_seconds: float
    parts: dict[str, float] = field(default_factory=dict)


def late_regions(nights: int) -> list[Late]:
    """A 3D map of a binary neutron star of 1,000 square degrees, and a circle as Swift sends.

    Their windows (14 and 20 days) lie in an archive of ``nights`` nights as far as these reach.
    """
    circle = late_of("circle", "swift_1300001", "grb", nights // 3, _CIRCLE, 1.0)
    return [late_map(nights), circle]


def late_map(nights: int, number: int = 0) -> Late:
    """The map of :func:`late_regions`, as that of the event of a number."""
    return late_of("map", f"S261110x{number}", "gw", nights // 3, sky_map(), 5.0)


@cache
def sky_map() -> MultiOrderMap:
    """The late map itself."""
    return multi_order_map(_ARC, DISTANCE)


def late_of(
    name: str,
    event: str,
    messenger: Messenger,
    night: int,
    place: MultiOrderMap | Circle,
    bar_s: float,
) -> Late:
    """A place as the region of an event that was an hour before the first exposure of a night."""
    trigger = datetime_from_jd(sky30.FIRST_JD + 0.07 + night)
    notice = Notice(
        feed="bench",
        mission="LVK" if messenger == "gw" else "Swift",
        instrument="",
        kind="late",
        notice_id=f"ivo://mmgateway.bench/{event}",
        event_id=event,
        trigger_id=event,
        messenger=messenger,
        role="observation",
        alert_type="initial",
        issued=trigger,
        order=(trigger.timestamp(), 0, 1),
        trigger_time=trigger,
        localization=place,
        sha256=event,
        classification={"BNS": 0.94, "NSBH": 0.02} if messenger == "gw" else {},
    )

    def load(*_: str) -> MultiOrderMap:
        assert isinstance(place, MultiOrderMap)
        return place

    region = make_region(notice, 1, DEFAULT_CHAINS)
    return Late(name, decode_region(encode_region(region), load), bar_s)


def new_engine(archive: AlertArchive, cuts: Cuts) -> Engine:
    """An engine that knows nothing yet."""
    return Engine(
        chains=DEFAULT_CHAINS,
        cuts=cuts,
        versions=Versions(cuts="bench", code="bench"),
        archive=archive,
        now=lambda: datetime.now(UTC),
    )


def answered(
    late: Late,
    archive: AlertArchive,
    cuts: Cuts,
    new_commit: Callable[[Engine], Commit] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Answer:
    """Search the archive for a region as the matcher does.

    Parameters
    ----------
    late : Late
    archive : AlertArchive
    cuts : Cuts
    new_commit : callable, optional
        From the engine to what makes a step and commits it, as `broker.commit.Committer.commit`;
        else steps are only made.
    """
    engine = new_engine(archive, cuts)
    watch = _Watch(_made if new_commit is None else new_commit(engine), clock)
    nothing = ALERT_SCHEMA.empty_table()
    begin = clock()
    watch.commit(lambda: engine.step(Batch(FIRST_BATCH, nothing, [late.record])))
    work_off(engine, watch.reading(archive), watch.commit)
    seconds = clock() - begin
    return Answer(
        found={(k.object_id, a) for k, group in engine.groups.items() for a in group.alerts},
        statements=watch.statements,
        candidates=sum(group.in_force for group in engine.groups.values()),
        seconds=seconds,
        first_seconds=(watch.first or begin + seconds) - begin,
        parts={
            "read_s": watch.read,
            "judge_s": seconds - watch.read - watch.steps,
            "steps_s": watch.steps,
        },
    )


def _made(take: Callable[[], Outcome | None]) -> Outcome | None:
    return take()


class _Watch:
    """Times what a search does, and counts what it says."""

    def __init__(self, commit: Commit, clock: Callable[[], float]) -> None:
        self._commit, self._clock = commit, clock
        self.read = self.steps = 0.0
        self.statements = 0
        self.first: float | None = None
        self._archive: AlertArchive | None = None

    def commit(self, take: Callable[[], Outcome | None]) -> Outcome | None:
        begin = self._clock()
        outcome = self._commit(take)
        now = self._clock()
        self.steps += now - begin
        if outcome is not None and outcome.statements:
            self.statements += len(outcome.statements)
            self.first = self.first or now
        return outcome

    def reading(self, archive: AlertArchive) -> _Watch:
        self._archive = archive
        return self

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        assert self._archive is not None
        return self._archive.nights(start_jd, end_jd)

    def search_night(self, *arguments: object) -> pa.Table:
        assert self._archive is not None
        begin = self._clock()
        rows = self._archive.search_night(*arguments)  # type: ignore[arg-type]
        self.read += self._clock() - begin
        return rows


_TRUTH_COLUMNS = (
    "object_id", "alert_id", "time_jd", "ra_deg", "dec_deg", "positive", "real_bogus",
    "deep_real_bogus", "n_bad", "moving_distance_arcsec", "ps1_distance_arcsec", "ps1_star_score",
)  # fmt: skip


def truth(late: Late, archive: AlertArchive, cuts: Cuts) -> tuple[Found, int, int]:
    """What a plain look at every row finds; rows looked at, and rows in region and window.

    Nothing of the index, the covers, the cuts or the reading of the archive is used.
    """
    found: Found = set()
    looked, inside = 0, 0
    trigger, window = jd_from_datetime(late.region.trigger_time), late.region.window
    rows = pads.dataset(archive.path, format="parquet", partitioning="hive")
    for batch in rows.to_batches(columns=list(_TRUTH_COLUMNS)):
        c = {
            name: np.asarray(batch.column(name).to_numpy(zero_copy_only=False))
            for name in _TRUTH_COLUMNS
        }
        since = c["time_jd"] - trigger
        timely = np.flatnonzero((since > window.start_days) & (since <= window.end_days))
        level = _levels(late.region.localization, c["ra_deg"][timely], c["dec_deg"][timely])
        held = timely[level <= late.region.level]
        c = {name: values[held] for name, values in c.items()}
        good = _good(c, cuts)
        found |= set(zip(c["object_id"][good].tolist(), c["alert_id"][good].tolist(), strict=True))
        looked, inside = looked + batch.num_rows, inside + len(held)
    return found, looked, inside


def _levels(place: object, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Credible levels from the definitions: sums over the map, or Fisher's distribution."""
    if isinstance(place, MultiOrderMap):
        return level_at(place, ra_deg, dec_deg)
    assert isinstance(place, Circle)
    ra, dec, ra0, dec0 = (
        np.radians(x) for x in (ra_deg, dec_deg, np.array(place.ra_deg), np.array(place.dec_deg))
    )
    versed = 2 * (
        np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    )
    # For radii this small the far side of the sphere holds nothing.
    edge = 2 * np.sin(np.radians(place.radius_deg) / 2) ** 2
    kappa = -np.log1p(-place.containment) / edge
    level: FloatArray = -np.expm1(-kappa * versed)
    return level


def _good(c: dict[str, FloatArray], cuts: Cuts) -> BoolArray:
    """Rows that pass all cuts; the generated alerts lack no value but the distance to a body."""
    score = (c["real_bogus"] >= cuts.min_real_bogus) | (
        c["deep_real_bogus"] >= cuts.min_deep_real_bogus
    )
    star = (c["ps1_distance_arcsec"] <= cuts.star_radius_arcsec) & (
        c["ps1_star_score"] > cuts.min_star_score
    )
    moves = c["moving_distance_arcsec"] <= cuts.moving_radius_arcsec
    good: BoolArray = (
        c["positive"].astype(np.bool_) & score & (c["n_bad"] <= cuts.max_bad_pixels)
    ) & ~(star | moves)
    return good
