"""What the feeds were: every version by its digest, a log of changes, and the switches.

Several processes write here (the listener, commands), so each change is made under a lock
and against what the last one found.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from crossmatch.errors import ConfigError
from gateway.feeds.spec import Feed, audience
from gateway.runfiles import make_state

Action = Literal[
    "added", "changed", "removed", "enabled", "paused", "disabled", "rolled_back", "broken"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the log. ``time`` is ISO 8601 UTC, ``version`` the digest of the file."""

    time: str
    feed: str
    action: Action
    version: str
    source: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Version and file of a feed at the last look."""

    version: str
    source: str


@dataclass(frozen=True, slots=True)
class LastLook:
    """What the last look that was recorded found; ``broken`` maps files to digests."""

    feeds: Mapping[str, Seen] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Door:
    """Who may see what comes by the topics that a feed has at GCN or on our own Kafka."""

    topics: tuple[str, ...]
    audience: tuple[str, ...]

    @classmethod
    def of(cls, feed: Feed) -> Door:
        """That of a feed; no topics when they are those of a Kafka of its own."""
        return cls(() if feed.transport.kafka else feed.topics, feed.audience)


_Audiences = dict[str, tuple[str, ...]]


def former(
    doors: Mapping[str, Iterable[Door]], feeds: Mapping[str, Feed]
) -> tuple[_Audiences, _Audiences]:
    """Private topics, and private feeds, that are no more, and who may see what still comes so.

    A topic that one of ``feeds`` names is what that feed says. Of others every one of
    ``doors`` counts, so that nothing is public that ever was private.
    """
    named = {topic for feed in feeds.values() for topic in Door.of(feed).topics}
    topics: dict[str, set[str]] = {}
    gone: dict[str, set[str]] = {}
    for name, those in doors.items():
        for door in those:
            for topic in set(door.topics) - named:
                topics.setdefault(topic, set()).update(door.audience)
            if name not in feeds:
                gone.setdefault(name, set()).update(door.audience)
    return _sorted(topics), _sorted(gone)


def _sorted(table: Mapping[str, set[str]]) -> _Audiences:
    return {name: tuple(sorted(streams)) for name, streams in table.items()}


class History:
    """Files under ``<state>/feeds`` that remember.

    Feed files may hold addresses and secrets of private feeds, so what is kept of them is
    for the owner's eyes alone.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._now = now
        self.switch_file = folder / "switches.json"
        self._log = folder / "changes.jsonl"
        self._current = folder / "current.json"
        self._versions = folder / "history"
        # Versions never change, so each is read once.
        self._doors: dict[Path, Door] = {}

    def seen(self) -> LastLook:
        """What the last look found; nothing before the first.

        Raises
        ------
        ConfigError
            When the file is damaged.
        """
        table = _read_json(self._current)
        feeds, broken = table.get("feeds", {}), table.get("broken", {})
        try:
            seen = {
                name: Seen(_text(f["version"]), _text(f["source"])) for name, f in feeds.items()
            }
            return LastLook(seen, {source: _text(digest) for source, digest in broken.items()})
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._current}: it is not what the gateway wrote; mend or delete it"
            ) from error

    def switches(self) -> dict[str, str]:
        """``on`` or ``paused`` for each feed that was switched.

        Raises
        ------
        ConfigError
            When the file is damaged: to guess would lose or let out messages.
        """
        table = _read_json(self.switch_file)
        bad = [name for name, value in table.items() if value not in ("on", "paused")]
        if bad:
            raise ConfigError(f'{self.switch_file}: {bad[0]}: expected "on" or "paused"')
        return {str(name): str(value) for name, value in table.items()}

    def set_switch(self, name: str, value: str | None, feed: Feed, why: str = "") -> None:
        """Set or (with None) remove the switch of a feed; ``why`` stands in the log."""
        with self._locked():
            switches = self.switches()
            switches.pop(name, None)
            if value is not None:
                switches[name] = value
            _write(self.switch_file, _json(switches))
            action: Action = "paused" if value == "paused" else "enabled"
            if value is None and not feed.enabled:
                action = "disabled"
            self._append([self._change(name, action, Seen(feed.version, feed.source), why)])

    def record(
        self, feeds: Mapping[str, Feed], texts: Mapping[str, str], broken: Mapping[str, str]
    ) -> None:
        """Keep the versions in force, and log how they differ from the last look."""
        look = LastLook({n: Seen(f.version, f.source) for n, f in feeds.items()}, dict(broken))
        if look == self.seen():
            return
        with self._locked():
            before = self.seen()
            for name, seen in look.feeds.items():
                if before.feeds.get(name, Seen("", "")).version != seen.version:
                    self._keep(name, seen.version, texts[name])
            self._append(self._differences(before, look))
            self._remember(look)

    def _differences(self, before: LastLook, look: LastLook) -> list[Change]:
        changes = []
        for name, new in look.feeds.items():
            old = before.feeds.get(name)
            if old is None:
                changes.append(self._change(name, "added", new))
            elif old.version != new.version:
                changes.append(self._change(name, "changed", new, f"from {old.version}"))
        for name in sorted(before.feeds.keys() - look.feeds.keys()):
            changes.append(self._change(name, "removed", before.feeds[name]))
        names = {seen.source: name for name, seen in before.feeds.items()}
        for source, digest in look.broken.items():
            if before.broken.get(source) != digest:
                changes.append(self._change(names.get(source, ""), "broken", Seen(digest, source)))
        return changes

    def roll_back(self, feed: Feed, text: str, path: Path) -> None:
        """Write ``text`` to the feed's file; what stood there is kept.

        The file is the owner's alone when ``text`` is confidential; else it may be read as before.
        """
        with self._locked():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                old = path.read_bytes()
                digest = sha256(old).hexdigest()[:12]
                if not (self._versions / feed.name / f"{digest}.toml").exists():
                    _write(self._private(feed.name) / f"{digest}.replaced", old)
            _write(path, text.encode(), 0o600 if feed.confidential else _mode_of(path))
            before = self.seen()
            seen = Seen(feed.version, feed.source)
            replaced = before.feeds.get(feed.name)
            detail = "" if replaced is None else f"from {replaced.version}"
            self._append([self._change(feed.name, "rolled_back", seen, detail)])
            feeds = {**before.feeds, feed.name: seen}
            broken = {s: d for s, d in before.broken.items() if s != feed.source}
            self._remember(replace(before, feeds=feeds, broken=broken))

    def changes(self) -> list[Change]:
        """The whole log, oldest first."""
        try:
            lines = self._log.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"{self._log}: cannot be read: {error.strerror}") from error
        found = []
        for line in lines:
            try:
                words = {key: _text(value) for key, value in json.loads(line).items()}
                found.append(Change(**words))  # type: ignore[arg-type]
            except (ValueError, TypeError, AttributeError, RecursionError):
                # A line that a crash cut short; the next one begins anew.
                continue
        return found

    def versions(self, name: str) -> list[str]:
        """Versions of a feed that are kept, oldest first."""
        if Path(name).name != name:
            return []
        paths = (self._versions / name).glob("*.toml")
        return [p.stem for p in sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def text(self, name: str, version: str) -> str | None:
        """Text of a version, named by its digest or the first digits; None if there is none.

        Raises
        ------
        ConfigError
            When its file cannot be read.
        """
        fitting = [v for v in self.versions(name) if version and v.startswith(version)]
        if len(fitting) != 1:
            return None
        path = self._versions / name / f"{fitting[0]}.toml"
        try:
            return path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error

    def doors(self, damaged: Callable[[Path, str], None]) -> dict[str, set[Door]]:
        """Private doors of all versions that are kept, by feed.

        ``damaged`` is told the path of a version that cannot be read, and why.
        """
        found: dict[str, set[Door]] = {}
        for path in sorted(self._versions.glob("*/*.toml")):
            if path not in self._doors:
                try:
                    self._doors[path] = _door(path.parent.name, path.read_text("utf-8"))
                except (OSError, ValueError, RecursionError) as error:
                    damaged(path, f"{path}: cannot be read: {str(error)[:200]}; mend or delete it")
                    continue
            door = self._doors[path]
            if door.audience:
                found.setdefault(path.parent.name, set()).add(door)
        return found

    def _keep(self, name: str, version: str, text: str) -> None:
        path = self._private(name) / f"{version}.toml"
        if not path.exists():
            _write(path, text.encode())

    def _private(self, name: str) -> Path:
        folder = self._versions / name
        self._versions.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _remember(self, look: LastLook) -> None:
        feeds = {name: asdict(seen) for name, seen in sorted(look.feeds.items())}
        _write(self._current, _json({"feeds": feeds, "broken": dict(look.broken)}))

    def _change(self, name: str, action: Action, seen: Seen, detail: str = "") -> Change:
        return Change(
            time=self._now().astimezone(UTC).isoformat(timespec="milliseconds"),
            feed=name, action=action, version=seen.version, source=seen.source, detail=detail,
        )  # fmt: skip

    def _append(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        with open(self._log, "ab+", opener=_private) as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.writelines(json.dumps(asdict(c)).encode() + b"\n" for c in changes)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_state(self._folder.parent)
        self._folder.mkdir(exist_ok=True)
        with (self._folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _door(name: str, text: str) -> Door:
    """As :meth:`Door.of`, also of a file in an older language than the one we read."""
    table = tomllib.loads(text)
    streams, topics = (
        [t for t in values if isinstance(t, str)] if isinstance(values, list) else []
        for values in (table.get("streams"), table.get("topics"))
    )
    transport = table.get("transport")
    own = isinstance(transport, dict) and transport.get("kafka")
    who = audience(name, streams, table.get("private") is True)
    return Door(() if own else tuple(topics), who)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; mend or delete it") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: expected one JSON object; mend or delete it")
    return table


def _json(table: Mapping[str, Any]) -> bytes:
    return json.dumps(table, indent=1, sort_keys=True).encode() + b"\n"


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.exists() else 0o600


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write so that a reader sees the old file or the whole new one, also after a crash."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
