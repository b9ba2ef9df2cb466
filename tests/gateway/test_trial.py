"""What is told of a message: the row for `feeds check`, the details for `feeds try`."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossmatch.chains import chains_with
from crossmatch.model import Circle, Ellipse, Localization, Notice, Polygon, SystematicTerm
from crossmatch.region import area_deg2, credible_level, make_region
from gateway.feeds.message import Ignored
from gateway.feeds.registry import load_feeds
from gateway.offline.trial import COLUMNS, details, explanation, identity, iso, radius90_deg, row_of
from gateway.understand import Understood, understand

NOTICES = Path(__file__).parents[1] / "data" / "notices"
GBM = Circle(120.0, -35.0, 11.43, 0.68, (SystematicTerm(2.6, 0.39), SystematicTerm(4.4, 0.61)))


def read(name: str, **given: Any) -> tuple[bytes, Understood]:
    raw = (NOTICES / name).read_bytes()
    return raw, understand(load_feeds(), chains_with({}), raw, **given)


def told(name: str, **given: Any) -> dict[str, Any]:
    raw, found = read(name, **given)
    found_details: dict[str, Any] = details(
        load_feeds(), raw, row_of(name, found), found, told=given.get("feed", "")
    )
    return found_details


def test_columns_are_those_that_programs_rely_on() -> None:
    assert ", ".join(COLUMNS) == (
        "path, feed, outcome, reason, event_id, kind, role, trigger_time_utc, ra_deg, dec_deg,"
        " radius90_deg, area90_deg2, retracts, duplicate_of"
    )


@pytest.mark.parametrize("circle", [GBM, Circle(10.0, 80.0, 4 / 60, 0.9), Circle(0, 0, 50, 0.68)])
def test_radius_of_a_circle_holds_90_percent(circle: Circle) -> None:
    radius = radius90_deg(circle, area_deg2(circle, 0.9))
    assert radius is not None
    # Due south, so that no pole is crossed.
    level = credible_level(circle, np.array([circle.ra_deg]), np.array([circle.dec_deg - radius]))
    assert level[0] == pytest.approx(0.9, abs=1e-9)


def test_radius_of_an_ellipse_is_its_longer_axis_at_90_percent() -> None:
    ellipse = Ellipse(10.0, 20.0, 0.5, 2.0, 30.0, 0.68)
    expected = 2.0 * math.sqrt(math.log(1 - 0.9) / math.log(1 - 0.68))
    assert radius90_deg(ellipse, area_deg2(ellipse, 0.9)) == pytest.approx(expected)


def test_polygons_have_no_radius() -> None:
    polygon = Polygon(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    assert radius90_deg(polygon, area_deg2(polygon, 0.9)) is None


def test_no_idea_where_is_180_degrees() -> None:
    circle = Circle(0.0, 0.0, 150.0, 0.68)
    assert radius90_deg(circle, area_deg2(circle, 0.9)) == 180.0


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "2024-01-12T03:04:05.000Z"), (678000, "2024-01-12T03:04:05.678Z"),
     (678912, "2024-01-12T03:04:05.678912Z")],
)  # fmt: skip
def test_times_have_milliseconds_or_what_is_known(microseconds: int, text: str) -> None:
    assert iso(datetime(2024, 1, 12, 3, 4, 5, microseconds, UTC)) == text


def test_row_of_a_circle_with_a_systematic_error() -> None:
    _, found = read("gbm_final.xml")
    row = row_of("gbm_final.xml", found)
    assert (row.feed, row.outcome, row.reason) == ("fermi_gbm", "region", "")
    assert (row.event_id, row.kind, row.role) == ("Fermi_100000001", "final", "observation")
    assert row.trigger_time_utc == "2026-01-02T03:04:05.670Z"
    assert (row.ra_deg, row.dec_deg) == (238.41, -0.18)
    assert row.radius90_deg is not None
    # 11.43 degrees hold 68 %: a Fisher distribution alone has 90 % within 16.2.
    assert row.radius90_deg > 16.5
    assert row.area90_deg2 == pytest.approx(
        2 * math.pi * (1 - math.cos(math.radians(row.radius90_deg))) * math.degrees(1) ** 2
    )


def test_row_of_a_retraction_names_what_it_takes_back() -> None:
    row = row_of("x", read("svom_retraction.xml")[1])
    assert row.outcome == "retraction"
    assert row.retracts.split()[-1] == "SVOM_sb99010101"
    assert len(row.retracts.split()) == 4
    assert (row.ra_deg, row.radius90_deg, row.area90_deg2) == (None, None, None)


def test_error_is_told_as_sent_and_as_used() -> None:
    about = told("gbm_final.xml")
    assert about["error_sent"] == {"value": "11.4300", "unit": "deg", "containment": 0.68}
    used = about["error_used"]
    assert used["radius90_deg"] == about["radius90_deg"] > used["radius90_statistical_deg"]
    assert used["systematic"] == [
        {"radius68_deg": 2.6, "weight": 0.39},
        {"radius68_deg": 4.4, "weight": 0.61},
    ]
    assert about["trigger_time_sent"] == "2026-01-02T03:04:05.67"


def test_window_is_told_as_times() -> None:
    about = told("wxt.json")
    assert about["window"]["start"] == "2026-01-01T03:04:05.670Z"
    assert about["window"]["end"] == about["expires"] == "2026-01-22T03:04:05.670Z"
    assert about["error_sent"] == {"value": 0.05, "unit": "deg", "containment": 0.9}
    assert about["area50_deg2"] < about["area90_deg2"]


def test_feed_is_recognised_or_told() -> None:
    assert told("wxt.json")["recognised"]
    about = told("wxt.json", feed="einstein_probe")
    assert not about["recognised"]
    assert about["feed_file"].endswith("einstein_probe.toml")
    assert len(about["feed_version"]) == 12


def test_what_is_rejected_has_a_code_and_a_sentence() -> None:
    about = told("wxt.json", feed="fermi_gbm")
    assert about["outcome"] == "rejected"
    assert about["reason"]
    assert len(about["explanation"].split()) > 2
    assert "window" not in about


def test_every_reason_has_a_sentence_also_those_of_strangers() -> None:
    notice = read("wxt.json")[1].notice
    assert notice is not None
    strange = Understood("no_position", notice=_changed(notice, no_position_reason="sun_in_view"))
    assert "sun in view" in explanation(strange)


def test_same_event_packet_is_the_same_whatever_stands_around_it() -> None:
    raw, found = read("gbm_final.xml")
    more = raw.rstrip() + b"\n<!-- relayed -->\n"
    again = understand(load_feeds(), chains_with({}), more)
    ignored = Understood("ignored")
    assert identity(raw, found) == identity(more, again) == identity(more, ignored)
    assert identity(b"{}", ignored) != identity(b"{ }", ignored)


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (GBM, "circle"),
        (Ellipse(1.0, 2.0, 3.0, 1.0, 0.0, 0.9), "ellipse"),
        (Polygon(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))), "polygon"),
    ],
)
def test_every_shape_is_told(place: Localization, shape: str) -> None:
    raw, found = read("wxt.json")
    assert found.notice is not None
    notice = _changed(found.notice, localization=place)
    region = make_region(notice, 1, chains_with({}))
    given = Understood("region", found.feed, notice=notice, region=region)
    about = details(load_feeds(), raw, row_of("x", given), given, told="")
    assert about["error_used"]["shape"] == about["localized_by"] == shape


def _changed(notice: Notice, **values: Any) -> Notice:
    from dataclasses import replace

    return replace(notice, **values)


def test_rows_of_ignored_messages_tell_what_they_say_of_themselves() -> None:
    time = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
    said = Ignored(
        "product",
        "gbm",
        "n1",
        kind="lightcurve",
        role="observation",
        event_id="E",
        trigger_time=time,
    )
    row = row_of("x", Understood("ignored", "gbm", ignored=said))
    assert (row.event_id, row.kind, row.role) == ("E", "lightcurve", "observation")
    assert row.trigger_time_utc == "2026-03-01T04:05:06.000Z"
    bare = row_of("x", Understood("ignored", ignored=Ignored("heartbeat", "", "")))
    assert (bare.event_id, bare.kind, bare.role, bare.trigger_time_utc) == ("", "", "", None)


def test_a_feed_of_another_format_is_told_in_a_sentence() -> None:
    about = told("gbm_final.xml", feed="einstein_probe")
    assert about["reason"] == "no_feed"
    assert about["explanation"] == "feed einstein_probe reads JSON, this is XML"
    assert len(about["feed_version"]) == 12
    about = told("wxt.json", feed="fermi_gbm")
    assert about["explanation"] == "feed fermi_gbm reads VOEvents (XML), this is JSON"


def test_a_retraction_says_so() -> None:
    about = told("svom_retraction.xml")
    assert about["outcome"] == "retraction"
    assert "takes back" in about["explanation"]
    assert about["event_id"] in about["explanation"]
