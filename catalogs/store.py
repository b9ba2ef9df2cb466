"""The store of catalogues: versions side by side, the latest of each name, changed atomically."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from catalogs.ephemerides import Accept, Ephemerides, Trouble
from catalogs.indexfiles import digests
from catalogs.ingest import FACTS, Advance, Wanted, hats_digests, ingest, version_of
from catalogs.kinds import BUILT_IN, MAX_RADIUS_ARCSEC, is_radius
from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray
from crossmatch.remote import SIMBAD

_LATEST = "latest"
_ADDING = ".adding-"
_REMOVING = ".removing-"
_HATS_FILES = "hats_files"
_GONE = (0, 0)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
# What is shipped, what is asked at CDS (tables of VizieR's have a colon), and what lies beside
# the table of that name in the folder of a version.
_RESERVED = frozenset(
    {BUILT_IN, SIMBAD, FACTS, "collection.properties", "index", "runs", "ids", "objects", "margins"}
)


@dataclass(frozen=True, slots=True)
class Added:
    """What adding a file came to; ``known`` when that version was there already."""

    name: str
    version: str
    facts: dict[str, Any]
    known: bool


@dataclass(frozen=True, slots=True)
class Store:
    """Catalogues in a folder: ``<name>/<version>``, and a small file that names the latest."""

    root: Path

    def names(self) -> list[str]:
        """Names of all catalogues, sorted."""
        if not self.root.is_dir():
            return []
        found = (p for p in self.root.iterdir() if not p.name.startswith("."))
        return sorted(p.name for p in found if (p / _LATEST).is_file())

    def versions(self, name: str) -> list[str]:
        """Versions of a catalogue, sorted by when they were added."""
        return sorted(self.present(name), key=lambda v: (self.facts(name, v)["added"], v))

    def present(self, name: str) -> list[str]:
        """Versions of a catalogue in any order; none of their facts is read."""
        found = (p.parent.name for p in (self.root / name).glob(f"*/{FACTS}"))
        return [version for version in found if not version.startswith(".")]

    def latest(self, name: str) -> str:
        """Version in use of a catalogue.

        Raises
        ------
        CatalogError
            ``no_such_catalog``.
        """
        try:
            return (self.root / name / _LATEST).read_text("utf-8").strip()
        except (FileNotFoundError, NotADirectoryError) as error:
            known = ", ".join(self.names()) or "none"
            raise CatalogError(
                "no_such_catalog", f"{name} is not in {self.root}, which has: {known}"
            ) from error
        except OSError as error:
            raise CatalogError("not_a_catalog", f"{name}: {error}") from error

    def facts(self, name: str, version: str) -> dict[str, Any]:
        """What is known of a version.

        Raises
        ------
        CatalogError
            ``no_such_version``.
        """
        try:
            found: dict[str, Any] = json.loads((self.root / name / version / FACTS).read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CatalogError("no_such_version", f"{name} has no version {version}") from error
        except ValueError as error:
            raise CatalogError("not_a_catalog", f"{name}, version {version}: {error}") from error
        return found

    def open(self, name: str, version: str | None = None) -> StoredCatalog:
        """A catalogue, mapped into memory; its latest version if none is named."""
        return StoredCatalog.open(self.root / name / (version or self.latest(name)))

    def pointer(self, name: str) -> Path:
        """The file that says which version is in use; replaced as a whole when that changes."""
        return self.root / name / _LATEST

    def add(
        self,
        path: Path,
        wanted: Wanted,
        now: datetime,
        advance: Advance = lambda *_: None,
    ) -> Added:
        """Add a catalogue, or a version of it, and put that in use.

        Nothing is seen of it before it is whole, and nothing stays if it fails. A version that
        is there already is verified, and replaced if it is not as it was added.

        Raises
        ------
        CatalogError
            ``bad_name``, ``bad_radius``, or what is wrong with the file.
        """
        _refuse_unusable(wanted)
        folder = self.root / wanted.name
        existed = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep(self.root)
        self._sweep(folder)
        beside = folder / _hidden(_ADDING)
        try:
            beside.mkdir()
            version = ingest(path, wanted, beside, now, advance)
            _settle(beside)
            known = self._is_whole(wanted.name, version)
            if not known:
                if (folder / version).exists():
                    _discard(folder / version)
                known = not _named(beside, folder / version)
            self._point(wanted.name, version)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            if not existed:
                with suppress(OSError):
                    # Only where nothing was added.
                    folder.rmdir()
        return Added(wanted.name, version, self.facts(wanted.name, version), known)

    def use(self, name: str, version: str) -> None:
        """Put a version in use that is there already."""
        self.facts(name, version)
        self._point(name, version)

    def remove(self, name: str, version: str | None = None) -> list[str]:
        """Remove a version, or all; the versions that went.

        Who has one open keeps it. The version in use goes only with the last one.

        Raises
        ------
        CatalogError
            ``no_such_catalog``, ``no_such_version``, ``in_use``.
        """
        latest, known = self.latest(name), self.versions(name)
        if version is not None and version not in known:
            raise CatalogError("no_such_version", f"{name} has {', '.join(known)}, not {version}")
        if version == latest and len(known) > 1:
            raise CatalogError(
                "in_use", f"{name}: {version} is in use; add or use another version first"
            )
        if version is None or len(known) == 1:
            _discard(self.root / name)
            return known
        _discard(self.root / name / version)
        return [version]

    def remove_older(self, name: str, before: datetime, keep: Collection[str] = ()) -> list[str]:
        """Remove versions that were added before a time; the versions that went.

        The one in use stays, and those to ``keep``.

        Raises
        ------
        CatalogError
            ``no_such_catalog``.
        """
        stay = {self.latest(name), *keep}
        old = [
            version
            for version in self.versions(name)
            if version not in stay
            and datetime.fromisoformat(self.facts(name, version)["added"]) < before
        ]
        for version in old:
            _discard(self.root / name / version)
        return old

    def verify(self, name: str, version: str | None = None) -> list[str]:
        """Faults of a version in sentences, none if all is as it was added.

        Everything that a look-up reads is compared with its digest, and so are the HATS files;
        their rows are counted. Versions of before these had digests have the number alone.
        """
        version = version or self.latest(name)
        facts = self.facts(name, version)
        folder = self.root / name / version
        found = digests(folder / "index")
        faults = _faults("index/", facts["files"], found)
        if not faults and version_of(facts, found) != version:
            faults.append(f"{FACTS}: says other things than when it was added")
        if _HATS_FILES in facts:
            faults += _faults("", facts[_HATS_FILES], hats_digests(folder, name))
        for table, rows in ((name, facts["rows"]), (f"{name}_margin", facts["margin_rows"])):
            faults += _parquet_faults(folder / table, table, rows)
        return faults

    def _is_whole(self, name: str, version: str) -> bool:
        """Whether all of a version is known to be as it was added."""
        try:
            return _HATS_FILES in self.facts(name, version) and not self.verify(name, version)
        # Facts that are others' lack what is asked of them.
        except (CatalogError, LookupError, TypeError, OSError):
            return False

    def _point(self, name: str, version: str) -> None:
        beside = self.root / name / f".{_LATEST}-{uuid.uuid4().hex[:8]}"
        beside.write_text(version + "\n", "utf-8")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(self.root / name / _LATEST)

    def _sweep(self, folder: Path) -> None:
        """Remove what processes left that were killed while adding or removing."""
        for left in (*folder.glob(f"{_ADDING}*"), *folder.glob(f"{_REMOVING}*")):
            number = left.name.split("-")[1]
            if not (number.isdigit() and _lives(int(number))):
                shutil.rmtree(left, ignore_errors=True)


class Following:
    """The version in use of a catalogue, opened anew when another is put in use.

    Of tables of positions by time the others are asked too, each about its times.

    Parameters
    ----------
    store : Store
    name : str

    Raises
    ------
    CatalogError
        If there is none at the start. Later the one before is kept while another cannot be
        opened.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._trouble = ""
        self._mark = _mark(store.pointer(name))
        self._catalog = store.open(name)
        self._others = Ephemerides(store, name)

    @property
    def name(self) -> str:
        """Name of the catalogue."""
        return self._name

    def current(
        self,
        trouble: Trouble = lambda _: None,
        accept: Accept = lambda _: None,
    ) -> StoredCatalog:
        """The catalogue in use: 2 µs when nothing changed.

        One that cannot be opened, or that ``accept`` raises CatalogError for, is tried again with
        each call; ``trouble`` is told why the one before is kept, when that changes.
        """
        mark = _mark(self._store.pointer(self._name))
        if mark == self._mark:
            return self._catalog
        try:
            found = self._store.open(self._name)
            accept(found)
        except CatalogError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                trouble(error)
        else:
            self._catalog, self._mark, self._trouble = found, mark, ""
        return self._catalog

    def asked(
        self, time_jd: FloatArray, trouble: Trouble, left_out: Trouble, accept: Accept
    ) -> Iterator[tuple[StoredCatalog, IntArray]]:
        """Versions, and the positions that each is asked about.

        The version in use comes first, of a table of positions by time for those whose times
        it covers. The others of these are asked of the newest other version that covers them.

        Parameters
        ----------
        time_jd : (n,) float64
            Times of the positions, Julian dates, UTC.
        trouble, accept : callable
            See `current`.
        left_out : callable
            Is told why another version cannot be asked, once until versions change.

        Yields
        ------
        catalog : StoredCatalog
        positions : (m,) int64
            Numbers of positions, ascending; of the version in use it may be none.
        """
        current = self.current(trouble, accept)
        covered = current.covers(time_jd)
        yield current, np.flatnonzero(covered)
        if not covered.all():
            pointer = _mark(self._store.pointer(self._name))
            # A catalogue that was removed is asked on, as one that is open.
            if pointer != _GONE:
                self._others.refresh(pointer, left_out)
            yield from self._others.asked(time_jd, np.flatnonzero(~covered), left_out, accept)


