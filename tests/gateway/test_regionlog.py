"""What is kept of the log of regions: as much as may still matter, restarted or not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from broker import topics
from broker.regioncodec import decode_region
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Notice
from crossmatch.region import make_region
from gateway.intake import Decision, EventBook
from gateway.listener.outbox import Batch
from gateway.listener.regionlog import RegionLog
from gateway.listener.skymaps import SkymapStore
from tests.gateway.memory import arrival
from tests.gateway.test_intake import DAY, T0, notice, retraction, superseder


class Run:
    """A listener's book and its log of regions, and what went to the topic."""

    def __init__(self, folder: Path) -> None:
        self.book = EventBook()
        self.log = RegionLog(SkymapStore(folder))
        self.batch = Batch(0)

    def hear(self, of: Notice, day: float) -> Decision:
        """Take a notice in that came some days after T0."""
        came = arrival(b"", received=T0 + day * DAY)
        if of.alert_type == "retraction":
            decision = self.book.accept(of, received=came.received)
            if decision.outcome == "retraction":
                self.log.retraction(of, came, self.batch)
                self.log.last_word(decision, self.batch)
            return decision
        region = make_region(of, 1, DEFAULT_CHAINS)
        decision = self.book.accept(of, received=came.received, expires=region.expires)
        if decision.outcome == "region":
            region = replace(region, version=decision.version)
            self.log.region(of, region, came, self.batch)
            self.log.last_word(decision, self.batch)
        return decision

    @property
    def values(self) -> list[bytes]:
        return list(self.batch.of(topics.REGION_LOG))


def year(days: int) -> list[tuple[float, Notice]]:
    """Two notices a day of an event, every third event retracted, a test of one name for ever."""
    found: list[tuple[float, Notice]] = []
    for day in range(days):
        event, minute = f"E_{day}", day * 1440
        late, early = (notice(minute + n, event=event, trigger_time=T0 + day * DAY) for n in (2, 1))
        found += [(day + 0.1, late), (day + 0.2, early)]
        if day % 3 == 0:
            found.append((day + 0.3, retraction(minute + 5, event=event)))
        found.append((day + 0.4, notice(minute, rank=day % 2, event="T", role="test")))
    return found


def when(day: float) -> datetime:
    return T0 + day * DAY


def test_nothing_grows_with_the_years(tmp_path: Path) -> None:
    run = Run(tmp_path)
    sizes = []
    for number, (day, of) in enumerate(year(365), start=1):
        run.hear(of, day)
        run.log.sweep(run.book, when(day))
        if number % 130 == 0:
            sizes.append((len(run.log), len(run.book)))
    assert max(logs for logs, _ in sizes[3:]) <= 1.05 * max(logs for logs, _ in sizes[2:4])
    assert max(books for _, books in sizes[3:]) <= 1.05 * max(books for _, books in sizes[2:4])
    assert len(run.log) < 200 < len(run.values)


def test_a_restart_knows_what_the_run_before_it_knew(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    for day, of in year(150):
        first.hear(of, day)
    assert second.log.restore(first.values, second.book, when(150)) == len(first.values)
    first.book.forget(when(150))
    known = [
        [(s.event_id, s.world, len(s.versions), s.version, s.retracted) for s in run.book.states()]
        for run in (first, second)
    ]
    assert known[0] == known[1]
    assert len(second.log) < 300
    again = [(n, 150.0) for n in (notice(0, role="test", event="T"), notice(9, event="E_149"))]
    assert [first.hear(*one).version for one in again] == [
        second.hear(*one).version for one in again
    ]


def test_what_is_superseded_stays_so_after_a_restart(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    old = notice(0, event="A_1")
    first.hear(superseder(1, old.notice_id, event="B_1"), 0)
    second.log.restore(first.values, second.book, when(1))
    assert second.hear(old, 1).current is None


def test_a_shifted_number_is_not_said_of_what_was_forgotten(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.hear(notice(2), 0)
    run.log.sweep(run.book, when(0))
    run.log.sweep(run.book, when(100))
    assert len(run.log) == 0
    assert run.hear(notice(1), 100).version == 1
    said = [decode_region(value).fields["version"] for value in run.values]
    assert said == [1, 1]


def test_it_is_swept_once_an_hour(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.hear(notice(0), 0)
    start = when(99)
    for minutes, left in ((0, 1), (59, 1), (60, 0)):
        run.log.sweep(run.book, start + timedelta(minutes=minutes))
        assert len(run.log) == left


def said(run: Run, topic: str = topics.REGIONS) -> list[tuple[str, int]]:
    """Kind and version of all that was said on a topic."""
    records = map(decode_region, run.batch.of(topic))
    return [(r.alert_type, r.fields["version"]) for r in records]


def test_the_last_word_on_a_retracted_event_is_its_retraction(tmp_path: Path) -> None:
    usual, late = Run(tmp_path), Run(tmp_path)
    for of in (notice(0), retraction(5)):
        usual.hear(of, 0)
    for of in (retraction(5), notice(0)):
        late.hear(of, 0)
    assert said(usual) == [("initial", 1), ("retraction", 0)]
    assert said(late) == [("retraction", 0), ("initial", 1), ("retraction", 0)]
    assert late.values == list(late.batch.of(topics.REGIONS))
    assert late.values[0] == late.values[2]


def test_the_last_word_is_the_retraction_after_a_restart_too(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    first.hear(retraction(5), 0)
    second.log.restore(first.values, second.book, when(0))
    second.hear(notice(0), 0)
    assert said(second) == [("initial", 1), ("retraction", 0)]


def test_the_last_word_on_a_revived_event_is_what_is_in_force(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for of in (notice(9), retraction(5), notice(0)):
        run.hear(of, 0)
    assert said(run) == [
        ("initial", 1), ("retraction", 0), ("initial", 1), ("initial", 1), ("initial", 2),
    ]  # fmt: skip
    last = decode_region(run.values[-1])
    assert last.order == notice(9).order


def test_a_retraction_by_citation_is_repeated_and_that_of_another_event_is_not(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    run.hear(retraction(5, event="Other_1"), 0)
    run.hear(retraction(6, notice(0).notice_id, event="Alias_1"), 0)
    run.hear(notice(0), 0)
    assert [decode_region(v).event_id for v in run.values] == [
        "Other_1", "Alias_1", "Fermi_1", "Alias_1",
    ]  # fmt: skip


def test_a_real_retraction_is_repeated_for_a_test_but_none_of_a_private_stream(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    run.hear(retraction(6, streams=("ourteam",)), 0)
    run.hear(retraction(5), 0)
    run.hear(notice(0, role="test"), 0)
    assert said(run) == [("retraction", 0), ("initial", 1), ("retraction", 0)]
    assert said(run, "mm.private.ourteam.regions") == [("retraction", 0)]


def test_retractions_are_forgotten_in_their_time(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.hear(retraction(5), 0)
    run.log.sweep(run.book, when(0))
    run.log.sweep(run.book, when(100))
    run.hear(notice(0), 100)
    assert said(run) == [("retraction", 0), ("initial", 1)]
