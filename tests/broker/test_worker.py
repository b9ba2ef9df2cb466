"""What workers make of rows, and how the tables of regions come to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from broker import worker
from broker.surveys import NATIVE_SCHEMAS, normalise
from broker.worker import ADDRESS, FIELDS, Shipped, alerts_of, judged, regions_of, write_whole
from crossmatch.ahead import View, rows_of
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.region import make_region

from .conftest import CUTS, T0_JD, notice
from .test_surveys import LSST, ZTF

N = 400


def index() -> RegionIndex:
    places = [notice(f"E{i}", 1, 40.0 * i, 10.0, 25.0) for i in range(5)]
    return RegionIndex.build([make_region(n, 1, DEFAULT_CHAINS) for n in places])


def native(survey: str, seed: int = 1) -> pa.Table:
    """Rows of which some are cut, some are none, some for Python, some of another topic."""
    rng = np.random.default_rng(seed)
    base = ZTF if survey == "ztf" else LSST
    rows = []
    for number in range(N):
        days = float(rng.uniform(0.0, 3.0))
        row = base | {
            "ra": float(rng.choice([rng.uniform(0, 360), 720.0], p=[0.95, 0.05])),
            "dec": float(rng.uniform(-10, 30)),
            "offset": number,
        }
        if survey == "ztf":
            row |= {"candid": number, "jd": T0_JD + days, "ssdistnr": None}
            row |= {"rb": float(rng.uniform()), "drb": None}
        else:
            row |= {"diaSourceId": number, "midpointMjdTai": T0_JD + days - 2400000.5}
            row |= {"reliability": float(rng.uniform())}
        if rng.random() < 0.05:
            row |= {"dec": None}
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=NATIVE_SCHEMAS[survey])
    topics = rng.choice([f"alerts.{survey}", "mm.regionlog"], N, p=[0.9, 0.1])
    at = table.column_names.index("topic")
    table = table.set_column(at, "topic", pa.array(topics, pa.string()))
    routes = rng.choice(["jvm", "python"], N, p=[0.9, 0.1])
    return table.append_column("route", pa.array(routes, pa.string()))


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_alerts_and_rejections_are_those_of_the_driver(survey: str) -> None:
    rows, regions = native(survey), index()

    found = judged(survey, [f"alerts.{survey}"], CUTS, regions.tables, rows)

    assert found.type == pa.struct(FIELDS)
    valid = np.asarray(found.is_valid())
    mine = np.asarray(rows["route"]) == "jvm"
    mine &= np.asarray(rows["topic"]) == f"alerts.{survey}"
    assert np.array_equal(valid, mine)
    mine_rows = rows.filter(pa.array(mine))
    given = mine_rows.select(ADDRESS).append_column("judged", found.filter(pa.array(mine)))
    done, held = alerts_of(survey, given)
    expected = normalise(survey, mine_rows)
    assert len(expected.rejected) > 10
    assert done.rejected == expected.rejected
    assert done.alerts.schema == ALERT_SCHEMA
    assert done.alerts.equals(expected.alerts)
    assert held.equals(regions_of(expected.alerts, CUTS, regions.tables))


def test_regions_are_those_of_a_match_of_what_passes_the_cuts() -> None:
    alerts, regions = normalise("ztf", native("ztf")).alerts, index()

    held = regions_of(alerts, CUTS, regions.tables)

    keep = apply_cuts(alerts, CUTS).keep
    assert np.array_equal(np.asarray(held.is_valid()), keep)
    good = alerts.filter(pa.array(keep))
    places = [good[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg")]
    pairs = match(places[0], places[1], places[2], regions)
    assert len(pairs) > 20
    assert held.filter(pa.array(keep)).equals(rows_of(pairs, len(good)))


def test_rows_of_nobody_and_no_rows_are_answered() -> None:
    rows = native("ztf")

    nobody = judged("ztf", ["other"], CUTS, index().tables, rows)
    none = judged("ztf", ["alerts.ztf"], CUTS, index().tables, rows.slice(0, 0))

    assert nobody.null_count == N
    assert len(none) == 0
    given = rows.select(ADDRESS).slice(0, 0).append_column("judged", none)
    done, held = alerts_of("ztf", given)
    assert (done.alerts.num_rows, done.rejected, len(held)) == (0, [], 0)


def test_tables_are_mapped_once_and_let_go_for_the_next_ones(tmp_path: Path) -> None:
    for name in ("1", "2"):
        View.of(index()).save(tmp_path / name)
    one, two = Shipped(str(tmp_path / "1")), Shipped(str(tmp_path / "2"))

    first = one.tables()

    assert one.tables() is first
    assert two.tables() is not first
    assert list(worker._held) == [two.folder]


def test_files_that_are_written_by_several_are_there_once(tmp_path: Path) -> None:
    write_whole(tmp_path / "regions" / "a", {"x": b"1"})
    write_whole(tmp_path / "regions" / "a", {"x": b"1"})

    assert [p.name for p in (tmp_path / "regions").iterdir()] == ["a"]
    assert (tmp_path / "regions" / "a" / "x").read_bytes() == b"1"
