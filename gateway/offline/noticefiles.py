"""Notices from files, folders, tarballs and tables, numbered as versions of their events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from catalogs.events import is_event_table, read_events
from crossmatch.errors import ConfigError, Rejected
from crossmatch.model import MultiOrderMap, Notice
from gateway.intake import EventBook
from gateway.offline import replay
from gateway.understand import SkymapFile, Understood, placed, without_place

_TABLE_SUFFIXES = (".csv", ".fits", ".fit", ".vot", ".votable", ".parquet")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True)
class FiledNotice:
    """A notice and the file (``archive:member`` in a tarball) that it was read from."""

    file: str
    notice: Notice


@dataclass(frozen=True, slots=True)
class NumberedNotice:
    """A localised notice as a version of its event.

    ``version`` counts from 1 in the order of issue; ``retracted`` when the mission took
    it back; ``in_force`` when it is what the mission says of the event at last.
    """

    file: str
    notice: Notice
    version: int
    retracted: bool
    in_force: bool


@dataclass(frozen=True, slots=True)
class BadNotice:
    """A file, or a row of a table, that is no notice, and why."""

    file: str
    reason: str
    detail: str


@dataclass(slots=True)
class NoticeFiles:
    """What was read: notices, what was left aside by its reason, what could not be read."""

    notices: list[FiledNotice] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    rejected: list[BadNotice] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Messages and table rows that were read, whatever became of them."""
        return len(self.notices) + self.ignored.total() + len(self.rejected)


def read_notices(
    paths: Iterable[Path],
    read: Callable[[bytes], Understood],
    *,
    find_map: Callable[[Notice], SkymapFile | None] = lambda notice: None,
    table_columns: Mapping[str, Any] | None = None,
    advance: Callable[[str], None] = lambda _: None,
) -> NoticeFiles:
    """Notices in files, folders and tarballs of VOEvents and JSON, and in tables of events.

    Parameters
    ----------
    read : callable
        :func:`gateway.understand.understand` with its registry, chains and maps.
    find_map : callable
        Maps of the events in tables.
    table_columns : mapping, optional
        Columns of tables, when they are not among the shipped mappings.
    advance : callable
        Called with the name of each file after it was read.

    Raises
    ------
    ConfigError
        If a path does not exist.
    """
    files = NoticeFiles()
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        for file in _files(path):
            try:
                if _is_table(file):
                    _read_table(file, table_columns, find_map, files)
                else:
                    for packet in replay.packets([file]):
                        _take(packet.name, read(packet.read()), files)
            except (OSError, ConfigError) as error:
                files.rejected.append(BadNotice(str(file), "unreadable", str(error)))
            except Rejected as error:
                files.rejected.append(BadNotice(str(file), error.reason, error.detail))
            advance(str(file))
    return files


def numbered(notices: Iterable[FiledNotice]) -> list[NumberedNotice]:
    """Localised notices as versions of their events, sorted by event and version.

    The rules are those of `gateway.intake.EventBook`; the same bytes count once.
    """
    book = EventBook()
    files: dict[str, str] = {}
    for filed in notices:
        known = files.setdefault(filed.notice.sha256, filed.file)
        files[filed.notice.sha256] = min(known, filed.file)
        book.accept(filed.notice)
    return [
        NumberedNotice(
            file=files[notice.sha256],
            notice=notice,
            version=version,
            retracted=withdrawn,
            in_force=version == state.version,
        )
        for state in sorted(book.states(), key=lambda s: s.event_id)
        for version, (notice, withdrawn) in enumerate(
            zip(state.versions, state.withdrawn, strict=True), start=1
        )
    ]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if hidden or not file.is_file():
            continue
        if file.name.endswith((*replay.PACKET_SUFFIXES, *_TABLE_SUFFIXES, *_TAR_SUFFIXES)):
            yield file


def _is_table(path: Path) -> bool:
    return not path.name.endswith(_TAR_SUFFIXES) and is_event_table(path)


def _read_table(
    path: Path,
    columns: Mapping[str, Any] | None,
    find_map: Callable[[Notice], SkymapFile | None],
    files: NoticeFiles,
) -> None:
    events = read_events(path, columns)
    for notice in events.notices:
        try:
            files.notices.append(FiledNotice(str(path), _slim(placed(notice, find_map))))
        except Rejected as error:
            detail = f"{notice.event_id}: {error.detail}"
            files.rejected.append(BadNotice(str(path), error.reason, detail))
    for row in events.rejected:
        detail = f"row {row.row + 1} ({row.name}): {row.detail}"
        files.rejected.append(BadNotice(str(path), row.reason, detail))


def _take(name: str, found: Understood, files: NoticeFiles) -> None:
    if found.rejected is not None:
        files.rejected.append(BadNotice(name, found.rejected.reason, found.rejected.detail))
    elif found.notice is not None:
        files.notices.append(FiledNotice(name, _slim(found.notice)))
    else:
        files.ignored[found.reason] += 1


def _slim(notice: Notice) -> Notice:
    """``notice`` without its map's bytes, which were read, or the address of one not to be had.

    As in the live path, what has no place is no version of its event.
    """
    if notice.localization is None and notice.alert_type != "retraction":
        notice = replace(without_place(notice), skymap_url=None)
    if isinstance(notice.localization, MultiOrderMap):
        notice = replace(notice, skymap_fits=None)
    return notice
