"""``mmgateway archive``, and what the guide to the archive shows."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest

from broker.archive import AlertArchive
from broker.packetfiles import Packet
from broker.packetstore import PacketStore
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.lightcurve import Detection
from crossmatch.times import jd_from_datetime
from gateway.cli import main
from gateway.night.alerts import alerts as night_alerts
from gateway.offline.history import ObjectHistory, history_plot
from gateway.runfiles import announce

GUIDE = Path(__file__).resolve().parents[2] / "docs/howto/archive.md"
DUSK_JD = jd_from_datetime(datetime(2024, 3, 2, 3, tzinfo=UTC))
COUNTED = [("2024-03-01", "g", 2), ("2024-03-01", "r", 1), ("2024-03-20", "g", 2)]


def alert(number: int, days: float = 0.0, **changed: Any) -> dict[str, Any]:
    """An alert of one object in the cone of the guide's examples."""
    known = dict.fromkeys(ALERT_SCHEMA.names) | {
        "survey": "ztf", "object_id": "ZTF24abc", "alert_id": number, "ra_deg": 45.0,
        "dec_deg": 41.0, "time_jd": DUSK_JD + days, "filter": "g", "mag": 18.0, "mag_error": 0.1,
        "limiting_mag": 20.5, "positive": True, "real_bogus": 0.9, "topic": "t", "partition": 0,
        "offset": number,
    }  # fmt: skip
    return known | changed


ROWS = [
    [alert(1), alert(2, 0.01, filter="r", mag=18.3), alert(3, dec_deg=43.0, object_id="far")],
    [alert(4, 0.02, positive=False), alert(5, 0.03, survey="lsst"), alert(6, 40.0)],
    [alert(7, 19.0, mag=None), alert(8, 19.1), alert(8, 19.1, withdrawn=True)],
]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the defaults in an empty place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMGATEWAY_CONFIG", raising=False)
    return tmp_path / "mmgateway-data"


@pytest.fixture
def archive(state: Path) -> AlertArchive:
    archive = AlertArchive(state / "alerts")
    for batch, rows in enumerate(ROWS):
        archive.append(pa.Table.from_pylist(rows, schema=ALERT_SCHEMA), batch)
    return archive


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["archive", *words])
    out, err = capsys.readouterr()
    return status, out, err


# --- status ----------------------------------------------------------------------------------


def test_status_tells_each_night_and_the_whole(archive, capsys):
    status, out, _ = run(capsys, "status")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert lines[0] == ["night", "alerts", "files", "size"]
    assert [line[:3] for line in lines[1:4]] == [
        ["2024-03-01", "5", "2"],
        ["2024-03-20", "3", "1"],
        ["2024-04-10", "1", "1"],
    ]
    assert ["nights", "3,", "2024-03-01", "to", "2024-04-10"] in lines
    assert ["packets", "matched:", "0", "B", "in", "0", "files"] in lines


def test_status_as_json_adds_up(archive, state, capsys):
    PacketStore(state / "packets").put(
        [Packet(("t", 0, 1), "ztf", "ZTF24abc", 1, "2024-03-01", b"x" * 5000)], 0
    )
    found = json.loads(run(capsys, "status", "--json")[1])
    for what in ("rows", "files", "bytes"):
        assert found[what] == sum(night[what] for night in found["nights"])
    assert (found["rows"], found["last_batch"]) == (9, 2)
    assert (found["oldest"], found["newest"]) == ("2024-03-01", "2024-04-10")
    assert found["packets"]["kept"] == "matched"
    assert found["packets"]["bytes"] > 0


@pytest.mark.parametrize("words", [["status"], ["history", "ZTF24abc"], ["compact"]])
def test_where_nothing_was_archived_the_command_says_what_makes_it(state, capsys, words):
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert f"there is no archive of alerts in {Path('mmgateway-data/alerts')}" in err
    assert "mmgateway up" in err


def test_a_gateway_that_waits_for_its_first_alert_is_told_from_one_that_is_down(state, capsys):
    announce(state, "match")
    assert run(capsys, "status") == (
        0, "none yet: the gateway is running and waits for alerts\n", "",
    )  # fmt: skip
    found = json.loads(run(capsys, "status", "--json")[1])
    assert (found["rows"], found["nights"], found["newest"]) == (0, [], None)
    status, _, err = run(capsys, "history", "ZTF24abc")
    assert status == 1
    assert "the gateway is running and waits for alerts" in err


# --- history ---------------------------------------------------------------------------------


def test_history_lists_the_alerts_of_all_nights_in_order(archive, capsys):
    status, out, _ = run(capsys, "history", "ZTF24abc")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[-1] for line in lines[1:8]] == [
        "1", "2", "reference", "7", "8", "withdrawn", "6",
    ]  # fmt: skip
    assert lines[-1] == "ztf ZTF24abc at 45.00000 +41.00000: 7 alerts in 3 nights"


def test_history_as_json_has_a_curve_without_withdrawn_alerts(archive, capsys):
    found = json.loads(run(capsys, "history", "ZTF24abc", "--json")[1])
    assert [a["alert_id"] for a in found["alerts"]] == [1, 2, 4, 7, 8, 8, 6]
    assert [(p["filter"], p["mag"], p["positive"]) for p in found["curve"]] == [
        ("g", 18.0, True), ("r", 18.3, True), ("g", 18.0, False), ("g", None, True),
        ("g", 18.0, True),
    ]  # fmt: skip
    assert found["curve"][0]["time_utc"] == "2024-03-02T03:00:00.000Z"
    assert "NaN" not in json.dumps(found)


