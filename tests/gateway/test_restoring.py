"""A matcher whose state is partly lost does not start, and says what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.codec import decode, encode
from broker.regioncodec import encode_region
from broker.writer import Marker
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import Circle, Notice
from crossmatch.region import make_region
from gateway.matcher.restoring import Regions, check_counts, check_fit

MARKER = Marker(7, "run", regions_next=3, archived=5, groups=2, aside=1)


class Archive:
    def __init__(self, last: int) -> None:
        self.path = Path("alerts")
        self._last = last

    def last_batch(self) -> int:
        return self._last


def fit(marker: Marker | None, query: str, last: int) -> None:
    archive: Any = Archive(last)
    check_fit(marker, query, Path("checkpoint"), archive)


def test_what_belongs_together_is_taken():
    fit(None, "", -1)
    fit(None, "", 0)
    fit(MARKER, "run", 5)
    # Batch 8 was archived by a process that died before it was committed.
    fit(MARKER, "run", 8)
    check_counts(MARKER, 2, 1)


@pytest.mark.parametrize(
    ("marker", "query", "last", "says"),
    [
        pytest.param(None, "", 3, "of which Kafka holds nothing", id="topics lost"),
        pytest.param(MARKER, "run", 4, "ends with batch 4, but batch 5", id="archive lost"),
        pytest.param(MARKER, "", 5, "is missing", id="checkpoint lost"),
        pytest.param(MARKER, "other", 5, "belongs to another run", id="another checkpoint"),
    ],
)
def test_a_part_that_is_missing_or_of_another_run_is_named(
    marker: Marker | None, query: str, last: int, says: str
):
    with pytest.raises(ServiceError, match=says):
        fit(marker, query, last)


def test_groups_and_events_put_aside_are_counted():
    with pytest.raises(ServiceError, match=r"mm.state has 1 groups of alerts, but 2"):
        check_counts(MARKER, 1, 1)
    with pytest.raises(ServiceError, match=r"closed.sqlite has 0 events that are over, but 1"):
        check_counts(MARKER, 2, 0)


def no_maps(sha256: str, path: str) -> Any:
    raise Rejected("map_missing", f"sky map {path} cannot be read")


REGIONS = Regions(no_maps, DEFAULT_CHAINS)


def region(**changed: Any) -> bytes:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    notice = Notice(
        feed="test",
        mission="Fermi",
        instrument="GBM",
        kind="GBM_Fin_Pos",
        notice_id="ivo://test/1",
        event_id="Fermi_1",
        trigger_id="1",
        messenger="grb",
        role="observation",
        alert_type="initial",
        issued=moment,
        order=(1.0, 0, 1),
        trigger_time=moment,
        localization=Circle(10.0, 20.0, 5.0, 0.9),
        sha256="1",
    )
    encoded = encode_region(make_region(notice, 1, DEFAULT_CHAINS))
    return encode("region", decode(encoded) | changed)


LOST_MAP = region(shape="map", skymap_sha256="0", skymap_path="S1.fits")


def test_a_region_is_read_by_one_rule_whenever_it_is_read():
    for read in (REGIONS.read, REGIONS.read_again, REGIONS.put_aside):
        record = read(region())
        assert record is not None
        assert record.event_id == "Fermi_1"


def test_what_became_a_dead_letter_stays_one_at_a_start():
    with pytest.raises(Rejected, match="no selection chain 'of_old'"):
        REGIONS.read(region(chain="of_old"))
    assert REGIONS.read_again(region(chain="of_old")) is None
    assert REGIONS.read_again(b"garbage") is None


def test_a_sky_map_that_was_lost_stops_a_start_and_what_needs_it_later():
    with pytest.raises(Rejected, match=r"S1\.fits"):
        REGIONS.read(LOST_MAP)
    for read in (REGIONS.read_again, REGIONS.put_aside):
        with pytest.raises(ServiceError, match=r"S1.fits cannot be read; topics, checkpoint"):
            read(LOST_MAP)
    with pytest.raises(ServiceError, match="put aside cannot be read"):
        REGIONS.put_aside(b"garbage")
