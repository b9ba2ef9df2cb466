"""`mmgateway feeds try` and `feeds check`, in process."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from broker.archive import AlertArchive
from crossmatch.columns import ALERT_SCHEMA
from gateway import cli
from gateway.listener.sources import MAX_NOTICE_BYTES
from gateway.offline.trial import COLUMNS

NOTICES = Path(__file__).parents[1] / "data" / "notices"
GBM, WXT = NOTICES / "gbm_final.xml", NOTICES / "wxt.json"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    status = cli.main(["feeds", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = cli.main(["feeds", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_check_prints_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["feeds", "check", str(NOTICES), "--json"]) == 0
    printed = capsys.readouterr()
    account = json.loads(printed.out)
    assert printed.err == ""
    assert set(account) == {
        "notices", "outcomes", "feeds", "reasons", "duplicates", "seconds", "events",
    }  # fmt: skip
    assert account["notices"] == sum(account["outcomes"].values()) == len(list(NOTICES.iterdir()))
    assert account["feeds"]["fermi_gbm"] == {"region": 1}
    assert account["feeds"][""] == {"rejected": 1}  # the page on their origin


def test_check_writes_rows_and_tells_where(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = text(capsys, "check", NOTICES, "--out", "rows.csv")
    assert status == 0
    assert "rows.csv" in printed
    assert "fermi_gbm" in printed
    assert "unknown_format" in printed
    header, *rows = Path("rows.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert len(rows) == len(list(NOTICES.iterdir()))


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "nowhere"),
        ("check", ".", "--out", "rows.xlsx"),
        ("check", ".", "--feed", "nobody"),
        ("check", ".", "--skymaps", "nowhere"),
        ("try", "nowhere.xml"),
        ("try", "."),
        ("try", GBM, "--feed", "nobody"),
        ("try", GBM, "--plot", "x.pdf"),
        ("try", GBM, "--plot", "nowhere/x.png"),
        ("try", GBM, "--since", "yesterday"),
        ("try", GBM, WXT, "--skymap", GBM),
        ("try", "-", "-"),
    ],
)
def test_bad_usage_is_told_before_any_work(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...]
) -> None:
    status, printed = text(capsys, *arguments)
    assert status == 2
    assert printed.startswith("mmgateway: ")


def test_try_tells_all_of_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    status, results = answer(capsys, "try", GBM, WXT)
    assert status == 0
    assert [r["event_id"] for r in results] == ["Fermi_100000001", "EP_01799999999"]
    assert all(set(COLUMNS) < set(r) for r in results)
    assert results[0]["path"] == str(GBM)


def test_try_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = text(capsys, "try", GBM)
    assert status == 0
    for word in ("Fermi_100000001", "fermi_gbm (recognised)", "11.4300 deg, holds 68 %",
                 "2.6° (39 %) + 4.4° (61 %)", "grb, level 0.99", "-10 min to 20 d"):  # fmt: skip
        assert word in printed


def test_rejected_is_told_with_code_sentence_and_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, results = answer(capsys, "try", WXT, NOTICES / "README.md")
    assert status == 1
    assert [r["outcome"] for r in results] == ["region", "rejected"]
    assert results[1]["reason"] == "unknown_format"
    status, printed = text(capsys, "try", NOTICES / "README.md")
    assert status == 1
    assert "unknown_format" in printed
    assert "expected XML or JSON" in printed


def test_try_reads_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WXT.read_bytes())))
    status, results = answer(capsys, "try", "-")
    assert status == 0
    assert (results[0]["path"], results[0]["feed"]) == ("-", "einstein_probe")


def test_try_draws_one_picture_a_region(capsys: pytest.CaptureFixture[str]) -> None:
    retraction = NOTICES / "svom_retraction.xml"
    status, results = answer(capsys, "try", WXT, retraction, "--plot", "sky.png")
    assert status == 0
    assert [r["plot"] for r in results] == ["sky-1.png", ""]
    assert Path("sky-1.png").read_bytes().startswith(b"\x89PNG")
    assert not Path("sky-2.png").exists()
    assert "no region" in results[1]["plot_note"]


def test_pictures_are_numbered_without_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    retraction = NOTICES / "svom_retraction.xml"
    _, printed = text(capsys, "try", retraction, WXT, GBM, "--plot", "sky.png")
    assert sorted(p.name for p in Path().glob("*.png")) == ["sky-1.png", "sky-2.png"]
    assert "none: there is no region to draw" in printed
    assert "It takes back what was said before" in printed


@pytest.mark.parametrize("way", ["fifo", "descriptor", "-"])
def test_pipes_are_as_good_as_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "fifo":
        name = "pipe"
        os.mkfifo(name)
        thread = threading.Thread(target=Path(name).write_bytes, args=(WXT.read_bytes(),))
        thread.start()
        status, (result,) = answer(capsys, "try", name)
        thread.join()
    elif way == "descriptor":
        reading, writing = os.pipe()
        os.write(writing, WXT.read_bytes())
        os.close(writing)
        name = f"/dev/fd/{reading}"
        status, (result,) = answer(capsys, "try", name)
        os.close(reading)
    else:
        name = "-"
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WXT.read_bytes())))
        status, (result,) = answer(capsys, "try", name)
    assert (status, result["path"], result["feed"]) == (0, name, "einstein_probe")


def test_nothing_is_called_empty(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = text(capsys, "try", "/dev/null")
    assert status == 1
    assert "rejected  empty" in printed


def test_what_the_listener_would_refuse_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("large.json").write_bytes(b"{" + b" " * MAX_NOTICE_BYTES)
    status, (result,) = answer(capsys, "try", "large.json")
    assert (status, result["outcome"], result["reason"]) == (1, "rejected", "too_large")
    assert str(MAX_NOTICE_BYTES) in result["explanation"]


def test_a_feed_of_another_format_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = text(capsys, "try", GBM, "--feed", "einstein_probe")
    assert status == 1
    assert "feed einstein_probe reads JSON, this is XML" in printed
    assert "version ," not in printed


def test_names_that_are_nearly_those_of_feeds_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("try", "check"):
        status, printed = text(capsys, command, GBM, "--feed", "fermi_gmb")
        assert status == 2
        assert "did you mean fermi_gbm" in printed
        assert "swift" not in printed


def test_whose_a_message_is_that_several_feeds_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    feeds = tmp_path / "mmgateway-data" / "feeds"
    feeds.mkdir(parents=True)
    (feeds / "ours.toml").write_text(
        'name = "ours"\ntitle = "Ours"\nmission = "Own"\ninstrument = "WXT"\n'
        'messenger = "xray"\nformat = "json"\nschemas = ["wxt/alert"]\n'
    )
    _, (result,) = answer(capsys, "try", WXT)
    assert (result["feed"], result["also_known_by"]) == ("ours", ["einstein_probe"])
    _, printed = text(capsys, "try", WXT, "--feed", "einstein_probe")
    assert "ours has it and not einstein_probe: feeds of your own" in printed


def test_a_map_can_be_given_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table({"UNIQ": np.arange(4, 16), "PROBDENSITY": np.full(12, 1 / (4 * np.pi))})
    table.meta.update({"ORDERING": "NUNIQ", "COORDSYS": "C", "MOCORDER": 0})
    table.write("map.fits", format="fits")
    record = json.loads(WXT.read_text())
    record["healpix_url"] = "https://example.org/map.fits"
    Path("with_map.json").write_text(json.dumps(record))

    _, results = answer(capsys, "try", "with_map.json", "--skymap", "map.fits")
    assert results[0]["localized_by"] == "map_folder"
    assert results[0]["radius90_deg"] is None
    _, results = answer(capsys, "try", "with_map.json")
    assert results[0]["localized_by"] == "circle"
    _, results = answer(capsys, "try", WXT, "--skymap", "map.fits")
    assert "not used" in results[0]["skymap_note"]


def test_without_an_archive_a_sentence_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = text(capsys, "try", WXT, "--since", "7d")
    assert status == 0
    assert "There is no archive of alerts" in printed


def test_archived_alerts_that_would_have_matched_are_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMGATEWAY_PATHS__STATE", str(tmp_path / "state"))
    row = dict.fromkeys(ALERT_SCHEMA.names) | {
        "survey": "ztf", "object_id": "ZTF26abc", "alert_id": 7, "ra_deg": 184.51,
        "dec_deg": -6.25, "time_jd": 2461043.5, "filter": "r", "mag": 19.5, "positive": True,
        "topic": "t", "partition": 0, "offset": 0,
    }  # fmt: skip
    table = pa.Table.from_pylist([row], schema=ALERT_SCHEMA)
    AlertArchive(tmp_path / "state" / "alerts").append(table, 0)

    _, results = answer(capsys, "try", WXT, "--since", "2026-01-01")
    (match,) = results[0]["archived_alerts"]
    assert match["object_id"] == "ZTF26abc"
    assert match["separation_deg"] == pytest.approx(0.00994, abs=1e-5)
    _, printed = text(capsys, "try", WXT, "--since", "2026-01-01")
    assert "1 archived alert would have matched" in printed
    assert "since then: 1; in the window: 1; of these in the region: 1; of these cut: 0" in printed
    assert results[0]["archive_counts"] == {
        "looked_at": 1, "in_window": 1, "in_region": 1, "cut": 0,
    }  # fmt: skip
    assert "ZTF26abc" in printed
    _, results = answer(capsys, "try", WXT, "--since", "2026-03-01")
    assert results[0]["archived_alerts"] == []


def test_a_private_feed_of_the_operator_is_tried_and_marked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (feeds / "ourteam.toml").write_text(
        'name = "ourteam"\ntitle = "Ours"\nmission = "Own"\ninstrument = "WXT"\n'
        'messenger = "xray"\nformat = "json"\nprivate = true\nschemas = ["wxt/alert"]\n'
        'prefix = "Own"\n'
    )
    shutil.copy(WXT, tmp_path / "n.json")
    monkeypatch.setenv("MMGATEWAY_PATHS__FEEDS", f'["{feeds}"]')

    _, results = answer(capsys, "try", "n.json", "--feed", "ourteam")
    assert results[0]["streams"] == ["ourteam"]
    assert results[0]["event_id"].startswith("ourteam:Own_")
    assert results[0]["feed_file"] == str(feeds / "ourteam.toml")
    _, printed = text(capsys, "try", "n.json", "--feed", "ourteam")
    assert "private to" in printed
    assert "ourteam (told)" in printed


def test_a_feed_file_that_is_wrong_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (feeds / "ourteam.toml").write_text('name = "ourteam"\n')
    monkeypatch.setenv("MMGATEWAY_PATHS__FEEDS", f'["{feeds}"]')

    status, printed = text(capsys, "try", WXT, "--feed", "ourteam")
    assert status == 2
    assert "ourteam.toml" in printed
    # The other feeds can be tried meanwhile.
    status = cli.main(["feeds", "try", str(WXT), "--json"])
    both = capsys.readouterr()
    assert status == 0
    assert json.loads(both.out)[0]["feed"] == "einstein_probe"
    assert "ourteam.toml" in both.err


def test_a_paused_feed_can_be_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["feeds", "disable", "einstein_probe"]) == 0
    capsys.readouterr()
    status, results = answer(capsys, "try", WXT)
    assert status == 0
    assert results[0]["outcome"] == "region"
    assert results[0]["paused"]


@pytest.mark.parametrize("command", ["try", "check"])
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, printed = text(capsys, command, "--help")
    assert status == 0
    assert f"mmgateway feeds {command}" in printed
