"""The outcome of the night by the pure functions alone: no Kafka, no Spark, no clock."""

import io
from collections import defaultdict
from dataclasses import replace

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from broker import packets, surveys
from broker.history import history as history_of
from crossmatch.candidate import Context, EventDistance, Versions, assess
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.region import make_region
from crossmatch.skymap import read_skymap
from gateway.feeds.registry import load_feeds
from gateway.night.alerts import alerts
from gateway.night.facts import facts
from gateway.night.notices import notices

CUTS = Cuts(
    enabled=True,
    min_real_bogus=0.55,
    min_deep_real_bogus=0.3,
    max_bad_pixels=0,
    max_mag_difference=None,
    require_positive=True,
    moving_radius_arcsec=5.0,
    min_star_score=0.76,
    star_radius_arcsec=2.0,
)
SOURCE = facts()["kilonova"]["object_id"]
YOUNG = facts()["young_supernova"]["object_id"]
BURST = "Fermi_524666471"


def _regions():
    registry, found, versions = load_feeds(), [], defaultdict(int)
    for sent in notices():
        notice = registry.parse(sent.payload, topic=sent.topic)
        if notice.skymap_fits is not None:
            notice = replace(notice, localization=read_skymap(notice.skymap_fits))
        if notice.localization is not None:
            versions[notice.event_id] += 1
            found.append(make_region(notice, versions[notice.event_id], DEFAULT_CHAINS))
    return found


@pytest.fixture(scope="module")
def outcome():
    """Candidates by (event, version), best first, as if every version stayed in force."""
    regions = _regions()
    records = [r for a in alerts(3000) for r in fastavro.reader(io.BytesIO(a.payload))]
    rows = [
        packets.native_row(r, "ztf") | {"topic": "t", "partition": 0, "offset": i}
        for i, r in enumerate(records)
    ]
    native = pa.Table.from_pylist(rows, schema=surveys.NATIVE_SCHEMAS["ztf"])
    table = surveys.normalise("ztf", native).alerts
    assert table.num_rows == len(records)
    kept = np.flatnonzero(apply_cuts(table, CUTS).keep)
    table = table.take(pa.array(kept))
    columns = (table[c].to_numpy() for c in ("time_jd", "ra_deg", "dec_deg"))
    pairs = match(*columns, RegionIndex.build(regions))
    alert_rows = table.to_pylist()
    groups = defaultdict(list)
    for alert, region, level in zip(
        pairs.alert_row, pairs.region_row, pairs.credible_level, strict=True
    ):
        history = tuple(history_of(records[kept[alert]], "ztf"))
        matched = MatchedAlert(alert_rows[alert], float(level), 1.0, 1.0, history)
        groups[int(region), alert_rows[alert]["object_id"]].append(matched)
    found = defaultdict(list)
    for (row, _), matched in groups.items():
        region = regions[row]
        distance = EventDistance(region.distance_mpc, region.distance_error_mpc)
        candidate = assess(
            region, DEFAULT_CHAINS[region.chain], matched, Context(), distance, Versions("", "")
        )
        found[region.event_id, region.version].append(candidate.columns)
    return {k: sorted(v, key=lambda c: -c["score"]) for k, v in found.items()}


@pytest.mark.parametrize("version", [2, 3])
def test_source_is_first_and_alone_gold_for_the_wave(outcome, version):
    candidates = outcome["S170817a", version]
    assert candidates[0]["id"] == SOURCE
    assert [c["id"] for c in candidates if c["tier"] == "gold"] == [SOURCE]


def test_source_is_first_for_the_final_burst_position_at_its_level(outcome):
    best = outcome[BURST, 3][0]
    assert (best["id"], best["tier"]) == (SOURCE, "gold")
    assert best["credible_level"] == pytest.approx(0.974, abs=2e-3)


def test_young_supernova_is_silver(outcome):
    (found,) = (c for c in outcome["S170817a", 3] if c["id"] == YOUNG)
    assert found["tier"] == "silver"


def test_one_detector_map_matches_new_supernovae_that_three_detectors_exclude(outcome):
    new = {c["id"] for c in outcome["S170817a", 1] if c["tier"] == "silver"}
    left = {c["id"] for c in outcome["S170817a", 2]}
    assert len(new - left) >= 15


def test_nothing_else_is_gold_for_any_event(outcome):
    gold = {c["id"] for found in outcome.values() for c in found if c["tier"] == "gold"}
    assert gold == {SOURCE}


def test_other_events_have_bronze_at_most(outcome):
    tiers = {
        c["tier"]
        for (event, _), found in outcome.items()
        if event.startswith(("Swift", "IceCube", "S170814"))
        for c in found
    }
    assert tiers <= {"bronze"}


def test_retracted_and_mock_events_match_alerts(outcome):
    assert outcome["S170817zzz", 1]
    assert outcome["MS170817zzz", 1]
