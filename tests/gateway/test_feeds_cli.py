"""``mmgateway feeds``: list, show, new, enable, disable, history, rollback, suggest."""

from __future__ import annotations

import io
import json
import os
import shlex
import typing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from crossmatch.errors import ConfigError
from crossmatch.model import Messenger
from gateway.cli import app, feeds_new, feeds_show, main
from gateway.cli.screen import show_table
from gateway.feeds.drafts.unknown import Unknown
from gateway.feeds.files import FORMATS, feed_from_toml
from gateway.feeds.parsers.readings import ERROR_UNITS
from gateway.reports import NoticeReport

FINAL = (Path(__file__).parents[1] / "data" / "notices" / "gbm_final.xml").read_bytes()
FEEDS = Path("mmgateway-data/feeds")
SAMPLE = {
    "event": {"name": "OT-42", "t0": "2026-03-01T04:05:06Z"},
    "where": {"ra": 121.5, "dec": -12.25, "radius": 0.5},
    "observatory": "Own",
}
COMMANDS = ("list", "show", "new", "enable", "disable", "history", "rollback", "suggest")

runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    Path("sample.json").write_text(json.dumps(SAMPLE))


class Ran(typing.NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Run(typing.Protocol):
    def __call__(self, command: str) -> Ran: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(command: str) -> Ran:
        capsys.readouterr()
        status = main(["feeds", *shlex.split(command)])
        return Ran(status, *capsys.readouterr())

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = runner.invoke(app, ["feeds", command, "--help"])
    assert result.exit_code == 0
    assert f"mmgateway feeds {command}" in result.output.split("Examples")[1]


def test_options_offer_what_feeds_may_say() -> None:
    assert [m.value for m in feeds_new.Messenger] == list(typing.get_args(Messenger))
    assert {f.value for f in feeds_new.Format} == set(FORMATS) - {"other"}
    assert {u.value for u in feeds_new.ErrorUnit} == set(ERROR_UNITS)


# --- list and show ---------------------------------------------------------------------------


def test_list_has_a_line_for_each_feed(run: Run) -> None:
    done = run("list")
    lines = done.out.splitlines()
    assert done.status == 0
    assert lines[0].split() == [
        "name", "title", "messenger", "format", "state", "version", "topics", "file",
    ]  # fmt: skip
    assert len(lines) == 1 + len(run("list --json").json["feeds"])
    assert not Path("mmgateway-data").exists()


@pytest.mark.parametrize("width", [80, 100])
def test_on_a_terminal_the_list_fits_and_keeps_names_and_versions(width: int, run: Run) -> None:
    rows = run("list --json").json["feeds"]
    out = io.StringIO()
    show_table(Console(file=out, width=width), feeds_show._table(rows, width))
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "title" in lines[0]
    for row in rows:
        assert any(line.startswith(row["name"]) and row["version"] in line for line in lines)


def test_long_names_stay_whole(run: Run) -> None:
    name = "a" * 60
    run(f"new --from sample.json --name {name} --topic t --stream {'s' * 40} --yes")
    rows = run("list --json").json["feeds"]
    out = io.StringIO()
    show_table(Console(file=out, width=80), feeds_show._table(rows, 80))
    assert f"{name}.toml" in out.getvalue()


def test_list_as_json(run: Run) -> None:
    run("new --from sample.json --name own --topic own.events --private --yes")
    found = {f["name"]: f for f in run("list --json").json["feeds"]}
    own = found["own"]
    assert own["streams"] == ["own"]
    assert own["topics"] == ["own.events"]
    assert own["state"] == "on"
    assert own["file"].endswith("own.toml")
    assert (own["built_in"], found["lvk"]["built_in"]) == (False, True)
    assert found["any_voevent"]["state"] == "off"


def test_list_tells_of_a_broken_file(run: Run) -> None:
    run("new --from sample.json --name own --topic own.events --yes")
    (FEEDS / "own.toml").write_text("name =")
    done = run("list")
    assert done.status == 0
    assert "broken" in done.out
    assert "own.toml: not valid TOML" in done.out
    (problem,) = run("list --json").json["problems"]
    assert problem["feed"] == "own"


def test_a_new_file_that_is_broken_has_a_row_and_tells_its_problem(run: Run) -> None:
    FEEDS.mkdir(parents=True)
    (FEEDS / "young.toml").write_text('name = "young"\ntopcs = ["a"]\n')
    (row,) = [r for r in run("list --json").json["feeds"] if r["state"] == "broken"]
    assert (row["name"], row["file"].endswith("young.toml")) == ("young", True)
    assert "young" in next(line for line in run("list").out.splitlines() if "broken" in line)
    for command in ("show young", "show young --json", "show young --toml"):
        done = run(command)
        assert done.status == 2
        assert "young.toml: topcs: no such key; did you mean topics" in done.err


def test_a_broken_copy_of_a_built_in_feed_tells_its_problem_with_it(run: Run) -> None:
    FEEDS.mkdir(parents=True)
    (FEEDS / "fermi_gbm.toml").write_text("name =")
    done = run("show fermi_gbm")
    assert done.status == 0
    assert "fermi_gbm.toml: not valid TOML" in done.out


def test_show_tells_what_matters(run: Run) -> None:
    out = run("show fermi_gbm").out
    for text in ("fermi_gbm", "everybody", "ivo://nasa.gsfc.gcn/Fermi#", "final", "115"):
        assert text in out


def test_show_toml_is_the_file(run: Run) -> None:
    text = run("show icecube --toml").out
    assert feed_from_toml(text, "x").name == "icecube"
    run("new --from sample.json --name own --topic own.events --yes")
    assert run("show own --toml").out == (FEEDS / "own.toml").read_text()


def test_show_json_masks_properties(run: Run) -> None:
    run(
        "new --from sample.json --name own --topic t --kafka kafka.example.org:9092"
        " --property security.protocol=SASL_SSL --property sasl.password=$OWN_PASSWORD --yes"
    )
    found = run("show own --json").json
    assert found["transport"]["kafka"] == "kafka.example.org:9092"
    assert found["transport"]["properties"] == {
        "security.protocol": "***", "sasl.password": "$OWN_PASSWORD",
    }  # fmt: skip
    assert found["kinds"][0]["name"] == "notice"
    assert run("show fermi_gbm --json").json["kinds"][0]["packet_types"]


@pytest.mark.parametrize("command", ["show", "enable", "disable", "history"])
def test_unknown_names_are_bad_usage(run: Run, command: str) -> None:
    done = run(f"{command} fermi_gmb")
    assert done.status == 2
    assert "did you mean" in done.err
    assert done.out == ""


# --- switches --------------------------------------------------------------------------------


def test_disable_and_enable(run: Run) -> None:
    assert "paused" in run("disable lvk").out
    again = run("disable lvk --json")
    assert again.json == {"name": "lvk", "state": "paused", "paused": True}
    assert again.status == 0
    assert run("enable lvk").out == "lvk is on\n"
    assert run("enable lvk --json").json["state"] == "on"
    assert run("enable any_voevent --json").json["state"] == "on"


# --- history ---------------------------------------------------------------------------------


def test_history_and_rollback(run: Run) -> None:
    run("new --from sample.json --name own --topic own.events --yes")
    path = FEEDS / "own.toml"
    text = path.read_text()
    path.write_text(text.replace("own.events", "own.others"))
    changes = run("history own --json").json["changes"]
    assert [c["action"] for c in changes] == ["added", "changed"]
    done = run(f"rollback own {changes[0]['version']}")
    assert done.status == 0
    assert str(path) in done.out
    assert path.read_text() == text
    assert "rolled back" in run("history").out
    assert "fermi_gbm" not in run("history").out
    assert "fermi_gbm" in run("history fermi_gbm").out
    assert run("rollback own abc").status == 2
    assert run(f"rollback own {changes[1]['version']} --json").json["name"] == "own"


# --- new -------------------------------------------------------------------------------------


def test_new_from_a_sample(run: Run) -> None:
    done = run("new --from sample.json --name own --topic own.events --private --yes")
    assert done.status == 0
    assert "understood: observation own:own_OT-42 at 2026-03-01T04:05:06" in done.out
    assert "mmgateway feeds try sample.json --feed own" in done.out
    feed = feed_from_toml((FEEDS / "own.toml").read_text(), "own.toml")
    assert feed.audience == ("own",)
    assert feed.topics == ("own.events",)
    assert dict(feed.fields)["ra"] == "$.where.ra"


def test_new_from_a_voevent_over_vtp(run: Run) -> None:
    Path("event.xml").write_bytes(FINAL.replace(b"nasa.gsfc.gcn/Fermi", b"org.example/own"))
    done = run(
        "new --from event.xml --name own --vtp vtp.example.org:8099 --stream a --stream b"
        " --messenger grb --yes --json"
    )
    found = done.json
    assert found["tried"]["outcome"] == "region"
    assert found["tried"]["event_id"] == "a+b:own_100000001"
    feed = feed_from_toml(found["toml"], "x")
    assert feed.transport.vtp == "vtp.example.org:8099"
    assert feed.ivoids == ("ivo://org.example/own#",)
    assert "GUESSED" not in found["toml"].split("messenger =")[0].splitlines()[-1]


def test_new_without_a_sample(run: Run) -> None:
    done = run("new --name own --topic own.events --format json --field ra=$.a.ra --yes --json")
    feed = feed_from_toml(done.json["toml"], "x")
    assert (feed.name, feed.format, dict(feed.fields)) == ("own", "json", {"ra": "$.a.ra"})
    assert done.json["tried"] is None


def test_new_answers_stand_over_guesses(run: Run) -> None:
    done = run(
        "new --from sample.json --name own --title Bursts --mission M --instrument I"
        " --messenger frb --prefix FRB --containment 0.68 --systematic-included"
        " --error-unit arcmin --schema own --yes --json"
    )
    feed = feed_from_toml(done.json["toml"], "x")
    assert (feed.title, feed.mission, feed.instrument, feed.prefix) == ("Bursts", "M", "I", "FRB")
    assert (feed.messenger, feed.containment, feed.error_unit) == ("frb", 0.68, "arcmin")
    assert feed.systematic_included
    assert feed.schemas == ("own",)
    assert "GUESSED" not in done.json["toml"]


def test_new_never_replaces(run: Run) -> None:
    command = "new --from sample.json --name own --topic own.events --yes"
    run(command)
    before = (FEEDS / "own.toml").read_text()
    for again in (command, "new --from sample.json --name lvk --yes"):
        done = run(again)
        assert done.status == 2
        assert "already" in done.err
    assert (FEEDS / "own.toml").read_text() == before
    Path("other.toml").write_text("# mine\n")
    done = run("new --from sample.json --name third --topic t --out other.toml --yes")
    assert done.status == 2
    assert Path("other.toml").read_text() == "# mine\n"


def test_new_elsewhere_says_how_it_comes_into_force(run: Run) -> None:
    done = run("new --from sample.json --name own --topic t --out drafts --yes")
    assert Path("drafts/own.toml").is_file()
    assert "[paths] feeds" in done.out
    assert "own" not in {f["name"] for f in run("list --json").json["feeds"]}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("new --yes", "--from FILE, --topic"),
        ("new --from none.json --yes", "none.json: No such file"),
        ("new --from sample.json --json", "--yes"),
        ("new --from sample.json --field ra --yes", "NAME=VALUE"),
        ("new --from sample.json --field right=a --yes", "no such field"),
        ("new --from sample.json --property sasl.password=abc --yes", r"$OURTEAM_PASSWORD"),
        ("new --from sample.json --name Own --topic t --yes", "of a-z"),
        ("new --from sample.json --stream 'A B' --yes", "--stream: 'A B'"),
        ("new --topic t --containment 68 --yes", "containment"),
        ("new --from sample.json --topic 'a b' --yes", "--topic: 'a b' is no topic of Kafka"),
        ("new --from sample.json --topic t --kafka host --yes", "--kafka: 'host' is not host:port"),
        ("new --from sample.json --topic t --kafka h:0 --yes", "not host:port"),
        ("new --ivoid ivo://a/b --vtp host:port --yes", "--vtp: 'host:port' is not host:port"),
        ("new --from sample.json --vtp host:8099 --yes", "by VTP only VOEvents come"),
        ("new --topic t --format json --vtp host:8099 --yes", "this feed reads JSON"),
        ("new --from sample.json --format voevent --yes", "the sample is JSON"),
        ("new --from sample.json --name lvk", "already"),
        ("new --from /dev/null --yes", "neither a VOEvent nor a JSON object"),
    ],
)
def test_new_refuses(run: Run, command: str, says: str) -> None:
    done = run(command)
    assert done.status == 2
    assert says in done.err
    assert "abc" not in done.err
    assert not FEEDS.exists()


