"""Figures: measured in turn, told with what they compare, refused when results differ."""

from __future__ import annotations

import itertools
import json
import platform
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, ServiceError
from crossmatch.skymap import read_skymap
from gateway.bench import live, notices, own, samples
from gateway.bench.measure import OURS, Subject, commit, delays_row, machine, measured
from gateway.cli import main
from gateway.cli.bench_options import scratch
from gateway.feeds.registry import load_feeds
from gateway.understand import understand

KEYS = {
    "bench",
    "case",
    "subject",
    "items",
    "seconds",
    "per_s",
    "us_per_item",
    "ratio_to_ours",
    "equal",
}
SMALL = ["--voevents", "30", "--records", "30", "--cells", "3000", "--runs", "1", "--no-live"]


def test_rows_tell_medians_and_ratios_of_subjects_that_take_turns():
    order: list[str] = []
    ticks = itertools.count()
    subjects = [
        Subject(name=OURS, run=lambda: order.append("ours")),
        Subject(name="peer", run=lambda: [order.append("peer"), next(ticks)], equal=True),
    ]
    ours, peer = measured(
        "b", "c", subjects, items=10, runs=3, compared="", clock=lambda: float(next(ticks))
    )
    assert order == ["ours", "peer"] * 4
    assert (ours.seconds, peer.seconds) == (1.0, 2.0)
    assert (ours.ratio_to_ours, peer.ratio_to_ours) == (1.0, 2.0)
    assert (ours.per_s, ours.us_per_item, peer.runs) == (10.0, 1e5, 3)


def test_the_spread_of_delays_leaves_out_a_hundredth_at_each_end():
    row = delays_row("b", "c", [float(i) for i in range(101)], [25.0], 7.0, compared="")
    assert (row.items, row.seconds, row.seconds_min, row.seconds_max) == (1, 50.0, 1.0, 99.0)
    assert row.ratio_to_ours == row.facts["p50_ratio"] == 2.0
    assert row.quantiles_s == tuple(float(i) for i in range(101))


def test_the_machine_is_told_without_its_name():
    facts = machine(["numpy", "no-such-package"])
    assert facts["versions"]["no-such-package"] == "not installed"
    assert facts["processors"] >= 1
    assert facts["memory_gb"] > 0
    assert platform.node() not in json.dumps(facts)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_lines_say_of_which_commit_the_code_is(tmp_path):
    code, page, later = (tmp_path / name for name in ("code.py", "docs/page.md", "env/code.py"))
    for path in (code, page, later):
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    assert commit(code) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "code.py", "docs")
    git(tmp_path, "commit", "-q", "-m", "first")
    short = git(tmp_path, "rev-parse", "--short", "HEAD")

    assert commit(code) == short
    assert commit(later) is None
    page.write_text("2")
    assert commit(code) == short
    code.write_text("2")
    assert commit(code) == f"{short}+"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = machine(["numpy"])
    assert facts["commit"] is None
    assert facts["versions"]["numpy"]


def test_services_of_the_bench_have_free_ports_and_end_when_it_fails(tmp_path, monkeypatch):
    calls = []

    def up(config, names, *, config_path, timeout):
        ports = config.kafka.port, config.vtp.receiver_port, config.vtp.broadcast_port
        calls.append((names, ports, config.match.alert_topics_ztf))
        raise ServiceError("no room")

    monkeypatch.setattr(own.services, "up", up)
    monkeypatch.setattr(own.services, "down", lambda config: calls.append(config.paths.state))
    with pytest.raises(ServiceError, match="no room"), own.running(tmp_path, ["kafka"], alerts="a"):
        pass
    assert calls == [(["kafka"], (0, 0, 0), ("a",)), own.state_folder(tmp_path)]


