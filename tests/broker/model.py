"""What is to be in force, by brute force: all alerts, all records, all verdicts, no order.

Written anew and as plainly as possible; of the product's own it takes the rule whether one
alert lies in one region, and the columns that follow from the matched alerts of an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from broker.fold import STATEMENT_COLUMNS
from broker.regioncodec import RegionRecord
from broker.told import Lookup
from crossmatch.candidate import Assessed, Context, EventDistance, Versions, assess
from crossmatch.chains import Chain
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import Cuts
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import Region
from crossmatch.region import credible_level
from crossmatch.remote import Answer, Remote
from crossmatch.verdicts import Verdict

from .scene import DEC

_GRID_RA = np.linspace(140.0, 170.0, 1501)
_GRID_DEC = np.linspace(DEC - 6, DEC + 6, 61)


def standing(records: Sequence[RegionRecord]) -> list[RegionRecord]:
    """Of each mission's event the record in force."""
    best: dict[tuple, RegionRecord] = {}
    for one in records:
        if one.alert_type == "retraction" or any(_takes_back(other, one) for other in records):
            continue
        key = (one.event_id, world_of(one))
        if key not in best or _rank(one) > _rank(best[key]):
            best[key] = one
    return list(best.values())


def _takes_back(by: RegionRecord, one: RegionRecord) -> bool:
    (by_test, by_streams), (is_test, streams) = world_of(by), world_of(one)
    if by_streams != streams or (by_test and not is_test):
        return False
    if by.alert_type != "retraction":
        return one.notice_id in by.retracts and one.notice_id != by.notice_id
    named = one.event_id in (by.event_id, *by.retracts)
    return (named and one.order <= by.order) or one.notice_id in by.retracts


def world_of(one: RegionRecord) -> tuple[bool, tuple[str, ...]]:
    return one.fields["role"] != "observation", tuple(sorted(one.streams))


def _rank(one: RegionRecord) -> tuple:
    issued, kind, serial = one.order
    return kind, issued, serial, one.notice_id, one.skymap_sha256, one.notice_sha256


def events(records: Sequence[RegionRecord]) -> list[tuple[Region, tuple[str, ...], tuple]]:
    """Events: the region in force under the event's name, the missions' names, the world."""
    groups = [[one] for one in standing(records)]
    joined = True
    while joined:
        joined = False
        for a, b in combinations(groups, 2):
            if any(_one_burst(x, y) for x in a for y in b):
                groups = [g for g in groups if g is not a and g is not b] + [a + b]
                joined = True
                break
    found = []
    for group in groups:
        regions = [one.region for one in group if one.region is not None]
        name = min(regions, key=lambda r: (r.trigger_time, r.event_id)).event_id
        smallest = min(regions, key=lambda r: (r.area90_deg2, r.event_id))
        members = tuple(sorted(r.event_id for r in regions))
        found.append((replace(smallest, event_id=name), members, world_of(group[0])))
    return found


def _one_burst(one: RegionRecord, other: RegionRecord) -> bool:
    a, b = one.region, other.region
    assert a is not None
    assert b is not None
    return (
        world_of(one) == world_of(other)
        and {a.chain, b.chain} <= {"grb", "xray"}
        and a.mission != b.mission
        and abs((a.trigger_time - b.trigger_time).total_seconds()) <= 60
        and bool((_inside(a) & _inside(b)).any())
    )


_insides: dict[tuple, np.ndarray] = {}


def _inside(region: Region) -> np.ndarray:
    """Which points of a grid a region holds."""
    key = (region.skymap_sha256 or region.localization, region.level)
    if key not in _insides:
        ra, dec = (a.ravel() for a in np.meshgrid(_GRID_RA, _GRID_DEC))
        _insides[key] = credible_level(region.localization, ra, dec) <= region.level
    return _insides[key]


def valid(rows: Iterable[dict]) -> list[dict]:
    """Alerts that count: each once, as it first came, unless it was taken back."""
    first: dict[tuple, dict] = {}
    gone = set()
    for row in rows:
        name = row["survey"], row["alert_id"]
        if row["withdrawn"]:
            gone.add(name)
        else:
            first.setdefault(name, row)
    return [row for name, row in first.items() if name not in gone]


