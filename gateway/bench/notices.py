"""``mmgateway bench notices``: from bytes to regions, and from notice to region on the topic."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import voeventparse
from astropy.table import Table

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError
from crossmatch.model import Circle, MultiOrderMap
from crossmatch.region import make_region
from gateway.bench import samples
from gateway.bench.measure import OURS, Row, Subject, measured
from gateway.feeds.registry import Registry, load_feeds
from gateway.understand import SkymapFile, Understood, placed, understand

BENCH = "notices"
# A map of LIGO/Virgo/KAGRA has 20,000 cells as a rule.
_MIXED_CELLS = 20_000
PACKAGES = ("mmgateway", "voevent-parse", "lxml", "numpy", "astropy", "mocpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured; below ``samples`` lie VOEvents as they came (``*.xml``)."""

    voevents: int = 3000
    records: int = 5000
    cells: int = 1_000_000
    runs: int = 5
    seed: int = 1
    samples: Path | None = None


def cases(sizes: Sizes, tell: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Rows of all cases that need no Kafka.

    Raises
    ------
    ConfigError
        If the folder of samples has no VOEvent with a circle.
    """
    registry = load_feeds()
    rows: list[Row] = []
    for name, case in (
        ("voevent", _voevents),
        ("json", _records),
        ("mixed", _mixed),
        ("map", _map),
    ):
        tell(name)
        rows += case(registry, sizes)
    if sizes.samples is not None:
        tell("samples")
        rows += _samples(registry, sizes, sizes.samples)
    return rows


def _all(registry: Registry, raws: Sequence[bytes]) -> list[Understood]:
    return [understand(registry, DEFAULT_CHAINS, raw) for raw in raws]


def _voevents(registry: Registry, sizes: Sizes) -> list[Row]:
    raws = samples.gbm_voevents(sizes.voevents, sizes.seed)

    def peer() -> list[tuple[float, float, float, Any]]:
        found = []
        for raw in raws:
            packet = voeventparse.loads(raw)
            place = voeventparse.get_event_position(packet)
            when = voeventparse.get_event_time_as_utc(packet)
            found.append((place.ra, place.dec, place.err, when))
        return found

    equal = all(
        _close((_circle(ours), _circle_time(ours)), (theirs[:3], theirs[3]))
        for ours, theirs in zip(_all(registry, raws), peer(), strict=True)
    )
    subjects = [
        Subject(name=OURS, run=partial(_all, registry, raws)),
        Subject(name="voevent-parse, position and time only", run=peer, equal=equal),
    ]
    compared = (
        "Fermi GBM positions of 5 kB each: ours to a region with its systematic error and area;"
        " equal: position, error and time"
    )
    return measured(BENCH, "voevent", subjects, len(raws), sizes.runs, compared)


def _samples(registry: Registry, sizes: Sizes, folder: Path) -> list[Row]:
    """VOEvents that missions sent: those of them that give a circle, over and over."""
    every = [path.read_bytes() for path in sorted(folder.rglob("*.xml"))]
    found = _all(registry, every)
    raws = [
        raw
        for raw, u in zip(every, found, strict=True)
        if u.region is not None and isinstance(u.region.localization, Circle)
    ]
    if not raws:
        raise ConfigError(f"{folder}: no VOEvents (*.xml) that give a circle are there")
    times = -(-sizes.voevents // len(raws))
    # A radius may be stated for another probability, or not at all.
    equal = all(
        _near(_circle(ours)[:2], _read_by_others(raw)[:2])
        for ours, raw in zip(_all(registry, raws), raws, strict=True)
    )
    many = raws * times
    subjects = [
        Subject(name=OURS, run=partial(_all, registry, many)),
        Subject(
            name="voevent-parse, position only",
            run=lambda: [_read_by_others(raw) for raw in many],
            equal=equal,
        ),
    ]
    compared = (
        f"{len(raws):,} of {len(every):,} VOEvents as missions sent them, those that give a circle,"
        f" {times:,} times: ours to a region; equal: positions to 1e-6°"
    )
    return measured(BENCH, "samples", subjects, len(many), sizes.runs, compared)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


def _records(registry: Registry, sizes: Sizes) -> list[Row]:
    raws = samples.wxt_records(sizes.records, sizes.seed)

    def peer() -> list[tuple[float, float, float, str]]:
        found = []
        for raw in raws:
            r = json.loads(raw)
            found.append((r["ra"], r["dec"], r["ra_dec_error"], r["trigger_time"]))
        return found

    equal = all(
        _circle(ours) == theirs[:3] and _circle_time(ours).isoformat()[:19] == theirs[3][:19]
        for ours, theirs in zip(_all(registry, raws), peer(), strict=True)
    )
    subjects = [
        Subject(name=OURS, run=partial(_all, registry, raws)),
        Subject(name="json.loads, nothing checked", run=peer, equal=equal),
    ]
    compared = "Einstein Probe alerts: ours to a region; equal: position, error and time"
    return measured(BENCH, "json", subjects, len(raws), sizes.runs, compared)


def _mixed(registry: Registry, sizes: Sizes) -> list[Row]:
    """Many missions in turn, one in ten with a sky map inside: nearer to what comes in a night."""
    count, cells = max(10, sizes.voevents // 10), min(_MIXED_CELLS, sizes.cells)
    raws = samples.mixed(count, sizes.seed, cells)

    def peer() -> list[Any]:
        return list(map(_read_by_others, raws))

    equal = all(
        _agree(ours, theirs) for ours, theirs in zip(_all(registry, raws), peer(), strict=True)
    )
    subjects = [
        Subject(name=OURS, run=partial(_all, registry, raws)),
        Subject(name="voevent-parse, json.loads and astropy", run=peer, equal=equal),
    ]
    compared = (
        "Fermi GBM, Swift BAT, IceCube, Einstein Probe and, one in ten, LIGO/Virgo/KAGRA with a"
        f" map of {cells:,} cells: ours to a region; equal: position and error, or cells of the map"
    )
    return measured(BENCH, "mixed", subjects, len(raws), sizes.runs, compared)


def _read_by_others(raw: bytes) -> tuple[float, ...]:
    """Position and error of a message, or how many cells the map in it has."""
    if raw.startswith(b"<"):
        place = voeventparse.get_event_position(voeventparse.loads(raw))
        return place.ra, place.dec, place.err
    record = json.loads(raw)
    if "event" not in record:
        return record["ra"], record["dec"], record["ra_dec_error"]
    fits = base64.b64decode(record["event"]["skymap"])
    return (float(len(Table.read(io.BytesIO(fits), format="fits"))),)


def _agree(ours: Understood, theirs: tuple[float, ...]) -> bool:
    assert ours.region is not None, ours.reason
    place: Any = ours.region.localization
    if isinstance(place, MultiOrderMap):
        return theirs == (len(place.start),)
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(_circle(ours), theirs, strict=True))


def _map(registry: Registry, sizes: Sizes) -> list[Row]:
    """A sky map of a million cells to a region, and the same area by astropy and sorting."""
    fits = samples.large_map(sizes.cells, sizes.seed)
    notice = _all(registry, samples.wxt_records(1, sizes.seed))[0].notice
    assert notice is not None
    addressed = replace(notice, skymap_url="https://example.org/map.fits")

    def ours() -> float:
        mapped = placed(addressed, lambda _: SkymapFile(fits, "fetched"))
        return make_region(mapped, 1, DEFAULT_CHAINS).area90_deg2

    def peer() -> float:
        table = Table.read(io.BytesIO(fits), format="fits")
        table.sort("PROBDENSITY", reverse=True)
        order = np.floor(np.log2(table["UNIQ"].data / 4) / 2)
        area = 4 * math.pi / (12 * 4**order)
        total = (area * table["PROBDENSITY"].data).cumsum()
        return float(area[: total.searchsorted(0.9) + 1].sum()) * (180 / math.pi) ** 2

    subjects = [
        Subject(name=OURS, run=ours),
        Subject(
            name="astropy, area only", run=peer, equal=math.isclose(ours(), peer(), rel_tol=0.005)
        ),
    ]
    compared = (
        f"one map of {sizes.cells:,} cells: ours checked, to a region with its cover;"
        " equal: 90 % area to 0.5 %"
    )
    return measured(BENCH, "map", subjects, 1, sizes.runs, compared)


def _circle(understood: Understood) -> tuple[float, float, float]:
    assert understood.region is not None, understood.reason
    place: Any = understood.region.localization
    return place.ra_deg, place.dec_deg, place.radius_deg


def _circle_time(understood: Understood) -> Any:
    assert understood.region is not None
    return understood.region.trigger_time


def _close(ours: Any, theirs: Any) -> bool:
    (place, when), (peer_place, peer_when) = ours, theirs
    near = all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(place, peer_place, strict=True))
    return near and abs((when - peer_when).total_seconds()) < 1e-3
