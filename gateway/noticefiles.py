"""Notices from files, folders, tarballs and tables, numbered as versions of their events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from catalogs.events import is_event_table, read_events
from crossmatch.errors import ConfigError, NoticeError, Rejected
from crossmatch.model import Notice, Role
from crossmatch.skymap import read_skymap
from gateway import replay
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Ignored
from gateway.intake import EventBook

_TABLE_SUFFIXES = (".csv", ".fits", ".fit", ".vot", ".votable", ".parquet")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MAP_SUFFIXES = (".multiorder.fits", ".fits", ".fits.gz")


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
    registry: Registry,
    *,
    table_columns: Mapping[str, Any] | None = None,
    advance: Callable[[str], None] = lambda _: None,
) -> NoticeFiles:
    """Notices in files, folders and tarballs of VOEvents and JSON, and in tables of events.

    Parameters
    ----------
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
                    _read_table(file, table_columns, files)
                else:
                    for packet in replay.packets([file]):
                        _read_packet(packet.name, packet.read(), registry, files)
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
    retractions: dict[str, list[Notice]] = defaultdict(list)
    for filed in notices:
        notice = filed.notice
        known = files.setdefault(notice.sha256, filed.file)
        files[notice.sha256] = min(known, filed.file)
        book.accept(notice)
        if notice.alert_type == "retraction":
            for name in {notice.event_id, *notice.retracts}:
                retractions[name].append(notice)
    roles: tuple[Role, ...] = ("observation", "test")
    states = [book.state(event, role) for role in roles for event in book.events(role)]
    return [
        NumberedNotice(
            file=files[notice.sha256],
            notice=notice,
            version=version,
            retracted=_is_retracted(
                notice, retractions[notice.event_id] + retractions[notice.notice_id]
            ),
            in_force=state.current is not None and version == state.version,
        )
        for state in sorted(states, key=lambda s: s.event_id)
        for version, notice in enumerate(state.versions, start=1)
    ]


def _is_retracted(notice: Notice, retractions: Iterable[Notice]) -> bool:
    """Whether this version alone would stand retracted: the book tells only of the newest."""
    book = EventBook()
    for known in (*retractions, notice):
        book.accept(known)
    return book.state(notice.event_id, notice.role).current is None


class LocalMaps:
    """Sky maps for notices that carry none, or only an address, from a folder of the operator's.

    A map is found by the event's name (``S190814bv/bayestar.fits.gz``,
    ``S190814bv_bayestar.fits.gz``, ``S190814bv.fits``), or by the address's file name
    alone when no other event asks for that name.
    """

    def __init__(self, folder: Path | None, notices: Iterable[Notice]) -> None:
        self._files: dict[str, Path] = {}
        if folder is not None:
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder with sky maps")
            for path in sorted(folder.rglob("*.fits*")):
                self._files.setdefault(str(path.relative_to(folder)), path)
        self._askers: dict[str, set[str]] = defaultdict(set)
        for notice in notices:
            if notice.skymap_url:
                self._askers[_basename(notice.skymap_url)].add(notice.event_id)

    def located(self, notice: Notice) -> Notice:
        """``notice`` with its sky map as localisation, from its own bytes or from the folder.

        Raises
        ------
        RegionError
            When the map is none.
        NoticeError
            ``map_not_local``: the notice has only an address, and the folder no such file.
        """
        if notice.skymap_fits is not None:
            return replace(notice, localization=read_skymap(notice.skymap_fits))
        if notice.localization is not None or not notice.skymap_url:
            return notice
        path = self._find(notice)
        if path is None:
            raise NoticeError("map_not_local", f"{notice.skymap_url} is not in the folder of maps")
        try:
            return replace(notice, localization=read_skymap(path.read_bytes()))
        except OSError as error:
            raise NoticeError("map_not_local", f"{path}: {error}") from error

    def _find(self, notice: Notice) -> Path | None:
        name = _basename(notice.skymap_url or "")
        # LVK appends a version: bayestar.multiorder.fits,1
        for base in dict.fromkeys((name, name.partition(",")[0])):
            wanted = [f"{notice.trigger_id}{s}{base}" for s in ("/", "_", "-")]
            if len(self._askers[name]) == 1:
                wanted.append(base)
            for candidate in wanted:
                if candidate in self._files:
                    return self._files[candidate]
        for suffix in _MAP_SUFFIXES:
            if f"{notice.trigger_id}{suffix}" in self._files:
                return self._files[f"{notice.trigger_id}{suffix}"]
        return None


def _basename(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


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


def _read_table(path: Path, columns: Mapping[str, Any] | None, files: NoticeFiles) -> None:
    events = read_events(path, columns)
    files.notices.extend(FiledNotice(str(path), notice) for notice in events.notices)
    for row in events.rejected:
        detail = f"row {row.row + 1} ({row.name}): {row.detail}"
        files.rejected.append(BadNotice(str(path), row.reason, detail))


def _read_packet(name: str, raw: bytes, registry: Registry, files: NoticeFiles) -> None:
    try:
        found = registry.parse(raw)
    except Rejected as error:
        files.rejected.append(BadNotice(name, error.reason, error.detail))
        return
    if isinstance(found, Ignored):
        files.ignored[found.reason] += 1
    else:
        files.notices.append(FiledNotice(name, found))
