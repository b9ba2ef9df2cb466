"""What the feeds were: every version by its digest, a log of changes, and the switches.

Several processes write here (the listener, commands), so each change is made under a lock
and against what the last one found.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from crossmatch.errors import ConfigError
from gateway.feeds.spec import Feed

Action = Literal["added", "changed", "removed", "enabled", "paused", "rolled_back", "broken"]


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

    def seen(self) -> LastLook:
        """What the last look found; nothing before the first."""
        table = _read_json(self._current)
        feeds = table.get("feeds", {})
        return LastLook(
            {name: Seen(str(f["version"]), str(f["source"])) for name, f in feeds.items()},
            table.get("broken", {}),
        )

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

    def set_switch(self, name: str, value: str | None, feed: Feed) -> None:
        """Set or (with None) remove the switch of a feed."""
        with self._locked():
            switches = self.switches()
            switches.pop(name, None)
            if value is not None:
                switches[name] = value
            _write(self.switch_file, _json(switches))
            action: Action = "paused" if value == "paused" else "enabled"
            self._append([self._change(name, action, Seen(feed.version, feed.source))])

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
        """Write ``text`` to the feed's file; what stood there is kept."""
        with self._locked():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                old = path.read_bytes()
                digest = sha256(old).hexdigest()[:12]
                if not (self._versions / feed.name / f"{digest}.toml").exists():
                    _write(self._private(feed.name) / f"{digest}.replaced", old)
            _write(path, text.encode(), mode=_mode_of(path))
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
            lines = self._log.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(Change(**json.loads(line)))
            except (ValueError, TypeError):
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
        """Text of a version, named by its digest or the first digits; None if there is none."""
        fitting = [v for v in self.versions(name) if version and v.startswith(version)]
        if len(fitting) != 1:
            return None
        return (self._versions / name / f"{fitting[0]}.toml").read_bytes().decode("utf-8")

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
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
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
