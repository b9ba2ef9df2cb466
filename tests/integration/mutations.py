"""Alert packets and what may happen to them: cut, flipped bits, absurd lengths, wrong headers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random

import numpy as np
import pyarrow as pa

from broker.flatavro import varint
from gateway.bench import lsstpackets
from gateway.bench.alertpackets import Alerts, ztf
from gateway.night import packets as layout
from tests.endtoend import packets

LSST_SCHEMAS = {lsstpackets.SCHEMA_ID: lsstpackets.schema_json()}
FIRST_ID = 10**17
# Far apart, so that a flipped bit seldom makes one number another.
ID_STEP = 1 << 24
# Avro's numbers: 2**31 - 1, 2**62, -1, -2**63, and one without an end.
_ABSURD = (
    b"\xfe\xff\xff\xff\x0f",
    b"\x80" * 8 + b"\x80\x01",
    b"\x01",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 12,
)


def good(kind: str, count: int, first: int = 0) -> list[bytes]:
    """Packets of one of `KINDS` inside the region of the tests, a day after its trigger."""
    n = np.arange(first, first + count)
    ra, dec = packets.GBM_PLACE
    alerts = Alerts(
        FIRST_ID + n * ID_STEP,
        n,
        np.full(count, packets.TRIGGER_JD + 1) + n / 1e6,
        np.full(count, ra),
        np.full(count, dec),
        np.full(count, 18.5),
    )
    if kind == "lsst":
        return lsstpackets.lsst(alerts, 300)
    plain = ztf(alerts, 300)
    return plain if kind == "null" else [_compressed(packet, kind) for packet in plain]


KINDS = ("null", "deflate", "snappy", "lsst")


def _compressed(packet: bytes, codec: str) -> bytes:
    """A container without compression as one with it."""
    start = len(layout.container_header())
    header, block = packet[:start], packet[start : -len(layout.SYNC)]
    count, rest = block[:1], block[1:]
    while rest[0] & 0x80:
        rest = rest[1:]
    body = rest[1:]
    if codec == "deflate":
        squeeze = zlib.compressobj(wbits=-15)
        small = squeeze.compress(body) + squeeze.flush()
    else:
        crc32 = zlib.crc32(body).to_bytes(4, "big")
        small = pa.Codec("snappy").compress(body, asbytes=True) + crc32
    named = varint(len(codec)) + codec.encode()
    header = header.replace(b"avro.codec\x08null", b"avro.codec" + named)
    return header + count + varint(len(small)) + small + layout.SYNC


def _cut(random: Random, packet: bytes, _other: bytes) -> bytes:
    return packet[: random.randrange(len(packet))]


def _cut_at_the_end(random: Random, packet: bytes, _other: bytes) -> bytes:
    return packet[: -random.randint(1, 40)]


def _flipped(random: Random, packet: bytes, _other: bytes) -> bytes:
    changed = bytearray(packet)
    for _ in range(random.choice((1, 1, 2, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flipped_body(random: Random, packet: bytes, _other: bytes) -> bytes:
    """Bits flipped behind the header, where the fields are."""
    at = _body(packet) + random.randrange(400)
    return packet[:at] + bytes([packet[at] ^ 1 << random.randrange(8)]) + packet[at + 1 :]


def _absurd(random: Random, packet: bytes, _other: bytes) -> bytes:
    start = random.choice((4, _body(packet)))
    at = start + random.randrange(300)
    length = random.choice(_ABSURD)
    end = at + (len(length) if random.random() < 0.5 else 0)
    return packet[:at] + length + packet[end:]


def _swapped_header(random: Random, packet: bytes, other: bytes) -> bytes:
    return other[: _body(other)] + packet[_body(packet) :]


def _other_header(random: Random, packet: bytes, _other: bytes) -> bytes:
    """Another number of a schema, another codec, or no header at all."""
    if packet[0] == 0:
        number = random.choice((random.randrange(1 << 32), 0, 704, 1001))
        return b"\x00" + number.to_bytes(4, "big") + packet[5:]
    for codec in (b"\x08null", b"\x0edeflate", b"\x0csnappy"):
        if b"avro.codec" + codec in packet:
            new = random.choice((b"\x08null", b"\x0edeflate", b"\x0csnappy", b"\x08zero", b"\x01"))
            return packet.replace(b"avro.codec" + codec, b"avro.codec" + new)
    return packet[_body(packet) :]


def _inserted(random: Random, packet: bytes, other: bytes) -> bytes:
    at = random.randrange(len(packet))
    return packet[:at] + other[: random.randint(1, 50)] + packet[at:]


MUTATIONS: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    _cut,
    _cut_at_the_end,
    _flipped,
    _flipped_body,
    _absurd,
    _swapped_header,
    _other_header,
    _inserted,
)


def _body(packet: bytes) -> int:
    """Where the record, or its compressed block, begins; roughly, for a container."""
    if packet[0] == 0:
        return 5
    return packet.index(layout.SYNC) + len(layout.SYNC) + 3


def mutated(count: int, seed: int) -> list[tuple[str, str, bytes]]:
    """(kind, mutation, packet), every kind and every mutation as often as the others."""
    random = Random(seed)
    each = -(-count // len(KINDS))
    by_kind = {kind: good(kind, each, i * each) for i, kind in enumerate(KINDS)}
    found = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        mutation = MUTATIONS[number // len(KINDS) % len(MUTATIONS)]
        packet = by_kind[kind][number // len(KINDS)]
        other = by_kind[random.choice(KINDS)][number // len(KINDS)]
        found.append((kind, mutation.__name__.strip("_"), mutation(random, packet, other)))
    return found
