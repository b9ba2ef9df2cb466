"""The pieces that play and show the night, with a Kafka, a clock and a screen made of paper."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from broker import topics
from broker.codec import encode_dead_letter
from crossmatch.errors import ConfigError, ServiceError
from gateway.night import play, report, run, watch
from gateway.night.alerts import TimedAlert
from gateway.night.notices import Timed
from gateway.night.play import Player, Sent, until_quiet
from gateway.night.screen import Bar, Screen, tier_markup
from gateway.night.tell import Teller, finish
from gateway.night.timeline import Schedule
from gateway.night.watch import Seen, Watcher

T0 = datetime(2017, 8, 17, 12, 41, 4, tzinfo=UTC)


def statement(**changed: Any) -> dict[str, Any]:
    """As much of a candidate statement as the night reads."""
    said = {
        "event_id": "S1",
        "event_version": 1,
        "event_trigger_time": "2017-08-17T12:41:04.430Z",
        "counterpart_id": "MM-ZTF17a",
        "id": "ZTF17a",
        "alert_id": "1",
        "messenger": "gw",
        "state": "in_force",
        "reason": "new_candidate",
        "record_number": 1,
        "tier": "gold",
        "score": 2.5,
        "credible_level": 0.3,
        "separation": 1.0,
        "mag": 17.2,
        "mag_error": 0.1,
        "filter": "g",
        "fade_rate": 0.5,
        "host_name": "NGC 4993",
        "n_alerts": 1,
        "time_offset_last": 86400.0,
    }
    return said | changed


class Message:
    def __init__(self, topic: str, value: bytes, headers: list[tuple[str, bytes]] | None = None):
        self._topic, self._value, self._headers = topic, value, headers

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def key(self) -> bytes:
        return b""

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers


class Consumer:
    """Gives its messages once, and then ends whoever reads on."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self.at_end: Callable[[], object] = lambda: None
        self.closed = False

    def subscribe(self, names: list[str]) -> None:
        self.names = names

    def consume(self, number: int, timeout: float) -> list[Message]:
        given, self._messages = self._messages, []
        if not given:
            self.at_end()
        return given

    def close(self) -> None:
        self.closed = True


def watched(
    monkeypatch: pytest.MonkeyPatch, messages: list[Message], **changed: Any
) -> tuple[Watcher, Consumer]:
    """A watcher that has read ``messages``."""
    consumer = Consumer(messages)
    monkeypatch.setattr(watch.kafka_io, "consumer", lambda *_, **__: consumer)
    options: dict[str, Any] = {
        "sent": {},
        "on_region": lambda _: None,
        "on_statement": lambda _: None,
    }
    watcher = Watcher("nowhere", **(options | changed))
    consumer.at_end = watcher._over.set
    watcher.run()
    return watcher, consumer


def test_the_watcher_counts_what_comes_over_each_topic(monkeypatch: pytest.MonkeyPatch):
    letter = encode_dead_letter(reason="bad", detail="", source="vtp", raw=b"", received=T0)
    ledger = {"kind": "alerts", "counts": {"received": 2, "matched": 1}}
    messages = [
        Message(topics.VOEVENTS, b"<xml/>", [("vtp", b"yes")]),
        Message(topics.VOEVENTS, b"<xml/>", [("vtp", b"no")]),
        Message(topics.DEAD_LETTER, letter),
        Message(topics.LEDGER, json.dumps(ledger).encode()),
        Message(topics.LEDGER, json.dumps(ledger).encode()),
        Message(topics.LEDGER, b'{"kind": "notices", "counts": {"received": 1, "region": 1}}'),
        Message(topics.LEDGER, b'{"kind": "search", "counts": {"statements": 1}}'),
        Message(topics.LEDGER, b'{"kind": "selection", "counts": {}}'),
        Message(topics.LEDGER, b'{"kind": "close", "counts": {}}'),
        Message(topics.LEDGER, b'{"kind": "voevents", "counts": {"received": 1, "made": 1}}'),
    ]

    watcher, consumer = watched(monkeypatch, messages)

    seen = watcher.seen
    assert (seen.voevents, seen.for_vtp) == (2, 1)
    assert [letter["reason"] for letter in seen.dead_letters] == ["bad"]
    assert seen.alert_ledger == {"received": 4, "matched": 2}
    assert seen.notice_ledger == {"received": 1, "region": 1}
    assert watcher.failure is None
    assert consumer.closed
    assert topics.candidates("gw") in consumer.names


