"""Packets that the bench makes when there are no real ones."""

from __future__ import annotations

import pytest

from broker.packets import decode_packet
from crossmatch.errors import ConfigError
from gateway.bench import packets
from gateway.bench.measure import Row, row_of
from gateway.bench.packets import made, real


def test_packets_are_those_of_ztf_in_size_and_layout():
    raws = made(3, seed=1)
    assert all(70_000 < len(packet) < 95_000 for packet in raws)
    records = [record for packet in raws for record in decode_packet(packet, "ztf", {})]
    assert [record["objectId"] for record in records] == [f"ZTF26{n:07d}" for n in range(3)]
    assert raws == made(3, seed=1)


def test_several_runs_are_told_by_their_median_and_spread():
    def row(seconds: float) -> Row:
        facts = {"alerts_per_s": round(100 / seconds)}
        return row_of("packets", "matching", "alone", 100, [seconds], seconds, equal=None,
                      compared="", facts=facts)  # fmt: skip

    alone = packets._of_runs([row(2.0), row(4.0), row(1.0)])
    both = packets._beside(alone, packets._of_runs([row(4.0), row(3.0), row(8.0)]))

    assert (alone.seconds, alone.seconds_min, alone.seconds_max, alone.runs) == (2.0, 1.0, 4.0, 3)
    assert (alone.ratio_to_ours, alone.facts["alerts_per_s"]) == (1.0, 50)
    assert (both.subject, both.seconds, both.ratio_to_ours) == ("beside the copying", 4.0, 2.0)
    assert both.facts == {"alerts_per_s": 25, "rate_kept": 0.5}


def test_a_folder_without_packets_is_refused(tmp_path):
    (tmp_path / "small.avro").write_bytes(b"Obj")
    with pytest.raises(ConfigError, match="no files"):
        real(tmp_path)


@pytest.mark.realdata
def test_real_packets_are_taken_from_folders_below(shared_data):
    raws = real(shared_data / "alerts" / "ztf_avro")
    assert len(raws) > 50
    assert all(packet.startswith(b"Obj\x01") for packet in raws)
