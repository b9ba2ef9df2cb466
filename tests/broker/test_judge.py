"""Which alerts match which regions: of live stream, searches and judging anew."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from broker import judge
from broker.groups import Group, GroupKey
from broker.judge import Judge, PacketDetail, address_of
from crossmatch.index import RegionIndex
from crossmatch.lightcurve import Detection

from .conftest import CUTS, T0_JD, alert, alerts, notice, record

KEY = GroupKey("E1", "ztf", "ZTF240000000")


def region(event: str = "E1", radius: float = 3.0, **changed):
    found = record(notice(event, 1, 150.0, 2.0, radius, **changed)).region
    assert found is not None
    return found


def archived(rows: list[dict], batches: list[int]) -> pa.Table:
    return alerts(rows).append_column("batch_id", pa.array(batches))


def test_a_search_gives_each_region_the_alerts_of_batches_before_its_own():
    rows = [alert(i, 150.0, 2.0) for i in range(4)]
    index = RegionIndex.build([region("E1"), region("E2"), region("E3", radius=0.1)])
    found = Judge(CUTS).search(archived(rows, [0, 1, 2, 3]), index, np.array([2, 4, 0]))
    numbers = {k.event_id: [a.alert["alert_id"] for a in v] for k, v in found.items()}
    assert numbers == {"E1": [0, 1], "E2": [0, 1, 2, 3]}


def test_a_search_makes_the_cuts():
    rows = [alert(1, 150.0, 2.0, real_bogus=0.1), alert(2, 150.0, 2.0)]
    found = Judge(CUTS).search(archived(rows, [0, 0]), RegionIndex.build([region()]), np.array([9]))
    assert [a.alert["alert_id"] for a in found[KEY]] == [2]


def test_packets_are_asked_for_some_at_a_time_each_once_and_only_of_matches(monkeypatch):
    monkeypatch.setattr(judge, "_PACKETS", 3)
    asked: list[list[int]] = []

    def packets(matched):
        asked.append([m.alert["offset"] for m in matched])
        return {address_of(m.alert): PacketDetail(sha256=str(m.alert["alert_id"])) for m in matched}

    rows = [alert(i, 150.0 if i % 2 else 10.0, 2.0) for i in range(10)]
    index = RegionIndex.build([region("E1"), region("E2")])
    it = Judge(CUTS, packets)
    found = it.grouped(alerts(rows), it.pairs(alerts(rows), index), index)

    assert asked == [[1, 3, 5], [7, 9]]
    for key, matched in found.items():
        assert {m.sha256 for m in matched} == {"1", "3", "5", "7", "9"}, key


def test_judging_anew_keeps_what_packets_told_and_measures_again():
    curve = (Detection(T0_JD, "g", 17.0, 0.1, 20.0, True),)
    it = Judge(CUTS, lambda matched: {("alerts.ztf", 0, 1): PacketDetail(curve, "ab")})
    rows = alerts([alert(1, 150.0, 2.0), alert(11, 151.5, 2.0)])
    index = RegionIndex.build([region()])
    found = it.grouped(rows, it.pairs(rows, index), index)
    groups = {k: Group({m.alert["alert_id"]: m for m in v}) for k, v in found.items()}
    assert len(groups) == 2

    again = it.again(groups, region(radius=1.0))

    ((key, (one,)),) = again.items()
    assert key == KEY
    assert (one.history, one.sha256) == (curve, "ab")
    assert one.density_per_sr > found[KEY][0].density_per_sr
    assert it.again(groups, None) == {}
    assert it.again({}, region()) == {}
