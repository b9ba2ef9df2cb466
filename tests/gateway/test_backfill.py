"""Look-ups at CDS beside the steps: nothing waits, nothing is lost, nothing is said twice."""

from __future__ import annotations

import io
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from broker import ledger, packets, surveys
from broker.awaited import Question, questions_of
from broker.groups import Group, GroupKey
from broker.regioncodec import decode_region, encode_region
from catalogs.cds import CdsClient, Place, Settings
from catalogs.cds_cache import AnswerCache
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.counterpart import MatchedAlert
from crossmatch.errors import CatalogError, ServiceError
from crossmatch.model import MultiOrderMap
from crossmatch.region import make_region
from crossmatch.remote import Answer, Remote
from crossmatch.skymap import read_skymap
from gateway.config import load
from gateway.feeds.registry import load_feeds
from gateway.lookup import remote_of
from gateway.matcher import backfill as module
from gateway.matcher.backfill import Backfill, BackfillThread, client_of
from gateway.night.alerts import alerts as night_alerts
from gateway.night.notices import notices
from tests.broker import conftest as broker
from tests.broker.runner import Runner
from tests.catalogs import cds_server
from tests.catalogs.cds_server import CdsServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIMBAD = Remote(("simbad",))
_MAPS: dict[str, MultiOrderMap] = {}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Teller:
    """The topic: what was told, in order."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.down = False

    def __call__(self, answers: Sequence[Answer]) -> None:
        if self.down:
            raise ServiceError("Kafka does not take it")
        self.answers += answers


class Scripted:
    """A client that does as it is told."""

    version = "2026-03-01"

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.down = False
        self.poison: set[str] = set()

    def ask(self, catalog: str, places: Sequence[Place]) -> list[Answer]:
        self.sizes.append(len(places))
        if self.down:
            raise ServiceError("CDS does not answer")
        if self.poison & {p.counterpart_id for p in places}:
            raise CatalogError("cds_nonsense", "what is this")
        return [answer(p, catalog) for p in places]


def answer(place: Place, catalog: str = "simbad") -> Answer:
    at = "2026-03-01T12:00:00.000Z"
    name, ra, dec = place
    return Answer(name, catalog, "2026-03-01", ra, dec, 2.0, at, "xmatch")


def question(number: int, catalog: str = "simbad") -> Question:
    return Question(catalog, f"MM-ZTF-{number}", 10.0 + number / 100, 20.0)


class World:
    """A backfill with everything around it in memory, except the cache."""

    def __init__(self, folder: Path, n: int = 3, batch: int = 100) -> None:
        self.awaited = [question(i) for i in range(n)]
        self.client, self.told, self.clock = Scripted(), Teller(), Clock()
        self.cache = AnswerCache(folder / "cds.sqlite", 1.0)
        self.backfill = Backfill(
            lambda: list(self.awaited), self.client, self.cache, self.told, batch, self.clock
        )

    def work(self, seconds: float = 0.0) -> Any:
        self.clock.now += seconds
        return self.backfill.work()

    def take_in(self) -> None:
        """The matcher reads what was told."""
        known = {(a.catalog, a.counterpart_id) for a in self.told.answers}
        self.awaited = [q for q in self.awaited if (q.catalog, q.counterpart_id) not in known]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the backfill itself ----------------------------------------------------------------------


def test_what_is_awaited_is_asked_and_told_once(world: World) -> None:
    assert world.work().answered == {"simbad": 3}
    assert world.work(1.0).answered == {}
    assert (world.client.sizes, len(world.told.answers)) == ([3], 3)


def test_many_are_asked_in_batches(tmp_path: Path) -> None:
    world = World(tmp_path, n=25, batch=10)
    world.work()
    assert (world.client.sizes, len(world.told.answers)) == ([10, 10, 5], 25)


def test_server_that_is_down_is_asked_less_and_less_and_nothing_is_lost(world: World) -> None:
    world.client.down = True
    times = []
    for _ in range(4000):
        before = len(world.client.sizes)
        report = world.work(1.0)
        if len(world.client.sizes) > before:
            times.append(world.clock.now)
        assert report.trouble == {"simbad": "CDS does not answer"}
        assert report.awaited == {"simbad": 3}
    waits = [round(b - a) for a, b in pairwise(times)]
    assert waits == [10, 20, 40, 80, 160, 320] + [600] * 5
    world.client.down = False
    assert world.work(600.0).answered == {"simbad": 3}
    world.take_in()
    assert world.work(1.0).trouble == {}


def test_place_that_gives_nonsense_does_not_hold_up_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, n=200, batch=100)
    world.client.poison = {"MM-ZTF-150"}
    for _ in range(60):
        world.work(600.0)
        world.take_in()
    assert [q.counterpart_id for q in world.awaited] == ["MM-ZTF-150"]
    assert len({a.counterpart_id for a in world.told.answers}) == 199
    asked = len(world.client.sizes)
    assert asked < 40
    world.work(60.0)
    assert len(world.client.sizes) == asked, "alone it is asked about once an hour"
    world.client.poison = set()
    assert world.work(3600.0).answered == {"simbad": 1}


def test_trouble_with_one_catalogue_does_not_stop_another(world: World) -> None:
    world.awaited.append(question(7, "vizier:t"))
    world.client.poison = {"MM-ZTF-0"}
    report = world.work()
    assert (report.answered, set(report.trouble)) == ({"vizier:t": 1}, {"simbad"})


def test_place_of_another_object_comes_from_the_cache(world: World) -> None:
    world.work()
    world.awaited = [question(1)._replace(counterpart_id="MM-LSST-9")]
    report = world.work()
    assert (report.from_cache, world.client.sizes) == (1, [3])
    assert world.told.answers[-1].counterpart_id == "MM-LSST-9"


def test_answer_that_kafka_did_not_take_is_told_later(world: World) -> None:
    world.told.down = True
    with pytest.raises(ServiceError, match="Kafka"):
        world.work()
    world.told.down = False
    report = world.work(1.0)
    assert (report.answered, report.from_cache, world.client.sizes) == ({"simbad": 3}, 3, [3])


def test_answer_on_the_way_from_before_a_restart_is_not_asked_for(world: World) -> None:
    places = [Place(q.counterpart_id, q.ra_deg, q.dec_deg) for q in world.awaited]
    world.backfill.note(map(answer, places[:2]))
    world.work()
    assert world.client.sizes == [1]


def test_answer_that_never_arrives_is_told_again(world: World) -> None:
    world.work()
    report = world.work(301.0)
    assert (report.answered, report.from_cache, world.client.sizes) == ({"simbad": 3}, 3, [3])


class FullDisk(AnswerCache):
    """A cache that takes nothing, and perhaps gives nothing."""

    reads = True

    def get(self, catalog: str, version: str, places: Sequence[Place]) -> list[Answer | None]:
        if not self.reads:
            raise ServiceError("cds.sqlite: database disk image is malformed")
        return super().get(catalog, version, places)

    def put(self, answers: Iterable[Answer]) -> None:
        raise ServiceError("cds.sqlite: database or disk is full")


@pytest.mark.parametrize("reads", [True, False])
def test_a_fault_of_the_cache_costs_no_answer_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module.log, "warning", lambda event, **_: said.append(event))
    world = World(tmp_path, n=25)
    cache = FullDisk(tmp_path / "full.sqlite", 1.0)
    cache.reads = reads
    world.backfill = Backfill(
        lambda: list(world.awaited), world.client, cache, world.told, 10, world.clock
    )
    for _ in range(3):
        report = world.work(1.0)
        assert report.trouble == {}
    assert (world.client.sizes, len(world.told.answers)) == ([10, 10, 5], 25)
    assert said == ["lookup_cache_failed"] * (1 if reads else 2)


def test_a_cache_that_cannot_be_opened_does_not_end_the_start(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    (tmp_path / "state").write_text("a file stands where the folder should be")
    assert world.work().answered == {"simbad": 3}
    assert world.work(1.0).answered == {}
    assert world.client.sizes == [3]


# --- its thread ---------------------------------------------------------------------------------


def test_thread_tells_what_changes_and_stops_while_it_asks(world: World, tmp_path: Path) -> None:
    told: list[str | None] = []
    over, asked, go_on = threading.Event(), threading.Event(), threading.Event()

    def on_end(name: str, error: Exception | None) -> None:
        told.append(None if error is None else f"{name}: {error}")

    thread = BackfillThread(world.backfill, tmp_path / "lookups.json", on_end, lambda: NOW, over)
    world.client.down = True
    for _ in range(3):
        thread.look()
    world.client.down = False
    world.clock.now += 60.0
    thread.look()
    assert told == ["look candidates up at CDS: simbad: CDS does not answer", None]
    record = json.loads((tmp_path / "lookups.json").read_text())
    assert (record["awaited"], record["trouble"]) == ({"simbad": 0}, {})

    def slow(catalog: str, places: Sequence[Place]) -> list[Answer]:
        asked.set()
        go_on.wait()
        raise ServiceError("too late")

    world.client.ask = slow  # type: ignore[method-assign]
    world.awaited = [question(9)]
    thread.start()
    assert asked.wait(10.0)
    thread.stop()
    assert thread.is_alive(), "nobody waits for it"
    go_on.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert len(told) == 2


# --- what is awaited --------------------------------------------------------------------------


def test_private_positions_are_asked_about_only_if_allowed() -> None:
    row = broker.alert(1, 10.0, 20.0)
    group = Group(alerts={1: MatchedAlert(row, 0.1, 1.0, 0.1)})
    group.not_looked_up = ("simbad", "vizier:gone")
    public, private = GroupKey("E", "ztf", "a"), GroupKey("E", "ztf", "b", streams=("our",))
    groups = {public: group, private: group}
    asked = [Question("simbad", "MM-ZTF-a", 10.0, 20.0)]
    assert questions_of(groups, SIMBAD) == asked
    with_private = questions_of(groups, replace(SIMBAD, with_private=True))
    assert [q.counterpart_id for q in with_private] == ["MM-ZTF-a", "MM-ZTF-b"]


def test_nothing_is_asked_unless_enabled(tmp_path: Path) -> None:
    assert remote_of(load(None, environ={})) == Remote()
    path = tmp_path / "mmgateway.toml"
    path.write_text("[cds]\nenabled = true\nradius_arcsec = 1.5\n")
    assert remote_of(load(path, environ={})) == Remote(("simbad",), 1.5, False)


# --- a night ----------------------------------------------------------------------------------


@cache
def _night() -> tuple[list[Any], pa.Table]:
    """Region messages and alerts of the demo's night, a small one."""
    registry, records, versions = load_feeds(), [], defaultdict(int)
    for sent in notices():
        notice = registry.parse(sent.payload, topic=sent.topic)
        if notice.skymap_fits is not None:
            found = read_skymap(notice.skymap_fits)
            _MAPS[found.sha256] = found
            notice = replace(notice, localization=found)
        if notice.localization is not None:
            versions[notice.event_id] += 1
            region = make_region(notice, versions[notice.event_id], DEFAULT_CHAINS)
            raw = encode_region(region)
            records.append(decode_region(raw, lambda sha256, _: _MAPS[sha256]))
    rows = [
        packets.native_row(record, "ztf")
        for one in night_alerts(1500)
        for record in fastavro.reader(io.BytesIO(one.payload))
    ]
    placed = [row | {"topic": "t", "partition": 0, "offset": i} for i, row in enumerate(rows)]
    native = pa.Table.from_pylist(placed, schema=surveys.NATIVE_SCHEMAS["ztf"])
    return records, surveys.normalise("ztf", native).alerts


