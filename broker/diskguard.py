"""How much room whole packets may take, and what is told when they have to go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


class Usage(Protocol):
    """What is known of a disk, in bytes."""

    @property
    def total(self) -> int:
        """Size of the disk."""

    @property
    def free(self) -> int:
        """What may still be written."""


DiskUsage = Callable[[Path], Usage]


def disk_usage(path: Path) -> Usage:
    """Usage of the disk on which ``path`` will lie: of its nearest folder that exists."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for stored packets.

    Parameters
    ----------
    max_bytes : int or None
        More than this is not kept; None: only the disk limits.
    keep_free : float
        In [0, 1): the part of the disk that packets never fill.
    """

    max_bytes: int | None = None
    keep_free: float = 0.1

    def excess(self, stored: int, coming: int, usage: Usage) -> int:
        """Bytes that must leave before ``coming`` more are written beside ``stored``."""
        over_cap = 0 if self.max_bytes is None else stored + coming - self.max_bytes
        over_disk = int(self.keep_free * usage.total) + coming - usage.free
        return max(over_cap, over_disk, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketNews:
    """Something about stored packets that a person should hear of.

    Parameters
    ----------
    kind : str
        ``dropped`` (made room), ``refused`` (no room, not written) or ``unreadable`` (a
        broken file).
    packets, bytes : int
        How many, and their bytes (on disk, if they were stored).
    night : str
        Night of the packets; empty where they are of several.
    text : str
        A sentence.
    """

    kind: Literal["dropped", "refused", "unreadable"]
    packets: int
    bytes: int
    text: str
    night: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file of packets: what decides when it goes."""

    path: str
    night: str
    packets: int
    bytes: int
    written_ms: int


def oldest(files: Sequence[Stored], need: int) -> list[Stored]:
    """Files that go so that ``need`` bytes leave: the oldest nights whole, the last one by file.

    Examples
    --------
    >>> a, b = Stored("a", "2026-01-01", 1, 10, 5), Stored("b", "2026-01-01", 1, 10, 6)
    >>> c, d = Stored("c", "2026-01-02", 1, 10, 8), Stored("d", "2026-01-02", 1, 10, 7)
    >>> [f.path for f in oldest([a, b, c, d], 5)]
    ['a', 'b']
    >>> [f.path for f in oldest([c, d], 5)]
    ['d']
    """
    last = max((f.night for f in files), default="")
    going: list[Stored] = []
    freed = 0
    for file in sorted(files, key=lambda f: (f.night, f.written_ms, f.path)):
        begun = bool(going) and going[-1].night == file.night != last
        if freed >= need and not begun:
            break
        going.append(file)
        freed += file.bytes
    return going


def dropped(going: Sequence[Stored], files: Sequence[Stored]) -> list[PacketNews]:
    """What is told of the files ``going`` of all ``files``: one line a night."""
    news = []
    for night in sorted({file.night for file in going}):
        mine = [file for file in going if file.night == night]
        packets, size = sum(f.packets for f in mine), sum(f.bytes for f in mine)
        whole = len(mine) == sum(f.night == night for f in files)
        what = "all" if whole else "the oldest"
        text = f"{what} {packets} packets of the night {night} ({gigabytes(size)}) made room"
        news.append(PacketNews(kind="dropped", packets=packets, bytes=size, night=night, text=text))
    return news


def refusal(packets: int, coming: int, path: Path, limits: Limits, usage: Usage) -> PacketNews:
    """What is told when ``coming`` bytes more have no room below ``path``."""
    if limits.max_bytes is not None and coming > limits.max_bytes:
        why = f"{gigabytes(coming)} exceed [archive] packets_gigabytes by themselves"
    else:
        why = (
            f"the disk of {path} has {gigabytes(usage.free)} free of {gigabytes(usage.total)},"
            f" and {limits.keep_free:.0%} of it stay free; make room, or lower [archive] keep_free"
        )
    return PacketNews(
        kind="refused", packets=packets, bytes=coming, text=f"packets are not kept: {why}"
    )


def gigabytes(size: int) -> str:
    """A size for people.

    Examples
    --------
    >>> gigabytes(1_230_000_000), gigabytes(45_600_000)
    ('1.2 GB', '46 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
