"""Records of the topics: what goes in comes out, and strangers can read it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pytest

from broker import codec
from broker.engine import Batch
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import Rejected

from .conftest import T0, alert, alerts, notice, record

SCHEMAS = ("candidate", "region", "deadletter", "verdict")


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_the_schema_in_a_message_is_the_same_text_in_every_process(seed: str):
    """A message that is made once more elsewhere has the same bytes."""
    code = (
        "import fastavro, io, sys; from broker.codec import _schema, _SYNC\n"
        "for name in sys.argv[1:]:\n"
        "    buffer = io.BytesIO()\n"
        "    fastavro.writer(buffer, _schema(name), [], sync_marker=_SYNC)\n"
        "    print(buffer.getvalue().hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SCHEMAS],
        env=os.environ | {"PYTHONHASHSEED": seed},
        cwd=Path(codec.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [_container(name).hex() for name in SCHEMAS]


def _container(name: str) -> bytes:
    """Of no record: its schema alone."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, codec._schema(name), [], sync_marker=codec._SYNC)
    return buffer.getvalue()


def test_a_candidate_is_read_by_fastavro_alone(new_engine):
    engine = new_engine()
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))
    (statement,) = engine.step(Batch(0, alerts([alert(1, 150.0, 2.0)]), [region])).statements

    (read,) = fastavro.reader(io.BytesIO(codec.encode_candidate(statement)))

    assert read == statement | {f.name: statement.get(f.name) for f in CANDIDATE_FIELDS}
    assert list(read) == [f.name for f in CANDIDATE_FIELDS]


def test_a_dead_letter_keeps_reason_and_bytes():
    letter = codec.encode_dead_letter(
        reason="xml_broken",
        detail="line 1",
        source="vtp",
        raw=b"\x00<oops",
        received=datetime(2024, 1, 1, tzinfo=UTC),
    )
    read = codec.decode(letter)
    assert (read["reason"], read["raw"]) == ("xml_broken", b"\x00<oops")
    assert read["received"] == "2024-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("data", [b"", b"Obj", b"not avro", b"Obj\x01" + b"\xff" * 40])
def test_what_is_no_record_is_said_to_be_none(data):
    with pytest.raises(Rejected) as caught:
        codec.decode(data)
    assert caught.value.reason == "not_avro"


def test_a_dead_letter_that_says_nothing_of_streams_is_for_everybody():
    letter = codec.decode(
        codec.encode_dead_letter(reason="r", detail="", source="s", raw=b"", received=T0)
    )
    assert letter["streams"] == []


def test_a_dead_letter_says_who_may_see_it():
    letter = codec.encode_dead_letter(
        reason="r", detail="", source="s", raw=b"", received=T0, streams=("ourteam",)
    )
    assert codec.decode(letter)["streams"] == ["ourteam"]


def test_containers_are_those_that_fastavro_writes():
    record = {
        f.name: {"string": "text", "double": 0.5, "int": 1, "boolean": True, "strings": ["a"]}[
            f.kind
        ]
        for f in CANDIDATE_FIELDS
    }
    buffer = io.BytesIO()
    fastavro.writer(buffer, codec._schema("candidate"), [record], sync_marker=codec._SYNC)

    assert codec.encode_candidate(record) == buffer.getvalue()
    (back,) = fastavro.reader(io.BytesIO(codec.encode_candidate(record)))
    assert back == record
