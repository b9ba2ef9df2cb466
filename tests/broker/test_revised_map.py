"""A real map that was revised: S240114aj, and the ZTF alerts of the night after.

``notices/gcn_2024-01/lvk`` of the sample data has the two preliminary notices that LIGO-Virgo
sent on 2024-01-14, ``alerts/ztf_parquet/fink_science_20240115`` the alerts as Fink stored them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pytest

from broker.engine import Engine
from broker.packets import read_alerts
from broker.regioncodec import encode_region
from broker.surveys import normalise
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import MultiOrderMap
from crossmatch.region import make_region
from gateway.feeds.registry import load_feeds
from gateway.understand import understand

from . import model
from .conftest import CUTS, MAPS, T0, alerts, decode
from .runner import Runner

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def night(shared_data: Path) -> pa.Table:
    folder = shared_data / "alerts" / "ztf_parquet" / "fink_science_20240115"
    bad: list = []
    found = [
        normalise(b.survey, b.native).alerts for b in read_alerts([folder], {}, report=bad.append)
    ]
    assert not bad
    return pa.concat_tables(found)


@pytest.fixture(scope="module")
def versions(shared_data: Path) -> list:
    """The records of both notices, the first one first."""
    registry, found = load_feeds(), []
    for number, name in enumerate(("initial", "update_0"), start=1):
        path = shared_data / "notices" / "gcn_2024-01" / "lvk" / f"S240114aj_{name}.json"
        notice = understand(registry, DEFAULT_CHAINS, path.read_bytes()).notice
        assert notice is not None
        assert isinstance(notice.localization, MultiOrderMap)
        MAPS[notice.localization.sha256] = notice.localization
        region = make_region(notice, number, DEFAULT_CHAINS, level=0.9)
        found.append(decode(encode_region(region)))
    return found


@pytest.fixture
def runner() -> Runner:
    cuts = replace(CUTS, enabled=False)
    return Runner(
        lambda archive, aside: Engine(
            chains=DEFAULT_CHAINS,
            cuts=cuts,
            versions=Versions(cuts="none", code="test"),
            archive=archive,
            now=lambda: T0,
            aside=aside,
        )
    )


def in_force(runner: Runner) -> dict[int, dict]:
    """Candidates in force by the number of their latest alert."""
    found = {int(s["alert_id"]): model.content(s) for s in runner.in_force().values()}
    assert len(found) == len(runner.in_force())
    return found


def test_the_revised_map_drops_seven_of_seventy_gains_one_and_keeps_the_others(
    runner, night, versions
):
    first, revised = versions
    runner.play(night, [first])
    before = set(in_force(runner))
    at_once = runner.step(alerts([]), [revised])
    later = runner.search()
    after = set(in_force(runner))

    assert (len(before), len(after)) == (70, 64)
    assert (len(before - after), len(after - before)) == (7, 1)
    # What falls is told in the very batch, what comes in when the archive was searched.
    assert Counter(s["state"] for s in at_once) == {"withdrawn": 7, "in_force": 63}
    assert Counter((s["alert_type"], s["reason"]) for s in at_once + later) == {
        ("retraction", "outside_revised_region"): 7,
        ("update", "region_revised"): 63,
        ("initial", "found_in_archive"): 1,
    }
    assert {s["cause"] for s in at_once + later} == {revised.notice_id}
    # Each object has one alert in this night: counts of alerts and of candidates are one.
    objects = Counter(key.counterpart_id for key in runner.engine.groups)
    assert set(objects.values()) == {1}
    assert all(len(group.alerts) <= 1 for group in runner.engine.groups.values())


def test_the_same_64_are_in_force_whatever_came_first(night, versions, runner):
    runner.play(night, versions)
    expected = in_force(runner)
    assert len(expected) == 64
    inputs = [(night, []), (alerts([]), versions[:1]), (alerts([]), versions[1:])]
    for order in permutations(inputs):
        again = Runner(runner.new_engine)
        for rows, records in order:
            again.play(rows, records)
        assert in_force(again) == expected


def test_alerts_that_come_last_and_one_by_one_end_in_the_same(night, versions, runner):
    runner.play(night, versions)
    again = Runner(runner.new_engine)
    again.step(alerts([]), versions[::-1])
    for row in range(0, night.num_rows, 40):
        again.step(night.slice(row, 40))
    again.restart()
    assert in_force(again) == in_force(runner)
