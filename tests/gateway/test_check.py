"""Many notices from files: what is read, how it is counted, what is written."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from crossmatch.chains import chains_with
from crossmatch.errors import ConfigError
from gateway.feeds.registry import load_feeds
from gateway.listener.sources import MAX_NOTICE_BYTES
from gateway.offline import check as core
from gateway.offline.check import ROW_SCHEMA, Account, Reader, RowFile, check, files_in, messages
from gateway.offline.trial import COLUMNS, Row

NOTICES = Path(__file__).parents[1] / "data" / "notices"


def reader(feed: str = "") -> Reader:
    return Reader(load_feeds(), chains_with({}), feed)


def rows_of(*paths: Path, jobs: int = 1) -> tuple[Account, dict[str, Row]]:
    rows: list[Row] = []
    account = check(files_in([str(p) for p in paths]), reader(), jobs=jobs, write=rows.append)
    return account, {row.path: row for row in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Notices and what else lies about in folders."""
    place = tmp_path / "n"
    (place / "deep").mkdir(parents=True)
    for name in ("gbm_final.xml", "svom_retraction.xml", "wxt.json"):
        shutil.copy(NOTICES / name, place / name)
    raw = (NOTICES / "gbm_final.xml").read_bytes()
    (place / "deep" / "again.txt").write_bytes(raw.rstrip() + b"<!-- by a relay -->")
    (place / ".hidden.xml").write_bytes(raw)
    (place / ".git").mkdir()
    (place / ".git" / "x.xml").write_bytes(raw)
    (place / "bursts.csv").write_text("name,ra,dec\nA,1,2\n")
    (place / "map.bin").write_bytes(b"SIMPLE  =                    T")
    (place / "packet.bin").write_bytes(bytes(160))
    (place / "empty.json").write_bytes(b"")
    with tarfile.open(place / "more.tar.bz2", "w:bz2") as tar:
        tar.add(NOTICES / "wxt.json", "day/wxt.json")
        tar.add(NOTICES / "wxt.json", "day/.wxt.json")
        tar.add(NOTICES / "gwalert.json", "day/alert")
    (place / "broken.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    return place


def test_every_file_that_is_not_hidden_is_classified(folder: Path) -> None:
    account, rows = rows_of(folder)
    outcomes = {
        path.removeprefix(f"{folder}/"): (row.outcome, row.reason) for path, row in rows.items()
    }
    assert outcomes == {
        "gbm_final.xml": ("region", ""),
        "deep/again.txt": ("region", ""),
        "svom_retraction.xml": ("retraction", "retraction"),
        "wxt.json": ("region", ""),
        "more.tar.bz2:day/wxt.json": ("region", ""),
        "more.tar.bz2:day/alert": ("rejected", "not_fits"),
        "bursts.csv": ("ignored", "table"),
        "map.bin": ("ignored", "table"),
        "packet.bin": ("rejected", "unknown_format"),
        "empty.json": ("rejected", "empty"),
        "broken.tar.gz": ("rejected", "bad_archive"),
    }
    assert account.notices == 11
    assert account.as_dict(1.0) == {
        "notices": 11,
        "outcomes": {"region": 4, "rejected": 4, "ignored": 2, "retraction": 1},
        "feeds": {
            "": {"ignored": 2, "rejected": 3},
            "einstein_probe": {"region": 2},
            "fermi_gbm": {"region": 2},
            "lvk": {"rejected": 1},
            "svom": {"retraction": 1},
        },
        "reasons": {
            "ignored: table": 2,
            "rejected: bad_archive": 1,
            "rejected: empty": 1,
            "rejected: not_fits": 1,
            "rejected: unknown_format": 1,
        },
        "duplicates": 2,
        "seconds": 1.0,
        "events": 3,
    }


def test_repeats_name_the_first_and_keep_their_outcome(folder: Path) -> None:
    _, rows = rows_of(folder)
    repeats = {path: row for path, row in rows.items() if row.duplicate_of}
    assert {p.rpartition("/")[2]: Path(r.duplicate_of).name for p, r in repeats.items()} == {
        "wxt.json": "wxt.json",
        "again.txt": "gbm_final.xml",
    }
    assert all(row.outcome == "region" for row in repeats.values())


def test_paths_stay_as_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert files_in(["./n/deep", "n/wxt.json"]) == ["./n/deep/again.txt", "n/wxt.json"]
    with pytest.raises(ConfigError, match="nowhere"):
        files_in(["n", "nowhere"])
    # To read a device or a pipe might never end.
    with pytest.raises(ConfigError, match="neither"):
        files_in(["/dev/null"])


def test_a_damaged_archive_gives_what_came_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.json")
            member.size = 2000
            tar.addfile(member, io.BytesIO(b"{}" + bytes(1998)))
    path.write_bytes(path.read_bytes()[:4000])
    found = list(messages([str(path)]))
    assert [f.name.removeprefix(str(path)) for f in found][:1] == [":0.json"]
    assert found[-1].name == str(path)
    assert found[-1].rejected is not None
    assert [f.last for f in found] == [False] * (len(found) - 1) + [True]


def test_an_empty_archive_is_one_thing_rejected(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    _, rows = rows_of(tmp_path)
    assert [(r.outcome, r.reason) for r in rows.values()] == [("rejected", "empty")]


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_NOTICE_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(NOTICES / "gbm_final.xml", "x.xml")
    shutil.copy(NOTICES / "gbm_final.xml", tmp_path / "x.xml")
    assert all(f.raw == b"" for f in messages(files_in([str(tmp_path)])))
    account, _ = rows_of(tmp_path)
    assert account.reasons == {"rejected: too_large": 2}
    # They were not read: nobody knows whether they repeat each other.
    assert account.duplicates == 0


def test_what_the_listener_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(b"{" + b" " * MAX_NOTICE_BYTES)
    (tmp_path / "table.csv").write_bytes(b"1,2\n" * (MAX_NOTICE_BYTES // 4 + 1))
    account, _ = rows_of(tmp_path)
    assert account.reasons == {"rejected: too_large": 1, "ignored: table": 1}


def test_a_fault_of_a_parser_costs_one_notice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **given: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(core, "understand", broken)
    _, rows = rows_of(folder / "wxt.json")
    assert [(r.outcome, r.reason) for r in rows.values()] == [("rejected", "parser_failed")]


def test_more_processes_give_the_same_rows(folder: Path) -> None:
    assert rows_of(folder, jobs=2) == rows_of(folder, jobs=1)


def test_one_feed_can_be_told(folder: Path) -> None:
    rows: list[Row] = []
    check([str(folder / "wxt.json")], reader("svom"), write=rows.append)
    assert rows[0].outcome == "rejected"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_are_the_same_in_every_format(folder: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    rows: list[Row] = []
    with RowFile(path) as file:

        def keep(row: Row) -> None:
            rows.append(row)
            file.write(row)

        check(files_in([str(folder)]), reader(), write=keep)

    expected = [{name: getattr(row, name) for name in COLUMNS} for row in rows]
    if suffix == "csv":
        assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
        with path.open() as text:
            found = list(csv.DictReader(text))
        expected = [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected]
        table = pa.csv.read_csv(path)
        assert table.num_rows == len(rows)
    elif suffix == "jsonl":
        found = [json.loads(line) for line in path.read_text().splitlines()]
        assert list(found[0]) == list(COLUMNS)
    else:
        assert pq.read_schema(path).equals(ROW_SCHEMA)
        found = pq.read_table(path).to_pylist()
    assert found == expected


def test_names_that_are_no_text_are_written_out(tmp_path: Path) -> None:
    bad = tmp_path / "n"
    bad.mkdir()
    name = bytes(bad) + b"/\xff.json"
    with open(name, "wb") as file:
        file.write(b"{}")
    with RowFile(tmp_path / "rows.parquet") as rows:
        check(files_in([str(bad)]), reader(), write=rows.write)
    path = pq.read_table(tmp_path / "rows.parquet")["path"].to_pylist()[0]
    assert path.endswith(("\\udcff.json", "\\xff.json"))


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv"):
        RowFile(tmp_path / "rows.xlsx")
    with pytest.raises(ConfigError, match="no folder"):
        RowFile(tmp_path / "missing" / "rows.csv")


_FACTS = re.compile(r"time (\S+); RA (\S+) Dec (\S+) err (\S+) deg")


@pytest.mark.realdata
def test_every_real_notice_is_classified_and_placed_as_the_manifest_says(
    shared_data: Path,
) -> None:
    notices = shared_data / "notices"
    folders = [p for p in sorted(notices.iterdir()) if p.name != "voevent_4pisky_full_month"]
    account, rows = rows_of(*folders)
    with (shared_data / "MANIFEST.csv").open() as file:
        facts = {
            # Of version 1.1 the manifest's reader found no positions.
            str(shared_data / r["file"]): "" if r["kind"] == "voevent v1.1" else r["facts"]
            for r in csv.DictReader(file)
            if r["file"].startswith("notices/")
        }

    assert rows.keys() == {p for p in facts if "full_month" not in p}
    assert "parser_failed" not in {row.reason for row in rows.values()}
    assert account.outcomes["region"] > 500
    compared = 0
    for path, row in rows.items():
        said = _FACTS.search(facts[path])
        real = row.outcome == "region" and row.role == "observation"
        if not real or said is None or row.radius90_deg is None:
            continue
        time, ra, dec, error = said.groups()
        assert row.trigger_time_utc is not None, path
        if b"UTC" in Path(path).read_bytes():
            sent = datetime.fromisoformat(time).replace(tzinfo=UTC)
            late = datetime.fromisoformat(row.trigger_time_utc) - sent
            assert abs(late.total_seconds()) < 1e-3, path
        assert row.ra_deg is not None, path
        assert row.dec_deg is not None, path
        assert (row.ra_deg - float(ra) + 180) % 360 - 180 == pytest.approx(0, abs=1e-4), path
        assert row.dec_deg == pytest.approx(float(dec), abs=1e-4), path
        # The radius for 90 % is never below the error as sent, whatever that holds up to 90 %.
        assert row.radius90_deg >= min(float(error), 179.0) * (1 - 1e-3) - 5e-5, path
        compared += 1
    assert compared > 400
