"""What the JVM is to read is learned from packets; Spark itself is not needed for that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from broker.flatavro import varint
from broker.lsstschemas import LsstSchemas
from broker.sources import Sources
from broker.writers import MAX_LEARNED, Writers

ALERT = {
    "type": "record",
    "name": "lsst.v9_0.alert",
    "fields": [
        {
            "name": "diaSource",
            "type": {
                "type": "record",
                "name": "lsst.v9_0.diaSource",
                "fields": [{"name": "ra", "type": "double"}],
            },
        }
    ],
}
TEXT = json.dumps(ALERT)
STRUCT = pa.struct([("ra", pa.float64()), ("route", pa.string()), ("schema_id", pa.int64())])


def batch(unread: Sequence[int | None], read: int = 1) -> pa.Table:
    rows = [{"ra": 1.0, "route": "jvm", "schema_id": None}] * read
    rows += [{"ra": None, "route": "python", "schema_id": number} for number in unread]
    n = len(rows)
    return pa.table(
        {
            "topic": ["alerts.lsst"] * n,
            "partition": pa.array([0] * n, pa.int32()),
            "offset": pa.array(range(n), pa.int64()),
            "lsst": pa.array(rows, STRUCT),
        }
    )


def writers(schemas: LsstSchemas | dict[int, str]) -> Writers:
    sources = Sources(
        bootstrap="", properties={}, ztf=(), lsst=("alerts.lsst",), lsst_schemas=schemas
    )
    return Writers(sources, lambda addresses: dict.fromkeys(addresses, b"no container"))


def container(text: str) -> bytes:
    """Header of a container; no record."""
    return b"Obj\x01\x02\x16avro.schema" + varint(len(text)) + text.encode() + b"\x00" + bytes(16)


def put(folder: Path, number: int) -> None:
    name = f"v{number // 100}_{number % 100}"
    (folder / name).mkdir()
    (folder / name / f"lsst.{name}.alert.avsc").write_text(TEXT)


def test_a_number_that_is_found_is_read_from_then_on(tmp_path: Path) -> None:
    put(tmp_path, 900)
    made = writers(LsstSchemas(str(tmp_path)))
    assert made.learn(batch([1200] * 3)) == 0
    put(tmp_path, 1200)
    assert made.learn(batch([1200] * 3)) == 3
    assert made._numbers == (900, 1200)
    assert made.learn(batch([])) == 0


def test_a_number_of_another_schema_is_left_to_python() -> None:
    made = writers({900: TEXT, 901: '"string"'})
    assert made._numbers == (900,)
    assert made.learn(batch([901])) == 0
    assert made._numbers == (900,)


def test_the_latest_numbers_are_read_and_an_older_one_again_when_it_comes() -> None:
    numbers = list(range(100, 100 + 3 * MAX_LEARNED))
    made = writers(dict.fromkeys(numbers, TEXT))
    assert made._numbers == tuple(numbers[-MAX_LEARNED:])
    assert made.learn(batch([100, 100])) == 2
    assert made._numbers == (*numbers[1 - MAX_LEARNED :], 100)


def test_the_frequent_numbers_are_looked_for_first(tmp_path: Path) -> None:
    put(tmp_path, 900)
    made = writers(LsstSchemas(str(tmp_path)))
    put(tmp_path, 5000)
    damaged = list(range(1000, 2000))
    assert made.learn(batch([*damaged, 5000, 5000])) == 2


def test_a_header_is_learned_when_a_second_packet_has_it() -> None:
    packets = [container(TEXT), container(TEXT), container(TEXT.replace('"ra"', '"rb"'))]
    sources = Sources(bootstrap="", properties={}, ztf=(), lsst=("alerts.lsst",))
    made = Writers(sources, lambda addresses: {a: packets.pop(0) for a in addresses})
    assert made.learn(batch([None])) == 0
    assert made.learn(batch([None])) == 1
    assert made.learn(batch([None])) == 0
    assert made.texts == {"ztf": (), "lsst": (TEXT,)}


def test_a_batch_without_the_survey_teaches_nothing() -> None:
    assert writers({}).learn(batch([]).drop_columns(["lsst"])) == 0
