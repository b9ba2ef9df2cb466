"""Every damaged notice ends as a region or with a reason: ``make fuzz``.

As a program: ``python -m tests.fuzz.run --count 200000 --seed 1``. Mutants that break a
promise are kept in ``fuzz-failures/``; ``--only N`` runs mutant N again.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from broker.codec import encode_dead_letter
from broker.regioncodec import encode_region, encode_retraction
from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.fits_table import write_table
from crossmatch.model import MultiOrderMap, Notice, Region
from crossmatch.shapes import shape_of
from gateway.feeds.registry import Registry, load_feeds
from gateway.understand import Understood, understand

from .mutations import mutant

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "notices"
OWN = ROOT / "tests" / "data" / "notices"
# A map of a million cells takes half a second; nothing here is as large.
SECONDS = 3.0
_PER_FOLDER = 4
_LARGEST = 400_000

REJECTIONS = frozenset(
    """
    empty unknown_format too_large too_deep no_feed not_json json_broken json_nan json_number
    json_duplicate_key json_not_object json_text xml_broken xml_dtd xml_encoding not_voevent
    bad_version no_ivoid bad_ivoid bad_role bad_citation path_failed name_too_long too_many_names

    bad_field missing_field no_trigger_id bad_trigger_id bad_time bad_position bad_skymap
    position_invalid radius_invalid containment_invalid angle_invalid polygon_invalid
    no_trigger_time no_chain

    not_fits fits_truncated fits_invalid no_table no_probability unit_unknown frame_not_icrs
    ordering_unknown nside_invalid skymap_empty cells_invalid cells_overlap density_not_finite
    density_negative not_normalised gzip_invalid skymap_too_large
    """.split()  # noqa: SIM905
)
_CODE = re.compile(r"[a-z][a-z0-9_]{1,60}")


class Broken(Exception):
    """A promise that a mutant broke."""


def corpus(shared: Path | None = SHARED) -> list[bytes]:
    """Real notices, a few of every folder, and our own; two in ten are JSON, one has a map."""
    folders = [OWN]
    if shared is not None and shared.is_dir():
        folders += sorted(p for p in shared.rglob("*") if p.is_dir())
    found = []
    for folder in folders:
        files = [p for p in sorted(folder.iterdir()) if p.is_file()]
        files = [p for p in files if p.suffix in (".xml", ".json", ".txt", ".bin", "")]
        files = [p for p in files if p.stat().st_size < _LARGEST]
        found += [p.read_bytes() for p in files[:: max(1, len(files) // _PER_FOLDER)]]
    records = [raw for raw in found if raw.lstrip()[:1] == b"{"]
    gw = json.loads((OWN / "gwalert.json").read_bytes())
    maps = []
    for fits in (_multi_order(), _flat()):
        event = gw["event"] | {"skymap": base64.b64encode(fits).decode()}
        maps.append(json.dumps(gw | {"event": event}).encode())
    wanted = len(found) // 10
    found += records * (2 * wanted // len(records))
    return found + maps * (1 + wanted // len(maps))


def _multi_order() -> bytes:
    uniq = np.arange(12 * 4**3) + 4**4
    density = np.full(len(uniq), 1 / (4 * np.pi))
    columns = [("UNIQ", "", uniq), ("PROBDENSITY", "sr-1", density)]
    columns += [(n, "Mpc", density + 100) for n in ("DISTMU", "DISTSIGMA", "DISTNORM")]
    return write_table(
        columns, {"ORDERING": "NUNIQ", "COORDSYS": "C", "DISTMEAN": 100.0, "DISTSTD": 20.0}
    )


def _flat() -> bytes:
    ring = np.arange(1.0, 12 * 8**2 + 1)
    return write_table(
        [("PROB", "pix-1", ring / ring.sum())],
        {"ORDERING": "RING", "COORDSYS": "C", "NSIDE": 8, "INDXSCHM": "IMPLICIT"},
    )


def mutant_of(seed: int, number: int, notices: Sequence[bytes], topics: Sequence[str]) -> Any:
    """Mutant ``number`` of a seed and the topic it comes by, whatever the others were."""
    rng = Random(f"{seed}/{number}")
    return mutant(rng, notices), rng.choice(topics) if rng.random() < 0.2 else ""


def check(registry: Registry, raw: bytes, topic: str) -> Understood:
    """What a mutant became.

    Raises
    ------
    Broken
        When it did not end as it must.
    """
    begin = time.process_time()
    try:
        found = understand(registry, DEFAULT_CHAINS, raw, topic=topic)
        _check_outcome(found)
        _check_output(found, raw)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    if (took := time.process_time() - begin) > SECONDS:
        raise Broken(f"took {took:.1f} s")
    return found


def _check_outcome(found: Understood) -> None:
    if found.outcome == "region":
        if found.reason or found.region is None or found.notice is None:
            raise Broken(f"a region with reason {found.reason!r}")
        _check_region(found.region)
    elif found.outcome == "rejected":
        if found.reason not in REJECTIONS:
            raise Broken(f"unknown reason {found.reason!r}")
    elif not _CODE.fullmatch(found.reason):
        raise Broken(f"{found.outcome} with reason {found.reason!r}")
    if found.notice is not None:
        _check_notice(found.notice)


def _check_region(region: Region) -> None:
    if not (math.isfinite(region.area90_deg2) and 0 < region.area90_deg2 <= 41253):
        raise Broken(f"area {region.area90_deg2}")
    shape = shape_of(region.localization)
    ra, dec = (np.atleast_1d(x) for x in shape.best_deg)
    if not (0 <= ra[0] <= 360 and -90 <= dec[0] <= 90):
        raise Broken(f"most probable position {shape.best_deg}")
    ra, dec = np.r_[ra, 0.0, 123.4, 359.9], np.r_[dec, -90.0, 12.3, 90.0]
    density, level = shape.at(ra, dec, sky.ipix29(ra, dec))
    if not (np.isfinite(density) & (density >= 0) & (level >= 0) & (level <= 1)).all():
        raise Broken(f"density {density}, level {level}")
    _check_numbers(region, "region")


def _check_notice(notice: Notice) -> None:
    if notice.alert_type == "retraction" and notice.localization is not None:
        raise Broken("a retraction with a place")
    if not (notice.event_id and notice.notice_id):
        raise Broken("a notice without a name")
    _check_numbers(notice, "notice")
    for moment in (notice.issued, notice.trigger_time):
        # Time systems and offsets may carry a time over the border of a year.
        if moment is not None and (moment.utcoffset() is None or not 1989 <= moment.year <= 2100):
            raise Broken(f"time {moment}")


def _check_numbers(value: Any, where: str) -> None:
    """No NaN, no infinity, no text that cannot be encoded, in any field."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Broken(f"{where} is {value}")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            key.encode()
            _check_numbers(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_numbers(item, where)
    elif isinstance(value, MultiOrderMap):
        if not (np.isfinite(value.density).all() and (value.start < value.end).all()):
            raise Broken(f"{where}: a map with bad cells")
    elif hasattr(value, "__dataclass_fields__"):
        for field in fields(value):
            _check_numbers(getattr(value, field.name), f"{where}.{field.name}")


def _check_output(found: Understood, raw: bytes) -> None:
    """What goes to the topics can be encoded."""
    if found.outcome == "retraction" and found.notice is not None:
        encode_retraction(found.notice)
    if found.region is not None:
        encode_region(found.region)
    if found.rejected is not None:
        encode_dead_letter(
            reason=found.rejected.reason,
            detail=found.rejected.detail,
            source="fuzz",
            raw=raw,
            received=datetime(2026, 1, 2, tzinfo=UTC),
        )


class Summary:
    """Counts by outcome and reason, and what broke."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.broken: list[tuple[int, str, bytes]] = []

    def lines(self) -> list[str]:
        """For people."""
        total = sum(self.counts.values())
        return [
            f"{n:>9,} {n / total:7.2%}  {outcome:<12} {reason}"
            for (outcome, reason), n in self.counts.most_common()
        ]


def fuzz(
    seed: int,
    numbers: Sequence[int],
    notices: Sequence[bytes],
    progress: Any = None,
    most_broken: int = 20,
) -> Summary:
    """Run mutants; ends early when ``most_broken`` broke a promise."""
    registry = load_feeds()
    topics = registry.topics()
    summary = Summary()
    for done, number in enumerate(numbers, 1):
        raw, topic = mutant_of(seed, number, notices, topics)
        try:
            found = check(registry, raw, topic)
        except Broken as error:
            summary.broken.append((number, str(error), raw))
            if len(summary.broken) >= most_broken:
                break
        else:
            summary.counts[found.outcome, found.reason] += 1
        if progress is not None:
            progress(done, len(numbers), len(summary.broken))
    return summary


def _progress() -> Any:
    begin = last = time.monotonic()

    def tell(done: int, total: int, broken: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 1 or done == total:
            last = now
            rate = done / (now - begin)
            left = (total - done) / rate
            print(
                f"\r{done:,} of {total:,} mutants, {rate:,.0f}/s, {left:,.0f} s left,"
                f" {broken} broken   ",
                end="", file=sys.stderr, flush=True,
            )  # fmt: skip

    return tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description="Damaged notices: each must end as a region or with a reason."
    )
    parser.add_argument("--count", type=int, default=200_000, help="how many mutants (200000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same mutants (1)")
    parser.add_argument("--only", type=int, help="run this mutant alone and show where it breaks")
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")
    notices = corpus()
    print(f"{len(notices)} notices, seed {options.seed}", file=sys.stderr)
    if options.only is not None:
        registry = load_feeds()
        raw, topic = mutant_of(options.seed, options.only, notices, registry.topics())
        print(f"{len(raw)} bytes, topic {topic!r}: {raw[:2000]!r}")
        found = check(registry, raw, topic)
        print(found.outcome, found.reason, found.rejected or "")
        return 0
    summary = fuzz(options.seed, range(options.count), notices, _progress())
    print(file=sys.stderr)
    print("\n".join(summary.lines()))
    kept = Path("fuzz-failures")
    for number, text, raw in summary.broken:
        kept.mkdir(exist_ok=True)
        path = kept / f"{options.seed}-{number}.bin"
        path.write_bytes(raw)
        print(f"BROKEN {path}: {text}   (again: --seed {options.seed} --only {number})")
    return 1 if summary.broken else 0


if __name__ == "__main__":
    sys.exit(main())
