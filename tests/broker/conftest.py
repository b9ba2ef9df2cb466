"""Small worlds: alerts and regions made by hand, an archive in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest

from broker.archive import Seen, night_of
from broker.engine import Engine
from broker.places import Good
from broker.regioncodec import RegionRecord, decode_region, encode_region, encode_retraction
from crossmatch import sky
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts
from crossmatch.model import Circle, IntArray, MultiOrderMap, Notice
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


MAPS: dict[str, MultiOrderMap] = {}
"""Sky maps of the tests by their digests."""


def cells_map(name: str, *cells: tuple[float, float, float], order: int = 5) -> MultiOrderMap:
    """A map of some HEALPix cells: (right ascension, declination, probability) of each."""
    pixels = sky.ipix29(*np.array([cell[:2] for cell in cells]).T)
    width = 4 ** (sky.MAX_ORDER - order)
    by_pixel = np.argsort(pixels)
    start = pixels[by_pixel] // width * width
    probability = np.array([cell[2] for cell in cells])[by_pixel]
    density = probability / (4 * np.pi / (12 * 4**order))
    MAPS[name] = MultiOrderMap(start, start + width, density, sha256=name)
    return MAPS[name]


@lru_cache(maxsize=100_000)
def decode(raw: bytes) -> RegionRecord:
    """A message of ``mm.regionlog``, with the sky maps of the tests."""
    return decode_region(raw, lambda sha256, _: MAPS[sha256])


def record(of: Notice, version: int = 1) -> RegionRecord:
    """The notice as it comes from ``mm.regionlog``."""
    if of.alert_type == "retraction":
        return decode(encode_retraction(of))
    region = make_region(of, version, DEFAULT_CHAINS)
    return decode(encode_region(region, retracts=of.retracts))


class MemoryArchive:
    """The archive of the engine and of searches, in memory."""

    def __init__(self) -> None:
        self.batches: dict[int, pa.Table] = {}
        # By survey and number: night, whether taken back, batch.
        self._known: dict[tuple[str, int], list[tuple[str, bool, int]]] = {}
        self._all: Rows | None = None
        self.reads: list[str] = []
        """Nights that were searched, in their order."""

    def append(self, rows: pa.Table, batch_id: int) -> None:
        if batch_id in self.batches:
            return
        numbers = pa.array(np.full(rows.num_rows, batch_id))
        self.batches[batch_id] = rows.append_column("batch_id", numbers)
        self._all = None
        nights = night_of(rows["time_jd"]).to_pylist()
        for name, taken_back, night in zip(_names(rows), _taken_back(rows), nights, strict=True):
            self._known.setdefault(name, []).append((night, taken_back, batch_id))

    def _rows(self) -> Rows:
        if self._all is None:
            empty = ALERT_SCHEMA.empty_table().append_column("batch_id", pa.array([], pa.int64()))
            self._all = Rows(pa.concat_tables([empty, *self.batches.values()]))
        return self._all

    def seen(self, rows: pa.Table, before_batch: int) -> Seen:
        flags = []
        for name, night in zip(_names(rows), night_of(rows["time_jd"]).to_pylist(), strict=True):
            there = [k for k in self._known.get(name, ()) if k[2] < before_batch]
            nights = {n for n, _, _ in there}
            flags.append((night in nights, bool(nights - {night}), any(t for _, t, _ in there)))
        return Seen(*np.array(flags, dtype=bool).reshape(-1, 3).T)

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        rows = self._rows()
        inside = (rows.time_jd > start_jd) & (rows.time_jd <= end_jd)
        return sorted(set(rows.nights[inside].tolist()))

    def search_night(
        self,
        night: str,
        ranges: IntArray,
        start_jd: float,
        end_jd: float,
        before_batch: int,
        good: Good | None = None,
    ) -> pa.Table:
        self.reads.append(night)
        rows = self._rows()
        gone = {name for name, there in self._known.items() if any(t for _, t, _ in there)}
        keep = (rows.time_jd > start_jd) & (rows.time_jd <= end_jd) & (rows.nights == night)
        keep &= sky.contains(ranges, rows.pixels) & (rows.batch_ids < before_batch)
        keep &= np.array([name not in gone for name in rows.names], dtype=bool)
        order = [("alert_id", "ascending"), ("batch_id", "ascending")]
        return rows.table.filter(pa.array(keep)).sort_by(order)


class Rows:
    """Archived alerts and the columns that searches ask for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.time_jd = table["time_jd"].to_numpy()
        self.nights = np.array(night_of(table["time_jd"]).to_pylist(), dtype=object)
        self.pixels = sky.ipix29(table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy())
        self.batch_ids = table["batch_id"].to_numpy()
        self.names = _names(table)


def _names(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["survey"].to_pylist(), rows["alert_id"].to_pylist(), strict=True))


def _taken_back(rows: pa.Table) -> list[bool]:
    return [bool(one) for one in rows["withdrawn"].to_pylist()]


def engine_of(archive: MemoryArchive | None = None, **changed) -> Engine:
    """An engine with a memory archive and a clock that stands still."""
    return Engine(
        **{
            "chains": DEFAULT_CHAINS,
            "cuts": CUTS,
            "versions": Versions(cuts="test", code="test"),
            "archive": archive or MemoryArchive(),
            "now": lambda: T0,
            **changed,
        }
    )


@pytest.fixture
def new_engine() -> Callable[..., Engine]:
    """Makes engines."""
    return engine_of


@pytest.fixture
def runner(new_engine):
    """A matcher in memory: steps, searches, restarts."""
    # It needs what is above.
    from .runner import Runner

    return Runner(lambda archive, aside: new_engine(archive, aside=aside))
