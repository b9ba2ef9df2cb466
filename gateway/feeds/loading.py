"""The files of feeds, read in one order for all who need them; what to do about bad ones is theirs.

Files of the operator's come first, folder by folder and by name, then those of the package.
The first file of a name is its feed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module, resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from crossmatch.errors import ConfigError
from crossmatch.model import Notice
from gateway.feeds.files import feed_from_toml
from gateway.feeds.message import Ignored, Message
from gateway.feeds.spec import Feed

GROUP = "mmgateway.feeds"
BUILT_IN = "gateway/feeds/missions/"

Parser = Callable[[Message, Feed], Notice | Ignored]

# Resolved without entry points, so that a checkout works before it is installed.
_PARSERS = {
    "voevent": "gateway.feeds.parsers.voevent:parse",
    "json": "gateway.feeds.parsers.unified:parse",
    "igwn": "gateway.feeds.parsers.igwn:parse",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file, or a whole folder, that cannot be used.

    ``text`` is as much of the file as could be read; ``cause`` what the system said, if it
    was the system.
    """

    path: Path
    sentence: str
    text: str = ""
    cause: OSError | None = None


@dataclass(slots=True)
class Found:
    """Feeds by name in the order of their files, with their parsers and texts."""

    feeds: dict[str, Feed] = field(default_factory=dict)
    parsers: dict[str, Parser] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, feed: Feed, parser: Parser, text: str) -> None:
        """Take up a feed."""
        self.feeds[feed.name], self.parsers[feed.name], self.texts[feed.name] = feed, parser, text


def read_feeds(
    found: Found,
    folders: Iterable[Path],
    built_in: Iterable[tuple[str, str]],
    add: Callable[[Feed, str], None],
    troubled: Callable[[Trouble], None],
) -> None:
    """Read all files of feeds.

    Parameters
    ----------
    found : Found
        What is there already.
    folders : iterable of Path
        The operator's.
    built_in : iterable of (str, str)
        As :func:`built_in_files` gives.
    add : callable
        Takes up a feed and its text in ``found``; may raise ConfigError.
    troubled : callable
        Told, in its turn, what cannot be used; may raise.
    """
    for folder in folders:
        try:
            paths = feed_files(folder)
        except OSError as error:
            sentence = f"{folder}: {error.strerror}; make it or correct [paths] feeds"
            troubled(Trouble(folder, sentence, cause=error))
            continue
        for path in paths:
            _read_file(path, found, add, troubled)
    for source, text in built_in:
        try:
            feed = parsed(text, source)
            if feed.name not in found.feeds:
                add(feed, text)
        except ConfigError as error:
            troubled(Trouble(Path(source), str(error), text))


def _read_file(
    path: Path,
    found: Found,
    add: Callable[[Feed, str], None],
    troubled: Callable[[Trouble], None],
) -> None:
    text = ""
    try:
        text = path.read_text("utf-8")
        feed = parsed(text, str(path))
        if feed.name in found.feeds:
            other = found.feeds[feed.name].source
            raise ConfigError(f"{path}: feed {feed.name!r} stands in {other} too")
        add(feed, text)
    except FileNotFoundError:
        # It went away while we looked.
        return
    except OSError as error:
        troubled(Trouble(path, f"{path}: cannot be read: {error.strerror or error}", text, error))
    except UnicodeDecodeError as error:
        troubled(Trouble(path, f"{path}: cannot be read: {error}"))
    except ConfigError as error:
        troubled(Trouble(path, str(error), text))


@lru_cache(maxsize=512)
def parsed(text: str, source: str) -> Feed:
    """As :func:`gateway.feeds.files.feed_from_toml`: most files are the same at each look."""
    return feed_from_toml(text, source)


def built_in_files() -> Iterator[tuple[str, str]]:
    """Source (``gateway/feeds/missions/<name>.toml``) and text of the built-in feeds, by name."""
    for resource in sorted(
        (resources.files("gateway.feeds") / "missions").iterdir(), key=lambda r: r.name
    ):
        if resource.name.endswith(".toml"):
            yield f"{BUILT_IN}{resource.name}", resource.read_text("utf-8")


def feed_files(folder: Path) -> Sequence[Path]:
    """Files of a folder that are feeds: its own ``*.toml``, not those below nor hidden ones.

    Raises
    ------
    OSError
        When the folder cannot be read.
    """
    return sorted(
        p
        for p in folder.iterdir()
        # A pipe or a device of that name would be read for ever.
        if p.suffix == ".toml" and not p.name.startswith(".") and p.is_file()
    )


def parser_of(feed: Feed) -> Parser:
    """The function that reads the feed's messages.

    Raises
    ------
    ConfigError
        Naming the file, when there is none of that name, its module cannot be imported,
        or it cannot be handed to the process that reads messages within bounds.
    """
    name = feed.parser or feed.format
    where = f"{feed.source}: parser {name!r}"
    target = _PARSERS.get(name, name)
    points = () if ":" in target else entry_points(group=GROUP, name=target)
    if ":" not in target and not points:
        raise ConfigError(
            f"{where}: no entry point of that name in the group {GROUP};"
            " install the package that has it, or write module:function"
        )
    try:
        found = next(iter(points)).load() if points else _imported(target)
    except (Exception, SystemExit) as error:
        # What somebody's module does when it is imported must not end the gateway.
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where}: {said[:500]}") from error
    if not callable(found):
        raise ConfigError(f"{where} is not a function")
    try:
        pickle.dumps(found, 5)
    except Exception as error:
        raise ConfigError(
            f"{where} must be a function of a module, found by its name there, so that another"
            f" process can find it too: {str(error)[:300]}"
        ) from error
    return found  # type: ignore[no-any-return]


def _imported(target: str) -> Any:
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)