def passes(row: dict, cuts: Cuts) -> bool:
    """Whether an alert of the scene passes the cuts: its score alone may fail."""
    return row["real_bogus"] >= cuts.min_real_bogus


_matched: dict[tuple, MatchedAlert | None] = {}


def matched(row: dict, region: Region) -> MatchedAlert | None:
    """One alert in one region, or None."""
    key = (row["survey"], row["alert_id"], row["time_jd"], row["offset"], _identity(region))
    if key not in _matched:
        place = (np.array([row[name]]) for name in ("time_jd", "ra_deg", "dec_deg"))
        pairs = match(*place, RegionIndex.build([region]))
        values = (pairs.credible_level, pairs.density_per_sr, pairs.separation_deg)
        _matched[key] = MatchedAlert(row, *(float(v[0]) for v in values)) if len(pairs) else None
    return _matched[key]


def _identity(region: Region) -> tuple:
    return (
        region.skymap_sha256 or region.localization,
        region.level,
        region.window,
        region.trigger_time,
    )


def candidates(
    rows: Sequence[dict],
    records: Sequence[RegionRecord],
    verdicts: Sequence[Verdict],
    selections: dict[str, tuple[Cuts, bool]],
    selection_of: dict[tuple, str],
    selection: str,
    lookups: Sequence[Answer],
    remotes: dict[str, Remote],
    chains: dict[str, dict[str, Chain]],
    catalogs: dict[str, Lookup],
) -> dict[tuple, Assessed]:
    """The candidates by event, world, survey and object: in force is what is not withheld.

    ``selections`` are cuts, and whether tests count; ``selection_of`` names those of events
    that were put aside under others than those in use now, by the name of a member and the
    world. ``lookups`` are what catalogues elsewhere answered, ``remotes`` which of them each
    selection asks, ``chains`` those of each selection, ``catalogs`` its local ones.
    """
    found = {}
    for region, members, world in events(records):
        cuts_name = next(
            (selection_of[m, world] for m in members if (m, world) in selection_of), selection
        )
        cuts, include_tests = selections[cuts_name]
        is_test, _ = world
        if is_test and not include_tests:
            continue
        objects: dict[tuple[str, str], list[MatchedAlert]] = {}
        for row in valid(rows):
            one = matched(row, region) if passes(row, cuts) else None
            if one is not None:
                objects.setdefault((row["survey"], row["object_id"]), []).append(one)
        for thing, alerts in objects.items():
            made = assess(
                region,
                chains[cuts_name][region.chain],
                alerts,
                _context(catalogs[cuts_name], remotes[cuts_name], lookups, alerts),
                EventDistance(),
                Versions(cuts=cuts_name, code="test"),
                verdict=_latest(verdicts, *thing, members),
                joint_events=members if len(members) > 1 else (),
            )
            found[(region.event_id, world, *thing)] = made
    return found


def _context(
    catalogs: Lookup, remote: Remote, lookups: Sequence[Answer], alerts: Sequence[MatchedAlert]
) -> Context:
    """What is known of an object at the place of its latest alert."""
    latest = max((m.alert for m in alerts), key=lambda a: (a["time_jd"], a["alert_id"]))
    name = f"MM-{latest['survey'].upper()}-{latest['object_id']}"
    mine = [answer for answer in lookups if answer.counterpart_id == name]
    place = latest["ra_deg"], latest["dec_deg"]
    (local,) = catalogs(*(np.array([value]) for value in (*place, latest["time_jd"])))
    return remote.joined(local, mine, *place)


def content(statement: dict) -> dict:
    """What a statement says of its candidate, without the history of the telling."""
    return {k: v for k, v in statement.items() if k not in STATEMENT_COLUMNS}


def _latest(
    verdicts: Sequence[Verdict], survey: str, thing: str, members: tuple[str, ...]
) -> Verdict | None:
    name = f"MM-{survey.upper()}-{thing}"
    mine = [v for v in verdicts if v.counterpart_id == name and v.event_id in ("", *members)]
    return max(mine, key=lambda v: (v.stated, v.verdict_id)) if mine else None