class Night:
    """The demo's night through a matcher in memory, with a server that speaks as CDS does."""

    def __init__(self, cds: CdsServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records, self.alerts = _night()
        monkeypatch.setattr(
            "tests.broker.runner.decode", lambda raw: decode_region(raw, lambda s, _: _MAPS[s])
        )
        self.runner = Runner(
            lambda archive, aside: broker.engine_of(
                archive,
                aside=aside,
                remote=SIMBAD,
                versions=Versions(cuts="test", code="test"),
                now=lambda: NOW,
            )
        )
        self.clock, self.told = Clock(), Teller()
        self._cds, self._folder = cds, folder
        self._taken = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """The process ends and is started again."""
        self.runner.restart()
        settings = Settings(self._cds.url, timeout_seconds=5.0, per_minute=1e6)
        client = CdsClient(settings, lambda: NOW, sleep=lambda _: None)
        cache = AnswerCache(self._folder / "cds.sqlite", 1.0)
        self.backfill = Backfill(self._awaited, client, cache, self.told, 1000, self.clock)
        self.backfill.note(self.told.answers[self._taken :])

    def play(self, parts: int = 6) -> None:
        size = -(-self.alerts.num_rows // parts)
        for number in range(parts):
            rows = self.alerts.slice(number * size, size)
            share = self.records[number::parts]
            self.runner.step(rows, share, (), self._new_answers())
            self.runner.search()
            self.clock.now += 30.0
            self.backfill.work()
            if number == parts // 2:
                self.begin_anew()

    def end(self) -> None:
        """CDS is asked until nothing is awaited."""
        for _ in range(20):
            self.runner.step(self.alerts.slice(0, 0), (), (), self._new_answers())
            self.clock.now += 600.0
            self.backfill.work()
        assert not self._awaited()

    def _awaited(self) -> list[Question]:
        return self.runner.engine.awaited.questions()

    def _new_answers(self) -> list[Answer]:
        new = self.told.answers[self._taken :]
        self._taken += len(new)
        return new


@pytest.fixture
def cds(monkeypatch: pytest.MonkeyPatch) -> Iterator[CdsServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with cds_server.running() as server:
        _, table = _night()
        for i, row in enumerate(table.select(["ra_deg", "dec_deg"]).to_pylist()):
            if i % 3 == 0:
                server.add(f"S{i}", row["ra_deg"], row["dec_deg"] + 0.3 / 3600, main_type="Star")
        yield server


def _content(statement: dict) -> dict:
    history = ("candidate_id", "record_number", "alert_type", "reason", "cause", "changed")
    return {k: v for k, v in statement.items() if k not in (*history, "supersedes")}


@pytest.mark.parametrize("mood", ["down", "html"])
def test_night_without_cds_ends_as_one_with_it(
    cds: CdsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: str
) -> None:
    with_cds = Night(cds, tmp_path / "with", monkeypatch)
    with_cds.play()
    with_cds.end()
    without = Night(cds, tmp_path / "without", monkeypatch)
    cds.mood = mood
    without.play()
    waiting = without.runner.in_force()
    assert waiting
    assert {s["looked_up"] for s in waiting.values()} == {"simbad:not_looked_up"}
    cds.mood = "well"
    without.end()

    expected, found = with_cds.runner.in_force(), without.runner.in_force()
    assert {k: _content(s) for k, s in found.items()} == {
        k: _content(s) for k, s in expected.items()
    }
    assert {s["looked_up"] for s in found.values()} == {"simbad"}
    assert any(s["nearby"] for s in found.values())
    for night in (with_cds, without):
        _check(night)


def _check(night: Night) -> None:
    """No statement twice, no message of the same content twice, and the ledger adds up."""
    said = night.runner.kafka.statements
    assert len({s["candidate_id"] for s in said}) == len(said)
    latest: dict[str, dict] = {}
    for statement in said:
        key = f"{statement['counterpart_id']} {statement['event_id']} {statement['role']}"
        before = latest.get(key)
        if before is not None and before["state"] == statement["state"] == "in_force":
            assert _content(before) != _content(statement)
        latest[key] = statement
    counts = night.runner.counts
    assert counts["received"] == night.alerts.num_rows
    assert counts["statements"] == len(said)
    assert counts["lookups"] == len(night.told.answers)
    told = [(a.counterpart_id, a.ra_deg, a.dec_deg) for a in night.told.answers]
    assert len(set(told)) == len(told)
    for entry in night.runner.kafka.entries:
        assert ledger.alert_hole(entry["counts"]) == 0
        assert ledger.part_holes(entry) == {}


def test_candidate_is_said_in_the_step_of_its_alert_and_the_answer_is_an_update(
    cds: CdsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks CDS is not even there when the step is made."""
    night = Night(cds, tmp_path, monkeypatch)
    night.runner.step(night.alerts.slice(0, 0), night.records)
    first = night.runner.step(night.alerts)
    assert {s["looked_up"] for s in first if s["state"] == "in_force"} == {"simbad:not_looked_up"}
    assert not cds.asked
    night.backfill.work()
    second = night.runner.step(night.alerts.slice(0, 0), (), (), night._new_answers())
    assert {(s["reason"], s["alert_type"]) for s in second} == {("looked_up", "update")}
    assert {s["cause"] for s in second} == {"simbad@2026-03-01"}
    assert all("host" in s["changed"] for s in second)
    assert [q for q in night._awaited() if q.catalog != "simbad"] == []


def test_client_is_made_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mmgateway.toml"
    path.write_text("[cds]\nenabled = true\nper_minute = 30\n")
    assert client_of(load(path, environ={}), lambda: NOW).version == "2026-03-01"
