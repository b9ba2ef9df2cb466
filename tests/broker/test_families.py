"""Records that bear on one another are kept, and put aside, together."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest

from broker.families import Families, names_of, span_jd
from broker.regioncodec import encode_region
from crossmatch.model import Window
from crossmatch.times import jd_from_datetime

from .conftest import T0, T0_JD, decode, notice, record


def grb(event: str, serial: int = 1, minutes: float = 0.0, **changed):
    trigger = T0 + timedelta(minutes=minutes)
    return record(notice(event, serial, 10, 0, 1, **({"trigger_time": trigger} | changed)))


def neutrino(event: str, **changed):
    return grb(event, messenger="neutrino", **changed)


def retraction(event: str, *cited: str):
    of = {"alert_type": "retraction", "localization": None, "retracts": cited}
    return record(notice(event, 9, 0, 0, 1, **of))


def groups(*records) -> set[frozenset[str]]:
    families = Families()
    for one in records:
        families.add(one)
    return {frozenset(r.notice_id for r in f.records.values()) for f in families}


@pytest.mark.parametrize(
    ("records", "n"),
    [
        ([neutrino("A"), neutrino("B")], 2),
        ([neutrino("A"), neutrino("A", serial=2)], 1),
        ([neutrino("A"), retraction("A")], 1),
        ([neutrino("A"), retraction("B", "A")], 1),
        ([neutrino("A"), retraction("B", "ivo://test/A#1")], 1),
        ([neutrino("A"), neutrino("ivo://test/A#1")], 1),
        ([grb("A"), grb("B", minutes=1.0)], 1),
        ([grb("A"), grb("B", minutes=2.0)], 2),
        ([grb("A"), grb("B", minutes=1.0, significant=False)], 2),
        ([grb("A"), grb("C", minutes=2.0), grb("B", minutes=1.0)], 1),
        ([neutrino("A"), neutrino("B"), retraction("C", "A", "B")], 1),
        # Worlds are not told apart: a real retraction reaches tests.
        ([neutrino("A", role="test"), retraction("A")], 1),
    ],
)
def test_records_are_linked_by_names_and_minutes_in_any_order(records, n):
    for order in permutations(records):
        assert len(groups(*order)) == n


def test_a_family_lasts_until_the_last_window_of_all_its_records():
    families = Families()
    families.add(neutrino("A", window=Window(-1.0, 2.0)))
    families.add(neutrino("A", serial=2, window=Window(-3.0, 1.0)))
    (family,) = families
    assert family.start_jd == pytest.approx(T0_JD - 3.0)
    assert family.end_jd == pytest.approx(T0_JD + 2.0)
    assert families.ended(T0_JD + 1.9) == []
    assert families.ended(T0_JD + 2.1) == [family]


def test_a_retraction_alone_has_the_time_at_which_it_was_issued():
    one = retraction("A")
    issued = jd_from_datetime(notice("A", 9, 0, 0, 1).issued)
    assert span_jd(one) == pytest.approx((issued, issued), abs=1e-5)


def test_what_is_removed_leaves_no_names():
    families = Families()
    for event in ("A", "B"):
        families.add(grb(event, messenger="neutrino"))
    first, _ = families
    families.remove(first)
    assert len(families) == 1
    families.add(neutrino("A"))
    assert len(families) == 2


def test_of_two_records_of_one_rank_the_later_one_stays_last():
    one = neutrino("A")
    assert one.region is not None
    other = decode(encode_region(one.region, trigger_id="other"))
    families = Families()
    for each in (one, other, one):
        families.add(each)
    (family,) = families
    assert list(family.records) == [other.raw, one.raw]
    assert names_of(one) == names_of(other)
