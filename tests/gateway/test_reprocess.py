"""Past steps done once more give what was published; another configuration gives other things."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from broker import search, topics
from broker.codec import decode, encode_candidate
from broker.regioncodec import RegionRecord
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS, chains_with
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import MultiOrderMap, Window
from crossmatch.remote import NOWHERE, Remote
from gateway.cli import main
from gateway.cli.reprocess import _show_compared, _show_verified, _span
from gateway.offline import reprocess
from gateway.offline.otherwise import adapted
from gateway.offline.pastalerts import PastAlerts
from gateway.offline.published import Account
from gateway.offline.replayed import Settings
from gateway.offline.reprocess import Compared, Verified, compare, read_past, verify
from tests.broker import scene
from tests.broker.conftest import CUTS, alert
from tests.gateway.pastworld import PastWorld, play, settings


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happened_every_statement_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # Searches stop in the middle of a night, and tell of some objects at a time.
    monkeypatch.setattr(search, "ROWS", 3)
    monkeypatch.setattr(search, "MOST", 4)
    monkeypatch.setattr(search, "ENOUGH", 2)
    remote = Remote(("simbad",)) if seed % 3 else NOWHERE
    world = PastWorld(tmp_path, settings(remote=remote))
    play(world, random.Random(seed), 12)

    result = world.verified()

    assert [d.as_dict() for d in result.differences] == []
    assert result.is_identical
    assert sum(a.statements for a in result.accounts) > 0


# --- one event, told step by step -------------------------------------------------------------


def _burst(serial: int = 1, **changed: Any) -> RegionRecord:
    return scene.record_of(scene.Said(source=0, serial=serial, radius=1, **changed))


EVENT = scene.SOURCES[0].event


def _seen(*numbers: int) -> list[dict[str, Any]]:
    """Alerts of one object in the middle of the burst, one after another."""
    place = scene.PLACES[0], scene.DEC
    return [alert(100 + n, *place, days=(0.01, 0.6, 1.2, 2.0)[n], mag=18 + n / 4) for n in numbers]


@pytest.fixture
def told(tmp_path: Path) -> PastWorld:
    """A burst with three alerts in it and one that comes before, and nothing else."""
    world = PastWorld(tmp_path)
    world.batch(_seen(0))
    world.batch(_seen(1), [_burst()])
    world.search()
    world.batch(_seen(2, 3))
    return world


def _account(result: Verified) -> Account:
    (account,) = result.accounts
    return account


def test_an_event_outside_of_the_span_is_told_so(told: PastWorld) -> None:
    with pytest.raises(ServiceError, match=r"no event was triggered from 2025-01-01 .* \(5 steps"):
        read_past(told.kafka, datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))


def test_without_steps_or_with_a_hole_it_is_told_which(told: PastWorld) -> None:
    del told.kafka.logs[topics.LEDGER][1]
    with pytest.raises(ServiceError, match="lacks 1 steps of the matcher, first step 1"):
        told.past()
    told.kafka.logs[topics.LEDGER].clear()
    with pytest.raises(ServiceError, match="has no step of the matcher yet"):
        told.past()


def test_an_entry_of_an_earlier_version_is_told(told: PastWorld) -> None:
    entry = json.loads(told.kafka.logs[topics.LEDGER][2].value)
    del entry["searches"]
    told.kafka.add(topics.LEDGER, json.dumps(entry).encode())
    with pytest.raises(ServiceError, match="does not say what step 2 took in"):
        told.past()


def test_without_an_archive_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="there is no archive of alerts"):
        PastAlerts(tmp_path / "alerts")


def test_a_statement_that_was_tampered_with_is_different(told: PastWorld) -> None:
    topic, offset = _spoilt(told, {"score": 1.75})

    result = told.verified()

    account = _account(result)
    assert (account.event_id, account.different, account.missing, account.extra) == (EVENT, 1, 0, 0)
    assert account.identical == account.statements - 1 > 0
    (difference,) = result.differences
    assert (difference.kind, difference.topic) == ("different", topic)
    assert list(difference.columns) == ["score"]
    assert difference.columns["score"][0] == 1.75
    assert offset >= 0


def _spoilt(world: PastWorld, changed: dict[str, Any]) -> tuple[str, int]:
    """Change the first statement on its topic."""
    topic = "mm.candidates.grb"
    first = world.kafka.logs[topic][0]
    value = encode_candidate(decode(first.value) | changed)
    world.kafka.logs[topic][0] = replace(first, value=value)
    return topic, first.offset


def test_a_statement_too_many_and_one_too_few_are_told(told: PastWorld) -> None:
    log = told.kafka.logs["mm.candidates.grb"]
    del log[-1]
    few = told.verified()
    log.append(replace(log[0], offset=100))
    log.append(replace(log[0], offset=102))
    many = told.verified()

    assert [d.kind for d in few.differences] == ["extra"]
    assert _account(few).extra == 1
    assert [d.kind for d in many.differences] == ["different", "missing"]


def test_another_code_version_is_named(told: PastWorld) -> None:
    other = Versions(cuts="usual", code="test 2")

    result = told.verified(settings(versions=other))

    assert _account(result).different == _account(result).statements > 0
    assert result.notes == ["code_version was test 1, and is test 2 here"]


def test_packets_that_are_gone_are_named(told: PastWorld) -> None:
    assert told.verified().is_identical
    told.packets.gone.add(("alerts.ztf", 0, 1))

    result = told.verified()

    assert not result.is_identical
    assert result.notes[0].startswith("1 packets are neither in Kafka nor in the store of packets")
    assert "alerts.ztf/0 offset 1" in result.notes[0]
    assert any("alert_sha256" in d.columns for d in result.differences)


def test_a_map_that_is_gone_is_named(told: PastWorld) -> None:
    told.batch([], [_burst(2, is_map=True)])
    told.search()
    assert told.verified().is_identical

    def no_map(sha256: str, path: str) -> MultiOrderMap:
        raise Rejected("map_missing", f"sky map {sha256} cannot be read")

    result = verify(
        replace(told.world, load_map=no_map), told.past(), told.settings, None, lambda *_: None
    )
    assert not result.is_identical
    assert result.notes == [
        "message 1 of mm.regionlog cannot be used: sky map map-0-1 cannot be read (map_missing)"
    ]


def test_steps_of_other_cuts_are_left_to_their_configuration(told: PastWorld) -> None:
    before = _account(told.verified()).statements
    stricter = settings("strict", cuts=replace(CUTS, min_real_bogus=0.8))
    told.restart(stricter)
    told.search()

    old, new = told.verified(settings()), told.verified(stricter)

    assert _account(old).identical == before
    assert _account(old).other_selection == _account(old).statements - before > 0
    assert "were done by strict tests test 1 (cuts and chains" in old.notes[0]
    assert "this is usual test 1: give the configuration of that time" in old.notes[0]
    assert _account(new).other_selection == _account(new).statements
    assert not old.is_identical
    assert not new.is_identical


def test_events_that_began_after_the_cuts_changed_are_made_once_more(told: PastWorld) -> None:
    stricter = settings("strict", cuts=replace(CUTS, min_real_bogus=0.8))
    told.restart(stricter)
    source = next(i for i, s in enumerate(scene.SOURCES) if s.messenger == "gw")
    told.batch([], [scene.record_of(scene.Said(source=source, serial=1, radius=2))])
    told.search()

    accounts = {a.event_id: a for a in told.verified().accounts}

    assert accounts[EVENT].other_selection == accounts[EVENT].statements > 0
    new = accounts[scene.SOURCES[source].event]
    assert new.is_identical
    assert new.statements > 0


def test_two_runs_give_the_same_files(told: PastWorld, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        told.verified(out=tmp_path / folder)

    published = [decode(r.value) for r in told.kafka.logs["mm.candidates.grb"]]
    with (tmp_path / "one/statements.avro").open("rb") as file:
        assert list(fastavro.reader(file)) == published
    assert pq.read_table(tmp_path / "one/statements.parquet").to_pylist() == published
    for name in ("statements.avro", "statements.parquet"):
        one, two = (tmp_path / folder / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_families_go_through_in_groups_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = PastWorld(tmp_path)
    for source in (0, 4, 5):
        said = scene.Said(source=source, serial=1, place=source % 3, radius=2)
        world.batch(scene.ALERTS[source::3], [scene.record_of(said)])
        world.search()
    whole = world.verified(out=tmp_path / "whole")
    monkeypatch.setattr(reprocess, "_FAMILIES", 1)

    parts = world.verified(out=tmp_path / "parts")

    assert whole.is_identical
    assert parts.is_identical
    assert len(parts.accounts) == len(whole.accounts) == 3
    one, two = (pq.read_table(tmp_path / f / "statements.parquet") for f in ("whole", "parts"))
    order = [("candidate_id", "ascending")]
    assert one.sort_by(order).equals(two.sort_by(order))


# --- another configuration --------------------------------------------------------------------


def _compared(world: PastWorld, other: Settings, out: Path | None = None) -> Compared:
    return compare(world.world, world.past(), world.settings, other, out, lambda done, total: None)


def test_the_same_configuration_changes_nothing(told: PastWorld) -> None:
    result = _compared(told, told.settings)
    assert result.changes == []
    assert result.before == result.after == 1


def test_stricter_cuts_say_which_cut_removed_a_candidate(told: PastWorld) -> None:
    stricter = settings("strict", cuts=replace(CUTS, min_real_bogus=0.95))
    (change,) = _compared(told, stricter).changes
    assert (change.kind, change.event_id, change.tier_after) == ("goes", EVENT, None)
    assert change.reasons == ("cut by real_bogus (4 alerts)",)


def test_looser_cuts_say_which_cut_had_removed_what_appears(tmp_path: Path) -> None:
    world = PastWorld(tmp_path, settings("strict", cuts=replace(CUTS, min_real_bogus=0.95)))
    world.batch(_seen(0), [_burst()])
    (change,) = _compared(world, settings()).changes
    assert (change.kind, change.tier_before) == ("appears", None)
    assert change.reasons == ("no longer cut by real_bogus",)


def test_windows_and_levels_of_another_chain_are_used(told: PastWorld) -> None:
    short = chains_with({"grb": {"window": [0, 0.001]}})
    small = chains_with({"grb": {"level": 0.01, "level_silver": 0.01}})

    by_window, by_level = (_compared(told, settings(chains=c)).changes for c in (short, small))

    assert by_window[0].reasons == ("outside of the window, 0 to 0.001 days (4 alerts)",)
    assert by_level == [] or by_level[0].reasons[0].startswith("outside of level 0.01")


def test_a_tier_that_changes_is_told_with_what_held_it(told: PastWorld) -> None:
    capped = chains_with({"grb": {"max_tier": "bronze"}})
    (change,) = _compared(told, settings(chains=capped)).changes
    assert change.kind == "tier"
    assert change.tier_after == "bronze" != change.tier_before
    assert "with capped_at_bronze" in change.reasons


def test_a_window_that_the_feed_gave_stays() -> None:
    own = scene.record_of(scene.Said(source=3, serial=1))
    usual = _burst()
    longer = chains_with({"grb": {"window": [0, 40], "level": 0.5}})
    assert own.region is not None
    assert usual.region is not None

    given = adapted(own, DEFAULT_CHAINS, longer).region
    taken = adapted(usual, DEFAULT_CHAINS, longer).region

    assert given is not None
    assert taken is not None
    assert (given.window, given.level) == (own.region.window, 0.5)
    assert (taken.window, taken.level) == (Window(0, 40), 0.5)
    assert taken.expires - taken.trigger_time == timedelta(days=40)
    assert given.expires == own.region.expires


def test_what_is_compared_is_written_the_same_twice(told: PastWorld, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        _compared(told, told.settings, tmp_path / folder)
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == ["after.avro", "after.parquet", "before.avro", "before.parquet"]
    for name in names:
        one, two = (tmp_path / folder / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "soon"], "--from 'soon': write a date"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "the span ends before it begins"),
        (["--from", "1d", "--config", "/nowhere.toml"], "no such file"),
    ],
)
def test_bad_usage_is_told(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reprocess", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_what_is_shown_of_a_comparison_with_what_was_published(
    told: PastWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    _show_verified(told.verified())
    same = capsys.readouterr().out
    _spoilt(told, {"score": 1.75})
    _show_verified(told.verified())
    other = capsys.readouterr().out.splitlines()

    n = _account(told.verified()).statements
    assert same.splitlines()[-1] == f"1 events, {n} statements: all identical, byte for byte."
    assert other[1].split() == [EVENT, str(n), str(n - 1), "1"]
    assert other[2].startswith("different: MM-ZTF-")
    assert other[3].startswith("  score: published 1.75, made ")
    assert other[-1].endswith("1 different, 0 missing, 0 extra, 0 of another selection.")


def test_what_is_shown_of_another_configuration(
    told: PastWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    _show_compared(_compared(told, settings(cuts=replace(CUTS, min_real_bogus=0.95))))
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[:2] == [EVENT, "goes"]
    assert shown[1].endswith("cut by real_bogus (4 alerts)")
    assert "1 candidates in force as configured, 0 by the other" in shown[-1]


def test_a_date_at_the_end_includes_its_day() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert _span("2026-01-01", "2026-01-31", now)[1] == datetime(2026, 2, 1, tzinfo=UTC)
    assert _span("30d", None, now) == (datetime(2026, 1, 30, tzinfo=UTC), now)
    at = datetime(2026, 1, 31, 6, 30, tzinfo=UTC)
    assert _span("2026-01-01", "2026-01-31T06:30", now)[1] == at


def test_without_kafka_it_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mmgateway.toml"
    path.write_text(f'[paths]\nstate = "{tmp_path}/data"\n[kafka]\nbootstrap = "127.0.0.1:1"\n')
    assert main(["-c", str(path), "reprocess", "--from", "30d"]) == 1
    assert "no Kafka answers at 127.0.0.1:1" in capsys.readouterr().err
