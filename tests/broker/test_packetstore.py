"""Whole packets: stored once, found by address, dropped oldest first, never filling the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from broker.diskguard import Limits
from broker.packetfiles import Packet, PacketFiles
from broker.packetstore import PacketStore
from crossmatch.errors import ServiceError

SIZE = 40_000


def packet(offset: int, night: str = "2026-01-01", *, topic: str = "alerts", partition: int = 0):
    data = np.random.default_rng(offset).bytes(SIZE)
    return Packet((topic, partition, offset), "ztf", f"ZTF{offset}", offset, night, data)


def some(begin: int, end: int, night: str = "2026-01-01") -> list[Packet]:
    return [packet(n, night) for n in range(begin, end)]


def by_address(packets: Sequence[Packet]) -> dict[tuple[str, int, int], bytes]:
    return {p.address: p.data for p in packets}


def data_files(path: Path) -> list[Path]:
    return sorted(path.glob("night=*/*.parquet"))


@dataclass
class Disk:
    """A disk of ``total`` bytes on which others hold ``others``, beside what lies in ``path``."""

    path: Path
    total: int
    others: int = 0

    @property
    def free(self) -> int:
        return self.total - self.others - sum(f.stat().st_size for f in data_files(self.path))

    def __call__(self, _path: Path) -> Disk:
        return self


def roomy(path: Path) -> PacketStore:
    return PacketStore(path, Limits(None, 0.0))


def test_packets_come_back_as_they_were_by_address_and_by_digest(tmp_path):
    rows = [*some(0, 5), packet(3, "2026-01-02", partition=1), packet(3, topic="other")]
    store = roomy(tmp_path)
    assert store.put(rows, 1).stored == 7

    assert store.get([row.address for row in rows]) == by_address(rows)
    assert store.by_sha256(hashlib.sha256(rows[4].data).hexdigest()) == rows[4].data
    assert store.by_sha256("0" * 64) is None


def test_more_packets_than_a_row_group_holds(tmp_path):
    rows = [p._replace(data=p.data[:50] + str(p.address).encode()) for p in some(0, 300)]
    roomy(tmp_path).put(rows, 1)
    wanted = [rows[n].address for n in (0, 63, 64, 65, 200, 299)]
    assert roomy(tmp_path).get(wanted) == {a: by_address(rows)[a] for a in wanted}


def test_an_unknown_address_is_left_out(tmp_path):
    store = roomy(tmp_path)
    assert store.get([("alerts", 0, 1)]) == {}
    store.put([packet(0), packet(2)], 1)
    unknown = [("alerts", 0, 1), ("alerts", 1, 0), ("other", 0, 0), ("alerts", 0, 9)]
    assert store.get([*unknown, ("alerts", 0, 2)]).keys() == {("alerts", 0, 2)}


def test_a_step_done_again_adds_nothing(tmp_path):
    roomy(tmp_path).put(some(0, 3), 7)
    store = roomy(tmp_path)

    again = store.put([*some(0, 3), packet(3)], 7)

    assert (again.stored, again.known, again.refused) == (1, 3, 0)
    assert [n.packets for n in store.nights()] == [4]


def test_a_packet_that_a_part_has_twice_is_kept_once(tmp_path):
    kept = roomy(tmp_path).put([packet(0), packet(0)], 1)
    assert (kept.stored, kept.known) == (1, 1)


def test_the_nights_are_listed_with_their_size(tmp_path):
    store = roomy(tmp_path)
    store.put([packet(0, "2026-01-02"), packet(1, "2026-01-01"), packet(2, "2026-01-02")], 1)

    assert [(n.night, n.packets) for n in store.nights()] == [("2026-01-01", 1), ("2026-01-02", 2)]
    assert sum(n.bytes for n in store.nights()) == sum(
        f.stat().st_size for f in data_files(tmp_path)
    )


def test_a_night_is_read_with_each_packet_once_though_a_file_has_some_again(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 3), 1)
    store.put(some(3, 6), 2)
    first = data_files(tmp_path)[0]
    copy = first.with_name("raw-copy.parquet")
    copy.write_bytes(first.read_bytes())
    store.commit([("2026-01-01", f"night=2026-01-01/{copy.name}")], "test", 0)

    assert sorted(store.packets("2026-01-01")) == some(0, 6)
    assert store.get([("alerts", 0, 1)]) == {("alerts", 0, 1): packet(1).data}


def test_compaction_keeps_every_packet_and_frees_the_small_files(tmp_path):
    store = roomy(tmp_path)
    for n in range(4):
        store.put([packet(n)], n)
    assert store.compact("2026-01-01") == 4

    assert len(data_files(tmp_path)) == 1
    assert store.get([("alerts", 0, n) for n in range(4)]) == by_address(some(0, 4))


def test_the_oldest_night_goes_first_and_that_is_told(tmp_path):
    store = PacketStore(tmp_path, Limits(11 * SIZE, 0.0))
    store.put(some(0, 4, "2026-01-02"), 1)
    store.put(some(4, 8, "2026-01-01"), 2)

    kept = store.put(some(8, 12, "2026-01-03"), 3)

    assert kept.stored == 4
    assert [(n.kind, n.night, n.packets) for n in kept.news] == [("dropped", "2026-01-01", 4)]
    assert kept.news[0].text == "all 4 packets of the night 2026-01-01 (0 MB) made room"
    assert [n.night for n in store.nights()] == ["2026-01-02", "2026-01-03"]


def test_of_the_only_night_the_oldest_files_go(tmp_path):
    store = roomy(tmp_path)
    for n in range(3):
        store.put(some(2 * n, 2 * n + 2), n)
    files = sorted(data_files(tmp_path), key=lambda f: f.stat().st_mtime_ns)

    news = store.trim(5 * SIZE, 0.0)

    assert [(n.night, n.packets) for n in news] == [("2026-01-01", 2)]
    assert news[0].text.startswith("the oldest 2 packets")
    assert sorted(data_files(tmp_path)) == sorted(files[1:])
    assert store.get([("alerts", 0, n) for n in range(6)]) == by_address(some(2, 6))


def test_nothing_is_dropped_while_there_is_room(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 4), 1)
    assert store.trim(10 * SIZE, 0.0) == []
    assert [n.packets for n in store.nights()] == [4]


def test_dropped_bytes_leave_the_disk_and_the_table(tmp_path):
    store = roomy(tmp_path)
    store.put([packet(0), packet(1, "2026-01-02")], 1)
    store.trim(int(1.5 * SIZE), 0.0)

    assert [f.parent.name for f in data_files(tmp_path)] == ["night=2026-01-02"]
    assert not (tmp_path / "night=2026-01-01").exists()
    assert len(DeltaTable(str(tmp_path)).file_uris()) == 1
    # Nor does another process, which has read the log before, fail.
    assert store.get([("alerts", 0, 0), ("alerts", 0, 1)]).keys() == {("alerts", 0, 1)}


def test_packets_are_dropped_before_the_last_part_of_the_disk_is_taken(tmp_path):
    disk = Disk(tmp_path, total=20 * SIZE)
    store = PacketStore(tmp_path, Limits(None, 0.5), disk)
    told = [store.put(some(4 * n, 4 * n + 4, f"2026-01-0{n + 1}"), n).news for n in range(4)]

    assert disk.free >= 0.5 * disk.total
    assert [n.night for news in told for n in news] == ["2026-01-01", "2026-01-02"]


def test_when_the_disk_is_full_of_other_things_packets_are_refused_which_is_told_once(tmp_path):
    disk = Disk(tmp_path, total=100 * SIZE)
    store = PacketStore(tmp_path, Limits(None, 0.1), disk)
    disk.others = 95 * SIZE

    first, second = store.put(some(0, 2), 1), store.put(some(2, 3), 2)

    assert (first.stored, first.refused, second.refused) == (0, 2, 1)
    assert [n.kind for n in first.news] == ["refused"]
    assert "10% of it stay free" in first.news[0].text
    assert second.news == ()
    assert data_files(tmp_path) == []
    disk.others = 0
    assert store.put(some(0, 2), 3).stored == 2
    disk.others = 95 * SIZE
    assert [n.kind for n in store.put(some(4, 5), 4).news] == ["dropped", "refused"]


def test_what_is_larger_than_the_cap_drops_nothing_for_nothing(tmp_path):
    store = PacketStore(tmp_path, Limits(3 * SIZE, 0.0))
    store.put(some(0, 2), 1)
    kept = store.put(some(10, 16), 2)
    assert (kept.refused, [n.kind for n in kept.news]) == (6, ["refused"])
    assert [n.packets for n in store.nights()] == [2]


def test_a_reader_whose_files_are_dropped_meanwhile_is_told(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    store.put(some(2, 4), 2)
    reading = store.packets("2026-01-01")
    next(reading)
    next(reading)
    PacketStore(tmp_path).trim(0, 0.0)
    with pytest.raises(ServiceError, match="were dropped to make room while they were read"):
        next(reading)


def test_another_process_that_drops_packets_makes_them_missing_not_an_error(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    store.put(some(2, 4, "2026-01-02"), 2)
    assert len(store.get([("alerts", 0, 0), ("alerts", 0, 2)])) == 2
    PacketStore(tmp_path).trim(3 * SIZE, 0.0)
    assert store.get([("alerts", 0, 0), ("alerts", 0, 2)]).keys() == {("alerts", 0, 2)}


def test_packets_that_go_between_looking_and_reading_are_missing(tmp_path, monkeypatch):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    read = PacketFiles.packets_at

    def late(files, *args):
        PacketStore(tmp_path).trim(0, 0.0)
        return read(files, *args)

    monkeypatch.setattr(PacketFiles, "packets_at", late)
    assert store.get([("alerts", 0, 0)]) == {}


def test_a_file_that_somebody_deleted_counts_as_dropped(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    store.put(some(2, 4, "2026-01-02"), 2)
    data_files(tmp_path)[0].unlink()
    assert roomy(tmp_path).get([("alerts", 0, 0), ("alerts", 0, 2)]).keys() == {("alerts", 0, 2)}
    assert [n.night for n in roomy(tmp_path).nights()] == ["2026-01-02"]


def test_a_file_cut_short_is_named(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    (file,) = data_files(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ServiceError, match=rf"{file.name} is broken .* restore it from a copy"):
        roomy(tmp_path).get([("alerts", 0, 0)])


def test_a_changed_byte_is_noticed(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    (file,) = data_files(tmp_path)
    data = bytearray(file.read_bytes())
    # Random bytes do not shrink, so that they lie in the file as they are.
    place = data.index(packet(1).data[1000:1100])
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(ServiceError, match="is broken"):
        roomy(tmp_path).get([("alerts", 0, 1)])


def test_a_broken_file_does_not_keep_new_packets_out(tmp_path):
    roomy(tmp_path).put(some(0, 2), 1)
    (file,) = data_files(tmp_path)
    file.write_bytes(b"nothing")
    kept = roomy(tmp_path).put(some(1, 3), 2)
    assert (kept.stored, [n.kind for n in kept.news]) == (2, ["unreadable"])
    assert roomy(tmp_path).get([("alerts", 0, 2)]) == {("alerts", 0, 2): packet(2).data}


def test_files_of_a_transaction_are_known_by_its_number(tmp_path):
    store = roomy(tmp_path)
    store.put(some(0, 2), 1)
    (file,) = data_files(tmp_path)
    other = file.with_name("raw-1.parquet")
    other.write_bytes(file.read_bytes())

    assert store.committed("query") == -1
    assert store.commit([("2026-01-01", f"night=2026-01-01/{other.name}")], "query", 5).stored == 2
    assert roomy(tmp_path).committed("query") == 5
