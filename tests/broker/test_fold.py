"""Statements go where their events may be seen, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from broker import fold, topics
from broker.engine import Batch, Engine
from broker.groups import GroupKey
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS

from .conftest import CUTS, T0, MemoryArchive, alert, alerts, notice, record

STREAMS = ((), ("ourteam",), ("otherteam",), ("otherteam", "ourteam"))
# Names that are the same, or look as if they were private or belonged to a group.
NAMES = ("E1", "ourteam:E1", "ourteam//E1")
ROWS = [alert(10 * i, 150.0 + 0.8 * i, 2.0, days=0.5 + i) for i in range(5)]


@st.composite
def notices(draw: st.DrawFn):
    serial = draw(st.integers(1, 4))
    retracted = draw(st.booleans()) and serial > 1
    streams = draw(st.sampled_from(STREAMS))
    changed = {
        "streams": streams,
        "role": draw(st.sampled_from(("observation", "test"))),
        "messenger": draw(st.sampled_from(("grb", "gw"))),
        "event_class": "secret" if streams else "",
        "sha256": repr((streams, serial)),
    }
    if retracted:
        changed |= {"alert_type": "retraction", "localization": None}
    place = 150.0 + draw(st.integers(0, 4))
    return notice(draw(st.sampled_from(NAMES)), serial, place, 2.0, 3.0, **changed)


def said(batches: Iterable[Iterable], include_private: bool = True) -> dict[str, list[dict]]:
    """What an engine says on each topic; alerts come in between."""
    engine = Engine(
        chains=DEFAULT_CHAINS,
        cuts=CUTS,
        versions=Versions(cuts="test", code="test"),
        archive=MemoryArchive(),
        now=lambda: T0,
        include_tests=True,
    )
    on: dict[str, list[dict]] = {}
    for i, batch in enumerate(batches):
        records = [record(n) for n in batch if include_private or not n.streams]
        outcome = engine.step(Batch(i, alerts(ROWS[i : i + 1]), records))
        for statement in outcome.statements:
            for copy in fold.copies(statement):
                on.setdefault(copy["stream"], []).append(copy)
    return on


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.lists(notices(), max_size=4), min_size=5, max_size=5))
def test_private_events_are_told_on_their_topics_and_change_nothing_on_public_ones(batches):
    on = said(batches)
    for topic, statements in on.items():
        public, stream = topics.place_of(topic)
        assert public in topics.all_candidates()
        for one in statements:
            assert stream in one["streams"] if stream else one["streams"] == []
            assert (one["event_class"] == "secret") == bool(stream)
    public_only = {t: s for t, s in on.items() if not t.startswith(topics.PRIVATE_PREFIX)}
    assert public_only == said(batches, include_private=False)


def test_the_scene_of_the_property_has_private_and_public_candidates():
    """Else it would hold whatever the code does."""
    marks = {"streams": ("otherteam", "ourteam"), "event_class": "secret"}
    on = said([[notice("E1", 1, 150.0, 2.0, 3.0), notice("E1", 2, 150.0, 2.0, 3.0, **marks)]])
    assert sorted(on) == [
        "mm.candidates.grb",
        "mm.private.otherteam.candidates.grb",
        "mm.private.ourteam.candidates.grb",
    ]
    first, second = (on[f"mm.private.{s}.candidates.grb"] for s in ("otherteam", "ourteam"))
    assert [one | {"stream": ""} for one in first] == [one | {"stream": ""} for one in second]


def test_a_statement_names_the_feed_that_brought_its_event():
    marks = {"feed": "ours", "feed_version": "abc", "streams": ("ourteam",)}
    ((one,),) = said([[notice("ourteam:E1", 1, 150.0, 2.0, 3.0, **marks)]]).values()
    assert (one["feed"], one["feed_version"], one["streams"]) == ("ours", "abc", ["ourteam"])


@given(
    st.lists(
        st.builds(
            GroupKey,
            st.text(max_size=12) | st.sampled_from(NAMES),
            st.sampled_from(("ztf", "lsst")),
            st.sampled_from(("ZTF26aaaaaaa", "1")),
            st.booleans(),
            st.sampled_from(STREAMS),
        ),
        max_size=20,
    )
)
def test_keys_of_the_state_topic_differ_as_their_groups_do(keys):
    assert len({k.text for k in keys}) == len(set(keys))
    for key in keys:
        assert GroupKey.from_json(json.loads(json.dumps(key.to_json()))) == key