@pytest.mark.parametrize(
    "message",
    [
        Message(topics.DEAD_LETTER, b"no Avro"),
        Message(topics.LEDGER, b"no JSON"),
        Message(topics.LEDGER, b'{"kind": "unheard of", "counts": {}}'),
    ],
    ids=["not Avro", "not JSON", "unknown ledger"],
)
def test_what_the_watcher_cannot_read_is_kept_as_its_failure(
    monkeypatch: pytest.MonkeyPatch, message: Message
):
    watcher, _ = watched(monkeypatch, [message])

    assert watcher.failure is not None


def test_a_candidate_without_a_magnitude_is_told():
    screen, text = paper()

    Teller(screen).statement(statement(mag=None, filter=None))

    assert "ZTF17a" in text()


def paper(width: int = 120) -> tuple[Screen, Callable[[], str]]:
    """A screen that is no terminal, and what was written on it."""
    file = io.StringIO()
    return Screen(Console(file=file, width=width)), file.getvalue


def test_gold_candidates_are_told_once_and_others_not():
    screen, text = paper()
    teller = Teller(screen)

    for said in (
        statement(tier="bronze", id="bronze"),
        statement(),
        statement(record_number=2),
        statement(event_id="S2"),
    ):
        teller.statement(said)

    lines = text().splitlines()
    assert len(lines) == 2
    assert "gold ZTF17a for S1, level 0.300, g = 17.20" in lines[0]
    assert "for S2" in lines[1]


def test_withdrawals_are_counted_and_told_together():
    screen, text = paper()
    teller = Teller(screen)
    for i in range(3):
        teller.statement(
            statement(state="withdrawn", reason="outside_revised_region", counterpart_id=str(i))
        )
    assert text() == ""

    teller.tell_withdrawn()
    teller.tell_withdrawn()

    assert text().strip() == "withdrawn 3 candidates of S1: outside revised region"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alert_type": "retraction"}, "retracted S1"),
        ({"role": "test"}, "S1: a test event, not matched"),
        ({"area90_deg2": 0.0123}, "S1 version 2, INITIAL: 90 % within 0.0123 deg²"),
        ({"area90_deg2": 24264.0}, "90 % within 24,264 deg²"),
    ],
)
def test_regions_are_told(changed: dict[str, Any], words: str):
    screen, text = paper()
    region = {"event_id": "S1", "alert_type": "initial", "role": "observation", "version": 2}
    region |= {"kind": "INITIAL", "area90_deg2": 30.0}

    Teller(screen).region(region | changed)

    assert words in text()


def test_names_that_look_like_markup_are_shown_as_they_are():
    screen, text = paper()

    Teller(screen).statement(statement(id="[red]x[/]", event_id="[bold]"))

    assert "[red]x[/] for [bold]" in text()


@pytest.mark.parametrize("tier", ["gold", "silver", "bronze"])
def test_every_tier_has_a_colour(tier: str):
    assert tier in tier_markup(tier)


# The end of the night ------------------------------------------------------------------------


def night() -> Seen:
    seen = Seen()
    burst = {"event_id": "B1", "messenger": "grb", "credible_level": 0.97, "tier": "silver"}
    seen.statements = [
        statement(),
        statement(record_number=2, score=2.7),
        statement(counterpart_id="MM-other", id="other", tier="bronze", score=0.4),
        statement(**burst, score=1.5, event_trigger_time="2017-08-17T12:41:06.170Z"),
        statement(counterpart_id="MM-gone", id="gone", score=2.9),
        statement(
            counterpart_id="MM-gone",
            id="gone",
            score=2.9,
            record_number=2,
            state="withdrawn",
            reason="outside_revised_region",
        ),
    ]
    seen.voevents, seen.for_vtp = 6, 2
    seen.alert_ledger.update(received=10, matched=3, unmatched=4, duplicate=1)
    seen.alert_ledger.update({"cut.star": 1, "rejected.not_avro": 1})
    seen.alert_ledger.update({"told.gold": 2, "pairs": 5, "judged": 2, "passed": 2})
    seen.notice_ledger.update(received=3, region=1, retraction=1)
    seen.candidate_latency_s = [0.1, 0.3, 0.2]
    return seen


