"""What each cut left: of a period by the ledger, of an event by the archive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.tally import Tally
from crossmatch.chains import chains_with
from crossmatch.errors import ServiceError
from crossmatch.selections import selections_with
from gateway import services
from gateway.cli import app
from gateway.config import load
from gateway.offline import accounts, evidence, reprocess
from gateway.offline import funnel_plot as funnel_plot_module
from gateway.offline.evidence import from_topics
from gateway.offline.funnel import Asked, Funnel, Level, of_event, of_period
from gateway.offline.funnel_plot import funnel_plot
from gateway.offline.reprocess import read_past_of
from tests.broker.conftest import T0_JD, alert
from tests.broker.scene import DEC, PLACES, SOURCES, Said, record_of
from tests.gateway.books import NIGHT, Books, a_night
from tests.gateway.pastworld import PastWorld, settings

runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})
EVENT = SOURCES[0].event
MINE = selections_with(
    {"bright": {"cuts": [{"cut": "magnitude", "faintest": 18.5}]}, "steep": {"cuts": ["fading"]}}
)


def levels(funnel: Funnel) -> list[tuple[str, int, int]]:
    return [(one.name, one.removed, one.left) for one in funnel.levels]


def judged(books: Books, night: str = NIGHT, **counts: int) -> None:
    tally = Tally()
    tally.add("judged", night, "", sum(n for name, n in counts.items() if "told" not in name))
    for name, n in counts.items():
        tally.add(name.replace("__", "."), night, "", n)
    books.step("search", tally)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """A night with cuts, and with candidates that were judged."""
    books = Books(tmp_path)
    books.alerts(
        duplicate=2, rejected__bad=1, cut__not_positive=10, cut__star=5, cut__mine=3,
        unmatched=20, matched=4,
    )  # fmt: skip
    judged(books, passed=3, withheld__two_detections=4, lowered__fading=1,
           told__bronze=3, told__silver=1)  # fmt: skip
    # One passes after all, and one becomes gold.
    judged(books, passed=1, withheld__two_detections=-1, told__bronze=1)
    judged(books, told__silver=-1, told__gold=1)
    books.publish()
    return books


def test_a_period_by_the_ledger(books: Books) -> None:
    funnel = of_period(evidence.entries(books.kafka), NIGHT, load(environ={}))
    assert levels(funnel) == [
        ("received", 0, 45),
        ("repeated", 2, 43),
        ("rejected", 1, 42),
        ("not_positive", 10, 32),
        ("real_bogus", 0, 32),
        ("bad_pixels", 0, 32),
        ("mag_difference", 0, 32),
        ("moving", 0, 32),
        ("star", 5, 27),
        ("mine", 3, 24),
        ("outside of all regions", 20, 4),
        ("in events", 0, 8),
        ("two_detections (withheld)", 3, 5),
        ("fading (bronze)", 1, 4),
        ("silver or gold", 3, 1),
        ("gold", 0, 1),
    ]


def test_candidates_are_told_of_without_demands_too(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.alerts(unmatched=2, matched=3)
    tally = Tally()
    tally.add("told.bronze", NIGHT, "", 3)
    books.step("search", tally)
    books.publish()
    funnel = of_period(evidence.entries(books.kafka), NIGHT, load(environ={}))
    assert levels(funnel)[-4:] == [
        ("outside of all regions", 2, 3),
        ("in events", 0, 3),
        ("silver or gold", 3, 0),
        ("gold", 0, 0),
    ]


def test_the_order_is_that_of_the_configuration(books: Books) -> None:
    config = load(environ={"MMGATEWAY_CUTS__SELECTION": "star"})
    names = [one.name for one in of_period(evidence.entries(books.kafka), NIGHT, config).levels]
    assert names[3:6] == ["star", "mine", "not_positive"]


def test_earlier_nights_do_not_count(books: Books) -> None:
    funnel = of_period(evidence.entries(books.kafka), "2027-01-01", load(environ={}))
    assert {one.left for one in funnel.levels} == {0}


def test_candidates_count_in_the_night_of_their_first_alert(books: Books) -> None:
    judged(books, "2026-01-05", passed=2, told__gold=2)
    found = evidence.entries(books.kafka)
    funnel = of_period(found, "2026-01-02", load(environ={}))
    assert levels(funnel)[-3:] == [
        ("in events", 0, 2), ("silver or gold", 0, 2), ("gold", 0, 2),
    ]  # fmt: skip
    assert [r["counts"] for r in accounts.rows(found) if r["kind"] == "candidates"] == [
        {"judged": 8, "lowered.fading": 1, "passed": 4, "told.bronze": 4, "told.gold": 1,
         "withheld.two_detections": 3},
        {"judged": 2, "passed": 2, "told.gold": 2},
    ]  # fmt: skip


def test_candidates_that_were_judged_add_up_or_are_a_hole(books: Books) -> None:
    def holes() -> list[accounts.Hole]:
        found = accounts.holes(from_topics(books.kafka, books.state))
        # The archive of these books has no rows of alerts that were cut.
        return [hole for hole in found if hole.check != "archive"]

    assert holes() == []
    tally = Tally()
    tally.add("judged", NIGHT, "", 3)
    tally.add("passed", NIGHT, "", 2)
    books.step("search", tally)
    (hole,) = holes()
    assert (hole.check, hole.number) == ("judged", 1)
    assert hole.sentence == "step 4 (search) judged 3 candidates, 2 are accounted for"


# --- one event --------------------------------------------------------------------------------


def _seen(thing: int, *days: float, **changed: Any) -> list[dict[str, Any]]:
    """Alerts of an object in the middle of the burst."""
    place = PLACES[0] + thing * 0.01, DEC
    more = {"first_detection_jd": None, "n_detections": None} | changed
    return [alert(100 * thing + i, *place, days=d, object_id=f"ZTF{thing}", **more)
            for i, d in enumerate(days)]  # fmt: skip


def _world(path: Path, **demands: Any) -> PastWorld:
    chains = chains_with({"grb": demands}, MINE)
    world = PastWorld(path, replace(settings(), chains=chains))
    rows = [*_seen(1, 0.1, 0.6), *_seen(2, 0.1, mag=19.0), *_seen(3, 0.2, 0.7, real_bogus=0.1)]
    world.batch([*rows, *_seen(4, 0.3, positive=False), *_seen(5, 0.3)])
    world.batch([alert(900, PLACES[0] + 90, DEC)], [record_of(Said(0, 1, radius=1))])
    world.search()
    world.batch(_seen(5, 0.3, withdrawn=True))
    return world


def test_an_event_by_the_archive(tmp_path: Path) -> None:
    world = _world(tmp_path, demands="bright")
    past = read_past_of(world.kafka, EVENT)
    funnel = of_event(world.world, past, world.settings, Asked(EVENT))
    assert [(o.name, o.removed, o.left, o.objects) for o in funnel.levels] == [
        ("in region and window", 0, 7, 5),
        ("withdrawn", 1, 6, 4),
        ("not_positive", 1, 5, 3),
        ("real_bogus", 2, 3, 2),
        ("bad_pixels", 0, 3, 2),
        ("mag_difference", 0, 3, 2),
        ("moving", 0, 3, 2),
        ("star", 0, 3, 2),
        ("in events", 0, 2, None),
        ("magnitude (withheld)", 1, 1, None),
        ("silver or gold", 0, 1, None),
        ("gold", 1, 0, None),
    ]
    late = of_event(world.world, past, world.settings, Asked(EVENT, T0_JD + 0.5))
    assert late.levels[0].left == 2


def test_an_event_that_nobody_knows_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no event is called 'S1' of which the matcher has"):
        read_past_of(_world(tmp_path).kafka, "S1")


def test_another_configuration_says_which_demand_removes_a_candidate(tmp_path: Path) -> None:
    world = _world(tmp_path)
    other = replace(world.settings, chains=chains_with({"grb": {"demands": "bright"}}, MINE))
    compared = reprocess.compare(
        world.world, world.past(), world.settings, other, None, lambda *_: None
    )
    (change,) = compared.changes
    assert (change.kind, change.reasons) == ("goes", ("withheld by magnitude",))


@pytest.mark.parametrize("demands", [{"demands": "bright"}, {"silver_demands": "steep"}])
def test_what_was_withheld_is_withheld_again(tmp_path: Path, demands: dict[str, str]) -> None:
    world = _world(tmp_path, **demands)
    world.batch(_seen(2, 0.1, 0.9, mag=18.2))
    world.batch((), [record_of(Said(0, 2, radius=0))])
    world.search()
    verified = world.verified()
    assert verified.is_identical
    assert sum(one.statements for one in verified.accounts) > 1


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.chdir(tmp_path)
    books = a_night(tmp_path / "mmgateway-data")
    monkeypatch.setattr(services, "find_bootstrap", lambda config: "memory:1")
    monkeypatch.setattr(evidence, "KafkaTopics", lambda *_: books.kafka)
    return books


def cuts(*arguments: str) -> Result:
    return runner.invoke(app, ["cuts", *arguments])


def test_the_funnel_of_a_period_is_shown(night: Books) -> None:
    done = cuts("funnel", "--since", NIGHT)
    assert done.exit_code == 0
    rows = [line.split() for line in done.output.splitlines()]
    assert ["alerts", "received", "7"] in rows
    assert ["repeated", "1", "6", "85.7%"] in rows


def test_the_funnel_is_json_and_a_picture(night: Books, tmp_path: Path) -> None:
    done = cuts("funnel", "--since", NIGHT, "--json", "--plot", "f.png")
    record = json.loads(done.output)
    assert record["title"] == f"Nights since {NIGHT}"
    assert record["levels"][0] == {
        "of": "alerts", "name": "received", "removed": 0, "left": 7, "objects": None,
    }  # fmt: skip
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say --since WHEN, --event EVENT or both"),
        (("--event", "E", "--offline"), "an event is looked at by the topics"),
        (("--since", "yesterday"), "write a date"),
        (("--since", "7d", "--plot", "f.pdf"), "name a file ending in .png"),
    ],
)
def test_wrong_arguments_of_the_funnel(
    night: Books, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in str(cuts("funnel", *arguments).exception)


def test_the_picture_says_what_is_counted_where_that_changes(books: Books) -> None:
    found = of_period(evidence.entries(books.kafka), NIGHT, load(environ={})).levels
    names = funnel_plot_module._names(found)
    assert (names[0], names[3]) == ("alerts received", "not positive")
    assert names[-5:-3] == ["candidates in events", "two detections (withheld)"]
    assert funnel_plot_module._text(Level("alerts", "star", 5, 1200, 900)) == (
        " 1,200 of 900 objects (5 removed)"
    )


def test_an_empty_funnel_can_be_drawn() -> None:
    assert funnel_plot(of_period([], NIGHT, load(environ={}))).startswith(b"\x89PNG")


def test_cuts_and_selections_are_listed_with_where_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mmgateway.toml").write_text(
        '[selections.mine]\ncuts = ["fink", {cut = "star", radius_arcsec = 1.0}]\n'
        '[chains.grb]\ndemands = "mine"\n'
    )
    record = json.loads(cuts("list", "--json").output)
    assert record["cuts"][0]["name"] == "positive"
    used = {one["name"]: one["used"] for one in record["selections"] if one["used"]}
    assert used == {
        "default": ["before matching"],
        "not_star_or_asteroid": ["demands of all chains but grb"],
        "mine": ["grb demands"],
    }
    assert "mine" in cuts("list").output
    shown = cuts("show", "mine").output.splitlines()
    assert shown[-2:] == [
        "  star (radius_arcsec 1, min_star_score 0.76)",
        "used: grb demands",
    ]


def test_a_cut_is_shown_with_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = cuts("show", "rising").output.splitlines()
    assert "  min_mag_per_day = 1.0   mag/d" in lines
    assert "a missing value fails: no limit fainter than the first detection, in its filter" in (
        lines
    )
    assert json.loads(cuts("show", "positive", "--json").output)["counted_as"] == "not_positive"
    assert "'mmgateway cuts list' shows them" in str(cuts("show", "nope").exception)
