"""What brokers do today: a packet decoded whole, then one region tried after another."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import fastavro
import pyarrow as pa

from broker.packets import native_row
from broker.regioncodec import RegionRecord
from broker.surveys import NATIVE_SCHEMAS, normalise
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.model import Region
from crossmatch.shapes import shape_of
from crossmatch.sky import ipix29
from crossmatch.times import jd_from_datetime
from gateway.bench import lsstpackets
from gateway.bench.pipeline_world import TOPIC, Matches, Sizes, packets_of

_MESSAGE_START_BYTES = 5


def one_after_another(
    alerts: pa.Table, late: Sequence[RegionRecord], cuts: Cuts, sizes: Sizes
) -> tuple[set[str], Matches, float]:
    """Objects that were looked at, their matches, and the seconds that ``sizes.plain`` took."""
    few = alerts.slice(0, sizes.plain)
    packets = packets_of(few, sizes, cuts)
    held = [record.region for record in late if record.region is not None]
    shapes = [(region, shape_of(region.localization)) for region in held]
    begin = time.perf_counter()
    found: Matches = set()
    for packet in packets:
        found |= set(plain_matches(packet, shapes, cuts, sizes.survey))
    seconds = time.perf_counter() - begin
    # An object may be seen once more behind the few.
    later = set(alerts.slice(sizes.plain)["object_id"].to_pylist())
    looked = set(few["object_id"].to_pylist()) - later
    return looked, of(found, looked), seconds


def of(matches: Matches, objects: set[str]) -> Matches:
    """Matches of some objects."""
    return {match for match in matches if match[1] in objects}


def plain_matches(
    packet: bytes, shapes: Sequence[tuple[Region, Any]], cuts: Cuts, survey: str = "ztf"
) -> Iterator[tuple[str, str]]:
    """Event and object of each region that holds a good alert."""
    row = native_row(_record(packet, survey), survey)
    row |= {"topic": TOPIC, "partition": 0, "offset": 0}
    table = pa.Table.from_pylist([row], schema=NATIVE_SCHEMAS[survey])
    alerts = normalise(survey, table).alerts
    if not apply_cuts(alerts, cuts).keep.any():
        return
    ra, dec, time_jd = (alerts[name].to_numpy() for name in ("ra_deg", "dec_deg", "time_jd"))
    pixel = ipix29(ra, dec)
    for region, shape in shapes:
        since = time_jd[0] - jd_from_datetime(region.trigger_time)
        _, level = shape.at(ra, dec, pixel)
        timely = region.window.start_days < since <= region.window.end_days
        if timely and level[0] <= region.level:
            yield region.event_id, alerts["object_id"][0].as_py()


def _record(packet: bytes, survey: str) -> Any:
    if survey == "ztf":
        return next(fastavro.reader(io.BytesIO(packet)))
    body = io.BytesIO(packet)
    body.seek(_MESSAGE_START_BYTES)
    return fastavro.schemaless_reader(body, _lsst_schema(), None)


@cache
def _lsst_schema() -> Any:
    return fastavro.parse_schema(json.loads(lsstpackets.schema_json()))