def test_the_summary_ranks_candidates_and_puts_withdrawn_ones_last():
    rows = report.summary(night(), vtp_received=2)["candidates"]

    assert [(r["event_id"], r["object_id"], r["rank"], r["state"]) for r in rows] == [
        ("S1", "ZTF17a", 1, "in_force"),
        ("B1", "ZTF17a", 1, "in_force"),
        ("S1", "other", 2, "in_force"),
        ("S1", "gone", None, "withdrawn"),
    ]


def test_the_summary_finds_what_two_events_have_in_common():
    (found,) = report.summary(night(), 2)["associations"]

    assert found["counterpart_id"] == "MM-ZTF17a"
    assert [e["event_id"] for e in found["events"]] == ["S1", "B1"]
    assert found["time_differences_s"] == [1.74]
    assert (found["best_tier"], found["best_score"]) == ("gold", 2.7)


def test_the_summary_tells_what_is_missing_and_how_long_things_took():
    result = report.summary(night(), 2)

    assert result["withdrawn"] == {"S1": {"outside_revised_region": 1}}
    assert result["voevents"] == {"made": 6, "broadcast": 2, "received_by_vtp": 2}
    assert result["ledger"]["alerts_unaccounted"] == 0
    assert result["ledger"]["notices_unaccounted"] == 1
    assert result["latency"]["alert_to_candidate_s"] == {"n": 3, "p50": 0.2, "p99": 0.298}
    assert result["latency"]["notice_to_region_s"] == {"n": 0, "p50": None, "p99": None}
    json.dumps(result, allow_nan=False)


def test_a_night_without_anything_has_a_summary():
    result = report.summary(Seen(), 0)

    assert (result["alerts"], result["candidates"], result["associations"]) == (0, [], [])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_end_is_shown_on_any_width_and_kept_in_a_file(tmp_path: Path, width: int):
    screen, text = paper(width)
    result = report.summary(night(), 2)
    config: Any = type("C", (), {"paths": type("P", (), {"state": tmp_path})})

    finish(screen, config, tmp_path, result)

    assert "ZTF17a" in text()
    assert "gone" not in text()
    assert "1 unaccounted for" in text()
    # Nothing stands in the sum that is no part of it.
    alerts = "10 = 4 unmatched + 3 matched + 1 cut.star + 1 duplicate + 1 rejected.not_avro"
    assert alerts in " ".join(text().split())
    assert "adds up" in text()
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == result


# Playing -------------------------------------------------------------------------------------


class Producer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def produce(self, topic: str, value: bytes, key: bytes | None = None, **_: Any) -> None:
        self.sent.append((topic, value))

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> tuple[Player, Producer, list[bytes]]:
    producer, by_vtp = Producer(), []
    monkeypatch.setattr(play.kafka_io, "producer", lambda *_, **__: producer)
    monkeypatch.setattr(play.services, "endpoint", lambda *_: {"receiver_port": 1})
    monkeypatch.setattr(play, "_comet_sendvo", lambda packet, port: by_vtp.append(packet))
    watcher, _ = watched(monkeypatch, [])
    config: Any = type(
        "C", (), {"kafka": type("K", (), {"properties": {}}), "paths": type("P", (), {"state": ""})}
    )
    screen, _ = paper()
    return Player(config, "", Sent(), Teller(screen), watcher, Bar(), 3), producer, by_vtp


def _timed(seconds: int, payload: bytes, via: Any = "kafka") -> Timed:
    return Timed(T0.replace(second=seconds), "igwn.gwalert", payload, "label", via)


def _alert(seconds: int, candid: int) -> TimedAlert:
    return TimedAlert(T0.replace(second=seconds), f"ZTF{candid}", candid, b"\x00")


