"""The batch twin: versions, retractions, tests, maps, outputs; the reference pairs on real data."""

from __future__ import annotations

import base64
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from broker.surveys import NATIVE_SCHEMAS
from crossmatch.chains import chains_with
from crossmatch.errors import ConfigError, ServiceError
from crossmatch.model import MultiOrderMap, Window
from crossmatch.skymap import write_skymap
from gateway import cli, config
from gateway.cli.crossmatch import repeated
from gateway.feeds.registry import load_feeds
from gateway.offline.batch import (
    PAIR_SCHEMA,
    BatchInput,
    BatchResult,
    check_output,
    crossmatch,
    parse_window,
    write_pairs,
)

WEEK = Window(0.0, 7.0)
TRIGGER = "2024-01-12T01:05:42.398Z"
TRIGGER_JD = 2460321.5456296066
DEG2_PER_SR = math.degrees(1) ** 2


def flat_map(faces: tuple[int, ...]) -> bytes:
    """Sky map, as FITS: 98 % equally on some of the twelve base pixels, the rest in the south."""
    places = np.array([*faces, 11], np.int64)
    probability = np.array([0.98 / len(faces)] * len(faces) + [0.02])
    start = places * 4**29
    skymap = MultiOrderMap(start, start + 4**29, probability * 12 / (4 * np.pi))
    return write_skymap(skymap, {"OBJECT": "invented"})


def gw(
    event: str, created: str, faces: tuple[int, ...] | None, kind: str = "PRELIMINARY"
) -> dict[str, Any]:
    """A message of igwn.gwalert."""
    message: dict[str, Any] = {
        "alert_type": kind,
        "time_created": created,
        "superevent_id": event,
        "urls": {"gracedb": f"https://example.org/{event}"},
        "event": None,
        "external_coinc": None,
    }
    if faces is not None:
        message["event"] = {
            "significant": True,
            "time": TRIGGER,
            "far": 1e-9,
            "instruments": ["H1", "L1"],
            "group": "CBC",
            "pipeline": "invented",
            "search": "AllSky",
            "properties": {},
            "classification": {"BNS": 1.0},
            "skymap": base64.b64encode(flat_map(faces)).decode(),
        }
    return message


