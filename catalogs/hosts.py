"""Catalogues of galaxies that are read into memory: candidate hosts of transients."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from catalogs.kinds import BUILT_IN, Kind
from catalogs.local import LocalCatalog


def galaxies_of(name: str, path: Path) -> LocalCatalog:
    """Galaxies of a file.

    Raises
    ------
    CatalogError
        Those of `LocalCatalog.load`, and ``wrong_unit``.
    """
    found = LocalCatalog.load(name, path, kind=Kind.galaxies)
    found.roles.refuse_wrong(path)
    return found


def nearby_galaxies() -> LocalCatalog:
    """The small sample of well-known nearby galaxies that is shipped with the package."""
    with resources.as_file(resources.files("catalogs") / "data" / f"{BUILT_IN}.csv") as path:
        return galaxies_of(BUILT_IN, path)
