"""LSST packets in Confluent's wire format of a chosen size, thousands a second: what benches send.

Position, time, names and flux are those that are asked for; everything else of a packet (light
curve, cut-outs of random bytes, which do not shrink) is the same in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from broker.flatavro import varint
from crossmatch.model import FloatArray
from gateway.bench.alertpackets import Alerts
from gateway.night import packets
from gateway.night.packets import Column

SCHEMA_ID = 1000
"""Registry number of the schema: version 10.0."""
SOURCES = 4
"""Earlier detections in a packet."""
FORCED = 9
"""Earlier forced measurements in a packet."""
_STAMPS = 3
_TAI_MINUS_UTC_DAYS = 37 / 86400
_JD_MINUS_MJD = 2400000.5
_ZERO_POINT = 31.4
_PAST_DAYS = 1.0
_FILLED: Mapping[str, float | int | str] = {
    "string": "r",
    "int": 1,
    "long": 170_000_000_000,
    "float": 1.5,
    "double": 61000.25,
    "boolean": 0,
}
_NONE = ("ssObjectId", "parentDiaSourceId", "timeWithdrawnMjdTai")


@cache
def schema_json() -> str:
    """The schema of the packets, one text without parts."""
    text = resources.files("gateway.bench").joinpath("lsst.avsc").read_text("utf-8")
    return json.dumps({k: v for k, v in json.loads(text).items() if k != "doc"})


def lsst(
    alerts: Alerts, stamp_bytes: int = 0, seed: int = 1, reliability: FloatArray | float = 0.95
) -> list[bytes]:
    """Packets of alerts, in order; they pass the default cuts by their reliability alone.

    Parameters
    ----------
    alerts : Alerts
        Of 2017 or later, when TAI was 37 s before UTC; magnitudes become fluxes.
    stamp_bytes : int
        Of each of the three cut-outs; 0 leaves them out, and a packet has 3 kB. 14,800 make 47 kB,
        26,400 make 82 kB.
    seed : int
        Of the bytes of the cut-outs.
    reliability : (n,) float64 or float
        That each is no artefact, 0 to 1.
    """
    n = len(alerts)
    mjd_tai = alerts.time_jd - _JD_MINUS_MJD + _TAI_MINUS_UTC_DAYS
    first = float(mjd_tai.min()) - _PAST_DAYS
    flux = 10 ** ((_ZERO_POINT - alerts.mag) / 2.5)
    # Objects of LSST have long numbers; those of the bench stay what they are.
    source = {
        "diaSourceId": Column(alerts.alert_id),
        "diaObjectId": Column(alerts.object_number + 1),
        "midpointMjdTai": Column(mjd_tai),
        "ra": Column(alerts.ra_deg),
        "dec": Column(alerts.dec_deg),
        "psfFlux": Column(flux),
        "psfFluxErr": Column(flux / 20),
        "raErr": Column(2e-5),
        "decErr": Column(2e-5),
        "snr": Column(20.0),
        "reliability": Column(reliability),
        "timeProcessedMjdTai": Column(mjd_tai + 0.001),
    }
    head = {"diaSourceId": Column(alerts.alert_id), "observation_reason": Column("bench")}
    layout = (*_top(("diaSourceId", "observation_reason", "target_name")), *_slots("diaSource"))
    bodies, ends = packets.encode(
        layout, _filled("diaSource", source) | {"target_name": Column(None)} | head, n
    )
    start = b"\x00" + SCHEMA_ID.to_bytes(4, "big")
    tail = _history(first) + _tail(first, stamp_bytes, seed)
    return [b"".join((start, bodies[ends[i] : ends[i + 1]], tail)) for i in range(n)]


def _history(first: float) -> bytes:
    """``prvDiaSources`` and ``prvDiaForcedSources``."""
    out = b""
    for name, entries in (("prvDiaSources", SOURCES), ("prvDiaForcedSources", FORCED)):
        past = {
            "midpointMjdTai": Column(first - np.arange(entries, 0, -1.0)),
            "psfFlux": Column(3000.0),
            "psfFluxErr": Column(200.0),
        }
        body, _ = packets.encode(_slots(name), _filled(name, past), entries)
        out += b"\x02" + varint(entries) + body + b"\x00"
    return out


def _tail(first: float, stamp_bytes: int, seed: int) -> bytes:
    """What follows the light curve: the object, no body of the solar system, the cut-outs."""
    known = {
        "firstDiaSourceMjdTai": Column(first - SOURCES),
        "nDiaSources": Column(SOURCES + 1),
    }
    body, _ = packets.encode(_slots("diaObject"), _filled("diaObject", known), 1)
    dia_object = b"\x02" + body
    if stamp_bytes == 0:
        return dia_object + b"\x00" * (2 + _STAMPS)
    rng = np.random.default_rng(seed)
    size = b"\x02" + varint(stamp_bytes)
    return (
        dia_object + b"\x00" * 2 + b"".join(size + rng.bytes(stamp_bytes) for _ in range(_STAMPS))
    )


@cache
def _fields() -> dict[str, Any]:
    return {field["name"]: field["type"] for field in json.loads(schema_json())["fields"]}


def _top(names: tuple[str, ...]) -> tuple[Any, ...]:
    return packets.slots_of([{"name": name, "type": _fields()[name]} for name in names])


@cache
def _slots(field: str) -> tuple[Any, ...]:
    """Fields of the record that a field of the packet holds."""
    kind = _fields()[field]
    if isinstance(kind, list):
        kind = kind[1]
    if kind["type"] == "array":
        kind = kind["items"]
    named = kind if isinstance(kind, dict) else _fields()["diaSource"]
    return packets.slots_of(named["fields"])


def _filled(field: str, columns: Mapping[str, Column]) -> dict[str, Column]:
    """With a value in every other field, as nearly all of Rubin's have one."""
    every = {
        slot.name: Column(_FILLED[slot.kind]) for slot in _slots(field) if slot.name not in _NONE
    }
    return every | dict(columns)