def save(folder: Path, *messages: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, message in enumerate(messages):
        (folder / f"{number:02d}.json").write_text(json.dumps(message))
    return folder


def alerts(path: Path, *changes: dict[str, Any]) -> Path:
    """ZTF alerts in Parquet, on base pixel 0 (45, 41) a day after the trigger."""
    records = []
    for number, change in enumerate(changes):
        row: dict[str, Any] = dict.fromkeys(NATIVE_SCHEMAS["ztf"].names[:-3])
        row |= {"jd": TRIGGER_JD + 1, "fid": 1, "ra": 45.0, "dec": 41.0, "magpsf": 18.0}
        row |= {"isdiffpos": "t", "rb": 0.9, "nbad": 0} | change
        outer = {"objectId": f"ZTF{number}", "candid": number + 1, "schemavsn": "4.02"}
        outer |= {k: change[k] for k in ("objectId", "candid") if k in change}
        records.append(outer | {"candidate": {k: v for k, v in row.items() if k not in outer}})
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def run(notices: Path, alert_path: Path, **given: Any) -> BatchResult:
    inputs = BatchInput(notices=[notices], alerts=[alert_path], **given)
    return crossmatch(inputs, load_feeds(), chains_with({}), config.load(environ={}).cuts, {})


def found(result: BatchResult) -> list[tuple[str, int, int, bool]]:
    columns = ("event_id", "version", "alert_id", "in_force")
    return [tuple(r[c] for c in columns) for r in result.pairs.to_pylist()]  # type: ignore[misc]


def test_every_version_is_matched_in_the_order_of_issue(tmp_path: Path) -> None:
    notices = save(
        tmp_path / "n",
        gw("S1a", "2024-01-12T03:00:00Z", (1, 2), "UPDATE"),  # arrives first, issued last
        gw("S1a", "2024-01-12T01:10:00Z", (0, 1)),
        gw("S1a", "2024-01-12T01:20:00Z", (0,)),
    )

    result = run(notices, alerts(tmp_path / "a.parquet", {}, {"ra": 135.0}))

    assert result.pairs.schema == PAIR_SCHEMA
    assert found(result) == [
        ("S1a", 1, 1, False),
        ("S1a", 1, 2, False),
        ("S1a", 2, 1, False),
        ("S1a", 3, 2, True),
    ]
    row = result.pairs.to_pylist()[0]
    assert row["notice_file"].endswith("01.json")
    assert row["time_offset_days"] == pytest.approx(1.0, abs=1e-6)
    assert row["probability_density_per_sr"] == pytest.approx(0.98 * 6 / (4 * math.pi))
    assert (row["messenger"], row["survey"], row["filter"], row["mag"]) == ("gw", "ztf", "g", 18.0)


def test_a_retracted_event_has_no_pairs_and_is_counted(tmp_path: Path) -> None:
    notices = save(
        tmp_path / "n",
        gw("S1a", "2024-01-12T01:10:00Z", (0,)),
        gw("S1a", "2024-01-12T02:10:00Z", None, "RETRACTION"),
        gw("S2b", "2024-01-12T01:10:00Z", (0,)),
        gw("S2b", "2024-01-12T02:10:00Z", None, "RETRACTION"),
        gw("S2b", "2024-01-12T03:10:00Z", (0,), "UPDATE"),
    )

    result = run(notices, alerts(tmp_path / "a.parquet", {}))

    assert found(result) == [("S2b", 2, 1, True)]
    assert result.without_region == {"retracted": 2, "retraction": 2}


def test_tests_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    notices = save(tmp_path / "n", gw("MS1a", "2024-01-12T01:10:00Z", (0,)))
    path = alerts(tmp_path / "a.parquet", {})

    assert found(run(notices, path)) == []
    assert run(notices, path).without_region == {"role_test": 1}
    assert found(run(notices, path, include_tests=True)) == [("MS1a", 1, 1, True)]


def test_repeated_notices_and_alerts_count_once(tmp_path: Path) -> None:
    message = gw("S1a", "2024-01-12T01:10:00Z", (0,))
    path = alerts(tmp_path / "a.parquet", {}, {"candid": 1})

    result = run(save(tmp_path / "n", message, message), path)

    assert found(result) == [("S1a", 1, 1, True)]
    assert (result.alerts_read, result.alerts_repeated) == (2, 1)
    assert result.without_region == {"repeated": 1}


def test_quality_cuts_can_be_left_out(tmp_path: Path) -> None:
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0,)))
    path = alerts(tmp_path / "a.parquet", {}, {"isdiffpos": "f"}, {"ra": 400.0})

    assert len(found(run(notices, path))) == 1
    result = run(notices, path, quality=False)
    assert len(found(result)) == 2
    assert result.alerts_rejected == {"ra_out_of_range": 1}


def test_window_and_level_replace_those_of_the_chain(tmp_path: Path) -> None:
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0, 1)))
    path = alerts(
        tmp_path / "a.parquet", {"jd": TRIGGER_JD + 6}, {"ra": 135.0}, {"jd": TRIGGER_JD - 1}
    )

    assert len(found(run(notices, path))) == 2
    assert len(found(run(notices, path, window=Window(0.0, 2.0)))) == 1
    assert len(found(run(notices, path, window=Window(-2.0, 7.0)))) == 3
    # Two equal cells: the first holds the levels up to 0.49, the second those up to 0.98.
    assert len(found(run(notices, path, level=0.6))) == 1
    with pytest.raises(ConfigError):
        run(notices, path, level=1.5)


def test_bad_files_are_reported_and_the_rest_is_matched(tmp_path: Path) -> None:
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0,)))
    bad_map = gw("S2b", "2024-01-12T01:10:00Z", (0,))
    bad_map["event"]["skymap"] = base64.b64encode(b"no FITS").decode()
    (notices / "x.json").write_text(json.dumps(bad_map))
    (notices / "y.xml").write_text("<voe:VOEvent")
    (notices / "z.json").write_text("{")
    folder = tmp_path / "alerts"
    folder.mkdir()
    alerts(folder / "a.parquet", {})
    (folder / "b.avro").write_bytes(b"Obj\x01broken")

    result = run(notices, folder)

    assert found(result) == [("S1a", 1, 1, True)]
    names = [Path(b.file).name for b in result.notices.rejected]
    assert names == ["x.json", "y.xml", "z.json"]
    assert all(b.reason and b.detail for b in result.notices.rejected)
    assert [Path(b.path).name for b in result.bad_alert_files] == ["b.avro"]
    assert result.as_dict()["notices"]["read"] == 4


