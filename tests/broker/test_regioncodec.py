"""Regions on their topics: what goes in comes out, and strangers can read it."""

from __future__ import annotations

import io

import fastavro
import pytest

from broker.regioncodec import decode_region, encode_region, encode_retraction
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Circle, Ellipse, Polygon, SystematicTerm
from crossmatch.region import make_region

from .conftest import notice

SHAPES = [
    Circle(10.0, -20.0, 3.0, 0.68, (SystematicTerm(3.7, 0.9), SystematicTerm(14.3, 0.1))),
    Ellipse(10.0, -20.0, 3.0, 1.0, 30.0, 0.9),
    Polygon(((10.0, 10.0), (12.0, 10.0), (12.0, 12.0), (10.0, 12.0))),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_a_region_comes_back_as_it_was(shape):
    region = make_region(notice("E1", 1, 0, 0, 1, localization=shape), 1, DEFAULT_CHAINS)
    assert decode_region(encode_region(region)).region == region


def test_a_region_is_the_same_bytes_every_time():
    region = make_region(notice("E1", 1, 10.0, 0, 1), 1, DEFAULT_CHAINS)
    assert encode_region(region) == encode_region(region)


def test_a_region_carries_a_moc_that_holds_its_centre():
    from mocpy import MOC

    (fields,) = fastavro.reader(
        io.BytesIO(encode_region(make_region(notice("E1", 1, 10.0, -20.0, 3.0), 1, DEFAULT_CHAINS)))
    )
    moc = MOC.from_string(fields["moc"])
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude

    assert moc.contains_lonlat(
        Longitude([10.0, 40.0] * u.deg), Latitude([-20.0, 0.0] * u.deg)
    ).tolist() == [True, False]


def test_a_retraction_has_no_region():
    taken_back = notice("E1", 3, 0, 0, 1, alert_type="retraction", localization=None)
    found = decode_region(encode_retraction(taken_back))
    assert (found.alert_type, found.region, found.event_id) == ("retraction", None, "E1")
    assert found.order == taken_back.order


def test_the_marks_of_a_private_feed_travel_with_region_and_retraction():
    marks = {"streams": ("otherteam", "ourteam"), "feed_version": "f" * 64}
    region = make_region(notice("ourteam:E1", 1, 10.0, 0, 1, **marks), 1, DEFAULT_CHAINS)
    found = decode_region(encode_region(region))
    assert found.region == region
    assert found.streams == region.streams == ("otherteam", "ourteam")
    assert (found.fields["feed_version"], found.fields["localized_by"]) == ("f" * 64, "circle")

    taken_back = notice("E1", 3, 0, 0, 1, alert_type="retraction", localization=None, **marks)
    found = decode_region(encode_retraction(taken_back))
    assert found.streams == ("otherteam", "ourteam")
    assert found.fields["feed_version"] == "f" * 64


def test_what_says_nothing_of_streams_is_for_everybody():
    region = make_region(notice("E1", 1, 10.0, 0, 1), 1, DEFAULT_CHAINS)
    assert decode_region(encode_region(region)).streams == ()