def test_bench_notices_prints_a_json_line_a_subject(capsys):
    assert main(["bench", "notices", *SMALL, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["case"] for row in rows} == {"voevent", "json", "mixed", "map"}
    for row in rows:
        assert row.keys() >= KEYS
        assert row["equal"] is (None if row["subject"] == OURS else True)
        assert row["machine"]["versions"]["numpy"]


def test_samples_of_a_folder_are_read_by_all(tmp_path, capsys):
    folder = Path(__file__).resolve().parents[1] / "data" / "notices"
    assert main(["bench", "notices", *SMALL, "--samples", str(folder), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours, peer = (row for row in rows if row["case"] == "samples")
    assert ours["items"] == peer["items"] == 30
    assert peer["equal"] is True
    assert "1 of 2 VOEvents" in ours["compared"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["bounds", "nosuch"], "burst, regions"),
        (["latency", "--rate", "inf"], "inf"),
        (["latency", "--rate", "nan"], "greater than"),
        (["latency", "--cds-seconds", "inf"], "inf"),
        (["notices", "--rate", "nan"], "greater than"),
        (["join", "--seed", "-1"], "greater than"),
        (["catalogue", "--seed", "-1"], "greater than"),
        (["cluster", "--seed", "-1"], "greater than"),
        (["notices", "--samples", "/nonexistent"], "/nonexistent"),
        (["packets", "--samples", "/nonexistent"], "/nonexistent"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments, why, capsys):
    assert main(["bench", *arguments]) == 2
    told = capsys.readouterr()
    assert why in told.err
    assert "measuring" not in told.err
    assert not told.out


def test_programs_read_lines_alone_and_people_what_goes_on(capsys):
    assert main(["bench", "notices", *SMALL, "--json"]) == 0
    told = capsys.readouterr()
    assert all(json.loads(line) for line in told.out.splitlines())
    assert "measuring: " in told.err


def test_a_folder_of_a_bench_is_made_and_stays(tmp_path):
    place = tmp_path / "new" / "place"
    with scratch(place) as folder:
        assert folder.parent == place
    assert list(place.iterdir()) == []


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no VOEvents"):
        notices._samples(load_feeds(), notices.Sizes(), tmp_path)


@pytest.mark.realdata
def test_real_voevents_have_the_positions_that_another_reader_finds(shared_data):
    sizes = notices.Sizes(voevents=1, runs=1)
    rows = notices._samples(load_feeds(), sizes, shared_data / "notices" / "voevent_kafka_2026")
    assert rows[1].equal is True
    assert rows[0].items > 20


def test_bench_notices_prints_a_table(capsys):
    assert main(["bench", "notices", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "per second" in out
    assert "voevent-parse" in out
    assert "processors" in out


def test_a_result_that_differs_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(notices, "_close", lambda ours, theirs: False)
    assert main(["bench", "notices", *SMALL]) == 1
    assert "NO" in capsys.readouterr().out


@pytest.mark.parametrize("cells", [3000, 50_000])
def test_generated_maps_have_the_size_asked_for_and_differ_by_seed(cells):
    fits = samples.large_map(cells, seed=1)
    assert abs(len(read_skymap(fits).start) - cells) <= 3
    assert fits == samples.large_map(cells, seed=1) != samples.large_map(cells, seed=2)


def test_generated_messages_are_all_different():
    kinds = (samples.gbm_voevents(30, 1), samples.wxt_records(30, 1), samples.mixed(30, 1, 100))
    for raws in kinds:
        assert len(set(raws)) == 30


def test_a_notice_of_a_map_is_understood_with_the_address_of_the_map():
    trigger, raw = samples.mapped_record(3, "http://127.0.0.1:1/3.fits")
    found = understand(load_feeds(), DEFAULT_CHAINS, raw)
    assert (found.outcome, found.feed) == ("region", "icecube_json")
    assert found.notice is not None
    assert (found.notice.trigger_id, found.notice.skymap_url) == (
        trigger, "http://127.0.0.1:1/3.fits",
    )  # fmt: skip


def test_maps_are_served_one_at_a_time():
    with live._served(3000, seed=1) as maps:
        first = maps.make(0)
        assert len(read_skymap(urllib.request.urlopen(first).read()).start) > 2900
        second = maps.make(1)
        assert second != first
        with pytest.raises(urllib.error.HTTPError, match="404") as gone:
            urllib.request.urlopen(first)
        gone.value.close()


def test_the_mixture_has_many_missions_and_a_map_in_ten_messages():
    registry = load_feeds()
    raws = samples.mixed(20, 1, 20_000)
    found = [understand(registry, DEFAULT_CHAINS, raw) for raw in raws]
    assert Counter(u.feed for u in found) == {
        "fermi_gbm": 6, "swift_bat": 4, "icecube": 4, "einstein_probe": 4, "lvk": 2,
    }  # fmt: skip
    assert {u.outcome for u in found} == {"region"}
    assert len({u.notice.event_id for u in found}) == 20
    (cells,) = {len(u.notice.localization.start) for u in found if u.feed == "lvk"}
    assert abs(cells - 20_000) <= 3
    assert raws == samples.mixed(20, 1, 20_000) != samples.mixed(20, 2, 20_000)
