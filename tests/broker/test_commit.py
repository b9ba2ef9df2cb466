"""Steps are committed one at a time, and none after one that failed."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from broker.commit import Committer, Input, Turnstile
from broker.engine import Batch
from broker.writer import Marker
from crossmatch.errors import ServiceError

from .conftest import alert, alerts, notice, record


class MemoryWriter:
    def __init__(self) -> None:
        self.markers: list[Marker] = []
        self.fails = False

    def publish(self, outcome: Any, marker: Marker, letters: Any, before: Marker | None) -> None:
        if self.fails:
            raise ServiceError("Kafka is away")
        assert before == (self.markers[-1] if self.markers else None)
        self.markers.append(marker)


def new(new_engine: Any) -> tuple[Any, MemoryWriter, Committer]:
    engine, writer = new_engine(), MemoryWriter()
    return engine, writer, Committer(engine, writer, None)  # type: ignore[arg-type]


def test_the_marker_says_what_a_start_must_find(new_engine):
    engine, writer, committer = new(new_engine)
    batch = Batch(0, alerts([alert(1, 150, 2)]), [record(notice("E1", 1, 150, 2, 5))])
    read = Input("run", regions_next=1, alerts_next={"alerts.ztf/0": 2})

    committer.commit(lambda: engine.step(batch), read)
    committer.commit(lambda: engine.reselect([]))

    first, second = writer.markers
    assert (first.step, first.batch_id, first.query, first.regions_next) == (0, 0, "run", 1)
    assert (first.groups, first.archived, first.aside) == (1, 0, 0)
    assert first.totals["received"] == 1
    assert (second.step, second.batch_id, second.query, second.regions_next) == (1, 0, "run", 1)
    assert second.alerts_next == {"alerts.ztf/0": 2}
    assert first.rules == engine.rules
    assert first.selection == engine.selection


def test_a_batch_without_new_alerts_is_not_looked_for_in_the_archive(new_engine):
    engine, writer, committer = new(new_engine)
    for number, rows in enumerate(([alert(1, 150, 2)], [alert(1, 150, 2)], [])):
        batch = Batch(number, alerts(rows))
        committer.commit(partial(engine.step, batch), Input("run"))

    assert [m.archived for m in writer.markers] == [0, 0, 0]


def test_nothing_is_built_on_a_step_that_was_not_committed(new_engine):
    engine, writer, committer = new(new_engine)
    writer.fails = True
    with pytest.raises(ServiceError, match="Kafka is away"):
        committer.commit(lambda: engine.step(Batch(0, alerts([]))), Input("run"))
    writer.fails = False

    with pytest.raises(ServiceError, match="no further step after one that failed"):
        committer.commit(lambda: engine.step(Batch(1, alerts([]))), Input("run"))
    assert writer.markers == []


def test_no_outcome_is_no_step(new_engine):
    engine, writer, committer = new(new_engine)

    assert committer.commit(lambda: engine.close_ended(0.0)) is None
    assert writer.markers == []


def test_what_was_rejected_or_lost_is_counted_with_what_came(new_engine):
    rejected, lost = {("null_required", "alerts.ztf"): 2}, {"alerts.lsst": 3}
    batch = Batch(0, alerts([alert(1, 150, 2)]), rejected=rejected, lost=lost, messages=3)

    counts = new_engine().step(batch).ledger

    assert counts == {
        "lost": 3,
        "messages": 3,
        "received": 6,
        "rejected.null_required": 2,
        "unmatched": 1,
    }


def test_who_waits_for_a_step_comes_before_who_just_made_one():
    turns, order = Turnstile(), []

    def live() -> None:
        with turns:
            order.append("live")

    with turns:
        thread = threading.Thread(target=live)
        thread.start()
        while not turns._next.locked():
            pass
    with turns:
        order.append("search")
    thread.join(10)
    assert order == ["live", "search"]
