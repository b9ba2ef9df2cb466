"""Look survivors up in the local catalogues of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from broker.told import Lookup, no_lookup
from catalogs.hosts import host_candidates, nearby_galaxies
from catalogs.local import LocalCatalog
from crossmatch.candidate import Context
from crossmatch.errors import CatalogError, ConfigError
from crossmatch.model import FloatArray

BUILT_IN = "nearby_galaxies"
"""Names the small catalogue that is shipped with the package."""


def local_lookup(specs: Sequence[str]) -> tuple[Lookup, tuple[str, ...]]:
    """Look-up in the catalogues of ``[match] catalogs``, and their versions.

    Parameters
    ----------
    specs : sequence of str
        ``name=path``, or ``nearby_galaxies`` for the one that is shipped.

    Returns
    -------
    lookup : callable
        From positions to one context each: the nearest galaxy with a distance, in the
        order of the catalogues, and which catalogues were asked.
    versions : tuple of str
        ``name@version``.

    Raises
    ------
    ConfigError
        If a catalogue cannot be read.
    """
    catalogs = [_load(spec) for spec in specs]
    if not catalogs:
        return no_lookup, ()
    versions = tuple(f"{c.name}@{c.version}" for c in catalogs)
    asked = tuple(c.name for c in catalogs)

    def lookup(ra_deg: FloatArray, dec_deg: FloatArray) -> list[Context]:
        found = [Context(looked_up=asked, catalog_versions=versions)] * len(ra_deg)
        for catalog in catalogs:
            for i, row in enumerate(host_candidates(catalog, ra_deg, dec_deg).to_pylist()):
                if found[i].host_offset_arcsec is None and row["host_offset_arcsec"] is not None:
                    found[i] = replace(found[i], **row)
        return found

    return lookup, versions


def _load(spec: str) -> LocalCatalog:
    if spec == BUILT_IN:
        return nearby_galaxies()
    name, equals, path = spec.partition("=")
    if not (name and equals and path):
        raise ConfigError(f"[match] catalogs: {spec!r} is not name=path (or {BUILT_IN})")
    try:
        return LocalCatalog.load(name, Path(path).expanduser())
    except CatalogError as error:
        raise ConfigError(f"[match] catalogs: {name}: {error.detail} ({error.reason})") from error
