"""``mmgateway catalogs backfill`` and ``[cds]``: what people and programs are told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from broker.groups import Group, GroupKey
from broker.writer import Marker, State
from catalogs.cds_cache import AnswerCache
from crossmatch.counterpart import MatchedAlert
from crossmatch.errors import ConfigError
from crossmatch.remote import Answer
from gateway.cli import main
from gateway.config import load
from gateway.offline import lookups
from tests.broker.conftest import alert

ANSWER = Answer("MM-ZTF-b", "simbad", "2026-03-01", 10.0, 20.0, 2.0, "2026-03-01T00:00:00Z", "x")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mmgateway.toml").write_text('[paths]\nstate = "state"\n[cds]\nenabled = true\n')
    return tmp_path


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> State:
    """What was committed: one group that awaits an answer, and an answer on its way."""
    state = State({}, [])
    group = Group(alerts={1: MatchedAlert(alert(1, 10.0, 20.0), 0.1, 1.0, 0.1)})
    group.not_looked_up = ("simbad",)
    state.groups[GroupKey("E", "ztf", "a")] = group
    marker = Marker(3, "query", 1, lookups_next=7)
    monkeypatch.setattr(lookups, "read_marker", lambda *_: marker)
    monkeypatch.setattr(lookups, "read_state", lambda *_: state)
    monkeypatch.setattr(lookups, "unread", lambda _, __, begin: [ANSWER] * (begin == 7))
    monkeypatch.setattr("gateway.services.find_bootstrap", lambda _: "kafka:9092")
    monkeypatch.setattr("gateway.services.ensure_all_topics", lambda *_: [])
    return state


def told(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["catalogs", "backfill", *words]) == status
    return capsys.readouterr().out


def test_status_counts_what_is_awaited(kafka: State, capsys: pytest.CaptureFixture[str]) -> None:
    Path("state/run").mkdir(parents=True)
    Path("state/run/lookups.json").write_text(
        json.dumps({"trouble": {"simbad": "no answer"}, "told": "2026-03-01T12:00:00+00:00"})
    )
    record = json.loads(told(capsys, "status", "--json"))
    assert (record["awaited"], record["answers_on_the_way"]) == ({"simbad": 1}, 1)
    assert (record["enabled"], record["catalogs"], record["cached"]) == (True, ["simbad"], 0)
    text = told(capsys, "status")
    for part in ("simbad: 1 await an answer; no answer", "1 answers were not", "2026-03-01T12:00"):
        assert part in text
    kafka.groups.clear()
    assert "no candidate awaits an answer" in told(capsys, "status")


def test_status_says_what_it_knows_where_the_cache_cannot_be_read(
    kafka: State, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.matcher.backfill.cache_of", lambda _: AnswerCache(Path("."), 2.0))
    text = told(capsys, "status")
    assert "simbad: 1 await an answer" in text
    (line,) = [line for line in text.splitlines() if "cannot be read" in line]
    assert line.startswith("the answers that are kept cannot be read: .: ")
    record = json.loads(told(capsys, "status", "--json"))
    assert (record["awaited"], record["cached"]) == ({"simbad": 1}, None)
    assert record["cache_fault"].startswith(".: ")


def test_run_asks_for_what_is_awaited(
    kafka: State, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Answer] = []

    class Client:
        version = "2026-03-01"

        def ask(self, catalog, places):
            one = places[0]
            return [
                Answer(one[0], catalog, self.version, one[1], one[2], 2.0, "2026-03-01T00Z", "x")
            ]

    monkeypatch.setattr(lookups, "client_of", lambda _: Client())
    monkeypatch.setattr(lookups, "Told", lambda *_: sent.extend)
    record = json.loads(told(capsys, "run", "--json"))
    assert record == {"answered": {"simbad": 1}, "from_cache": 0, "left": {}, "trouble": {}}
    assert [(a.counterpart_id, a.ra_deg) for a in sent] == [("MM-ZTF-a", 10.0)]
    assert "simbad: 1 answered" in told(capsys, "run")
    kafka.groups.clear()
    assert "no candidate awaits an answer" in told(capsys, "run")


def test_run_without_an_answer_fails_and_says_why(
    kafka: State, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = partial(lookups.client_of, sleep=lambda _: None)
    monkeypatch.setattr(lookups, "client_of", impatient)
    monkeypatch.setattr(lookups, "Told", lambda *_: list.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("mmgateway.toml").write_text(
        '[paths]\nstate = "state"\n[cds]\nenabled = true\nper_minute = 1e6\n'
        'url = "http://127.0.0.1:1/"\ntap_url = ""\n'
    )
    text = told(capsys, "run", status=1)
    assert "simbad: 1 not answered: CDS xMatch does not answer" in text


def test_what_is_not_enabled_is_said_so(kafka: State, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mmgateway.toml").write_text('[paths]\nstate = "state"\n')
    assert "[cds] enabled = true" in told(capsys, "status")
    capsys.readouterr()
    assert main(["catalogs", "backfill", "run"]) == 2
    assert "[cds] enabled = true" in capsys.readouterr().err


def test_without_kafka_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogs", "backfill", "status"]) == 1
    assert "mmgateway up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('catalogs = ["gaia"]', "vizier:I/355/gaiadr3"),
        ('catalogs = ["simbad", "simbad"]', "twice"),
        ("enabled = true\ncatalogs = []", "without catalogs"),
        ("radius_arcsec = 0", "radius_arcsec"),
        ("radius_arcsec = 61", "radius_arcsec"),
        ("timeout_seconds = 0", "timeout_seconds"),
        ("per_minute = 0", "per_minute"),
        ("batch = 0", "batch"),
        ("batch = 20000", "batch"),
        ('url = ""', "http(s)"),
        ('tap_url = "file:///etc/passwd"', "http(s)"),
    ],
)
def test_mistakes_in_the_configuration_are_named(folder: Path, text: str, part: str) -> None:
    path = folder / "wrong.toml"
    path.write_text(f"[cds]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert part in str(caught.value)
    assert "[cds]" in str(caught.value)
