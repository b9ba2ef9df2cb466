"""ZTF packets of a chosen size, thousands a second: what benches send.

Position, time, names and scores are those that are asked for; everything else of a packet (light
curve, cut-outs of random bytes, which do not shrink) is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from broker.flatavro import varint
from crossmatch.model import FloatArray, IntArray
from gateway.night import packets
from gateway.night.packets import Column

ENTRIES = 25
"""Earlier measurements in a packet."""
_STAMPS = 3
_NULL = -999.0
_NUMBERS = {
    "ra": "ra_deg",
    "dec": "dec_deg",
    "magpsf": "mag",
    "sigmapsf": "mag_error",
    "diffmaglim": "limiting_mag",
    "rb": "real_bogus",
    "drb": "deep_real_bogus",
    "magdiff": "mag_difference",
    "jdstarthist": "first_detection_jd",
    "ssdistnr": "moving_distance_arcsec",
    "distpsnr1": "ps1_distance_arcsec",
    "sgscore1": "ps1_star_score",
    "srmag1": "ps1_mag",
    "neargaia": "gaia_distance_arcsec",
    "maggaia": "gaia_mag",
}
"""ZTF's fields of numbers, and their slim columns."""
_PAST_DAYS = 1.0
_ZERO: Mapping[str, float | int | str] = {
    "string": "",
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
}


@dataclass(frozen=True, slots=True, eq=False)
class Alerts:
    """What differs from packet to packet, all (n,).

    Alert numbers, objects (0 to 9,999,999), times (JD UTC), ICRS positions (deg), and
    magnitudes (AB).
    """

    alert_id: IntArray
    object_number: IntArray
    time_jd: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    mag: FloatArray

    def __len__(self) -> int:
        return len(self.alert_id)


def ztf(alerts: Alerts, stamp_bytes: int = 20_000, seed: int = 1) -> list[bytes]:
    """Packets of alerts that pass the default cuts, in order.

    Parameters
    ----------
    alerts : Alerts
    stamp_bytes : int
        Of each of the three cut-outs; 0 leaves them and the light curve out.
    seed : int
        Of the bytes of the cut-outs.
    """
    objects = np.char.mod("ZTF26%07d", alerts.object_number).astype("S12")
    tail = _tail(stamp_bytes, float(alerts.time_jd.min()) - _PAST_DAYS, seed)
    return _packets(objects, alerts.alert_id, _columns(alerts), tail)


def ztf_of(rows: pa.Table, stamp_bytes: int = 20_000, seed: int = 1) -> list[bytes]:
    """Packets of slim alerts (``ALERT_SCHEMA``), which say the same again when they are read.

    What ZTF has no field for is left out; see :func:`ztf` for the rest.
    """
    time = rows["time_jd"].to_numpy()
    names = pc.fill_null(rows["moving_name"], "null").to_numpy(zero_copy_only=False)
    columns = {
        "jd": Column(time),
        "candid": Column(rows["alert_id"].to_numpy()),
        "fid": Column(np.where(np.asarray(rows["filter"]) == "g", 1, 2)),
        "isdiffpos": Column(np.where(rows["positive"].to_numpy(), b"t", b"f")),
        "nbad": Column(rows["n_bad"].to_numpy()),
        "ndethist": Column(rows["n_detections"].to_numpy()),
        "ssnamenr": Column(names.astype("S8")),
    }
    for field, name in _NUMBERS.items():
        columns[field] = Column(pc.fill_null(rows[name], _NULL).to_numpy())
    objects = rows["object_id"].to_numpy(zero_copy_only=False).astype("S")
    tail = _tail(stamp_bytes, float(time.min()) - _PAST_DAYS, seed)
    return _packets(objects, rows["alert_id"].to_numpy(), columns, tail)


def _packets(
    objects: NDArray[np.bytes_], numbers: IntArray, columns: Mapping[str, Column], tail: bytes
) -> list[bytes]:
    n = len(numbers)
    head = {
        "schemavsn": Column("4.02"),
        "publisher": Column("mmgateway bench"),
        "objectId": Column(objects),
        "candid": Column(numbers),
    }
    heads, head_ends = packets.encode(packets.HEAD, head, n)
    bodies, body_ends = packets.encode(packets.slots("candidate"), _filled("candidate", columns), n)
    return [
        packets.container(
            heads[head_ends[i] : head_ends[i + 1]] + bodies[body_ends[i] : body_ends[i + 1]] + tail
        )
        for i in range(n)
    ]


def _columns(alerts: Alerts) -> dict[str, Column]:
    """Fields of ``candidate`` that cuts and matching look at."""
    return {
        "jd": Column(alerts.time_jd),
        "candid": Column(alerts.alert_id),
        "ra": Column(alerts.ra_deg),
        "dec": Column(alerts.dec_deg),
        "magpsf": Column(alerts.mag),
        "sigmapsf": Column(0.05),
        "diffmaglim": Column(20.5),
        "fid": Column(2),
        "isdiffpos": Column("t"),
        "rb": Column(0.9),
        "drb": Column(0.95),
        "nbad": Column(0),
        "ndethist": Column(2),
        "jdstarthist": Column(alerts.time_jd - _PAST_DAYS / 2),
    }


def _tail(stamp_bytes: int, before_jd: float, seed: int) -> bytes:
    """What follows the candidate: the light curve and the cut-outs."""
    if stamp_bytes == 0:
        return b"\x00" * (1 + _STAMPS)
    rng = np.random.default_rng(seed)
    past = {
        "jd": Column(before_jd - np.arange(ENTRIES, 0, -1.0)),
        "candid": Column(np.arange(ENTRIES) + 1),
        "fid": Column(1),
        "isdiffpos": Column("t"),
        "magpsf": Column(np.full(ENTRIES, 19.0)),
        "sigmapsf": Column(0.1),
        "diffmaglim": Column(20.5),
    }
    entries, _ = packets.encode(
        packets.slots("prv_candidate"), _filled("prv_candidate", past), ENTRIES
    )
    history = b"\x02" + varint(ENTRIES) + entries + b"\x00"
    name = b"stamp.fits.gz"
    stamp = b"\x02" + varint(len(name)) + name + varint(stamp_bytes)
    return history + b"".join(stamp + rng.bytes(stamp_bytes) for _ in range(_STAMPS))


def _filled(record: str, columns: Mapping[str, Column]) -> dict[str, Column]:
    """With zeros and empty texts where a field cannot be null."""
    required = {
        slot.name: Column(_ZERO[slot.kind])
        for slot in packets.slots(record)
        if slot.null_branch is None
    }
    return required | dict(columns)
