"""Answers of catalogues elsewhere: which one holds for a place, whatever their order."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmatch.candidate import Context
from crossmatch.errors import CatalogError
from crossmatch.neighbours import Neighbour
from crossmatch.remote import Answer, Remote, RemoteSource, checked, read_answer, separation_arcsec
from crossmatch.sky import separation_deg

ARCSEC = 1 / 3600
SOURCE = RemoteSource("NGC 1", "Galaxy", 10.0, 20.0, 0.0, redshift=0.0123)
ANSWER = Answer(
    "MM-ZTF-a", "simbad", "2026-03-01", 10.0, 20.0, 2.0, "2026-03-01T00:00:00Z", "x", (SOURCE,)
)
REMOTE = Remote(("simbad",), 1.0)
LOCAL = Context(("gaia",), catalog_versions=("gaia@1",), near=("gaia: stars",))


def test_candidate_says_what_is_not_looked_up_yet() -> None:
    context = REMOTE.joined(LOCAL, (), 10.0, 20.0)
    assert (context.looked_up, context.not_looked_up) == (("gaia",), ("simbad",))
    assert (context.near, context.catalog_versions) == (LOCAL.near, LOCAL.catalog_versions)


def test_answer_is_joined_with_its_version() -> None:
    context = REMOTE.joined(LOCAL, (ANSWER,), 10.0, 20.0 + 0.5 * ARCSEC)
    assert (context.looked_up, context.not_looked_up) == (("gaia", "simbad"), ())
    assert context.near[1] == "simbad: 0.50 arcsec, NGC 1, Galaxy, z 0.0123"
    assert context.catalog_versions == ("gaia@1", "simbad@2026-03-01")


def test_the_nearest_object_of_simbad_is_a_neighbour_and_other_answers_are_texts() -> None:
    star = Neighbour("gaia", "stars", 0.1, parallax_sigma=9.0)
    both = Remote(("simbad", "vizier:t"), 1.0)
    context = both.joined(
        replace(LOCAL, nearest=(star,)), (ANSWER, replace(ANSWER, catalog="vizier:t")), 10.0, 20.0
    )
    assert context.nearest == (
        star,
        Neighbour("simbad", "simbad", 0.0, name="NGC 1", type="Galaxy"),
    )
    assert len(context.near) == 3
    assert context.columns["simbad_type"] == "Galaxy"


def test_nothing_near_was_looked_up_all_the_same() -> None:
    context = REMOTE.joined(LOCAL, (replace(ANSWER, sources=()),), 10.0, 20.0)
    assert (context.looked_up, context.near) == (("gaia", "simbad"), LOCAL.near)


def test_source_beyond_the_radius_is_not_told() -> None:
    far = replace(SOURCE, dec_deg=20.0 + 1.5 * ARCSEC, separation_arcsec=1.5)
    context = REMOTE.joined(LOCAL, (replace(ANSWER, sources=(far,)),), 10.0, 20.0)
    assert context.near == LOCAL.near


def test_without_catalogues_nothing_changes() -> None:
    assert Remote().joined(LOCAL, (ANSWER,), 10.0, 20.0) is LOCAL


def test_answer_of_another_place_or_catalogue_does_not_hold() -> None:
    away = replace(ANSWER, dec_deg=20.0 + 1.1 * ARCSEC)
    other = replace(ANSWER, catalog="vizier:t")
    assert REMOTE.joined(LOCAL, (away, other), 10.0, 20.0).not_looked_up == ("simbad",)


def test_latest_answer_holds_in_any_order() -> None:
    later = replace(ANSWER, answered="2026-03-02T00:00:00Z", version="2026-03-02", sources=())
    same_time = replace(later, via="tap")
    found = {
        REMOTE.joined(LOCAL, answers, 10.0, 20.0)
        for answers in permutations([ANSWER, later, same_time])
    }
    assert [context.catalog_versions[1] for context in found] == ["simbad@2026-03-02"]


def test_rule_names_catalogues_and_radius() -> None:
    assert (Remote().rule, Remote(("simbad", "vizier:t"), 1.5).rule) == ("", "simbad+vizier:t<1.5")


@given(
    st.floats(0, 360),
    st.floats(-90, 90),
    st.floats(0, 360),
    st.floats(-90, 90),
)
def test_separation_agrees_with_that_of_arrays(ra1: float, dec1: float, ra2: float, dec2: float):
    expected = float(separation_deg(ra1, dec1, ra2, dec2)) * 3600
    assert separation_arcsec(ra1, dec1, ra2, dec2) == pytest.approx(expected, rel=1e-6, abs=1e-3)


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_covering_answer_has_all_that_a_place_of_its_own_would_have(
    east: float, north: float, source_east: float, source_north: float
) -> None:
    """Whatever place nearby was asked about, the nearest source of a place is the same."""
    source_dec = 20.0 + source_north * ARCSEC
    source_ra = 10.0 + source_east * ARCSEC / math.cos(math.radians(20))
    here = 10.0 + east * ARCSEC / math.cos(math.radians(20)), 20.0 + north * ARCSEC
    away = separation_arcsec(10.0, 20.0, source_ra, source_dec)
    source = RemoteSource("s", None, source_ra, source_dec, away)
    asked = replace(ANSWER, sources=(source,) if away <= 2.0 else ())
    if not asked.covers(*here, 1.0):
        return
    own = separation_arcsec(*here, source_ra, source_dec)
    found = asked.nearest(*here, 1.0)
    if abs(own - 1.0) > 1e-5:
        assert (found is not None) == (own < 1.0)


def test_answer_survives_json() -> None:
    assert read_answer(json.loads(json.dumps(ANSWER.to_json()))) == ANSWER


@pytest.mark.parametrize(
    "changed",
    [
        {"ra_deg": math.nan},
        {"dec_deg": 91.0},
        {"ra_deg": "10"},
        {"radius_arcsec": 0.0},
        {"catalog": ""},
        {"version": None},
        {"sources": (replace(SOURCE, separation_arcsec=9.0),)},
        {"sources": (replace(SOURCE, ra_deg=None),)},
        {"sources": (replace(SOURCE, redshift=math.inf),)},
        {"sources": (replace(SOURCE, name=7),)},
        {"sources": (SOURCE,) * 51},
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict) -> None:
    with pytest.raises(CatalogError) as caught:
        checked(replace(ANSWER, **changed))
    assert caught.value.reason == "bad_answer"


@pytest.mark.parametrize("data", [[], {}, {"catalog": 1}, ANSWER.to_json() | {"sources": [{}]}])
def test_record_that_is_no_answer_is_refused(data: object) -> None:
    with pytest.raises(CatalogError, match="bad_answer"):
        read_answer(data)
