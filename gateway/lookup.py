"""Look survivors up in the local catalogues of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from broker.told import Lookup, no_lookup
from catalogs.answers import Catalog, neighbours
from catalogs.hosts import galaxies_of, nearby_galaxies
from catalogs.kinds import BUILT_IN, Kind
from catalogs.local import LocalCatalog
from catalogs.store import Following, Store
from catalogs.stored import StoredCatalog
from crossmatch.candidate import Context
from crossmatch.chains import Chain, check_catalogs
from crossmatch.errors import CatalogError, ConfigError
from crossmatch.model import FloatArray, IntArray
from crossmatch.neighbours import Neighbour, likely_hosts, nearest_by_kind
from crossmatch.remote import Remote
from crossmatch.times import datetime_from_jd, iso_utc
from gateway.config import Config
from gateway.logs import EventLog

log = EventLog("match")

_Part: TypeAlias = tuple[Catalog, IntArray]
"""A catalogue, and numbers of the positions that it is asked about."""
_Near: TypeAlias = tuple[Neighbour, float]
"""What is told of a catalogue, and how far its nearest source is, arcsec: often another one."""
_NOT_COVERED = {
    "catalog_over": "alerts are later than its last time: add a newer table",
    "catalog_early": "alerts are earlier than its first time: add a table of theirs",
}


def store_of(config: Config) -> Store:
    """The store of catalogues that were added."""
    return Store(config.paths.state.expanduser() / "catalogs")


def remote_of(config: Config) -> Remote:
    """The catalogues at CDS that candidates are looked up in later; none unless enabled."""
    cds = config.cds
    if not cds.enabled:
        return Remote()
    return Remote(cds.catalogs, cds.radius_arcsec, cds.private)


def lookup_of(config: Config) -> tuple[Lookup, tuple[str, ...]]:
    """Look-up in the local catalogues of the configuration; see `local_lookup`.

    Raises
    ------
    ConfigError
        If a catalogue cannot be read, or a chain demands what no catalogue answers, local or
        at CDS.
    """
    lookup, versions = local_lookup(config.match.catalogs, store_of(config))
    remote = remote_of(config)
    searched = dict.fromkeys(remote.catalogs, remote.radius_arcsec)
    kinds: dict[str, str] = {}
    if isinstance(lookup, CatalogLookup):
        searched |= lookup.radii_arcsec
        kinds = lookup.kinds
        accept = partial(_accept, config.chains, searched, kinds)
        lookup = replace(lookup, accept=accept)
    check_catalogs(config.chains, searched, kinds)
    return lookup, versions


def _accept(
    chains: Mapping[str, Chain],
    searched: Mapping[str, float],
    kinds: Mapping[str, str],
    catalog: StoredCatalog,
) -> None:
    """Raise CatalogError where a version that was put in use cannot answer what chains demand."""
    name = catalog.name
    try:
        check_catalogs(
            chains,
            {**searched, name: catalog.radius_arcsec},
            {**kinds, name: str(catalog.kind)},
        )
    except ConfigError as error:
        detail = f"{catalog.name}@{catalog.version}: {error}"
        raise CatalogError("cannot_answer", detail) from error


def _accept_all(_: StoredCatalog) -> None:
    """Every version may be taken."""


def local_lookup(
    specs: Sequence[str], store: Store | None = None
) -> tuple[Lookup, tuple[str, ...]]:
    """Look-up in the catalogues of ``[match] catalogs``, and their versions.

    Parameters
    ----------
    specs : sequence of str
        Names of catalogues that were added, ``name@version`` for one version of them alone,
        ``name=path``, or ``nearby_galaxies`` for the one that is shipped.
    store : Store, optional
        Of those that were added.

    Returns
    -------
    lookup : callable
        From positions to one context each: what is near in each catalogue, the host, and
        which catalogues were asked. A catalogue that was replaced in the store is taken
        anew with the next call; of a table of positions by time that is asked by its name, the
        versions before it are asked on about their times.
    versions : tuple of str
        ``name@version``.

    Raises
    ------
    ConfigError
        If a catalogue cannot be read.
    """
    if not specs:
        return no_lookup, ()
    lookup = CatalogLookup([_loaded(spec, store) for spec in specs])
    return lookup, lookup.versions


@dataclass(frozen=True, slots=True)
class CatalogLookup:
    """Contexts of positions from catalogues in the order of the configuration.

    ``accept`` raises CatalogError for a version that is not to take the place of the one before.
    """

    catalogs: Sequence[Catalog | Following]
    accept: Callable[[StoredCatalog], None] = _accept_all
    _told: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False)

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions in use: ``name@version``."""
        return tuple(f"{c.name}@{c.version}" for c in self._current())

    @property
    def kinds(self) -> dict[str, str]:
        """What each catalogue is of, by name."""
        return {c.name: str(c.kind) for c in self._current()}

    @property
    def radii_arcsec(self) -> dict[str, float]:
        """How far each catalogue is searched, by name."""
        return {c.name: c.radius_arcsec for c in self._current()}

    def __call__(
        self, ra_deg: FloatArray, dec_deg: FloatArray, time_jd: FloatArray
    ) -> list[Context]:
        """One context a position; those with nothing near that were asked the same are one.

        Stars are looked for where they are at the time of each position. A table of positions by
        time is asked about the positions whose times it covers, and of the others not named.
        """
        parts = [part for catalog in self.catalogs for part in self._asked(catalog, time_jd)]
        contexts = _nothing_near(parts, len(ra_deg))
        found: dict[int, list[_Near]] = {}
        hosts: dict[int, list[Neighbour]] = {}
        for catalog, some in parts:
            for number, near, nearest_arcsec in neighbours(
                catalog, ra_deg[some], dec_deg[some], time_jd[some]
            ):
                place = int(some[number])
                if catalog.kind is Kind.galaxies:
                    hosts.setdefault(place, []).extend(near)
                found.setdefault(place, []).append((near[0], nearest_arcsec))
        for place, told in found.items():
            contexts[place] = _context(contexts[place], told, hosts.get(place, ()))
        return contexts

    def _asked(self, catalog: Catalog | Following, time_jd: FloatArray) -> list[_Part]:
        """Which versions of a catalogue are asked about which positions."""
        if isinstance(catalog, LocalCatalog):
            return [(catalog, np.arange(len(time_jd)))]
        if isinstance(catalog, Following):
            parts = list(catalog.asked(time_jd, _kept, _left_out, self.accept))
        else:
            parts = [(catalog, np.flatnonzero(catalog.covers(time_jd)))]
        self._tell_not_covered(parts, time_jd)
        return [(version, some) for version, some in parts if len(some)]

    def _tell_not_covered(
        self, parts: Sequence[tuple[StoredCatalog, IntArray]], time_jd: FloatArray
    ) -> None:
        """Say once of each version in use that alerts are before or after its times.

        ``parts`` begin with it; what another version covers is not meant.
        """
        catalog = parts[0][0]
        if catalog.covers_jd is None:
            return
        first, last = catalog.covers_jd
        left = np.delete(time_jd, np.concatenate([some for _, some in parts]))
        if (left > last).any():
            self._tell("catalog_over", catalog, until=last)
        if (left < first).any():
            self._tell("catalog_early", catalog, since=first)

    def _tell(self, event: str, catalog: StoredCatalog, **time_jd: float) -> None:
        name = f"{catalog.name}@{catalog.version}"
        if (event, name) not in self._told:
            self._told.add((event, name))
            log.warning(
                event,
                catalog=name,
                **{which: iso_utc(datetime_from_jd(jd)) for which, jd in time_jd.items()},
                detail=_NOT_COVERED[event],
            )

    def _current(self) -> Iterator[Catalog]:
        for catalog in self.catalogs:
            if isinstance(catalog, Following):
                yield catalog.current(_kept, self.accept)
            else:
                yield catalog


