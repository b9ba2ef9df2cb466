"""Packets that the bench makes when there are no real ones."""

from __future__ import annotations

import pytest

from broker.packets import decode_packet
from crossmatch.errors import ConfigError
from gateway.bench.packets import made, real


def test_packets_are_those_of_ztf_in_size_and_layout():
    packets = made(3, seed=1)
    assert all(70_000 < len(packet) < 95_000 for packet in packets)
    records = [record for packet in packets for record in decode_packet(packet, "ztf", {})]
    assert [record["objectId"] for record in records] == [f"ZTF26{n:07d}" for n in range(3)]
    assert packets == made(3, seed=1)


def test_a_folder_without_packets_is_refused(tmp_path):
    (tmp_path / "small.avro").write_bytes(b"Obj")
    with pytest.raises(ConfigError, match="no files"):
        real(tmp_path)


@pytest.mark.realdata
def test_real_packets_are_taken_from_folders_below(shared_data):
    packets = real(shared_data / "alerts" / "ztf_avro")
    assert len(packets) > 50
    assert all(packet.startswith(b"Obj\x01") for packet in packets)