def test_new_asks_for_what_was_not_said() -> None:
    answers = {
        "Title": "Ours", "Format": "", "Messenger": "sound\ngrb", "Mission": "", "Instrument": "",
        "Kafka topics": "a, b", "Its own Kafka": "", "Part of": "", "Prefix": "",
        "Probability": "68\n0.68", "Unit": "", "Private streams": "A\nours", "name": "",
        "time": "", "right": "", "dec": "", "error": "",
    }  # fmt: skip
    result = runner.invoke(
        app,
        ["feeds", "new", "--from", "sample.json", "--name", "own"],
        input="\n".join(answers.values()) + "\n",
    )
    assert result.exit_code == 0, result.output
    feed = feed_from_toml((FEEDS / "own.toml").read_text(), "x")
    assert (feed.title, feed.messenger, feed.topics) == ("Ours", "grb", ("a", "b"))
    assert (feed.containment, feed.streams) == (0.68, ("ours",))
    assert feed.mission == "Own"
    assert "[$.where.ra]" in result.output
    assert "one of gw, grb" in result.output
    assert "messenger" not in result.output.partition("Guessed")[2]


def test_new_asks_again_for_each_wrong_answer_and_loses_none() -> None:
    answers = [
        "Own", "lvk", "own",  # name
        "Ours", "csv", "voevent", "igwn", "json",  # title, format
        "grb", "", "", "a b", "own.events",  # messenger, mission, instrument, topics
        "host", "host:99999", "host:9092", "", "",  # kafka, schema, prefix
        "", "", "-", "$.[", "$.event.name", "", "", "", "",
    ]  # fmt: skip
    result = runner.invoke(
        app, ["feeds", "new", "--from", "sample.json"], input="\n".join(answers) + "\n"
    )
    assert result.exit_code == 0, result.output
    for said in (
        "letter first", "stands in", "one of voevent, json, igwn", "the sample is JSON",
        "no alert of LIGO", "no topic of Kafka", "'host' is not host:port",
        "'host:99999' is not", "$.[",
    ):  # fmt: skip
        assert said in result.output
    feed = feed_from_toml((FEEDS / "own.toml").read_text(), "x")
    assert (feed.name, feed.title, feed.messenger) == ("own", "Ours", "grb")
    assert (feed.topics, feed.transport.kafka) == (("own.events",), "host:9092")
    assert feed.fields["id"] == "$.event.name"