def _nothing_near(parts: Sequence[_Part], count: int) -> list[Context]:
    """Contexts of positions with nothing near, one for all that the same was asked about."""
    shared, which = [Context()], np.zeros(count, np.int64)
    for catalog, some in parts:
        if len(some) == count:
            shared = [_also(one, catalog) for one in shared]
            continue
        before, number = np.unique(which[some], return_inverse=True)
        which[some] = len(shared) + number
        shared += [_also(shared[one], catalog) for one in before.tolist()]
    return [shared[one] for one in which.tolist()]


def _also(context: Context, catalog: Catalog) -> Context:
    """A context of which one more catalogue was asked."""
    return replace(
        context,
        looked_up=(*context.looked_up, catalog.name),
        catalog_versions=(*context.catalog_versions, f"{catalog.name}@{catalog.version}"),
        kinds=context.kinds | {str(catalog.kind)},
    )


def _context(nothing: Context, found: Sequence[_Near], hosts: Sequence[Neighbour]) -> Context:
    away = [arcsec for one, arcsec in found if one.kind == Kind.galaxies]
    return replace(
        nothing,
        near=tuple(one.text() for one, _ in found),
        distances=tuple((one.catalog, arcsec) for one, arcsec in found),
        # Of galaxies the likeliest host is told, which need not be the nearest.
        nearest=nearest_by_kind(one for one, _ in found if one.kind != Kind.galaxies),
        hosts=likely_hosts(hosts),
        galaxy_arcsec=min(away, default=None),
    )


def _kept(error: CatalogError) -> None:
    log.warning("catalog_kept", reason=error.reason, detail=error.detail)


def _left_out(error: CatalogError) -> None:
    log.warning("catalog_left_out", reason=error.reason, detail=error.detail)


def _loaded(spec: str, store: Store | None) -> Catalog | Following:
    if spec == BUILT_IN:
        return nearby_galaxies()
    name, equals, path = spec.partition("=")
    try:
        if not equals and store is not None and (at := name.partition("@"))[0] in store.names():
            return store.open(at[0], at[2]) if at[1] else Following(store, name)
        if name and path:
            return galaxies_of(name, Path(path).expanduser())
    except CatalogError as error:
        raise ConfigError(f"[match] catalogs: {name}: {error.detail} ({error.reason})") from error
    added = "" if store is None else f" ({', '.join(store.names()) or 'none'})"
    raise ConfigError(
        f"[match] catalogs: {spec!r} is not one that was added{added}, name=path or {BUILT_IN}"
    )
