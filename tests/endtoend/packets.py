"""Alert packets and notices made to order: ZTF's layout without stamps, circles of Fermi GBM."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

from gateway.night.packets import schema_json

NOTICES = Path(__file__).resolve().parents[1] / "data" / "notices"
GBM_TOPIC = "gcn.classic.voevent.FERMI_GBM_FIN_POS"
GBM_PLACE = (238.41, -0.18)
TRIGGER_JD = 2461042.6278434
"""The trigger time of every notice here, 2026-01-02T03:04:05.67."""


@cache
def schema() -> Any:
    return fastavro.parse_schema(json.loads(schema_json()))


def record(candid: int, ra: float, dec: float, days: float = 1.0, **changed: Any) -> dict[str, Any]:
    """A ZTF alert that passes all cuts, ``days`` after the trigger."""
    jd = TRIGGER_JD + days
    names = schema()["fields"][4]["type"]["fields"]
    fields = {field["name"]: _filler(field["type"]) for field in names}
    candidate = fields | {
        "jd": jd,
        "fid": 2,
        "candid": candid,
        "isdiffpos": "t",
        "ra": ra,
        "dec": dec,
        "magpsf": 18.5,
        "sigmapsf": 0.05,
        "diffmaglim": 20.5,
        "rb": 0.9,
        "drb": 0.95,
        "nbad": 0,
        "ndethist": 2,
        "jdstarthist": TRIGGER_JD + min(days, 0.5),
    }  # fmt: skip
    return {
        "schemavsn": "4.02",
        "publisher": "test",
        "objectId": f"ZTF26{candid // 100:07d}",
        "candid": candid,
        "candidate": candidate | changed,
        "prv_candidates": None,
        "cutoutScience": None,
        "cutoutTemplate": None,
        "cutoutDifference": None,
    }


def container(*records: dict[str, Any], codec: str = "null") -> bytes:
    """Records as one Avro object container, all in one block."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema(), list(records), codec=codec, sync_marker=b"0123456789abcdef")
    return buffer.getvalue()


def alert(candid: int, ra: float, dec: float, days: float = 1.0, **changed: Any) -> bytes:
    """One packet as ZTF sends it."""
    return container(record(candid, ra, dec, days, **changed))


def previous(days: float) -> dict[str, Any]:
    """An earlier detection, for ``prv_candidates``."""
    items = schema()["fields"][5]["type"][1]["items"]["fields"]
    fields = {field["name"]: _filler(field["type"]) for field in items}
    return fields | {
        "jd": TRIGGER_JD + days,
        "fid": 2,
        "isdiffpos": "t",
        "magpsf": 18.0,
        "sigmapsf": 0.05,
        "diffmaglim": 20.5,
    }


def notice(
    trigger: int = 100000001,
    ra: float = GBM_PLACE[0],
    dec: float = GBM_PLACE[1],
    time: str = "2026-01-02T03:04:05.67",
) -> bytes:
    """A GBM position with an 11 degree circle."""
    text = (NOTICES / "gbm_final.xml").read_text("utf-8")
    for old, new in (
        ("100000001", str(trigger)),
        ("238.4100", f"{ra:.4f}"),
        ("-0.1800", f"{dec:.4f}"),
        ("2026-01-02T03:04:05.67", time),
    ):
        text = text.replace(old, new)
    return text.encode()


def _filler(kind: Any) -> Any:
    if isinstance(kind, list):
        return None if "null" in kind else _filler(kind[0])
    return {"string": "", "int": 0, "long": 0, "float": 0.0, "double": 0.0}[kind]