def test_maps_are_found_in_a_folder_by_event_or_by_a_name_of_their_own(tmp_path: Path) -> None:
    table = tmp_path / "gwtc.csv"
    table.write_text("commonName,GPS\nGW1,1389056760.4\nGW2,1389056760.4\nGW3,1389056760.4\n")
    maps = tmp_path / "maps"
    (maps / "GW2").mkdir(parents=True)
    (maps / "GW1.fits").write_bytes(flat_map((0,)))
    (maps / "GW2" / "GW2.fits").write_bytes(flat_map((0,)))
    path = alerts(tmp_path / "a.parquet", {})

    without = run(table, path)
    result = run(table, path, skymaps=maps, level=0.99)

    assert without.without_region == {"no_position (the table has no positions)": 3}
    assert [f[0] for f in found(result)] == ["GW1", "GW2"]
    assert result.without_region == {"no_position (the table has no positions)": 1}


def test_a_table_of_bursts_enters_like_notices(tmp_path: Path) -> None:
    table = tmp_path / "bursts.csv"
    table.write_text(
        "name,ra,dec,trigger_time,error_radius\n"
        f"GRB240112A,46.0,41.0,{TRIGGER_JD - 2400000.5},2.0\n"
        "BAD,46.0,41.0,60321.0,0\n"
    )

    result = run(table, alerts(tmp_path / "a.parquet", {}))

    assert found(result) == [("GRB240112A", 1, 1, True)]
    assert result.pairs["separation_deg"].to_pylist() == pytest.approx([0.7547], abs=1e-4)
    assert [b.reason for b in result.notices.rejected] == ["no_error_radius"]


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("0..7d", Window(0.0, 7.0)),
        ("-600s..20d", Window(-600 / 86400, 20.0)),
        ("0..200d", Window(0.0, 200.0)),
        ("-1..1h", Window(-1 / 24, 1 / 24)),
        ("-0.5..+2", Window(-0.5, 2.0)),
        ("-10min..90m", Window(-10 / 1440, 90 / 1440)),
    ],
)
def test_windows(text: str, window: Window) -> None:
    parsed = parse_window(text)

    assert (parsed.start_days, parsed.end_days) == pytest.approx(
        (window.start_days, window.end_days)
    )


@pytest.mark.parametrize("text", ["", "7d", "7..0d", "0..0", "a..b", "0..7w", "0...7d", "0..1..2"])
def test_wrong_windows_say_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match="--window"):
        parse_window(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--notices a --alerts b", "--notices a --alerts b"),
        (
            "--notices a b --alerts c d e",
            "--notices a --notices b --alerts c --alerts d --alerts e",
        ),
        ("-n a b --level 0.9 -a c", "-n a -n b --level 0.9 -a c"),
        ("--notices=a b --json", "--notices=a --notices b --json"),
        ("--window -600s..20d -a x", "--window -600s..20d -a x"),
    ],
)
def test_path_options_take_several_values(given: str, expected: str) -> None:
    assert list(repeated(given.split())) == expected.split()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_outputs_hold_the_same_pairs(tmp_path: Path, suffix: str) -> None:
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0, 1)))
    pairs = run(notices, alerts(tmp_path / "a.parquet", {}, {"fid": None, "magpsf": None})).pairs
    path = tmp_path / f"out.{suffix}"

    write_pairs(pairs, path)

    if suffix == "csv":
        nulls = pyarrow.csv.ConvertOptions(
            column_types=PAIR_SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=True
        )
        table = pyarrow.csv.read_csv(path, convert_options=nulls)
    elif suffix == "parquet":
        table = pq.read_table(path)
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        table = pa.Table.from_pylist(lines, schema=PAIR_SCHEMA)
    assert table.equals(pairs)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parquet"):
        check_output(tmp_path / "pairs.xlsx")
    with pytest.raises(ConfigError, match="folder"):
        check_output(tmp_path / "missing" / "pairs.csv")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(ServiceError):
        write_pairs(PAIR_SCHEMA.empty_table(), tmp_path / "taken.csv")


