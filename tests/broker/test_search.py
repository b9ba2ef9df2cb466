"""Owed searches: what they find, in which steps, and what becomes of them when things change."""

from __future__ import annotations

import threading

import pytest

from broker import search, told
from broker.engine import Engine
from broker.owed import OwedSearch, owed_by
from broker.search import Searcher
from crossmatch.candidate import assess
from crossmatch.verdicts import Verdict

from .conftest import T0_JD, MemoryArchive, alert, alerts, engine_of, notice, record
from .runner import Crash, Runner

NONE = alerts([])
NIGHTS = [alert(10 * i + 1, 150.0 + 0.1 * i, 2.0, days=0.5 + i) for i in range(5)]


def grb(event: str, serial: int = 1, ra: float = 150.0, radius: float = 3.0, **changed):
    return record(notice(event, serial, ra, 2.0, radius, **changed), serial)


def retraction(event: str, serial: int, **changed):
    return grb(event, serial, alert_type="retraction", localization=None, **changed)


def ids(statements) -> list[tuple[str, str]]:
    return [(s["event_id"], s["id"]) for s in statements]


def test_each_night_is_a_step_and_the_state_topic_has_how_far_it_came(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])
    (owed,) = runner.engine.searches.values()
    assert (owed.before_batch, owed.until, owed.found) == (1, "", 0)

    assert len(runner.search(parts=1)) == 1
    (owed,) = runner.engine.searches.values()
    assert (owed.until, owed.found) == ("2024-03-01", 1)
    stored = [v for k, v in runner.kafka.state.items() if k.startswith("search/")]
    assert len(stored) == 1
    entry = runner.kafka.entries[-1]
    assert entry["kind"] == "search"
    assert entry["counts"] == {"found": 1, "statements": 1, "told.bronze": 1}
    assert entry["search"] == [
        {
            "event_id": "E1",
            "is_test": False,
            "streams": [],
            "after": "",
            "until": "2024-03-01",
            "before_batch": 1,
            "through": None,
            "objects": None,
            "found": 1,
        }
    ]

    assert len(runner.search()) == 4
    assert runner.engine.searches == {}
    assert not [k for k in runner.kafka.state if k.startswith("search/")]


@pytest.mark.parametrize("parts", range(6))
def test_a_search_is_resumed_where_it_was_when_the_process_ended(runner, parts):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])
    before = runner.search(parts=parts) if parts else []
    runner.restart()
    runner.archive.reads.clear()

    after = runner.search()

    assert sorted(ids(before + after)) == [("E1", f"ZTF24{i:07d}") for i in range(5)]
    assert len(runner.archive.reads) == 5 - parts


def test_a_part_that_was_not_committed_is_searched_again(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])
    runner.search(parts=2)
    runner.search(crash=True)
    assert len(runner.search()) == 3
    assert len(runner.in_force()) == 5


def test_alerts_of_the_regions_own_batch_and_later_ones_are_not_looked_for(runner):
    runner.step(alerts(NIGHTS[:2]))
    live = runner.step(alerts(NIGHTS[2:3]), [grb("E1")])
    live += runner.step(alerts(NIGHTS[3:]))
    assert len(live) == 3
    found = runner.search()
    assert len(found) == 2
    assert {s["reason"] for s in found} == {"found_in_archive"}


def test_a_thousand_regions_at_once_read_each_night_once(runner):
    runner.step(alerts(NIGHTS))
    few = [grb(f"E{i}", radius=0.02 + 0.001 * i, mission=f"M{i}") for i in range(200)]
    many = [grb(f"G{i}", radius=0.5, messenger="neutrino") for i in range(800)]
    runner.step(NONE, few + many)

    runner.search()

    assert runner.archive.reads == sorted(set(runner.archive.reads))
    assert len(runner.archive.reads) == 5
    assert len({e for e, *_ in runner.in_force()}) == 801


def test_a_small_region_does_not_wait_for_a_large_one_that_is_on_its_way(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("LARGE", radius=30.0, messenger="neutrino")])
    runner.search(parts=1)
    runner.step(NONE, [grb("SMALL", radius=0.3)])
    assert {e for e, _ in ids(runner.search(parts=1))} == {"SMALL"}


