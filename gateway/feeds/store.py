"""The feeds in force: files that change while we run, switches, and the history of both.

A broken file costs only itself: the last version of it that could be read stays in force.
Under ``<state>/feeds`` lie ``switches.json``, ``current.json`` (what the last look found),
``changes.jsonl`` (one line a change) and ``history/<name>/<version>.toml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Literal

from crossmatch.errors import ConfigError, ServiceError
from gateway.feeds.files import feed_from_toml
from gateway.feeds.history import Change, Door, History, LastLook, Seen, former
from gateway.feeds.loading import (
    BUILT_IN,
    Found,
    Parser,
    Trouble,
    built_in_files,
    feed_files,
    parsed,
    parser_of,
    read_feeds,
)
from gateway.feeds.registry import Registry, registry_of
from gateway.feeds.spec import Feed

State = Literal["on", "paused", "off", "broken"]
_SWITCHED = ("enabled", "paused", "disabled")
_Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file or folder of feeds, in one sentence.

    ``feed`` is the feed whose last good version stays in force meanwhile, if there is one.
    """

    path: Path
    sentence: str
    feed: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The feeds in force, and what could not be used."""

    registry: Registry
    problems: tuple[Problem, ...] = ()

    def state(self, name: str) -> State:
        """Whether a feed is used: ``broken`` means that its last good version is."""
        if any(p.feed == name for p in self.problems):
            return "broken"
        if name in self.registry.paused:
            return "paused"
        return "on" if self.registry.feed(name).enabled else "off"

    def sound(self) -> Registry:
        """The feeds, for those who need all of them as their files have them.

        Raises
        ------
        ConfigError
            For the first problem.
        """
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise ConfigError(self.problems[0].sentence + more)
        return self.registry


@dataclass(slots=True)
class _Look(Found):
    """What one look at the files finds."""

    problems: list[Problem] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


class FeedStore:
    """Feeds of the package and of the operator's folders.

    Parameters
    ----------
    folders : sequence of Path
        The operator's; the first is where new files are written.
    state : Path
        ``[paths] state``; the store keeps what it must remember in ``<state>/feeds``.
    now : callable
        UTC, for the log of changes.
    """

    def __init__(self, folders: Sequence[Path], state: Path, now: Callable[[], datetime]) -> None:
        self._folders = tuple(dict.fromkeys(f.absolute() for f in folders))
        self._own = (state / "feeds").absolute()
        self._history = History(self._own, now)
        self._stamp: _Stamp | None = None
        self._switches: dict[str, str] | None = None
        self._built_in: tuple[tuple[str, str], ...] | None = None
        self._good: dict[str, tuple[Feed, Parser, str]] = {}
        # Private doors of this run: the history may be unwritten.
        self._doors: dict[str, set[Door]] = {}

    @property
    def folder(self) -> Path:
        """Where new feed files are written."""
        return self._folders[0] if self._folders else self._own

    def load(self, *, record: bool = True) -> Loaded:
        """Read all files; a broken one is a problem told, never a failure.

        Parameters
        ----------
        record : bool
            Keep versions and log changes. False looks without writing anything.

        Raises
        ------
        ConfigError
            When the switches are damaged at the first look: to guess would lose messages,
            or take those that should wait.
        """
        self._stamp = self._look_around()
        troubles: list[Problem] = []
        look = self._read(self._last_look(troubles).feeds)
        look.problems += troubles
        if record and not troubles:
            try:
                self._history.record(look.feeds, look.texts, look.broken)
            except (OSError, ConfigError) as error:
                said = error.strerror if isinstance(error, OSError) else None
                sentence = f"the history of feeds cannot be kept: {said or error}"
                look.problems.append(Problem(self._own, sentence))
        self._good = {n: (f, look.parsers[n], look.texts[n]) for n, f in look.feeds.items()}
        switches = self._read_switches(look)
        feeds = [_switched(f, switches.get(f.name)) for f in look.feeds.values()]
        paused = frozenset(f.name for f in feeds if switches.get(f.name) == "paused")
        topics, gone = former(self._private_doors(look), look.feeds)
        registry = registry_of(feeds, look.parsers, paused)
        registry = replace(registry, private_topics=topics, private_feeds=gone)
        return Loaded(registry, tuple(look.problems))

    def _private_doors(self, look: _Look) -> dict[str, set[Door]]:
        """All private doors that feeds have or had, by feed."""
        for name, feed in look.feeds.items():
            if feed.audience:
                self._doors.setdefault(name, set()).add(Door.of(feed))
        kept = self._history.doors(lambda path, said: look.problems.append(Problem(path, said)))
        for name, doors in kept.items():
            self._doors.setdefault(name, set()).update(doors)
        return self._doors

    def _last_look(self, troubles: list[Problem]) -> LastLook:
        try:
            return self._history.seen()
        except ConfigError as error:
            troubles.append(Problem(self._own, str(error)))
            return LastLook()

    def _read_switches(self, look: _Look) -> dict[str, str]:
        """Switches; those of the last look when they are damaged. The first look must have them."""
        try:
            self._switches = self._history.switches()
        except ConfigError as error:
            if self._switches is None:
                raise
            look.problems.append(Problem(self._history.switch_file, str(error)))
        return self._switches

    def changed(self) -> bool:
        """Whether files or switches differ from what the last :meth:`load` found."""
        return self._look_around() != self._stamp

    def require(self, name: str) -> Feed:
        """The feed of that name as its file has it, whatever the switches say.

        Raises
        ------
        ConfigError
            When there is none; with names that are nearly the same.
        """
        feeds = self._read(self._last_look([]).feeds).feeds
        if name in feeds:
            return feeds[name]
        near = get_close_matches(name, feeds, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "'mmgateway feeds list' shows all"
        raise ConfigError(f"no feed is called {name!r}; {hint}")

    def text(self, name: str) -> str:
        """Text of the file of a feed that the last :meth:`load` found, as it is used."""
        return self._good[name][2]

    def switch(self, name: str, on: bool, why: str = "") -> None:
        """Turn a feed on, or pause it (off, if its file says so); nothing when it already is.

        Parameters
        ----------
        name : str
        on : bool
        why : str
            Of a feed that nobody switched: the reason why the gateway did, for the history.

        Raises
        ------
        ConfigError
            When no feed has that name.
        ServiceError
            When the switch cannot be written.
        """
        feed = self.require(name)
        before = self._history.switches().get(name)
        # A feed that its file turns off is off again without a switch: nothing is paused.
        after = (None if on else "paused") if feed.enabled else ("on" if on else None)
        if after == before:
            return
        try:
            self._history.set_switch(name, after, feed, why)
        except OSError as error:
            raise ServiceError(f"{self._own}: cannot be written: {error.strerror}") from error

    def history(self, name: str | None = None) -> list[Change]:
        """Changes of one feed, or of all, oldest first.

        Raises
        ------
        ConfigError
            When nothing is known of that name.
        """
        changes = [c for c in self._history.changes() if name in (None, c.feed)]
        if name is not None and not changes:
            self.require(name)
        return changes

    def why_paused(self, name: str) -> Change | None:
        """The change by which the gateway itself paused a feed; None if a person did or none."""
        switches = [c for c in self._history.changes() if c.feed == name and c.action in _SWITCHED]
        last = switches[-1] if switches else None
        return last if last is not None and last.action == "paused" and last.detail else None

    def rollback(self, name: str, version: str) -> Path:
        """Bring an earlier version back as the operator's file of that feed.

        Parameters
        ----------
        version : str
            As in :meth:`history`, or its first digits.

        Returns
        -------
        Path
            The file that was written; of a built-in feed a copy in the first folder.

        Raises
        ------
        ConfigError
            When there is no such version, or it can no longer be read.
        ServiceError
            When it cannot be written.
        """
        # What the file says now is kept before it is replaced.
        self.load()
        text = self._history.text(name, version)
        if text is None:
            self.require(name)
            kept = ", ".join(self._history.versions(name)) or "none"
            raise ConfigError(f"feed {name} has no version {version!r}; kept: {kept}")
        feed = feed_from_toml(text, f"{name} version {version}")
        path = self._file_of(name)
        feed = replace(feed, source=str(path))
        parser_of(feed)
        try:
            self._history.roll_back(feed, text, path)
        except OSError as error:
            raise ServiceError(f"{path}: cannot be written: {error.strerror}") from error
        return path

    def _file_of(self, name: str) -> Path:
        """The operator's file of a feed, also when it is broken or gone."""
        sources = [c.source for c in reversed(self._history.changes()) if c.feed == name]
        seen = self._history.seen().feeds.get(name)
        for source in [*([seen.source] if seen else []), *sources]:
            if source and not source.startswith(BUILT_IN) and Path(source).parent in self._folders:
                path = Path(source)
                break
        else:
            path = self.folder / f"{name}.toml"
        other = self._name_in(path)
        if other not in ("", name):
            raise ConfigError(f"{path} is the file of feed {other}; rename it first")
        return path

    def _name_in(self, path: Path) -> str:
        try:
            return feed_from_toml(path.read_text("utf-8"), str(path)).name
        except (OSError, UnicodeDecodeError, ConfigError):
            # Missing or broken: nothing that is worth keeping under another name.
            return ""

    def _look_around(self) -> _Stamp:
        stamps = []
        for folder in self._folders:
            try:
                paths = feed_files(folder)
            except OSError:
                stamps.append((str(folder), -1, -1, -1))
                continue
            stamps += [_stamp_of(p) for p in paths]
        return (*stamps, _stamp_of(self._history.switch_file))

    def _read(self, known: Mapping[str, Seen]) -> _Look:
        look = _Look()
        if self._built_in is None:
            # Once: a package that is replaced while we run speaks a newer language than we do.
            self._built_in = tuple(built_in_files())

        def add(feed: Feed, text: str) -> None:
            self._add(look, feed, text)

        def troubled(trouble: Trouble) -> None:
            if trouble.path in self._folders:
                self._folder_away(look, trouble, known)
                return
            source = str(trouble.path)
            if not source.startswith(BUILT_IN):
                look.broken[source] = sha256(trouble.text.encode()).hexdigest()[:12]
            names = [n for n, seen in known.items() if seen.source == source]
            self._keep(look, trouble.path, trouble.sentence, names[:1], known)

        read_feeds(look, self._folders, self._built_in, add, troubled)
        return look

    def _add(self, look: _Look, feed: Feed, text: str) -> None:
        good = self._good.get(feed.name)
        parser = good[1] if good is not None and good[0] is feed else parser_of(feed)
        look.add(feed, parser, text)

    def _folder_away(self, look: _Look, trouble: Trouble, known: Mapping[str, Seen]) -> None:
        """A disk that is not mounted must not take its feeds away."""
        folder = trouble.path
        names = [n for n, seen in known.items() if Path(seen.source).parent == folder]
        if isinstance(trouble.cause, FileNotFoundError) and folder == self._own:
            names = []
        elif not names:
            look.problems.append(Problem(folder, trouble.sentence))
        said = "" if trouble.cause is None else trouble.cause.strerror
        for name in names:
            self._keep(
                look, folder, f"{folder}: {said}; feed {name} stays as it was", [name], known
            )

    def _keep(
        self,
        look: _Look,
        path: Path,
        sentence: str,
        names: Sequence[str],
        known: Mapping[str, Seen],
    ) -> None:
        """Tell the problem and, where there is one, use the last good version."""
        kept = ""
        for name in names:
            good = self._good.get(name)
            try:
                text = self._history.text(name, known[name].version)
                if text is None or name in look.feeds:
                    continue
                if good is not None and good[0].version == known[name].version:
                    # Its function, too, stays the one that could be found.
                    look.add(*good)
                else:
                    self._add(look, parsed(text, known[name].source), text)
            except ConfigError as error:
                sentence = f"{sentence}; nor can its last version be used: {error}"
                continue
            kept = name
        look.problems.append(Problem(path, sentence, kept))


def _switched(feed: Feed, switch: str | None) -> Feed:
    return replace(feed, enabled=True) if switch and not feed.enabled else feed


def _stamp_of(path: Path) -> tuple[str, int, int, int]:
    try:
        facts = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), facts.st_mtime_ns, facts.st_size, facts.st_ino
