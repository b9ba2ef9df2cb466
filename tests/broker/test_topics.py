"""Names of topics: which are public, private, and the operators' own."""

from __future__ import annotations

import pytest

from broker import topics

STREAMS = ("a", "ourteam", "our-team_2")


@pytest.mark.parametrize("topic", [*topics.all_candidates(), topics.REGIONS, topics.VOEVENTS])
def test_private_names_lead_back_to_what_they_stand_for(topic):
    private = topics.seen_by(topic, STREAMS)
    assert [topics.place_of(name) for name in private] == [(topic, s) for s in sorted(STREAMS)]
    assert topics.place_of(topic) == (topic, "")
    assert all(name.startswith(topics.PRIVATE_PREFIX) for name in private)


def test_no_public_topic_is_the_operators_alone():
    public = {*topics.all_candidates(), topics.REGIONS, topics.VOEVENTS}
    assert not public & topics.OPERATOR_ONLY
    named = {v for k, v in vars(topics).items() if k.isupper() and isinstance(v, str)}
    prefixes = {topics.CANDIDATES_PREFIX, topics.PRIVATE_PREFIX}
    assert named - prefixes - public == topics.OPERATOR_ONLY