def test_new_asks_once_more_when_the_answers_do_not_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    def checked(draft: Any, sample: Any) -> tuple[str, None]:
        tries.append(draft.title)
        if len(tries) == 1:
            raise ConfigError("the new feed: this and that do not go together")
        return "text", None

    monkeypatch.setattr(feeds_new, "_checked", checked)
    monkeypatch.setattr(feeds_new, "_finish", lambda *arguments: None)
    result = runner.invoke(
        app, ["feeds", "new", "--name", "own"], input="First\n" + "\n" * 4 + "t\n" + "\n" * 40
    )
    assert result.exit_code == 0, result.output
    assert "do not go together" in result.output
    assert tries == ["First", "First"]


def test_new_lists_drafted_marks_and_tells_whose_the_sample_is(run: Run) -> None:
    Path("flag.json").write_text(json.dumps(SAMPLE | {"is_test": False}))
    done = run("new --from flag.json --name own --topic own.events --yes")
    assert "test_params (is_test)" in done.out
    assert "messenger (optical)" in done.out
    again = run("new --from flag.json --name second --topic own.second --yes")
    assert "own has it and not second: own is asked first" in again.out
    assert run("new --from flag.json --name third --topic t --out x --yes --json").json["claim"]


def test_new_asks_for_params_of_voevents() -> None:
    result = runner.invoke(
        app,
        ["feeds", "new", "--name", "own", "--format", "voevent", "--messenger", "grb"],
        input="\n".join(
            ["", "", "", "", "", "", "ivo://org.example/own#", "@ivoid", "", "", "", "", ""]
        ),
    )
    assert result.exit_code == 0, result.output
    feed = feed_from_toml((FEEDS / "own.toml").read_text(), "x")
    assert (feed.ivoids, feed.trigger) == (("ivo://org.example/own#",), ("@ivoid",))


