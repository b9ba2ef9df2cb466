"""Selections of pairs in files; of real alerts they keep what pandas selects by packet fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broker.packets import read_alerts
from broker.surveys import normalise
from crossmatch.chains import chains_with
from crossmatch.cuts import AlertColumns
from crossmatch.errors import ConfigError
from crossmatch.model import Circle
from crossmatch.predicates import Columns
from crossmatch.selections import BUILT_IN, Selection, selections_with
from crossmatch.times import jd_from_datetime
from gateway.config import load
from gateway.feeds.registry import load_feeds
from gateway.offline.batch import BatchInput, crossmatch
from gateway.offline.selected import check_selection, simbad_arcsec

CONFIG = load(environ={})
MINE = selections_with(
    {
        "minor": {"cuts": [{"cut": "moving", "not": True}]},
        "old": {"cuts": [{"cut": "detections", "min_detections": 10}, "two_detections"]},
        "bright": {"cuts": [{"cut": "magnitude", "faintest": 18.0, "missing": "fail"}]},
        "both": {"cuts": ["fink", "cuts0"]},
    }
) | {"default": CONFIG.cuts.made}
Frame = pd.DataFrame


def _within(distance: pd.Series, arcsec: float) -> pd.Series:
    """A distance that the packet has, below a radius: -999 and nothing are none."""
    return distance.ge(0) & distance.lt(arcsec)


def _fink(c: Frame) -> pd.Series:
    return c.rb.ge(0.55) & c.nbad.eq(0) & c.magdiff.abs().lt(0.1)


def _cuts0(c: Frame) -> pd.Series:
    known = ~(c.cdsxmatch.isin(["Unknown", ""]) | c.cdsxmatch.str.startswith("Fail"))
    return ~known & ~_within(c.neargaia, 5) & ~_within(c.distpsnr1, 5)


def _default(c: Frame) -> pd.Series:
    real = c.rb.ge(0.55) | c.drb.ge(0.3) | (c.rb.isna() & c.drb.isna())
    star = c.distpsnr1.between(0, 2) & c.sgscore1.gt(0.76)
    positive = c.isdiffpos.isin(["t", "1"])
    return positive & real & ~c.nbad.gt(0) & ~c.ssdistnr.between(0, 5) & ~star


def _solar_system(c: Frame) -> pd.Series:
    short = ((c.jd - c.jdstarthist) * 1440).le(30)
    return c.ndethist.isin([1, 2]) & short & ~c.sgscore1.ge(0.76) & ~_within(c.distpsnr1, 1.5)


def _old(c: Frame) -> pd.Series:
    return c.ndethist.ge(10) & ((c.jd - c.jdstarthist) * 1440).ge(15)


EXPRESSIONS: dict[str, Callable[[Frame], pd.Series]] = {
    "fink": _fink,
    "cuts0": _cuts0,
    "both": lambda c: _fink(c) & _cuts0(c),
    "default": _default,
    "solar_system": _solar_system,
    "minor": lambda c: c.ssdistnr.between(0, 5),
    "old": _old,
    "bright": lambda c: c.magpsf.le(18.0),
}


def _frames(folder: Path) -> pd.DataFrame:
    """Packets' fields as pandas reads them, and the row in the file."""
    found = []
    for path in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(path)
        frame = pd.DataFrame(table["candidate"].to_pylist())
        if "cdsxmatch" in table.column_names:
            types = table["cdsxmatch"].to_pylist()
        else:
            types = [""] * table.num_rows
        frame = frame.assign(file=str(path), row=np.arange(len(frame)), cdsxmatch=types)
        found.append(frame.reindex(columns=[*{*frame.columns, "drb", "nbad", "magdiff"}]))
    return pd.concat(found, ignore_index=True)


def _selected(folder: Path, selection: Selection) -> set[tuple[str, int]]:
    """File and row of the alerts that pass, by the functions of the gateway."""
    found = set()
    for batch in read_alerts(sorted(folder.rglob("*.parquet")), {}, report=pytest.fail):
        good = normalise(batch.survey, batch.native)
        assert not good.rejected
        column = _with_simbad(good.alerts, simbad_arcsec(batch.native, good.alerts))
        left = np.ones(good.alerts.num_rows, bool)
        for one in selection.removed(column, good.alerts.num_rows):
            left &= ~one.rows
        kept = good.alerts.filter(pa.array(left))
        found |= set(zip(kept["topic"].to_pylist(), kept["offset"].to_pylist(), strict=True))
    return found


