"""``mmgateway verdict``: what is sent, what it says, what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from crossmatch.errors import ConfigError, ServiceError
from crossmatch.verdicts import CLASSIFICATIONS, Verdict
from gateway.cli import app
from gateway.offline import verdicts
from gateway.offline.verdicts import Log
from tests.gateway.candidatefiles import statement, write_table
from tests.gateway.test_tns import row, table

runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"})
ID = "MM-ZTF-ZTF17aabcdef"
LATER = {"event_trigger_time": "2017-08-17T15:00:00.000Z"}


@pytest.fixture(autouse=True)
def topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """The topic of verdicts in memory, and a state folder with candidates."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MMGATEWAY_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    held: list[Verdict] = []

    def send(bootstrap: str, properties: Mapping[str, str], given: Sequence[Verdict]) -> None:
        held.extend(given)

    def read(bootstrap: str, properties: Mapping[str, str]) -> Log:
        return Log(tuple(held))

    monkeypatch.setattr(verdicts, "send", send)
    monkeypatch.setattr(verdicts, "read", read)
    burst = {"event_id": "Fermi_1", "messenger": "grb", "tier": "bronze"}
    private = {"event_id": "ourteam:Own_1", "streams": ["ourteam"]}
    write_table(
        tmp_path / "mmgateway-data",
        [
            statement(tier="gold", score=2.4),
            statement(**burst, **LATER),
            statement("ZTF17bbb", ra=10.0, dec=20.0),
            statement("ZTF17secret", ra=11.0, **private),
        ],
    )
    return held


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["verdict", *arguments])


def test_a_verdict_is_sent_and_what_it_does_is_told(topic: list[Verdict]):
    result = run("ZTF17aabcdef", "sn", "--note", "Ia", "--reference", "GCN 1", "--author", "jane")
    assert result.exit_code == 0, result.output
    (given,) = topic
    assert (given.counterpart_id, given.classification, given.effect) == (ID, "supernova", "demote")
    assert (given.note, given.reference, given.author, given.event_id) == (
        "Ia",
        "GCN 1",
        "jane",
        "",
    )
    assert "GW170817: falls from gold to bronze" in result.stdout
    assert "Fermi_1: stays bronze" in result.stdout


def test_who_gives_it_is_told_only_when_said(topic: list[Verdict]):
    """The author goes to all subscribers: a login name is nobody's business."""
    run(ID, "agn")
    assert topic[0].author == ""


@pytest.mark.parametrize("effect", ["confirm", "demote", "neutral"])
def test_the_effect_may_be_said(topic: list[Verdict], effect: str):
    assert run(ID, "agn", "--event", "GW170817", f"--{effect}").exit_code == 0
    assert (topic[0].effect, topic[0].event_id) == (effect, "GW170817")


def test_as_json_it_has_the_verdict_and_its_candidates():
    found = json.loads(run(ID, "asteroid", "--dry-run", "--json").stdout)
    assert found["sent"] is False
    assert found["verdict"]["classification"] == "asteroid"
    assert [(c["event_id"], c["tier"]) for c in found["candidates"]] == [
        ("GW170817", "gold"),
        ("Fermi_1", "bronze"),
    ]