def test_the_command_prints_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0,)))
    path = alerts(tmp_path / "a.parquet", {})
    files = [str(p) for p in sorted(notices.iterdir())]
    arguments = ["crossmatch", "--notices", *files, "--alerts", str(path), "--out", "p.csv"]

    assert cli.main([*arguments, "--json"]) == 0

    account = json.loads(capsys.readouterr().out)
    assert account["pairs"] == 1
    assert account["events"][0]["event_id"] == "S1a"
    assert cli.main(arguments) == 0
    assert "S1a" in capsys.readouterr().out
    assert cli.main(["crossmatch", "--notices", "nowhere", "--alerts", str(path)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert cli.main([*arguments, "--window", "7..0"]) == 2
    assert cli.main([*arguments, "--selection", "default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 1
    assert cli.main([*arguments, "--selection", "other"]) == 2
    assert "known: default, " in capsys.readouterr().err


@pytest.mark.realdata
def test_a_month_of_real_notices_adds_up(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "notices" / "voevent_4pisky" / "2019-09"

    result = run(folder, alerts(tmp_path / "a.parquet", {}))

    notices = result.notices
    assert notices.read == sum(1 for p in folder.rglob("*.xml"))
    placed = len(result.regions) + result.without_region.total()
    assert notices.read == notices.ignored.total() + len(notices.rejected) + placed
    assert len(result.regions) > 20


@pytest.mark.realdata
def test_pairs_with_gravitational_waves_are_the_reference_ones(shared_data: Path) -> None:
    result = crossmatch(
        BatchInput(
            notices=[shared_data / "notices" / "gcn_2024-01"],
            alerts=[shared_data / "alerts" / "ztf_parquet" / "fink_science_20240115"],
            window=WEEK,
            level=0.9,
            quality=False,
        ),
        load_feeds(),
        chains_with({}),
        config.load(environ={}).cuts,
        {},
    )
    versions = {"initial": 1, "update_0": 2}
    with (shared_data / "expected" / "gw_membership_20240115.csv").open() as file:
        expected = {
            (r["superevent_id"], versions[r["gcn_status"]], int(r["candid"])): r
            for r in csv.DictReader(file)
            if float(r["credible_level"]) <= 0.9
        }

    got = {
        (r["event_id"], r["version"], r["alert_id"]): r
        for r in result.pairs.to_pylist()
        if r["messenger"] == "gw"
    }

    assert got.keys() == expected.keys()
    for key, row in got.items():
        reference = expected[key]
        assert row["credible_level"] == pytest.approx(float(reference["credible_level"]), abs=1e-3)
        assert row["probability_density_per_sr"] == pytest.approx(
            float(reference["probdensity_deg2"]) * DEG2_PER_SR, rel=1e-6
        )
        assert row["time_offset_days"] == pytest.approx(float(reference["dt_days"]), abs=1e-6)
    counts = result.pairs_by_version()
    assert [counts["S240112e", v] for v in (1, 2)] == [111, 111]
    assert [counts["S240112y", v] for v in (1, 2)] == [37, 37]
    assert [counts["S240114aj", v] for v in (1, 2)] == [70, 64]
    assert [counts["S240114b", v] for v in (1, 2)] == [18, 18]


@pytest.mark.realdata
def test_pairs_within_one_error_radius_are_among_the_pairs(shared_data: Path) -> None:
    with (shared_data / "expected" / "circle_matches.csv").open() as file:
        expected = list(csv.DictReader(file))
    result = crossmatch(
        BatchInput(
            notices=sorted({shared_data / r["notice_file"] for r in expected}),
            alerts=sorted({shared_data / r["alert_file"] for r in expected}),
            window=WEEK,
            level=0.9,
            quality=False,
        ),
        load_feeds(),
        chains_with({}),
        config.load(environ={}).cuts,
        {},
    )
    # The same IVOID may come with different contents: the file tells them apart.
    got = {(r["notice_file"], r["alert_id"]): r for r in result.pairs.to_pylist()}

    within = [r for r in expected if r["within_1err"] == "True"]
    assert len(within) == 79
    for row in within:
        pair = got[str(shared_data / row["notice_file"]), int(row["candid"])]
        assert pair["notice"] == row["ivorn"]
        assert pair["separation_deg"] == pytest.approx(float(row["sep_deg"]), abs=1e-4)
        assert pair["time_offset_days"] == pytest.approx(float(row["dt_days"]), abs=1e-5)


def test_no_readable_alert_file_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notices = save(tmp_path / "n", gw("S1a", "2024-01-12T01:10:00Z", (0,)))
    (tmp_path / "b.avro").write_bytes(b"Obj\x01broken")
    arguments = ["crossmatch", "--notices", str(notices), "--alerts", str(tmp_path / "b.avro")]
    assert cli.main(arguments) == 1
    assert "none of the 1 alert files could be read" in capsys.readouterr().err
