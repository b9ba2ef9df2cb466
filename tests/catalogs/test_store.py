"""Catalogues from file to store: every format, nothing half-added, versions, motion, HATS."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u

from catalogs import batches, hats, runs
from catalogs import store as store_module
from catalogs.batches import properties, source_of
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Following, Store
from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from crossmatch.sky import separation_deg

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = Wanted(name="test", kind=Kind.other)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def table(n: int = 300, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "source_id": np.arange(n) + 1000,
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        "mag": rng.uniform(10, 20, n),
        "name": [f"s{i}" for i in range(n)],
    }


def write(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        pa.table(columns).to_pandas().to_csv(path, index=False)
    else:
        kind = {".fits": "fits", ".vot": "votable"}[path.suffix]
        astropy.table.Table(columns).write(path, format=kind)
    return path


def refused(store: Store, path: Path, **changed: Any) -> CatalogError:
    """The error of adding a file; nothing of it is seen afterwards."""
    with pytest.raises(CatalogError) as caught:
        store.add(path, Wanted(**{"name": "test", **changed}), NOW)
    assert store.names() == []
    assert not store.root.exists() or list(store.root.rglob("*")) == []
    return caught.value


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits", "vot"])
def test_every_format_gives_the_same_catalogue(
    store: Store, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 70))
    given = table()
    store.add(write(tmp_path / f"a.{suffix}", given), WANTED, NOW)
    found = store.open("test")
    matches = found.closest(np.asarray(given["ra"]), np.asarray(given["dec"]))
    assert (matches.separation_arcsec < 1e-6).all()
    told = found.columns(["name", "mag"], matches.row)
    assert told["name"].to_pylist() == given["name"]
    assert told["mag"].to_pylist() == pytest.approx(given["mag"].tolist())
    assert (np.diff(found.sources.ipix29) >= 0).all()


def test_a_hats_folder_is_read_again(store: Store, tmp_path: Path) -> None:
    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    first = store.open("test")
    for folder in (first.folder, first.folder / "test"):
        again = store.add(folder, Wanted(name="again"), NOW)
        assert again.facts["source_kind"] == "hats"
        assert store.open("again").sources.ipix29.tolist() == first.sources.ipix29.tolist()


def test_batches_do_not_change_the_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", table(2000))
    whole = store.add(path, WANTED, NOW)
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 130))
    parts = store.add(path, WANTED, NOW)
    assert (parts.version, parts.known) == (whole.version, True)
    assert store.versions("test") == [whole.version]


def test_only_some_columns_are_kept(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table())
    store.add(path, Wanted(name="test", columns=("mag",)), NOW)
    assert set(store.open("test").facts["columns"]) == {"source_id", "ra", "dec", "mag"}


def test_a_column_of_numbers_and_texts_becomes_text(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,label\n1,1,5\n2,2,6\n3,3,x\n")
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    store.add(path, WANTED, NOW)
    found = store.open("test")
    rows = found.closest(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).row
    assert found.columns(["label"], rows)["label"].to_pylist() == ["5", "6", "x"]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ra,dec\n00 40 00,+10 00 00\n00 44 00,-11 30 00\n", None),
        ("ra,dec\n0.1745329252,0.1745329252\n0.1919862177,-0.2007128640\n", "rad"),
        ("ra,dec\n0.6666666667,10\n0.7333333333,-11.5\n", "hour"),
    ],
)
def test_positions_in_other_units(
    store: Store, tmp_path: Path, text: str, unit: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    store.add(path, Wanted(name="test", unit=unit), NOW)
    found = store.open("test")
    assert sorted(found.sources.ra_deg.tolist()) == pytest.approx([10.0, 11.0], abs=1e-6)
    assert sorted(found.sources.dec_deg.tolist()) == pytest.approx([-11.5, 10.0], abs=1e-6)
    assert properties(found.folder / "test")["hats_col_ra"] == "ra_deg"


def test_the_table_of_tns_has_its_time_above(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tns.csv"
    path.write_text(
        '"2026-03-01 00:00:00 - 23:59:59"\n"objid","name","ra","declination","type"\n'
        '"1","2026abc","10.5","-3.5","SN Ia"\n"2","2026abd","11.5","4.5",""\n'
    )
    store.add(path, Wanted(name="tns", kind=Kind.transients), NOW)
    found = store.open("tns")
    row = found.closest(np.array([10.5]), np.array([-3.5])).row
    assert found.columns(["name", "type"], row).to_pylist() == [
        {"name": "2026abc", "type": "SN Ia"}
    ]


def test_the_unit_that_a_file_states_is_taken(store: Store, tmp_path: Path) -> None:
    given = table(100)
    columns = {"ra": np.radians(given["ra"]) * u.rad, "dec": np.radians(given["dec"]) * u.rad}
    astropy.table.Table(columns).write(tmp_path / "a.fits")
    store.add(tmp_path / "a.fits", WANTED, NOW)
    found = store.open("test").closest(given["ra"], given["dec"], 0.01)
    assert (found.row >= 0).all()


# --- wrong files -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits"])
@pytest.mark.parametrize(
    ("column", "row", "value", "reason"),
    [
        ("ra", 17, np.nan, "no_position"),
        ("dec", 250, np.nan, "no_position"),
        ("dec", 120, 91.0, "out_of_range"),
        ("ra", 3, 361.0, "out_of_range"),
        ("ra", 200, -181.0, "out_of_range"),
    ],
)
def test_a_bad_position_is_told_by_row_and_column(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    column: str,
    row: int,
    value: float,
    reason: str,
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 100))
    given = table()
    given[column][row - 1] = value
    error = refused(store, write(tmp_path / f"a.{suffix}", given))
    assert error.reason == reason
    assert f"row {row}, column {column}:" in error.detail


def test_rows_without_a_position_can_be_left_out(store: Store, tmp_path: Path) -> None:
    given = table()
    given["ra"][5] = np.nan
    path = write(tmp_path / "a.parquet", given)
    added = store.add(path, Wanted(name="test", skip=True), NOW)
    assert (added.facts["rows"], added.facts["skipped"]) == (299, 1)


@pytest.mark.parametrize(
    ("text", "options", "reason", "words"),
    [
        ("a,b\n1,2\n", {}, "no_position_columns", "--ra and --dec: a, b"),
        ("ra,b\n1,2\n", {}, "no_position_columns", "declination"),
        ("ra,dec\n1,2\n", {"ra": "alpha"}, "no_such_column", "no column alpha: ra, dec"),
        ("ra,dec\n1,2\n", {"columns": ("z",)}, "no_such_column", "has no z: ra, dec"),
        ("ra,dec\n1,2\n", {"id": "n"}, "no_such_column", "no column n"),
        ("ra,dec\nx,2\n", {}, "not_a_position", "ra"),
        ("ra,dec\n", {}, "empty", "no rows"),
        ("", {}, "not_a_table", "row 0"),
        ("ra,dec\n1,2\n", {"name": "A b"}, "bad_name", "lower-case"),
    ],
)
def test_wrong_tables(
    store: Store,
    tmp_path: Path,
    text: str,
    options: dict[str, Any],
    reason: str,
    words: str,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    error = refused(store, path, **options)
    assert error.reason == reason
    assert words in error.detail


@pytest.mark.parametrize(
    ("scale", "reason"), [((np.pi / 180, np.pi / 180), "radians_suspected"),
                          ((1 / 15, 1), "hours_suspected")]
)  # fmt: skip
def test_radians_and_hours_are_suspected(
    store: Store, tmp_path: Path, scale: tuple[float, float], reason: str
) -> None:
    given = table()
    given["ra"], given["dec"] = given["ra"] * scale[0], given["dec"] * scale[1]
    path = write(tmp_path / "a.parquet", given)
    error = refused(store, path)
    assert error.reason == reason
    assert "--unit deg if they are" in error.detail
    store.add(path, Wanted(name="test", unit="deg"), NOW)


def test_a_small_field_at_the_origin_is_no_radians(store: Store, tmp_path: Path) -> None:
    given = table(40)
    given["ra"], given["dec"] = given["ra"] / 360, given["dec"] / 90
    store.add(write(tmp_path / "a.parquet", given), WANTED, NOW)


@pytest.mark.parametrize("kind", [np.int64, str])
def test_identifiers_that_come_twice_are_told_by_their_rows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 100))
    given = table()
    given["source_id"][211] = given["source_id"][30]
    given["source_id"] = given["source_id"].astype(kind)
    error = refused(store, write(tmp_path / "a.parquet", given))
    assert error.reason == "duplicate_id"
    assert "row 212, column source_id: the same as row 31 (1 such)" in error.detail
    given["other"] = [None, *given.pop("source_id")[1:].tolist()]
    path = write(tmp_path / "b.parquet", given)
    assert "row 212, column other: the same as row 31" in refused(store, path, id="other").detail
    store.add(path, WANTED, NOW)


@pytest.mark.parametrize("part", [0.3, 0.999])
def test_a_truncated_parquet_file(store: Store, tmp_path: Path, part: float) -> None:
    path = write(tmp_path / "a.parquet", table())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert refused(store, path).reason == "truncated"


def test_a_damaged_parquet_file_says_after_which_row(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(table(2000)), path, row_group_size=500, compression="zstd")
    start = pq.read_metadata(path).row_group(2).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    error = refused(store, path)
    assert error.reason == "not_a_table"
    assert "cannot be read after row" in error.detail


def test_paths_that_are_nothing(store: Store, tmp_path: Path) -> None:
    assert refused(store, tmp_path / "none.csv").reason == "no_such_file"
    assert refused(store, tmp_path).reason == "not_hats"


def test_a_failure_while_writing_leaves_the_version_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW).version

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(hats.Writer, "write", broken)
    with pytest.raises(OSError, match="no space"):
        store.add(write(tmp_path / "b.parquet", table(seed=2)), WANTED, NOW)
    assert store.latest("test") == before
    assert sorted(p.name for p in (store.root / "test").iterdir()) == sorted([before, "latest"])


def test_what_a_killed_process_left_is_swept(store: Store, tmp_path: Path) -> None:
    left = store.root / "test" / ".adding-999999999-abc"
    mine = store.root / "test" / f".adding-{os.getpid()}-abc"
    for folder in (left, mine):
        folder.mkdir(parents=True)
    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    assert not left.exists()
    assert mine.exists()
    assert store.versions("test") == [store.latest("test")]


# --- versions ----------------------------------------------------------------------------------


def test_two_that_add_the_same_at_once_both_succeed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", table())
    settle = store_module._settle

    def other_first(folder: Path) -> None:
        monkeypatch.setattr(store_module, "_settle", settle)
        assert not store.add(path, WANTED, NOW).known
        settle(folder)

    monkeypatch.setattr(store_module, "_settle", other_first)
    assert store.add(path, WANTED, NOW).known
    assert store.versions("test") == [store.latest("test")]
    assert store.verify("test") == []


def test_versions_stay_side_by_side(store: Store, tmp_path: Path) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW.replace(day=2)).version
    assert store.versions("test") == [one, two]
    assert store.latest("test") == two
    assert store.open("test", one).version == one
    store.use("test", one)
    assert store.latest("test") == one
    with pytest.raises(CatalogError, match="in_use"):
        store.remove("test", one)
    assert store.remove("test", two) == [two]
    assert store.remove("test", one) == [one]
    assert store.names() == []
    for call in (store.latest, store.open, store.remove):
        with pytest.raises(CatalogError, match="no_such_catalog"):
            call("test")


def test_what_changes_answers_changes_the_version(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table())
    options: list[dict[str, Any]] = [{}, {"radius_arcsec": 2.0}, {"kind": Kind.stars},
                                     {"columns": ("mag",)}]  # fmt: skip
    versions = [store.add(path, Wanted(name="test", **o), NOW).version for o in options]
    assert len(set(versions)) == len(options)
    assert store.add(path, Wanted(name="other"), NOW).version == versions[0]


def test_another_version_is_followed_between_calls(store: Store, tmp_path: Path) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    following = Following(store, "test")
    held = following.current()
    assert following.current() is held
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW).version
    assert (held.version, following.current().version) == (one, two)
    troubles: list[str] = []
    store.remove("test")
    assert following.current(lambda e: troubles.append(e.reason)).version == two
    assert troubles == ["no_such_catalog"]
    # What is mapped stays, also without its files.
    assert len(held.closest(np.array([1.0]), np.array([1.0])).row) == 1


def test_a_pickled_catalogue_is_the_name_of_its_folder(store: Store, tmp_path: Path) -> None:
    store.add(write(tmp_path / "a.csv", table(2000)), WANTED, NOW)
    found = store.open("test")
    data = pickle.dumps(found)
    assert len(data) < 1000
    assert pickle.loads(data).sources.ra_deg.tolist() == found.sources.ra_deg.tolist()


def test_verify_tells_what_is_not_as_it_was(store: Store, tmp_path: Path) -> None:
    version = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    folder = store.root / "test" / version
    assert store.verify("test") == []
    array = np.load(folder / "index/ra.npy", mmap_mode="r+")
    array[3] += 1e-9
    array.flush()
    assert store.verify("test") == ["index/ra.npy: is not what was added"]
    (folder / "index/ra.npy").unlink()
    assert store.verify("test") == ["index/ra.npy: is missing"]
    with pytest.raises(CatalogError, match="not_a_catalog"):
        store.open("test")
    next(folder.glob("test/dataset/*/*/*.parquet")).unlink()
    assert any(fault.startswith("test: ") for fault in store.verify("test"))


def test_verify_tells_changed_facts(store: Store, tmp_path: Path) -> None:
    version = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    facts = store.root / "test" / version / "catalog.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"radius_arcsec": 99.0}))
    assert store.verify("test") == ["catalog.json: says other things than when it was added"]


# --- partitions and margin ---------------------------------------------------------------------


def test_partitions_hold_each_source_once_and_margins_the_others_near_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many sources along the border between base pixels, and some anywhere.
    rng = np.random.default_rng(3)
    given = table(4000)
    given["ra"][:2000] = (90.0 + rng.normal(0, 20, 2000) / 3600) % 360
    given["dec"][:2000] = rng.uniform(45, 80, 2000)
    monkeypatch.setattr(
        hats, "partitions", lambda counts, _: real(np.where(counts > 0, counts * 4000, 0), 1.0)
    )
    store.add(write(tmp_path / "a.parquet", given), WANTED, NOW)
    found = store.open("test")
    parts, extra = ({f: pq.read_table(f, partitioning=None) for f in found.folder.glob(
        f"{name}/dataset/*/*/*.parquet")} for name in ("test", "test_margin"))  # fmt: skip
    assert len(parts) > 12
    ids = np.concatenate([t["source_id"].to_numpy() for t in parts.values()])
    assert sorted(ids.tolist()) == sorted(given["source_id"].tolist())
    assert sum(t.num_rows for t in extra.values()) == found.facts["margin_rows"] > 100
    mine = {str(f).split("dataset")[1]: t for f, t in extra.items()}
    for file, part in parts.items():
        others = pa.concat_tables([t for f, t in parts.items() if f != file])
        away = 3600 * separation_deg(
            part["ra"].to_numpy()[:, None], part["dec"].to_numpy()[:, None],
            others["ra"].to_numpy()[None], others["dec"].to_numpy()[None],
        )  # fmt: skip
        wanted = set(others["source_id"].to_numpy()[(away <= hats.MARGIN_ARCSEC).any(axis=0)])
        margin = mine.get(str(file).split("dataset")[1])
        has = set() if margin is None else set(margin["source_id"].to_pylist())
        assert wanted <= has
        assert not has & set(part["source_id"].to_pylist())
        assert margin is None or (np.diff(margin["_healpix_29"].to_numpy()) >= 0).all()


real = hats.partitions


def test_partitions_are_bounded_and_cover_all_sources() -> None:
    counts = np.zeros(12 * 4**hats.HISTOGRAM_ORDER, np.int64)
    counts[5], counts[70_000], counts[-1] = 3_000_000, 10, 400_000
    counts[1000:3000] = 900
    parts = real(counts, 100.0)
    held = [int(counts[p.start >> 40 : p.end >> 40].sum()) for p in parts]
    assert sum(held) == counts.sum()
    assert all(h <= 1_000_000 or p.order == 9 for h, p in zip(held, parts, strict=True))
    assert all(a.end <= b.start for a, b in itertools.pairwise(parts))


def test_the_hats_package_reads_what_we_write(store: Store, tmp_path: Path) -> None:
    package = pytest.importorskip("hats", reason="the hats package is not installed")
    from hats.io.validation import is_valid_catalog

    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    folder = store.open("test").folder
    assert is_valid_catalog(folder, strict=True)
    read = package.read_hats(folder)
    assert read.main_catalog.catalog_info.total_rows == 300
    assert read.main_catalog.catalog_info.ra_column == "ra"


# --- proper motion -----------------------------------------------------------------------------


def moving(path: Path, epochs: Any) -> Path:
    columns = {
        "ra": [269.452, 10.0, 359.9999, 100.0],
        "dec": [4.693, 89.9995, 0.0, 20.0],
        # Barnard's star; a fast one at the pole; one that crosses RA 0; one without motion.
        "pmra": [-801.6, 900.0, 500.0, None],
        "pmdec": [10362.4, -400.0, 0.0, None],
        "ref_epoch": epochs,
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("epochs", [[2016.0] * 4, [2016.0, 2015.5, 2000.0, 1991.25]])
def test_sources_are_found_where_they_are_at_the_time(
    store: Store, tmp_path: Path, epochs: list[float]
) -> None:
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    path = moving(tmp_path / "a.parquet", epochs)
    store.add(path, Wanted(name="test", kind=Kind.stars), NOW)
    found = store.open("test")
    given = pq.read_table(path)
    pm = [[v or 0.0 for v in given[name].to_pylist()] for name in ("pmra", "pmdec")]
    time = Time(2026.2, format="jyear", scale="tcb")
    # At ten parsecs nothing but the motion across the sky matters.
    there = SkyCoord(
        given["ra"].to_numpy() * u.deg, given["dec"].to_numpy() * u.deg,
        pm_ra_cosdec=pm[0] * u.mas / u.yr, pm_dec=pm[1] * u.mas / u.yr,
        obstime=Time(epochs, format="jyear", scale="tcb"), distance=10 * u.pc,
    ).apply_space_motion(new_obstime=time)  # fmt: skip
    jd = np.full(4, 2451545.0 + 26.2 * 365.25)
    now = found.closest(there.ra.deg, there.dec.deg, time_jd=jd)
    assert (now.row >= 0).all()
    assert (now.separation_arcsec < 0.01).all()
    still = found.closest(there.ra.deg, there.dec.deg)
    assert (still.row >= 0).tolist() == [False, False, False, True]
    assert found.padding_arcsec(10.0) == pytest.approx(103.9, abs=0.1)


def test_a_given_epoch_makes_up_for_a_missing_column(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,pm_ra,pm_dec\n10,0,3600000,0\n")
    assert store.add(path, WANTED, NOW).facts["motion"] is None
    added = store.add(path, Wanted(name="test", epoch=2000.0), NOW)
    assert added.facts["motion"] == ["pm_ra", "pm_dec", 2000.0]
    jd = np.array([2451545.0 + 0.001 * 365.25])
    found = store.open("test").closest(np.array([10.001]), np.array([0.0]), time_jd=jd)
    assert found.separation_arcsec[0] == pytest.approx(0.0, abs=1e-5)


def test_an_epoch_that_is_no_year_is_told(store: Store, tmp_path: Path) -> None:
    path = moving(tmp_path / "a.parquet", [2016.0, 2016.0, 57388.0, 2016.0])
    error = refused(store, path)
    assert "row 3, column ref_epoch" in error.detail


# --- real files --------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "kind", "rows"),
    [
        ("3hsp.csv", Kind.agn, 2013),
        ("4LAC-DR3-h.fits", Kind.agn, 3407),
        ("CLU_mini.csv", Kind.galaxies, 10),
        ("fermi_gbm_grb_2008-2021.votable.xml", Kind.other, 3120),
        ("fermi_gll_psc_v27.csv", Kind.agn, 3637),
        ("gcvs.parquet", Kind.variables, 59099),
        ("glade_S190814bv_region.csv", Kind.galaxies, 2000),
        ("symbiotic_and_cataclysmic.parquet", Kind.variables, 2857),
        ("tde.parquet", Kind.transients, 44),
    ],
)
def test_real_catalogues(store: Store, shared_data: Path, file: str, kind: Kind, rows: int) -> None:
    added = store.add(shared_data / "catalogs" / file, Wanted(name="real", kind=kind), NOW)
    found = store.open("real")
    assert added.facts["rows"] == rows == len(found)
    assert added.facts["skipped"] == 0
    assert "name" in found.roles.columns or file in ("gcvs.parquet", "glade_S190814bv_region.csv")
    step = max(rows // 200, 1)
    ra, dec = found.sources.ra_deg[::step], found.sources.dec_deg[::step]
    assert (found.closest(ra, dec).separation_arcsec < 1e-6).all()
    assert store.verify("real") == []


def test_sources_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    for suffix, kind in (("csv", "csv"), ("fits", "fits"), ("vot", "votable")):
        path = write(tmp_path / f"a.{suffix}", table(3))
        assert source_of(path.rename(tmp_path / "plain")).kind == kind


def test_schemas_meet_in_text() -> None:
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.null()]
    met = [runs.unified([pa.schema([("c", k)]), pa.schema([("c", pa.int64())])]) for k in kinds]
    assert [s.field("c").type for s in met] == [pa.int64(), pa.float64(), pa.string(), pa.int64()]


def test_a_store_opens_only_what_is_whole(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="not_a_catalog"):
        StoredCatalog.open(tmp_path)