# --- suggest ---------------------------------------------------------------------------------


@pytest.fixture
def heard() -> None:
    time = datetime(2026, 3, 1, tzinfo=UTC)
    observer = Unknown(Path("mmgateway-data"))
    observer(
        NoticeReport(
            feed="", source="kafka:ours", topic="own.events", outcome="rejected", reason="no_feed",
            received=time, finished=time, raw=json.dumps(SAMPLE).encode(),
        )
    )  # fmt: skip


def test_nothing_to_suggest(run: Run) -> None:
    assert "known to a feed" in run("suggest").out
    assert run("suggest --json").json == {"suggestions": []}


@pytest.mark.usefixtures("heard")
def test_suggest_proposes_a_file(run: Run) -> None:
    (one,) = run("suggest --json").json["suggestions"]
    assert (one["name"], one["count"], one["topics"]) == ("own_events", 1, ["own.events"])
    assert one["tried"]["outcome"] == "region"
    assert feed_from_toml(one["toml"], "x").topics == ("own.events",)
    out = run("suggest").out
    assert "1 message: json event, observatory, where" in out
    assert "[fields]" in out


@pytest.mark.usefixtures("heard")
def test_suggestions_are_written_and_then_known(run: Run) -> None:
    done = run("suggest --write drafts")
    assert str(Path("drafts/own_events.toml")) in done.out
    assert run("suggest --write drafts").status == 2
    (path,) = [s["path"] for s in run(f"suggest --write {FEEDS} --json").json["suggestions"]]
    assert Path(path).is_file()
    assert run("suggest --json").json == {"suggestions": []}
