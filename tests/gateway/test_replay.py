from __future__ import annotations

import io
import tarfile
from pathlib import Path

import fastavro
import pytest

from crossmatch.errors import ConfigError
from gateway.offline.replay import Packet, Summary, packet_time, packets, parse_rate, replay


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def voevent(date: str) -> bytes:
    return f"<voe:VOEvent><Who><Date>{date}</Date></Who></voe:VOEvent>".encode()


def packet(name: str, raw: bytes) -> Packet:
    return Packet(name, lambda: raw)


def sent(source: list[Packet], **options: float | bool) -> tuple[list[tuple[float, str]], Summary]:
    clock = Clock()
    out: list[tuple[float, str]] = []
    summary = replay(
        source,
        "t",
        lambda name, raw: out.append((clock() - 100, name)),
        clock=clock,
        sleep=clock.sleep,
        **options,  # type: ignore[arg-type]
    )
    return out, summary


def test_folders_are_read_in_order_of_names_without_hidden_and_foreign_files(
    tmp_path: Path,
) -> None:
    for name in ("b.xml", "a/c.json", ".hidden.xml", "README.md", "a/.x/d.xml", "z.avro"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    found = [p.read().decode() for p in packets([tmp_path])]
    assert found == ["a/c.json", "b.xml", "z.avro"]


def test_tarballs_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "night.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("2.avro", "1.avro", "notes.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    assert [p.read() for p in packets([path])] == [b"2.avro", b"1.avro"]
    assert [p.name for p in packets([tmp_path])] == [f"{path}:2.avro", f"{path}:1.avro"]


def test_named_file_is_a_packet_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "alert.confluent"
    path.write_bytes(b"\0\0\0\3\4")
    assert [p.read() for p in packets([path])] == [b"\0\0\0\3\4"]


@pytest.mark.parametrize("name", ["missing.xml", "empty", "table.parquet", "broken.tar"])
def test_what_cannot_be_replayed_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.tar").write_bytes(b"no tarball")
    with pytest.raises(ConfigError, match=name):
        list(packets([tmp_path / name]))


def test_shift_sends_at_the_rate() -> None:
    source = [packet(str(i), b"x") for i in range(4)]
    out, summary = sent(source, rate_per_s=2.0)
    assert out == [(0.0, "0"), (0.5, "1"), (1.0, "2"), (1.5, "3")]
    assert (summary.messages, summary.bytes) == (4, 4)


def test_shift_without_a_rate_does_not_wait() -> None:
    out, _ = sent([packet(str(i), voevent("2017-08-17T12:00:00")) for i in range(3)])
    assert [t for t, _ in out] == [0.0, 0.0, 0.0]


def test_keep_sorts_by_time_and_divides_intervals_by_the_speed() -> None:
    source = [
        packet("later", voevent("2017-08-17T13:00:00")),
        packet("first", voevent("2017-08-17T12:00:00")),
        packet("untimed", b'{"no": "time"}'),
        packet("last", voevent("2017-08-17T14:00:00Z")),
    ]
    out, summary = sent(source, keep=True, speed=3600.0)
    assert out == [(0.0, "first"), (0.0, "untimed"), (1.0, "later"), (2.0, "last")]
    assert summary.without_time == 1


def test_times_are_read_from_every_kind_of_packet() -> None:
    schema = {
        "type": "record",
        "name": "alert",
        "fields": [
            {
                "name": "candidate",
                "type": {
                    "type": "record",
                    "name": "candidate",
                    "fields": [{"name": "jd", "type": "double"}],
                },
            }
        ],
    }
    avro = io.BytesIO()
    fastavro.writer(avro, schema, [{"candidate": {"jd": 2440588.5}}])
    assert packet_time(avro.getvalue()) == 86400.0
    assert packet_time(voevent("1970-01-02T00:00:00")) == 86400.0
    assert packet_time(b'{"time_created": "1970-01-02T00:00:00Z"}') == 86400.0
    for junk in (b"", b"{", b"<x/>", b"Obj\x01junk", b"[1]", voevent("yesterday")):
        assert packet_time(junk) is None


@pytest.mark.parametrize(
    ("text", "rate"), [("100", 100), ("5/s", 5), ("60/min", 1), ("36/h", 0.01)]
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "fast", "0", "-1/s", "1/day", "nan", "inf"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rate(text)
