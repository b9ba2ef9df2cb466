"""Small worlds: alerts and regions made by hand, an archive in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from broker.archive import Seen, night_of
from broker.codec import RegionRecord, decode_region, encode_region, encode_retraction
from broker.engine import Engine
from crossmatch import sky
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts
from crossmatch.model import Circle, IntArray, Notice
from crossmatch.region import make_region
from crossmatch.times import jd_from_datetime

T0 = datetime(2024, 3, 1, 2, 0, tzinfo=UTC)
T0_JD = jd_from_datetime(T0)

CUTS = Cuts(
    enabled=True,
    min_real_bogus=0.55,
    min_deep_real_bogus=0.3,
    max_bad_pixels=0,
    max_mag_difference=None,
    require_positive=True,
    moving_radius_arcsec=5.0,
    min_star_score=0.76,
    star_radius_arcsec=2.0,
)


def alert(alert_id: int, ra: float, dec: float, days: float = 1.0, **changed: object) -> dict:
    """An alert ``days`` after T0, real and new."""
    row = dict.fromkeys(ALERT_SCHEMA.names) | {
        "survey": "ztf",
        "object_id": f"ZTF24{alert_id // 10:07d}",
        "alert_id": alert_id,
        "time_jd": T0_JD + days,
        "ra_deg": ra,
        "dec_deg": dec,
        "filter": "r",
        "mag": 18.0,
        "mag_error": 0.05,
        "limiting_mag": 20.5,
        "positive": True,
        "real_bogus": 0.9,
        "n_bad": 0,
        "first_detection_jd": T0_JD + min(days, 0.5),
        "n_detections": 2,
        "topic": "alerts.ztf",
        "partition": 0,
        "offset": alert_id,
    }
    return row | changed


def alerts(rows: Sequence[dict]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ALERT_SCHEMA)


def notice(event: str, serial: int, ra: float, dec: float, radius: float, **changed) -> Notice:
    """A GRB position that a mission sent as its ``serial``-th notice about ``event``."""
    issued = T0 + timedelta(minutes=serial)
    fields = {
        "feed": "test",
        "mission": "Fermi",
        "instrument": "GBM",
        "kind": "GBM_Gnd_Pos",
        "notice_id": f"ivo://test/{event}#{serial}",
        "event_id": event,
        "trigger_id": event,
        "messenger": "grb",
        "role": "observation",
        "alert_type": "initial" if serial == 1 else "update",
        "issued": issued,
        "order": (issued.timestamp(), 0, serial),
        "trigger_time": T0,
        "localization": Circle(ra, dec, radius, 0.9),
        "sha256": f"{event}-{serial}",
    }
    return Notice(**(fields | changed))


def record(of: Notice, version: int = 1) -> RegionRecord:
    """The notice as it comes from ``mm.regions``."""
    if of.alert_type == "retraction":
        return decode_region(encode_retraction(of))
    return decode_region(encode_region(make_region(of, version, DEFAULT_CHAINS)))


class MemoryArchive:
    """The archive of the engine and of searches, in memory."""

    def __init__(self) -> None:
        self.batches: dict[int, pa.Table] = {}

    def append(self, rows: pa.Table, batch_id: int) -> None:
        numbers = pa.array(np.full(rows.num_rows, batch_id))
        self.batches.setdefault(batch_id, rows.append_column("batch_id", numbers))

    def _rows(self) -> pa.Table:
        empty = ALERT_SCHEMA.empty_table().append_column("batch_id", pa.array([], pa.int64()))
        return pa.concat_tables([empty, *self.batches.values()])

    def seen(self, rows: pa.Table, before_batch: int) -> Seen:
        known: dict[tuple, list[tuple]] = {}
        before = self._rows().filter(pc.field("batch_id") < before_batch)
        for row, night in zip(before.to_pylist(), night_of(before["time_jd"]), strict=True):
            name = (row["survey"], row["alert_id"])
            known.setdefault(name, []).append((str(night), bool(row["withdrawn"])))
        flags = []
        for row, night in zip(rows.to_pylist(), night_of(rows["time_jd"]), strict=True):
            there = known.get((row["survey"], row["alert_id"]), [])
            nights = [n for n, _ in there]
            same = str(night) in nights
            flags.append((same, any(n != str(night) for n in nights), any(w for _, w in there)))
        return Seen(*np.array(flags, dtype=bool).reshape(-1, 3).T)

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        rows = self._rows()
        time = rows["time_jd"].to_numpy()
        inside = pa.array((time > start_jd) & (time <= end_jd))
        return sorted(set(map(str, night_of(rows.filter(inside)["time_jd"]))))

    def search_night(
        self, night: str, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        rows = self._rows()
        gone = {(r["survey"], r["alert_id"]) for r in rows.to_pylist() if r["withdrawn"]}
        stays = [(r["survey"], r["alert_id"]) not in gone for r in rows.to_pylist()]
        time = rows["time_jd"].to_numpy()
        pixels = sky.ipix29(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
        keep = (time > start_jd) & (time <= end_jd) & sky.contains(ranges, pixels)
        keep &= np.array(stays, dtype=bool) & (np.asarray(night_of(rows["time_jd"])) == night)
        keep &= rows["batch_id"].to_numpy() < before_batch
        return rows.filter(pa.array(keep))


@pytest.fixture
def new_engine() -> Callable[..., Engine]:
    """Makes engines with a memory archive and a clock that stands still."""

    def make(archive: MemoryArchive | None = None, **changed) -> Engine:
        return Engine(
            chains=DEFAULT_CHAINS,
            cuts=CUTS,
            versions=Versions(cuts="test", code="test"),
            archive=archive or MemoryArchive(),
            now=lambda: T0,
            **changed,
        )

    return make