def _mark(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced; zeros without it."""
    try:
        found = os.stat(path)
    except OSError:
        return _GONE
    return found.st_mtime_ns, found.st_ino


def _hidden(prefix: str) -> str:
    """A name for what is not to be seen, with the process that has it."""
    return f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _discard(folder: Path) -> None:
    """Remove a folder: at once for who looks, and for good with the next sweep if not now."""
    hidden = folder.with_name(_hidden(_REMOVING))
    folder.rename(hidden)
    shutil.rmtree(hidden)


def _refuse_unusable(wanted: Wanted) -> None:
    """Raise CatalogError for a name or a radius that no catalogue may have."""
    if not _NAME.fullmatch(wanted.name):
        raise CatalogError(
            "bad_name", f"{wanted.name!r}: lower-case letters, digits and -_. (64 at most)"
        )
    if wanted.name in _RESERVED:
        raise CatalogError("bad_name", f"{wanted.name!r} means something else: take another")
    radius = wanted.radius_arcsec
    if radius is not None and not is_radius(radius):
        raise CatalogError(
            "bad_radius", f"{radius:g} arcsec: above 0, at most {MAX_RADIUS_ARCSEC:g}"
        )


def _faults(folder: str, added: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Files whose digests are others than when they were added."""
    return [
        f"{folder}{n}: {'is missing' if n not in found else 'is not what was added'}"
        for n in sorted({*added, *found})
        if found.get(n) != added.get(n)
    ]


def _parquet_faults(folder: Path, table: str, rows: int) -> list[str]:
    files: Sequence[Path] = sorted(folder.glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))
    found = 0
    for file in files:
        try:
            found += pq.read_metadata(file).num_rows
        # Arrow's errors of a damaged file are ValueErrors and OSErrors.
        except (OSError, ValueError) as error:
            return [f"{table}: {file.relative_to(folder)}: {' '.join(str(error).split())[:120]}"]
    return [] if found == rows else [f"{table}: {found} rows, {rows} were added"]


def _named(folder: Path, name: Path) -> bool:
    """Give a folder its name; False where another process was faster with the same content."""
    try:
        folder.rename(name)
    except OSError:
        if not (name / FACTS).is_file():
            raise
        return False
    return True


def _settle(folder: Path) -> None:
    """Everything in a folder is on the disk before it gets its name."""
    for path in [*folder.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