def test_what_was_found_for_a_version_that_is_no_longer_in_force_is_dropped(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1", radius=3.0)])
    elsewhere = grb("E1", 2, ra=30.0)

    runner.search(meanwhile=lambda: runner.step(NONE, [elsewhere]))

    assert runner.kafka.statements == []
    assert runner.engine.searches == {}


def test_a_change_in_the_middle_of_a_night_loses_nothing_of_the_new_version(runner, monkeypatch):
    """What the old version found so far must not count as how far the new one came."""
    monkeypatch.setattr(search, "MOST", 1)
    monkeypatch.setattr(search, "ROWS", 1)
    rows = [alert(10 * i + 1, 150.0 + 0.1 * i, 2.0, days=1 + i // 3) for i in range(6)]
    runner.step(alerts(rows))
    runner.step(NONE, [grb("E1", radius=0.25)])
    moved = grb("E1", 2, ra=150.5, radius=0.3)
    runner.search(meanwhile=lambda: runner.step(NONE, [moved]))
    assert {name[-1][-1] for name in runner.in_force()} == {"1", "2", "3", "4", "5"}
    entries = [e["search"][0] for e in runner.kafka.entries if e["kind"] == "search"]
    # In the middle of a night it says how far it came, by number and batch.
    assert [e["through"] for e in entries] == [
        ["2024-03-01", 11, 0],
        None,
        ["2024-03-02", 31, 0],
        ["2024-03-02", 41, 0],
        None,
    ]


def test_what_is_found_of_many_objects_is_taken_in_by_several_steps(runner, monkeypatch):
    """All alerts of an object at once, so that it is told once; another region may go between."""
    monkeypatch.setattr(search, "ENOUGH", 2)
    monkeypatch.setattr(search, "SECONDS", 1e9)
    again = [row | {"alert_id": row["alert_id"] + 1} for row in NIGHTS]
    later = [row | {"time_jd": row["time_jd"] + 1} for row in again]
    runner.step(alerts([*NIGHTS, *later]))
    runner.step(NONE, [grb("LARGE", radius=30.0, messenger="neutrino")])

    runner.search(at=2, meanwhile=lambda: runner.step(NONE, [grb("SMALL", radius=0.05)]))

    told = [e["search"][0] for e in runner.kafka.entries if e["kind"] == "search"]
    assert [(t["event_id"], t["objects"]) for t in told] == [
        ("LARGE", ["LARGE/ztf/ZTF240000000", "LARGE/ztf/ZTF240000001"]),
        ("LARGE", ["LARGE/ztf/ZTF240000002", "LARGE/ztf/ZTF240000003"]),
        ("SMALL", None),
        ("LARGE", ["LARGE/ztf/ZTF240000004", "LARGE/ztf/ZTF240000004"]),
    ]
    assert {(t["after"], t["until"]) for t in told} == {("", "2024-03-06")}
    assert [s["n_alerts"] for s in runner.kafka.statements] == [2] * 6
    assert runner.engine.searches == {}


@pytest.fixture
def inside_steps(runner, monkeypatch) -> list[str]:
    """Objects that steps of searches had to judge themselves, in the order of time."""
    judged: list[str] = []
    in_step = False
    take_found = Engine.take_found

    def taking(engine, *args, **kwargs):
        nonlocal in_step
        in_step = True
        try:
            return take_found(engine, *args, **kwargs)
        finally:
            in_step = False

    def assessing(region, chain, found, *args, **kwargs):
        if in_step:
            judged.append(found[0].alert["object_id"])
        return assess(region, chain, found, *args, **kwargs)

    monkeypatch.setattr(Engine, "take_found", taking)
    monkeypatch.setattr(told, "assess", assessing)
    return judged


def test_candidates_that_were_made_ahead_are_used(runner, inside_steps):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])
    assert len(runner.search()) == 5
    assert inside_steps == []


def test_a_candidate_is_made_anew_when_a_live_alert_of_its_object_came_meanwhile(
    runner, inside_steps
):
    runner.step(alerts(NIGHTS[:2]))
    runner.step(NONE, [grb("E1")])
    live = NIGHTS[0] | {"alert_id": 99, "time_jd": NIGHTS[0]["time_jd"] + 0.2}

    runner.search(meanwhile=lambda: runner.step(alerts([live])))

    assert inside_steps == [live["object_id"]]
    assert [s["n_alerts"] for s in runner.in_force().values()] == [2, 1]


def test_a_candidate_is_made_anew_when_a_notice_of_the_same_place_came_meanwhile(
    runner, inside_steps
):
    runner.step(alerts(NIGHTS[:1]))
    runner.step(NONE, [grb("E1")])

    runner.search(meanwhile=lambda: runner.step(NONE, [grb("E1", 2)]))

    (statement,) = runner.in_force().values()
    assert (statement["event_version"], len(inside_steps)) == (2, 1)


def test_a_candidate_is_made_anew_when_people_said_something_meanwhile(runner, inside_steps):
    runner.step(alerts(NIGHTS[:1]))
    runner.step(NONE, [grb("E1")])
    name = NIGHTS[0]["object_id"]

    said = Verdict(
        verdict_id="v1",
        counterpart_id=f"MM-ZTF-{name}",
        classification="asteroid",
        effect="demote",
        stated="2024-03-05T00:00:00.000000Z",
    )

    runner.search(meanwhile=lambda: runner.step(NONE, verdicts=[said]))

    (statement,) = runner.in_force().values()
    assert (statement["verdict"], inside_steps) == ("asteroid", [name])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_search_that_ended_between_such_steps_finds_all_again(runner, monkeypatch, steps):
    monkeypatch.setattr(search, "ENOUGH", 2)
    monkeypatch.setattr(search, "SECONDS", 1e9)
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])

    def end() -> None:
        raise Crash

    runner.search(at=1 + steps, meanwhile=end)
    (owed,) = runner.engine.searches.values()
    assert (owed.until, owed.found) == ("", 2 * steps)
    runner.search()
    assert sorted(ids(runner.kafka.statements)) == [("E1", f"ZTF24{i:07d}") for i in range(5)]
    assert runner.counts["found"] == 5


