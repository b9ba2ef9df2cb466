"""Messages of ``mm.verdicts``: what is sent comes back, what is none is refused."""

from __future__ import annotations

import io
from contextlib import suppress

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.codec import encode_dead_letter, from_iso
from broker.verdictlog import MAX_BYTES, decode_verdict, encode_verdict
from crossmatch.errors import Rejected
from crossmatch.verdicts import MAX_LENGTHS, Verdict

STATED = "2026-01-31T00:00:00.000000Z"


def verdict(**changed) -> Verdict:
    plain = {
        "verdict_id": "v-1", "counterpart_id": "MM-ZTF-ZTF17aaa", "classification": "kilonova",
        "effect": "confirm", "stated": STATED, "author": "Zoë", "note": "reddens – fast",
        "reference": "GCN 21529", "event_id": "GW170817",
    }  # fmt: skip
    return Verdict(**(plain | changed))


def container(record: dict, **types: object) -> bytes:
    """An Avro container with a schema of its own."""
    fields = [{"name": n, "type": types.get(n, "string")} for n in record]
    buffer = io.BytesIO()
    schema = {"type": "record", "name": "Any", "fields": fields}
    fastavro.writer(buffer, fastavro.parse_schema(schema), [record])
    return buffer.getvalue()


def plain() -> dict:
    return {name: getattr(verdict(), name) for name in Verdict.__slots__}


def test_a_verdict_comes_back_as_it_was():
    assert decode_verdict(encode_verdict(verdict())) == verdict()


def test_the_same_verdict_has_the_same_bytes():
    assert encode_verdict(verdict()) == encode_verdict(verdict())


def test_any_avro_reader_understands_it():
    (record,) = fastavro.reader(io.BytesIO(encode_verdict(verdict())))
    assert record == plain()


def test_the_longest_verdict_is_read_again():
    longest = verdict(
        **{
            name: "\U00010348" * most
            for name, most in MAX_LENGTHS.items()
            if name not in ("classification", "stated")
        }
    )
    assert decode_verdict(encode_verdict(longest)) == longest


def test_a_field_that_a_later_version_adds_does_no_harm():
    assert decode_verdict(container(plain() | {"priority": "high"})) == verdict()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_avro"),
        (b"{}", "not_avro"),
        (b"Obj\x01" + b"\x00" * 40, "not_avro"),
        (b"\x00" * (MAX_BYTES + 1), "verdict_too_long"),
        (container({"verdict_id": "v"}), "bad_verdict"),
        (container(plain() | {"note": 1}, note="int"), "bad_verdict"),
        (container(plain() | {"note": None}, note=["null", "string"]), "bad_verdict"),
        (container(plain() | {"effect": "destroy"}), "unknown_effect"),
        (container(plain() | {"note": "n" * 2001}), "verdict_too_long"),
        (container(plain() | {"stated": "now"}), "unknown_time"),
        (
            encode_dead_letter(
                reason="r", detail="", source="s", raw=b"", received=from_iso(STATED)
            ),
            "bad_verdict",
        ),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_reason(data, reason):
    with pytest.raises(Rejected) as caught:
        decode_verdict(data)
    assert caught.value.reason == reason


def test_what_would_not_be_read_is_not_sent():
    with pytest.raises(Rejected, match="verdict_too_long"):
        encode_verdict(verdict(note="n" * 2001))


@given(st.data())
def test_broken_bytes_never_raise_anything_else(data):
    good = encode_verdict(verdict())
    at = data.draw(st.integers(0, len(good) - 1))
    broken = (
        good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(0, 4)) :]
    )
    with suppress(Rejected):
        decode_verdict(broken)
