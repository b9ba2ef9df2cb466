"""Packets that the bench makes when there are no real ones."""

from __future__ import annotations

import pytest

from broker.packetfiles import Packet
from broker.packets import decode_packet
from broker.packetstore import PacketStore
from crossmatch.errors import ConfigError
from gateway.bench import packets
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.packets import made, real


def test_packets_are_those_of_ztf_in_size_and_layout():
    raws = made(3, seed=1)
    assert all(81_500 <= len(packet) < 82_500 for packet in raws)
    records = [record for packet in raws for record in decode_packet(packet, "ztf", {})]
    assert [record["objectId"] for record in records] == [f"ZTF26{n:07d}" for n in range(3)]
    assert raws == made(3, seed=1)


def test_several_runs_are_told_by_their_median_and_spread():
    def row(seconds: float) -> Row:
        facts = {"alerts_per_s": round(100 / seconds)}
        return row_of("packets", "matching", OURS, 100, [seconds], seconds, equal=None,
                      compared="", facts=facts)  # fmt: skip

    alone = packets._of_runs([row(2.0), row(4.0), row(1.0)])
    both = packets._beside(alone, packets._of_runs([row(4.0), row(3.0), row(8.0)]))

    assert (alone.seconds, alone.seconds_min, alone.seconds_max, alone.runs) == (2.0, 1.0, 4.0, 3)
    assert (alone.ratio_to_ours, alone.facts["alerts_per_s"]) == (1.0, 50)
    assert both.subject == f"{OURS}, beside the copying"
    assert (both.seconds, both.ratio_to_ours) == (4.0, 2.0)
    assert both.facts == {"alerts_per_s": 25, "rate_kept": 0.5}


def test_runs_of_which_one_differs_are_not_equal():
    def row(equal: bool) -> Row:
        return row_of("packets", "copying", OURS, 1, [1.0], 1.0, equal=equal, compared="")

    assert packets._of_runs([row(True), row(True)]).equal is True
    assert packets._of_runs([row(True), row(False)]).equal is False


def test_what_was_copied_is_counted_by_reading_it(tmp_path):
    store = PacketStore(tmp_path)
    assert packets.in_store(store) == (0, 0)
    sizes = {"2026-01-01": (100, 200), "2026-01-02": (50,)}
    rows = [
        Packet(("alerts", 0, offset), "ztf", None, offset, night, bytes(size))
        for offset, (night, size) in enumerate((n, s) for n, some in sizes.items() for s in some)
    ]
    store.put(rows, 0)
    assert packets.in_store(store) == (3, 350)


def test_a_folder_without_packets_is_refused(tmp_path):
    (tmp_path / "small.avro").write_bytes(b"Obj")
    with pytest.raises(ConfigError, match="no files"):
        real(tmp_path)


@pytest.mark.realdata
def test_real_packets_are_taken_from_folders_below(shared_data):
    raws = real(shared_data / "alerts" / "ztf_avro")
    assert len(raws) > 50
    assert all(packet.startswith(b"Obj\x01") for packet in raws)
