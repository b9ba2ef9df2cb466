"""The batch answer: what must be in force, from what was sent and nothing else.

No broker, no engine, no state: packets are decoded here, notices are read by the pure path from
bytes to region, and the functions of the core do the rest, once, over all that there is.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from crossmatch import joint
from crossmatch.columns import ALERT_SCHEMA, CANDIDATE_FIELDS
from crossmatch.cuts import apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import Notice, Region
from crossmatch.versions import Statement, Versions, World, world_of
from gateway.config import Config
from gateway.feeds.registry import load_feeds
from gateway.understand import understand

# ZTF writes -999 where it has no value.
_SENTINEL_BELOW = -99.0
_HAS_JOINT_EVENTS = "joint_events" in {f.name for f in CANDIDATE_FIELDS}
_CUT_FIELDS = {
    "real_bogus": "rb",
    "deep_real_bogus": "drb",
    "n_bad": "nbad",
    "mag_difference": "magdiff",
    "moving_distance_arcsec": "ssdistnr",
    "ps1_distance_arcsec": "distpsnr1",
    "ps1_star_score": "sgscore1",
}


@dataclass(frozen=True)
class InForce:
    """A candidate: how many alerts, which is the latest, and where that lies in the region."""

    n_alerts: int
    alert_id: str
    credible_level: float


Answer = dict[tuple[str, str], InForce]
"""Candidates in force by event and object."""


def batch_answer(
    config: Config, notices: Iterable[tuple[str, bytes]], packets: Iterable[bytes]
) -> Answer:
    """All alerts against all regions in force.

    Parameters
    ----------
    config : Config
        Cuts, chains and feeds.
    notices : iterable of (str, bytes)
        Topic (empty: by VTP) and message.
    packets : iterable of bytes
        Alerts of ZTF.
    """
    regions = regions_in_force(config, notices)
    alerts = decoded(packets)
    alerts = alerts.filter(pa.array(apply_cuts(alerts, config.cuts).keep))
    columns = [alerts[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg")]
    pairs = match(*columns, RegionIndex.build(regions))
    rows = alerts.select(["object_id", "alert_id", "time_jd"]).to_pylist()
    groups: dict[tuple[str, str], list[tuple[float, int, float]]] = defaultdict(list)
    for row, region, level in zip(
        pairs.alert_row, pairs.region_row, pairs.credible_level, strict=True
    ):
        alert = rows[row]
        key = (regions[region].event_id, alert["object_id"])
        groups[key].append((alert["time_jd"], alert["alert_id"], float(level)))
    return {key: _candidate(found) for key, found in groups.items()}


def _candidate(found: list[tuple[float, int, float]]) -> InForce:
    _, alert_id, level = max(found)
    return InForce(len(found), str(alert_id), level)


def regions_in_force(config: Config, notices: Iterable[tuple[str, bytes]]) -> list[Region]:
    """The region in force of each event that is matched; joint events are one."""
    folders = [folder for folder in config.feed_folders if folder.is_dir()]
    registry = load_feeds(folders)
    versions: Versions[Region] = Versions()
    for topic, raw in notices:
        found = understand(registry, config.chains, raw, topic=topic)
        if found.notice is not None and found.outcome in ("region", "retraction"):
            versions.enter(_statement(found.notice), found.region)
    worlds: dict[World, list[Region]] = defaultdict(list)
    for event_id, world in sorted(versions):
        region = versions.current((event_id, world))
        is_test, _ = world
        if region is not None and (config.match.include_tests or not is_test):
            worlds[world].append(region)
    return [region for world in worlds.values() for region in _joined(world)]


def _joined(regions: list[Region]) -> list[Region]:
    if not _HAS_JOINT_EVENTS:
        return regions
    return [
        replace(joint.leading(members), event_id=joint.joint_name(members))
        for members in joint.components(regions)
    ]


def _statement(notice: Notice) -> Statement:
    return Statement(
        event_id=notice.event_id,
        world=world_of(notice.role, notice.streams),
        rank=(notice.order, notice.notice_id, notice.skymap_sha256, notice.sha256),
        retraction=notice.alert_type == "retraction",
        retracts=notice.retracts,
    )


def decoded(packets: Iterable[bytes]) -> pa.Table:
    """Distinct alerts as the columns that matching and cuts need; the others are null."""
    rows: dict[int, dict[str, Any]] = {}
    for packet in packets:
        record: Any = next(fastavro.reader(io.BytesIO(packet)))
        rows.setdefault(record["candid"], _row(record))
    # What is not asked for may be null here whatever the schema says of it.
    fields = [pa.field(f.name, f.type) for f in ALERT_SCHEMA]
    return pa.Table.from_pylist(list(rows.values()), schema=pa.schema(fields))


def _row(record: dict[str, Any]) -> dict[str, Any]:
    candidate = record["candidate"]
    row = {name: _value(candidate[field]) for name, field in _CUT_FIELDS.items()}
    return row | {
        "survey": "ztf",
        "object_id": record["objectId"],
        "alert_id": record["candid"],
        "time_jd": candidate["jd"],
        "ra_deg": candidate["ra"],
        "dec_deg": candidate["dec"],
        "positive": {"t": True, "1": True, "f": False, "0": False}.get(candidate["isdiffpos"]),
    }


def _value(number: float | None) -> float | None:
    if number is None or not np.isfinite(number) or number < _SENTINEL_BELOW:
        return None
    return number
