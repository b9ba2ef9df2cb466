"""Feed files for tests of the store: one of an observatory of our own, and what to ask of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.feeds.store import FeedStore, Loaded

OWN = """
name = "own"
title = "An observatory of our own"
mission = "Own"
instrument = "camera"
messenger = "optical"
format = "voevent"
topics = ["own.events"]
ivoids = ["ivo://org.example/own#"]
trigger = ["TrigID"]
containment = 0.95
"""
OFF = OWN.replace("containment", "enabled = false\ncontainment")
FINAL = (Path(__file__).parents[1] / "data" / "notices" / "gbm_final.xml").read_bytes()
EVENT = FINAL.replace(b"nasa.gsfc.gcn/Fermi", b"org.example/own")


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def write(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def version(loaded: Loaded, name: str = "own") -> str:
    return loaded.registry.feed(name).version


def names(loaded: Loaded) -> set[str]:
    return {f.name for f in loaded.registry.feeds}


def actions(store: FeedStore, name: str = "own") -> list[str]:
    return [c.action for c in store.history(name)]


def again(folder: Path, tmp_path: Path) -> FeedStore:
    """The store of the same folder as after a restart."""
    return FeedStore([folder], tmp_path / "state", Clock())