def _with_simbad(alerts: pa.Table, simbad: np.ndarray) -> Columns:
    column = AlertColumns(alerts)
    return lambda name: simbad if name == "near.simbad" else column(name)


@pytest.mark.realdata
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_real_alerts_that_pass_are_those_that_pandas_selects(shared_data: Path, name: str) -> None:
    folder = shared_data / "alerts" / "ztf_parquet"
    frame = _frames(folder)
    chosen = frame[EXPRESSIONS[name](frame)]
    expected = set(zip(chosen.file, chosen.row.tolist(), strict=True))

    assert _selected(folder, MINE[name]) == expected
    assert 0 < len(expected) < len(frame)


@pytest.mark.realdata
def test_real_pairs_that_pass_cuts1_are_those_that_pandas_selects(shared_data: Path) -> None:
    notices = shared_data / "notices" / "gcn_2024-01"
    alerts = shared_data / "alerts" / "ztf_parquet" / "fink_science_20240115"

    def pairs(selection: Selection | None) -> tuple[pd.DataFrame, dict[str, float]]:
        given = BatchInput(notices=[notices], alerts=[alerts], quality=False, selection=selection)
        done = crossmatch(given, load_feeds(), chains_with({}), CONFIG.cuts, {})
        radius = {
            one.region.notice_id: one.region.localization.radius_deg
            for one in done.regions
            if isinstance(one.region.localization, Circle)
        }
        trigger = {
            one.region.notice_id: jd_from_datetime(one.region.trigger_time) for one in done.regions
        }
        mission = {one.region.notice_id: one.region.mission for one in done.regions}
        frame = done.pairs.to_pandas()
        return frame.assign(
            radius=frame.notice.map(radius),
            trigger=frame.notice.map(trigger),
            mission=frame.notice.map(mission),
        ), dict(done.pairs_cut)

    everything, _ = pairs(None)
    first = _frames(alerts).drop_duplicates("candid").set_index("candid").jdstarthist
    everything = everything.assign(first=everything.alert_id.map(first) - everything.trigger)
    start = -600 / 86400
    last = everything.time_jd - everything.trigger
    near = everything.separation_deg
    fine = (last > start) & (last <= 20)
    fine &= (everything["first"] > start) & (everything["first"] <= 20)
    swift = everything.mission.eq("Swift") & everything.radius.notna()
    fermi = everything.mission.eq("Fermi") & everything.radius.notna()
    fine &= ~swift | near.le(3 * everything.radius)
    fine &= ~fermi | near.le(np.minimum(everything.radius, 5))
    names = ["notice", "version", "alert_id"]

    chosen, removed = pairs(BUILT_IN["cuts1"])

    expected = everything[fine]
    assert chosen[names].values.tolist() == expected[names].values.tolist()
    assert 0 < len(expected) < len(everything)
    assert sum(removed.values()) == len(everything) - len(expected)
    assert fermi.any()
    assert list(removed) == ["window", "first_detected", "separation_swift", "separation_fermi"]


def test_what_files_do_not_tell_is_refused() -> None:
    for name in ("cuts0", "cuts1", "fink", "solar_system"):
        check_selection(BUILT_IN[name])
    with pytest.raises(ConfigError, match="--selection kilonova: changing needs what files do not"):
        check_selection(BUILT_IN["kilonova"])
    gaia = selections_with({"gaia": {"cuts": [{"cut": "far_from", "catalog": "gaia"}]}})["gaia"]
    with pytest.raises(ConfigError, match=r"far_from needs what files do not tell \(catalogue\)"):
        check_selection(gaia)
    for radius_arcsec in (0.5, 2.0):
        simbad = [{"cut": "far_from", "radius_arcsec": radius_arcsec}]
        wide = selections_with({"wide": {"cuts": simbad}})["wide"]
        with pytest.raises(ConfigError, match=r"asks for .* files tell \(cdsxmatch\) of 1 alone"):
            check_selection(wide)


def test_finks_column_of_simbad() -> None:
    native = pa.table(
        {"cdsxmatch": ["Unknown", "QSO", "Fail 500", "Fail", None, ""], "offset": range(10, 16)}
    )
    alerts = pa.table({"offset": [10, 11, 12, 13, 14, 15, 11]})
    told = simbad_arcsec(native, alerts)
    assert told[:2].tolist() == [np.inf, 0.0]
    assert np.isnan(told[2:6]).all()
    assert told[6] == 0.0
    assert np.isnan(simbad_arcsec(native.drop_columns(["cdsxmatch"]), alerts)).all()
