"""``mmgateway candidates``: what a follow-up person sees."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from crossmatch.errors import ConfigError, ServiceError
from gateway.cli import app
from gateway.offline.counterparts import grouped
from gateway.runfiles import announce
from tests.gateway.candidatefiles import statement, write_table

runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"})
NOW = datetime(2017, 9, 15, tzinfo=UTC)
BURST = {"event_id": "Fermi_524666471", "messenger": "grb", "tier": "bronze", "score": 0.3}
VERDICT = {
    "verdict": "kilonova", "verdict_effect": "confirm", "verdict_author": "jane",
    "verdict_note": "reddens", "verdict_reference": "GCN 21529",
    "verdict_time": "2017-08-18T02:00:00.000000Z",
}  # fmt: skip


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of our own, and no configuration of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    return tmp_path / "mmgateway-data"


@pytest.fixture
def night(state: Path) -> Path:
    gold = {"tier": "gold", "score": 2.6, "changed": ["tier", "verdict"], "reason": "verdict"}
    write_table(
        state,
        [
            statement(number=1, tier="bronze", score=0.4),
            statement(number=2, joint_events=["GW170817", "G298048"], **gold, **VERDICT),
            statement(**BURST),
            statement("ZTF17bbb", tier="silver", score=1.1),
            statement("ZTF17gone", state="withdrawn", reason="outside_revised_region"),
            statement("ZTF17secret", event_id="ourteam:Own_1", streams=["ourteam"]),
        ],
    )
    return state


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["candidates", *arguments])


def failure(*arguments: str) -> BaseException | None:
    return run(*arguments).exception


def lines(*arguments: str) -> list[str]:
    result = run("list", *arguments)
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if line.startswith("MM-")]


@pytest.mark.usefixtures("night")
def test_a_counterpart_is_one_line_with_the_tier_for_each_event():
    first, second = lines()
    assert first.split()[0] == "MM-ZTF-ZTF17aabcdef"
    assert first.split()[7:] == ["2.60", "gold", "GW170817", "(expired)", "kilonova"]
    assert second.split()[7:] == ["1.10", "silver", "GW170817", "(expired)"]
    assert " 0.30  bronze  Fermi_524666471" in run("list").stdout
    assert "(withdrawn)" in lines("--state", "withdrawn")[0]


def test_only_what_is_live_is_listed_when_so_asked(night: Path):
    write_table(night, [statement("ZTF29new", expires="2999-01-01T00:00:00.000Z", tier="bronze")])
    first, *rest = lines()
    assert "ZTF29new" in first
    assert "expired" not in first
    assert all("(expired)" in line for line in rest)
    assert lines("--live") == [line for line in lines("--live") if "ZTF29new" in line] != []
    found = json.loads(run("list", "--json").stdout)["counterparts"]
    assert [one["expired"] for one in found] == [False, True, True]


def test_a_gateway_that_waits_for_its_first_alert_has_none_yet(state: Path):
    announce(state, "match")
    result = run("list")
    assert result.stdout == "none yet: the gateway is running and waits for alerts\n"
    assert result.exit_code == 0
    assert json.loads(run("list", "--json").stdout) == {"total": 0, "counterparts": []}
    error = failure("show", "ZTF17aabcdef")
    assert isinstance(error, ConfigError)
    assert "waits for alerts" in str(error)


@pytest.mark.parametrize(("rate", "told"), [(-0.24, "rises"), (0.24, "fades")])
def test_rates_have_the_word_for_their_sign(state: Path, rate: float, told: str):
    write_table(state, [statement(fade_rate=rate, looked_up="not_looked_up")])
    text = run("show", "ZTF17aabcdef").stdout
    (line,) = [line for line in text.splitlines() if "mag/d" in line]
    assert line.split() == [told, "0.24", "mag/d"]
    assert "nowhere yet" in text


def test_what_catalogues_know_near_it_is_told(state: Path):
    near = {
        "host_name": "NGC 1", "host_offset": 2.04, "redshift": 0.0098, "p_cc": 0.0012,
        "simbad_name": "M 1", "simbad_type": "Star", "simbad_distance": 0.52,
        "star_distance": 0.31, "star_significance": 12.3,
        "minor_planet": "Ceres", "minor_planet_distance": 8.0,
        "known_transient_distance": 0.0,
    }  # fmt: skip
    write_table(state, [statement(**near)])
    told = [" ".join(line.split()) for line in run("show", "ZTF17aabcdef").stdout.splitlines()]
    for line in (
        "host NGC 1, z 0.0098, 2.0″ away, P_cc 0.0012",
        "Simbad M 1, Star, 0.52″ away",
        "star 12.3 sigma, 0.31″ away",
        "known transient 0.00″ away",
        "minor planet Ceres, 8.00″ away",
    ):
        assert line in told
    assert not [line for line in told if line.startswith(("active galaxy", "variable"))]


def test_long_causes_stay_in_one_piece():
    import io

    from rich.console import Console

    from gateway.cli import candidate_tables

    cause = "ivo://gwnet/LVC#S170817a-4-Update-2017-08-18T00:00:00"
    out = io.StringIO()
    (one,) = grouped([statement(cause=cause)])
    candidate_tables.show_one(one, Console(file=out, width=100), NOW)
    assert cause in out.getvalue().split()


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--tier", "silver"], 2),
        (["--tier", "gold"], 1),
        (["--event", "Fermi_524666471"], 1),
        (["--event", "G298048"], 1),
        (["--state", "withdrawn"], 1),
        (["--state", "all"], 3),
        (["--limit", "1"], 1),
        (["--limit", "0"], 2),
        (["--since", "7d"], 0),
        (["--since", "2017-08-01"], 2),
        (["--private"], 3),
    ],
)
def test_options_choose_what_is_listed(arguments, count):
    assert len(lines(*arguments)) == count


@pytest.mark.usefixtures("night")
def test_what_the_limit_hides_is_said():
    assert "1 more: --limit 0 shows all." in run("list", "--limit", "1").stdout


@pytest.mark.usefixtures("night")
def test_the_list_as_json_has_the_total_and_each_event():
    found = json.loads(run("list", "--limit", "1", "--json").stdout)
    assert found["total"] == 2
    (one,) = found["counterparts"]
    assert (one["id"], one["tier"], one["mag"]) == ("ZTF17aabcdef", "gold", 17.5)
    assert [e["event_id"] for e in one["events"]] == ["GW170817", "Fermi_524666471"]
    assert one["events"][0]["joint_events"] == ["GW170817", "G298048"]


@pytest.mark.usefixtures("night")
def test_show_tells_what_is_known_and_every_statement():
    text = run("show", "ZTF17aabcdef").stdout
    for told in ("197.45000 -23.38000", "17.50 r on 2017-08-18 00:02", "G298048", "GCN 21529"):
        assert told in text
    assert "kilonova (confirm) by jane, 2017-08-18 02:00" in text
    history = [line.split()[0] for line in text.splitlines() if "2017-08-18 00:0" in line[:20]]
    assert history == ["1", "2", "1"]


@pytest.mark.usefixtures("night")
def test_show_of_one_event_leaves_the_others_out():
    text = run("show", "MM-ZTF-ZTF17aabcdef", "--event", "G298048").stdout
    assert "GW170817" in text
    assert "Fermi" not in text


@pytest.mark.usefixtures("night")
def test_show_as_json_has_the_history_with_every_column():
    found = json.loads(run("show", "ZTF17aabcdef", "--json").stdout)
    history = found["events"][0]["history"]
    assert [(s["record_number"], s["tier"]) for s in history] == [(1, "bronze"), (2, "gold")]
    assert history[1]["verdict_note"] == "reddens"


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "ztf17aabcdef"], "did you mean ZTF17aabcdef?"),
        (["show", "ZTF17secret"], "no candidate is known of 'ZTF17secret'"),
        (["show", "ZTF17aabcdef", "--event", "GW1"], "belongs to no event 'GW1', but to GW170817"),
        (["list", "--event", "GW170818"], "did you mean GW170817"),
        (["list", "--event", "ourteam:Own_1"], "no candidate belongs to an event"),
        (["list", "--since", "tomorrow"], "write a date"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(arguments, sentence):
    error = failure(*arguments)
    assert isinstance(error, ConfigError)
    assert sentence in str(error)


@pytest.mark.usefixtures("night")
def test_what_is_private_is_shown_to_operators_and_said_to_be():
    assert "private to" in run("show", "ZTF17secret", "--private").stdout


@pytest.mark.parametrize("arguments", [["list"], ["show", "ZTF17aabcdef"]])
def test_without_candidates_it_says_who_makes_them(arguments):
    error = failure(*arguments)
    assert isinstance(error, ServiceError)
    assert "the matcher writes them ('mmgateway up')" in str(error)


def test_the_table_fits_100_columns(night: Path, monkeypatch: pytest.MonkeyPatch):
    """With a number of Rubin, a long event and a verdict."""
    import io

    from rich.console import Console

    from gateway.cli import candidate_tables
    from gateway.offline.statements import Table

    write_table(
        night, [statement("170028523717525566", survey="lsst", **BURST, verdict="supernova")]
    )
    shown = grouped(Table(night / "candidates").latest())
    out = io.StringIO()
    candidate_tables.show_list(shown, Console(file=out, width=100), NOW)
    printed = out.getvalue().splitlines()
    assert max(map(len, printed)) <= 100
    assert any("MM-LSST-170028523717525566" in p and "Fermi_524666471" in p for p in printed)
