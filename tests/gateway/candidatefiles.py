"""Statements about candidates for tests: plain rows, and the matcher's table with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from crossmatch.columns import CANDIDATE_FIELDS, arrow_schema

_EMPTY = {"string": "", "double": 0.0, "int": 0, "long": 0, "boolean": False, "strings": []}


def statement(object_id: str = "ZTF17aabcdef", number: int = 1, **changed: Any) -> dict[str, Any]:
    """One statement with every column; required ones that nobody names are empty."""
    event = changed.get("event_id", "GW170817")
    survey = changed.get("survey", "ztf")
    counterpart = f"MM-{survey.upper()}-{object_id}"
    test = ".test" if changed.get("role") == "test" else ""
    plain = {f.name: _EMPTY[f.kind] if f.required else None for f in CANDIDATE_FIELDS}
    said = {
        "candidate_id": f"{counterpart}.{event}.{number}{test}",
        "counterpart_id": counterpart,
        "record_number": number,
        "alert_type": "initial" if number == 1 else "update",
        "state": "in_force",
        "reason": "matched",
        "cause": "candid 1234567890",
        "changed": [] if number == 1 else ["brightness"],
        "alert_datetime": f"2017-08-18T00:{number:02}:00.000000Z",
        "alert_tense": "current",
        "role": "observation",
        "stream": "mm.candidates.gw",
        "event_id": event,
        "event_name": event,
        "joint_events": [event],
        "messenger": "gw",
        "ref_type": "UPDATE",
        "ref_instrument": "LVK H1,L1,V1",
        "ref_ID": "ivo://gwnet/1",
        "event_version": 2,
        "event_trigger_time": "2017-08-17T12:41:04.000Z",
        "survey": survey,
        "id": object_id,
        "alert_id": str(number),
        "n_alerts": number,
        "n_detections": number,
        "ra": 197.45,
        "dec": -23.38,
        "first_detection": "2017-08-17T23:33:00.000Z",
        "last_detection": f"2017-08-18T00:{number:02}:00.000Z",
        "time_offset_first": 39116.0,
        "filter": "r",
        "mag": 17.3 + number / 10,
        "mag_error": 0.05,
        "galactic_latitude": 39.3,
        "looked_up": "nearby_galaxies",
        "tier": "silver",
        "score": 1.5,
        "factors": ["inside_silver_level", "new"],
        "expires": "2017-08-31T12:41:04.000Z",
        "credible_level": 0.42,
    }
    return plain | said | changed


def read_table(folder: Path) -> list[dict[str, Any]]:
    """All statements of a table, in the order in which they were made; none when there is none."""
    try:
        rows = DeltaTable(str(folder)).to_pyarrow_table().to_pylist()
    except TableNotFoundError:
        return []
    return sorted(rows, key=lambda row: (row["alert_datetime"], row["candidate_id"]))


def write_table(state: Path, statements: Iterable[dict[str, Any]]) -> None:
    """The table of statements in a state folder."""
    rows = pa.Table.from_pylist(list(statements), schema=arrow_schema(CANDIDATE_FIELDS))
    write_deltalake(str(state / "candidates"), rows, mode="append")