def test_the_others_of_a_part_go_on_when_one_of_them_changes(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1"), grb("E2", mission="LVC", messenger="gw")])
    runner.search(meanwhile=lambda: runner.step(NONE, [retraction("E1", 2)]))
    assert {event for event, *_ in runner.in_force()} == {"E2"}


def test_a_retraction_ends_the_search(runner):
    runner.step(alerts(NIGHTS))
    runner.step(NONE, [grb("E1")])
    runner.search(parts=1)
    (said,) = runner.step(NONE, [retraction("E1", 2)])
    assert (said["state"], said["reason"]) == ("withdrawn", "event_retracted")
    assert runner.engine.searches == {}
    assert runner.search() == []


def test_an_alert_taken_back_while_it_was_read_is_not_told(runner):
    """Also when the alert itself lies outside of what the live path looks at."""
    row = alert(1, 150.0, 2.0)
    runner.step(alerts([row]))
    runner.step(NONE, [grb("E1")])
    runner.search(meanwhile=lambda: runner.step(alerts([row | {"withdrawn": True}])))
    assert runner.kafka.statements == []
    assert runner.engine._taken_back == set()


def test_alerts_at_the_very_ends_of_a_window_are_found_as_the_live_path_finds_them():
    """A window of some minutes ends between two Julian dates that float64 can tell apart."""
    step = 2.0**-31
    trigger_to_start = -10 / 1440
    edges = [T0_JD + trigger_to_start, T0_JD + 20.0]
    rows = [
        alert(10 * i + 1, 150.0, 2.0, time_jd=edge + n * step)
        for i, (edge, n) in enumerate((e, n) for e in edges for n in (-2, -1, 0, 1, 2))
    ]

    def played(*batches) -> set:
        runner = Runner(lambda archive, aside: engine_of(archive, aside=aside))
        for batch in batches:
            runner.play(*batch)
        return set(runner.in_force())

    live = played((NONE, [grb("E1")]), (alerts(rows), []))
    late = played((alerts(rows), []), (NONE, [grb("E1")]))
    assert late == live
    assert 3 <= len(live) <= 7


def test_an_owed_search_survives_the_state_topic():
    owed = owed_by(grb("E1", streams=("b", "a"), role="test").region, 7)
    assert OwedSearch.from_json(owed.to_json()) == owed
    assert owed.event == ("E1", (True, ("a", "b")))
    assert owed.key == 'search/["E1", true, ["a", "b"]]'


# --- the thread ------------------------------------------------------------------------------


def test_the_thread_does_what_is_owed_beside_the_live_path():
    archive, lock, idle = MemoryArchive(), threading.Lock(), threading.Event()
    runner = Runner(lambda _, aside: engine_of(archive, aside=aside))
    engine, failures = runner.engine, []

    def commit(take):
        with lock:
            outcome = take()
            if outcome is not None:
                runner._commit(outcome)
            if not engine.searches:
                idle.set()
            return outcome

    searcher = Searcher(engine, archive, commit, failures.append)
    searcher.start()
    expected = 0
    for i in range(20):
        with lock:
            runner.step(alerts([alert(10 * i + 1, 150.0 + 0.01 * i, 2.0, days=0.1 + i % 7)]))
            if i % 4 == 3:
                expected = i + 1
                idle.clear()
                runner.step(NONE, [grb("E1", i + 1, radius=2.0 + 0.1 * i)])
        searcher.wake()
    assert idle.wait(30)
    searcher.stop()
    assert not failures
    assert not searcher.is_alive()
    assert len(runner.in_force()) == expected == 20


def test_an_error_ends_the_thread_and_is_told():
    failures = []

    def commit(_):
        raise OSError("the disk is gone")

    searcher = Searcher(engine_of(), MemoryArchive(), commit, failures.append)
    searcher.start()
    searcher.wake()
    searcher.join(30)
    assert [str(f) for f in failures] == ["the disk is gone"]
