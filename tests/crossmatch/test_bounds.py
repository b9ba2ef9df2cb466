"""Whatever a notice says, what goes on to topics is small."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.regioncodec import encode_region, encode_retraction
from crossmatch import sky
from crossmatch.bounds import ADDRESS_TOO_LONG, MAP_ADDRESS, MARK, MAX_NAMES_BYTES, bounded
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import NoticeError
from crossmatch.model import Circle, MultiOrderMap, Notice
from crossmatch.region import make_region

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG = "ä" * 2_000_000
NOTICE = Notice(
    feed="own", mission="Own", instrument="camera", kind="burst", notice_id="own:1",
    event_id="Own_1", trigger_id="1", messenger="grb", role="observation", alert_type="initial",
    issued=WHEN, order=(WHEN.timestamp(), 0, 0), trigger_time=WHEN,
    localization=Circle(10.0, 20.0, 3.0, 0.9), sha256="0" * 64, event_class="GRB",
    details={"snr": "7"}, classification={"GRB": 0.9},
)  # fmt: skip
QUARTER = 256 * 1024


def sent(notice: Notice) -> bytes:
    region = make_region(notice, 1, DEFAULT_CHAINS)
    return encode_region(region, trigger_id=notice.trigger_id, retracts=notice.retracts)


def test_ordinary_notices_stay_as_they_are() -> None:
    assert bounded(NOTICE) == NOTICE


@pytest.mark.parametrize("field", ["mission", "instrument", "kind", "event_class"])
def test_words_are_cut_with_a_mark(field: str) -> None:
    found = bounded(replace(NOTICE, **{field: LONG}))
    text = getattr(found, field)
    assert (len(text), text[-1], text[:3]) == (200, MARK, "äää")
    assert len(sent(found)) < QUARTER


@pytest.mark.parametrize("field", ["notice_id", "event_id", "trigger_id"])
def test_names_are_refused_and_never_cut(field: str) -> None:
    with pytest.raises(NoticeError) as caught:
        bounded(replace(NOTICE, **{field: "x" * 1001}))
    assert caught.value.reason == "name_too_long"
    assert len(caught.value.detail) < 200
    assert bounded(replace(NOTICE, **{field: "x" * 1000})) is not None


@pytest.mark.parametrize("field", ["cites", "retracts"])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("x" * 1001,), "name_too_long"),
        (tuple(map(str, range(1001))), "too_many_names"),
        (("ä" * 1000,) * (MAX_NAMES_BYTES // 2000 + 1), "too_many_names"),
    ],
)
def test_lists_of_names_have_an_end(field: str, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(NoticeError) as caught:
        bounded(replace(NOTICE, **{field: names}))
    assert caught.value.reason == reason


def test_details_are_cut_and_those_left_out_are_counted() -> None:
    many = {f"{i:04d}" + "k" * 500: "v" * 5000 for i in range(1000)}
    found = bounded(replace(NOTICE, details=many)).details
    assert len(found) == 101
    assert found[MARK] == "900 more"
    assert all(len(k) <= 100 and len(v) <= 1000 for k, v in found.items())


def test_the_likeliest_classes_stay() -> None:
    many = {f"class {i}": i / 1000 for i in range(1000)}
    found = bounded(replace(NOTICE, classification=many)).classification
    assert len(found) == 100
    assert set(found) == {f"class {i}" for i in range(900, 1000)}


def test_a_map_address_that_is_too_long_is_none_and_the_details_say_so() -> None:
    found = bounded(replace(NOTICE, skymap_url="https://example.org/" + "a" * 3_000_000))
    assert (found.skymap_url, found.details[MAP_ADDRESS]) == (None, ADDRESS_TOO_LONG)
    assert found.localization == NOTICE.localization
    nowhere = replace(NOTICE, localization=None, skymap_url="https://example.org/" + "a" * 3000)
    assert bounded(nowhere).no_position_reason == "map_address_too_long"


texts = st.sampled_from(["", "a", LONG, "\U0001f52d" * 5000, "x" * 1000]) | st.text(max_size=50)
changes = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("mission", "instrument", "kind", "event_class", "notice_id", "event_id",
             "trigger_id", "skymap_url"),
            texts,
        ),
        **dict.fromkeys(("cites", "retracts"), st.lists(texts).map(lambda t: tuple(t * 40))),
        "details": st.dictionaries(texts, texts),
        "classification": st.dictionaries(texts, st.floats(0, 1)),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(changes)
def test_a_message_is_far_smaller_than_kafka_takes(changed: dict[str, Any]) -> None:
    """1 MiB is Kafka's bound; ours is half of it, whatever a notice says."""
    try:
        found = bounded(replace(NOTICE, **changed))
    except NoticeError:
        return
    assert len(sent(found)) < 2 * QUARTER
    assert len(encode_retraction(found)) < 2 * QUARTER
    assert len(repr((found.details, found.classification)).encode()) < 2 * QUARTER


def test_a_map_of_noise_makes_a_small_message() -> None:
    """Its region is half of all cells, none beside another: 3 million characters of MOC."""
    n = 12 * 4**8
    shift = 2 * (sky.MAX_ORDER - 8)
    start = np.arange(n) << shift
    density = np.where(np.arange(n) % 2 == 0, 2.0, 0.0) / (4 * np.pi)
    noise = MultiOrderMap(start, start + (1 << shift), density, sha256="0" * 64)

    assert len(sent(replace(NOTICE, localization=noise))) < 2 * QUARTER