def test_notices_and_alerts_go_out_in_the_order_of_their_times(
    player: tuple[Player, Producer, list[bytes]],
):
    playing, producer, by_vtp = player
    times = np.array([T0.timestamp(), T0.timestamp() + 30])
    schedule = Schedule.of(times, times, seconds=0.05)
    # The broker has taken in all that will be sent.
    playing._watcher.seen.alert_ledger["received"] = 3

    playing.play(
        schedule,
        [_timed(10, b"first"), _timed(20, b"second", "vtp")],
        [_alert(5, 1), _alert(15, 2), _alert(25, 3)],
    )

    assert [topic for topic, _ in producer.sent] == [
        "alerts.ztf",
        "igwn.gwalert",
        "alerts.ztf",
        "alerts.ztf",
    ]
    assert by_vtp == [b"second"]
    sent = playing._sent
    assert (sent.notices, sent.alerts) == (2, 3)
    assert set(sent.times) == {"1", "2", "3"} | {
        hashlib.sha256(raw).hexdigest() for raw in (b"first", b"second")
    }


def test_waiting_ends_when_all_is_answered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(play.time, "sleep", lambda _: None)
    watcher, _ = watched(monkeypatch, [])
    watcher.seen.alert_ledger["received"] = 2
    watcher.seen.notice_ledger["received"] = 1
    watcher.seen.for_vtp = 1

    assert until_quiet(watcher, Sent({}, 1, 2), [b"one"], Bar())


def test_waiting_is_in_vain_when_the_watcher_failed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(play.time, "sleep", lambda _: None)
    watcher, _ = watched(monkeypatch, [])
    watcher.failure = ServiceError("gone")

    assert not until_quiet(watcher, Sent({}, 1, 2), [], Bar())


def test_withdrawals_that_come_while_they_are_told_are_not_lost():
    screen, text = paper()
    teller = Teller(screen)
    say = screen.say

    def say_meanwhile(markup: str) -> None:
        """Another thread hears of a withdrawal just then."""
        monkey.start()
        monkey.join(0.2)
        say(markup)

    gone = statement(state="withdrawn", reason="event_retracted")
    monkey = threading.Thread(target=teller.statement, args=[gone | {"event_id": "S2"}])
    teller.statement(gone)
    screen.say = say_meanwhile  # type: ignore[method-assign]
    teller.tell_withdrawn()
    monkey.join()
    screen.say = say  # type: ignore[method-assign]
    teller.tell_withdrawn()

    assert "of S1" in text()
    assert "of S2" in text()


# A folder of its own -------------------------------------------------------------------------


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(ConfigError, match="not a folder of the demo"):
        run._fresh(tmp_path)

    assert (tmp_path / "mine.txt").exists()


def test_the_folder_of_an_earlier_demo_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MMGATEWAY_CUTS__ENABLED", "false")
    folder = tmp_path / "demo"
    run._fresh(folder)
    (folder / "old").write_text("old")

    config, path = run._fresh(folder)

    assert sorted(p.name for p in folder.iterdir()) == ["mmgateway.toml"]
    assert config.paths.state == folder / "data"
    assert config.cuts.enabled
    assert path == folder / "mmgateway.toml"


def test_a_notice_waits_for_the_alerts_before_it(
    player: tuple[Player, Producer, list[bytes]], monkeypatch: pytest.MonkeyPatch
):
    """The clock stands still meanwhile: what is due later is not late."""
    playing, producer, _ = player
    seen_when_sent: list[int] = []
    ledger = playing._watcher.seen.alert_ledger

    def take_in(_: float) -> None:
        ledger["received"] += 1

    monkeypatch.setattr(play.time, "sleep", take_in)
    produce = producer.produce

    def noted(topic: str, *rest: object, **options: object) -> None:
        if topic == "igwn.gwalert":
            seen_when_sent.append(ledger["received"])
        produce(topic, *rest, **options)

    monkeypatch.setattr(producer, "produce", noted)
    times = np.array([T0.timestamp(), T0.timestamp() + 30])
    playing.play(
        Schedule.of(times, times, seconds=0.05),
        [_timed(10, b"first")],
        [_alert(5, 1), _alert(6, 2)],
    )
    assert seen_when_sent == [2]