def test_a_dry_run_sends_nothing(topic: list[Verdict]):
    assert "would be given" in run(ID, "asteroid", "--dry-run").stdout
    assert topic == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ZTF17xyz", "sn"], "no candidate is known of 'ZTF17xyz'"),
        (["ZTF17secret", "sn"], "no candidate is known of 'ZTF17secret'"),
        (["ZTF17xyz", "sn", "--anyway"], "write its counterpart_id"),
        ([ID, "supernov"], "did you mean supernova"),
        ([ID, "sn", "--event", "GW1"], "but to GW170817, Fermi_1"),
        ([ID, "kilonova"], "say with --event whose counterpart it is"),
        ([ID, "sn", "--confirm", "--demote"], "exclude one another"),
        ([ID, "sn", "--event", "GW170817", "--everywhere"], "exclude one another"),
        ([ID], "say which COUNTERPART and what it is"),
        ([], "say which COUNTERPART and what it is"),
        ([ID, "sn", "--list"], "--list takes one COUNTERPART"),
        ([ID, "--words"], "stand alone"),
        (["--words", "--list"], "exclude one another"),
        ([ID, "sn", "--overrule"], "--overrule goes with --from-tns"),
        ([ID, "sn", "--note", "x" * 2001], "note: 2001 characters, at most 2000"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_sent(topic, arguments, sentence):
    error = run(*arguments).exception
    assert isinstance(error, ConfigError)
    assert sentence in str(error)
    assert topic == []


def test_anyway_takes_what_nobody_knows(topic: list[Verdict]):
    result = run("MM-ZTF-ZTF99zzz", "sn", "--event", "GW1", "--anyway")
    assert "no candidate in force now" in result.stdout
    assert (topic[0].counterpart_id, topic[0].event_id) == ("MM-ZTF-ZTF99zzz", "GW1")


def test_operators_may_judge_what_is_private(topic: list[Verdict]):
    assert run("ZTF17secret", "sn", "--private", "--event", "ourteam:Own_1").exit_code == 0
    assert (topic[0].counterpart_id, topic[0].event_id) == ("MM-ZTF-ZTF17secret", "ourteam:Own_1")


@pytest.mark.parametrize("seen", [[], ["--private"]])
def test_what_is_said_of_a_private_candidate_does_not_become_public_by_mistake(
    tmp_path: Path, topic: list[Verdict], seen: list[str]
):
    private = statement(event_id="ourteam:Own_1", streams=["ourteam"], **LATER)
    write_table(tmp_path / "mmgateway-data", [private])

    error = run(ID, "sn", "--note", "our spectrum", *seen).exception

    assert isinstance(error, ConfigError)
    assert f"{ID} is a candidate of a private stream too" in str(error)
    assert "--event" in str(error)
    assert "--everywhere" in str(error)
    assert ("ourteam" in str(error)) == bool(seen)
    assert topic == []

    assert run(ID, "sn", "--event", "GW170817", *seen).exit_code == 0
    assert run(ID, "sn", "--everywhere", *seen).exit_code == 0
    assert [v.event_id for v in topic] == ["GW170817", ""]


def test_also_what_is_private_alone_may_become_public_later(topic: list[Verdict]):
    error = run("ZTF17secret", "sn", "--private").exception
    assert "MM-ZTF-ZTF17secret is a candidate of a private stream (ourteam:Own_1)" in str(error)
    assert topic == []


def test_a_kafka_that_does_not_take_it_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def send(*arguments: object) -> None:
        raise ServiceError("1 of 1 verdicts were not sent: timed out")

    monkeypatch.setattr(verdicts, "send", send)
    result = run(ID, "sn")
    assert isinstance(result.exception, ServiceError)
    assert result.stdout == ""


def test_the_list_marks_what_a_later_verdict_replaced(topic: list[Verdict]):
    run(ID, "sn")
    run(ID, "unclear")
    run("ZTF17bbb", "agn")
    rows = json.loads(run("--list", "ZTF17aabcdef", "--json").stdout)["verdicts"]
    assert [(r["classification"], r["holds"]) for r in rows] == [
        ("supernova", False),
        ("unclear", True),
    ]
    text = run("--list").stdout
    assert "agn" in text
    rows = [line.split() for line in text.splitlines() if "MM-ZTF" in line]
    assert [(row[3], row[4]) for row in rows] == [
        ("supernova", "no"),
        ("unclear", "yes"),
        ("agn", "yes"),
    ]


def test_what_has_no_room_stands_below_the_event_in_one_piece():
    import io

    from rich.console import Console

    from gateway.cli import verdict_tables

    event, reference = "IceCube_140000_12345678", "https://example.org/circulars/36812"
    given = verdicts.new_verdict(
        "MM-LSST-170028523717525566", "supernova", now=datetime(2024, 2, 1, tzinfo=UTC),
        event_id=event, note="a note of several words", reference=reference, author="Jane Doe",
    )  # fmt: skip
    out = io.StringIO()
    verdict_tables._show_verdicts([given], {given.verdict_id}, Console(file=out, width=100))
    assert {event, reference} <= set(out.getvalue().split())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nope.csv", None, "there is no file"),
        ("x.csv", "a,b\n", "is no table of TNS objects"),
        ("x.zip", "no archive", "cannot be read"),
    ],
)
def test_a_wrong_path_is_bad_usage_in_a_plain_sentence(tmp_path: Path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    error = run("--from-tns", str(tmp_path / name)).exception
    assert isinstance(error, ConfigError)
    assert sentence in str(error)
    assert not str(error).startswith(("no_such_file", "not_a_table", "unreadable"))


def test_what_a_person_said_last_is_counted_and_replaced_only_when_overruled(
    tmp_path: Path, topic: list[Verdict]
):
    path = table(tmp_path, row("2017abd", "SN Ia"))
    run("ZTF17bbb", "sn")
    run("ZTF17bbb", "unclear")
    text = run("--from-tns", str(path)).stdout
    assert "1 counterpart left as a person said (--overrule replaces that)." in text
    assert len(topic) == 2
    assert run("--from-tns", str(path), "--overrule").exit_code == 0
    assert topic[-1].author == "TNS"


def test_an_empty_list_says_so():
    assert "No verdict was given about ZTF17bbb yet." in run("--list", "ZTF17bbb").stdout


def test_all_words_are_shown_with_what_they_do():
    text = run("--words").stdout
    assert all(word in text for word in CLASSIFICATIONS)
    shown = json.loads(run("--words", "--json").stdout)
    assert {c["name"]: c["effect"] for c in shown["classifications"]}["host"] == "demote"


def test_the_table_of_tns_twice_gives_its_verdicts_once(tmp_path: Path, topic: list[Verdict]):
    path = table(
        tmp_path,
        row("2017abc", "SN Ia", "ATLAS17x, ZTF17aabcdef", ra="50.0"),
        row("2017abd", "CV"),
        row("2017abe", "AGN", ra="100.0"),
        row("2017abf", "CV", ra="11.0", dec="-23.38"),
    )
    first = run("--from-tns", str(path))
    assert first.exit_code == 0, first.output
    assert {(v.counterpart_id, v.classification, v.reference) for v in topic} == {
        (ID, "supernova", "SN 2017abc"),
        ("MM-ZTF-ZTF17bbb", "cv", "SN 2017abd"),
    }
    assert "2 new verdicts." in first.stdout
    again = json.loads(run("--from-tns", str(path), "--json").stdout)
    assert again["counts"]["known"] == 2
    assert len(topic) == 2


def test_a_dry_run_of_tns_sends_nothing(tmp_path: Path, topic: list[Verdict]):
    path = table(tmp_path, row("2017abd", "CV"))
    text = run("--from-tns", str(path), "--dry-run").stdout
    assert "1 new verdict (not sent)." in text
    assert topic == []


def test_the_radius_bounds_what_matches_by_place(tmp_path: Path, topic: list[Verdict]):
    path = table(tmp_path, row("2017abd", "CV", dec="20.001"))
    run("--from-tns", str(path))
    assert topic == []
    run("--from-tns", str(path), "--radius", "4")
    assert len(topic) == 1