def test_history_takes_earlier_points_and_limits_from_kept_packets(state, capsys):
    gfo = [a for a in night_alerts(1000, 1) if "gfo" in a.object_id][-1]
    row = alert(1, object_id=gfo.object_id)
    AlertArchive(state / "alerts").append(pa.Table.from_pylist([row], schema=ALERT_SCHEMA), 0)
    kept = Packet(("t", 0, 1), "ztf", gfo.object_id, 1, "2024-03-01", gfo.payload)
    broken = kept._replace(address=("t", 0, 2), data=b"no packet")
    store = PacketStore(state / "packets")
    store.put([kept, broken], 0)
    before = json.loads(run(capsys, "history", gfo.object_id, "--json")[1])
    row = alert(2, 1.0, object_id=gfo.object_id)
    AlertArchive(state / "alerts").append(pa.Table.from_pylist([row], schema=ALERT_SCHEMA), 1)
    after = run(capsys, "history", gfo.object_id)[1]

    assert before["packets_read"] == 1
    assert len(before["curve"]) > 5
    assert any(p["mag"] is None and p["limiting_mag"] for p in before["curve"])
    assert "1 kept packet could not be read." in after


def test_history_near_a_place_finds_only_what_is_there(archive, capsys):
    assert run(capsys, "history", "ZTF24abc", "--near", "45", "41")[0] == 0
    status, _, err = run(capsys, "history", "ZTF24abc", "--near", "45", "42")
    assert (status, "near 45 42" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ZTF99"], "has no ztf object 'ZTF99'"),
        (["ZTF24abc", "--survey", "atlas"], "unknown survey atlas: ztf or lsst"),
        (["ZTF24abc", "--plot", "curve.pdf"], "pictures are PNG"),
        (["ZTF24abc", "--near", "45", "91"], "declination (-90 to 90)"),
    ],
)
def test_what_cannot_be_answered_is_told(archive, capsys, words, sentence):
    status, out, err = run(capsys, "history", *words)
    assert (status, out) == (2, "")
    assert sentence in err


def test_the_plot_is_a_picture_and_nothing_else_is_written(archive, tmp_path, capsys):
    before = set(tmp_path.iterdir())
    assert run(capsys, "history", "ZTF24abc", "--plot", "curve.png")[1].endswith("curve.png\n")
    assert {p.name for p in set(tmp_path.iterdir()) - before} == {"curve.png"}
    assert matplotlib.image.imread("curve.png").shape[2] == 4


def coloured(png: bytes, colour: str) -> np.ndarray:
    """Rows of the picture that have pixels of a colour."""
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.flatnonzero((np.abs(image - wanted).max(axis=2) < 0.02)[:, :980].any(axis=1))


def test_the_fainter_a_point_the_lower_it_stands():
    def plotted(*points: Detection) -> bytes:
        rows = [{"ra_deg": 1.0, "dec_deg": 1.0, "night": "2024-03-01"}]
        return history_plot(
            ObjectHistory(survey="ztf", object_id="Z", alerts=rows, curve=list(points))
        )

    bright = Detection(DUSK_JD, "g", 17.0, 0.1, 20.0)
    faint = Detection(DUSK_JD + 1, "r", 19.0, 0.1, 20.0)
    png = plotted(bright, faint)
    assert coloured(png, "#49be61").max() < coloured(png, "#c61c00").min()
    alone = plotted(Detection(DUSK_JD, "q", None, None, 20.0))
    assert alone.startswith(b"\x89PNG")


# --- compact ---------------------------------------------------------------------------------


def test_compact_makes_few_files_and_keeps_every_row(archive, capsys):
    status, out, _ = run(capsys, "compact")
    assert (status, out) == (0, "1 of 3 nights sorted: 4 files became 3.\n")
    assert run(capsys, "compact")[1] == "Nothing to do: every night is sorted already.\n"
    assert archive.count() == 9


def test_compact_of_one_night_as_json(archive, capsys):
    found = json.loads(run(capsys, "compact", "--night", "2024-03-20", "--json")[1])
    assert found == {"nights": [], "files_before": 4, "files_after": 4, "deleted": 0}
    found = json.loads(run(capsys, "compact", "--night", "2024-03-01", "--json")[1])
    assert (found["nights"], found["files_after"]) == (["2024-03-01"], 3)


def test_compact_of_an_unknown_night_names_those_there_are(archive, capsys):
    status, _, err = run(capsys, "compact", "--night", "2024-03-09")
    assert status == 2
    assert "3 nights, 2024-03-01 to 2024-04-10" in err


# --- the guide -------------------------------------------------------------------------------


def examples() -> Iterator[str]:
    yield from re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)


def printed(code: str) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, str(GUIDE), "exec"), {})
    return eval(out.getvalue())


@pytest.mark.parametrize("part", ["duckdb", "polars"])
def test_the_guides_example_counts_what_is_there(archive, part):
    """Also after compaction, when the folder holds files that are no longer in force."""
    code = next(code for code in examples() if f"import {part}" in code)
    assert printed(code) == COUNTED
    archive.compact(now=datetime.now(UTC) - timedelta(minutes=5))
    assert printed(code) == COUNTED
