"""Messages that no feed knows: counted, sampled within bounds, proposed as feeds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Circle, Notice
from gateway.feeds.drafts import unknown
from gateway.feeds.drafts.guess import draft_from, feed_name
from gateway.feeds.drafts.suggest import suggestions, trial
from gateway.feeds.drafts.template import Draft, feed_toml, guesses
from gateway.feeds.drafts.unknown import Sign, Unknown, read_unknown, samples_of, sign_of
from gateway.feeds.files import feed_from_toml
from gateway.feeds.loading import parser_of
from gateway.feeds.registry import load_feeds, registry_of
from gateway.feeds.spec import Feed
from gateway.feeds.store import FeedStore
from gateway.reports import NoticeReport
from gateway.understand import Understood

FINAL = (Path(__file__).parents[1] / "data" / "notices" / "gbm_final.xml").read_bytes()
START = datetime(2026, 3, 1, tzinfo=UTC)
RECORD: dict[str, Any] = {
    "event": {
        "name": "OT-42",
        "t0": "2026-03-01T04:05:06Z",
        "position": {"ra_deg": 121.5, "dec_deg": -12.25, "err_68_arcmin": 30},
    },
    "sent": "2026-03-01T04:05:20Z",
    "is_test": False,
    "telescope": "Ourscope",
}
OWN = json.dumps(RECORD).encode()


def packet(ivoid: str = "ivo://org.example/own", **changes: str) -> bytes:
    text = FINAL.decode().replace("ivo://nasa.gsfc.gcn/Fermi", ivoid)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def report(
    raw: bytes, seconds: float = 0, source: str = "kafka:ours", topic: str = "own", **more: str
) -> NoticeReport:
    time = START + timedelta(seconds=seconds)
    facts = {"feed": "", "outcome": "rejected", "reason": "no_feed"} | more
    return NoticeReport(source=source, topic=topic, received=time, finished=time, raw=raw, **facts)


# --- counting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "sign"),
    [
        (packet(), Sign("voevent", "ivo://org.example/own", 115)),
        (packet("ivo://org.example/a/b"), Sign("voevent", "ivo://org.example/a/b", 115)),
        (packet().replace(b"own#", b"own/"), Sign("voevent", "ivo://org.example/own", 115)),
        (b'{"$schema": "https://x/y.json", "a": 1}', Sign("json", "https://x/y.json")),
        (b'{"b": 1, "a": 2}', Sign("json", "a, b")),
        (b"beep", Sign("other", "")),
        (b"<x/>", Sign("other", "")),
    ],
)
def test_sign_is_what_a_message_says_of_itself(raw: bytes, sign: Sign) -> None:
    assert sign_of(raw) == sign


def test_messages_without_a_feed_are_counted_by_their_sign(tmp_path: Path) -> None:
    observer = Unknown(tmp_path)
    for seconds in (0, 1, 2):
        observer(report(OWN, seconds))
    observer(report(packet(), 3, source="vtp:192.0.2.1", topic=""))
    observer.flush()
    first, second = read_unknown(tmp_path)
    assert (first.source, first.topic, first.count) == ("kafka", "own", 3)
    assert (first.first, first.last) == ("2026-03-01T00:00:00+00:00", "2026-03-01T00:00:02+00:00")
    assert samples_of(tmp_path, first) == [OWN]
    assert second.sign == Sign("voevent", "ivo://org.example/own", 115)
    assert second.source == "vtp"


@pytest.mark.parametrize(
    "other", [{"reason": "bad_time"}, {"feed": "lvk"}, {"reason": "", "outcome": "region"}]
)
def test_other_messages_are_not_counted(tmp_path: Path, other: dict[str, str]) -> None:
    observer = Unknown(tmp_path)
    observer(report(OWN, **other))
    observer(report(b""))
    observer.flush()
    assert read_unknown(tmp_path) == []
    assert not (tmp_path / "feeds").exists()


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    first = Unknown(tmp_path)
    first(report(OWN))
    first(report(OWN, 1))
    first.flush()
    second = Unknown(tmp_path)
    second(report(OWN, 2))
    second.flush()
    (found,) = read_unknown(tmp_path)
    assert found.count == 3
    assert len(found.samples) == 1


def test_counts_are_written_now_and_then(tmp_path: Path) -> None:
    observer = Unknown(tmp_path)
    for seconds in (0, 1, 9):
        observer(report(OWN, seconds))
    assert read_unknown(tmp_path)[0].count == 1
    observer(report(OWN, 10))
    assert read_unknown(tmp_path)[0].count == 4


def test_at_most_three_different_samples_are_kept(tmp_path: Path) -> None:
    observer = Unknown(tmp_path)
    for number in (1, 1, 2, 3, 4, 5):
        observer(report(b'{"a": %d}' % number))
    observer.flush()
    (found,) = read_unknown(tmp_path)
    assert samples_of(tmp_path, found) == [b'{"a": 1}', b'{"a": 2}', b'{"a": 3}']


def test_samples_are_bounded_and_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "MAX_SAMPLE_BYTES", 50)
    monkeypatch.setattr(unknown, "MAX_TOTAL_BYTES", 60)
    observer = Unknown(tmp_path)
    for raw in (
        b'{"a": "%s"}' % (b"x" * 60),
        b'{"b": "%s"}' % (b"x" * 30),
        b'{"c": "%s"}' % (b"x" * 30),
    ):
        observer(report(raw))
    observer.flush()
    folder = tmp_path / "feeds" / "unknown"
    assert [s.stat().st_size for s in folder.glob("*.raw")] == [39]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o077 == 0 for p in folder.iterdir())
    assert sum(s.count for s in read_unknown(tmp_path)) == 3


def test_state_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        observer = Unknown(tmp_path / "unknown")
        observer(report(OWN))
        FeedStore([], tmp_path / "history", lambda: START).load()
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {"unknown": 0o700, "history": 0o700}


def test_number_of_kinds_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard again and again stays; what came once makes room, with its sample."""
    monkeypatch.setattr(unknown, "MAX_KINDS", 5)
    observer = Unknown(tmp_path)
    for number in range(20):
        observer(report(OWN, number))
        observer(report(b'{"a%d": 1}' % number, number))
    observer.flush()
    found = read_unknown(tmp_path)
    assert len(found) == 5
    assert found[0].count == 20
    assert len(list((tmp_path / "feeds" / "unknown").glob("*.raw"))) == 5
    assert observer._bytes == sum(sum(s.sizes) for s in found)


def test_full_disk_does_not_stop_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = Unknown(tmp_path)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unknown, "_write", full)
    observer(report(OWN))
    monkeypatch.undo()
    observer(report(OWN, 20))
    (found,) = read_unknown(tmp_path)
    assert found.count == 2
    assert len(found.samples) == 1


@pytest.mark.parametrize("damaged", ["", "[1]", "{}", '[{"count": 1}]'])
def test_damaged_counts_begin_anew(tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "feeds" / "unknown"
    folder.mkdir(parents=True)
    (folder / "counts.json").write_text(damaged)
    observer = Unknown(tmp_path)
    observer(report(OWN))
    assert [s.count for s in read_unknown(tmp_path)] == [1]


# --- drafts ----------------------------------------------------------------------------------


def alone(draft: Draft, raw: bytes, **where: str) -> Understood:
    return trial(feed_toml(draft), raw, DEFAULT_CHAINS, **where)


def understood(raw: bytes, topic: str = "own.topic") -> tuple[Draft, Notice]:
    draft = draft_from([raw], topic=topic)
    found = alone(draft, raw, topic=topic)
    assert found.rejected is None, found.rejected
    assert found.notice is not None
    return draft, found.notice


def record(**changes: Any) -> bytes:
    return json.dumps(RECORD | changes).encode()


def test_nested_record_is_understood() -> None:
    draft, notice = understood(OWN)
    assert (notice.event_id, notice.mission) == ("ourscope_OT-42", "Ourscope")
    assert notice.localization == Circle(121.5, -12.25, 0.5, 0.68)
    assert notice.trigger_time == datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
    assert notice.issued == datetime(2026, 3, 1, 4, 5, 20, tzinfo=UTC)
    assert notice.role == "observation"
    assert "containment" not in draft.guessed
    assert "messenger" in draft.guessed


def test_test_mark_of_the_sample_is_kept_in_mind() -> None:
    draft = draft_from([OWN], topic="own.topic")
    found = alone(draft, record(is_test=True))
    assert found.notice is not None
    assert found.notice.role == "test"


def test_record_is_recognised_wherever_it_comes_from() -> None:
    draft = draft_from([OWN])
    feed = feed_from_toml(feed_toml(draft), "draft")
    feeds = registry_of([feed], {feed.name: parser_of(feed)})
    assert feeds.route(OWN).feed == feed
    assert feeds.route(b'{"id": 1, "ra": 2, "dec": 3}').feed is None


@pytest.mark.parametrize(
    ("time", "form"),
    [
        ("2026-03-01T04:05:06Z", "iso"),
        (1772337906, "unix"),
        (1772337906000, "unix_ms"),
        (61100.170208333335, "mjd"),
        (2461100.6702083335, "jd"),
        ("1772337906", "unix"),
    ],
)
@pytest.mark.parametrize("name", ["event_time", "trigger_time"])
def test_forms_of_time(name: str, time: object, form: str) -> None:
    draft, notice = understood(json.dumps({"name": "x1", name: time}).encode())
    assert draft.time_format == form
    assert notice.trigger_time is not None
    offset = notice.trigger_time - datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
    assert abs(offset.total_seconds()) < 1e-3


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"ra": 10, "dec": 20, "ra_dec_error": 1}, Circle(10, 20, 1, 0.9)),
        ({"raj2000": 10, "dej2000": 20, "error_radius": 1}, Circle(10, 20, 1, 0.9)),
        ({"ra": "10", "dec": "-20", "err_arcsec": "3600"}, Circle(10, -20, 1, 0.9)),
        ({"RA": "01:00:00", "Dec": "-20:30:00", "radius": 1}, Circle(15, -20.5, 1, 0.9)),
        ({"loc": [{"alpha": 10, "delta": 20, "r90": 1}]}, Circle(10, 20, 1, 0.9)),
        ({"site": {"ra": 1}, "p": {"ra": 400, "dec": 0}}, None),
    ],
)
def test_forms_of_position(members: dict[str, Any], place: Circle | None) -> None:
    raw = json.dumps({"id": "x1", "trigger_time": "2026-03-01T04:05:06Z"} | members).encode()
    _, notice = understood(raw)
    if place is None:
        assert notice.localization is None
        return
    assert isinstance(notice.localization, Circle)
    assert notice.localization.radius_deg == pytest.approx(place.radius_deg)
    assert notice.localization.ra_deg == pytest.approx(place.ra_deg)
    assert notice.localization.dec_deg == pytest.approx(place.dec_deg)
    assert notice.localization.containment == place.containment


def test_words_that_may_mark_a_test_or_a_retraction() -> None:
    raw = record(status="observation", retracted=False)
    draft = draft_from([raw])
    assert (draft.test_params, draft.retraction_params) == (("is_test",), ("retracted",))
    assert draft.test_when == {"status": "test*"}
    assert draft.retraction_when == {"status": "retraction*"}
    marks = {"test_params", "retraction_params", "test_when", "retraction_when"}
    assert marks < draft.guessed
    assert "test_params (is_test)" in guesses(draft)
    assert "retraction_when (status = retraction*)" in guesses(draft)
    found = alone(draft, record(status="retraction", retracted=True))
    assert found.outcome == "retraction"


@pytest.mark.parametrize("word", [True, "true", "Yes", 1, "1", False, "no", 0])
def test_all_words_for_yes_mark_a_test(word: object) -> None:
    draft = draft_from([record(is_test=False)])
    notice = alone(draft, record(is_test=word)).notice
    assert notice is not None
    assert notice.role == ("test" if word in (True, "true", "Yes", "1") else "observation")


def test_odd_member_names_make_paths() -> None:
    raw = json.dumps({"a b": {"ra deg": 10, "dec deg": 20, "err": 1}, "t0": "2026-03-01T00:00:00Z"})
    _, notice = understood(raw.encode())
    assert isinstance(notice.localization, Circle)


@pytest.mark.parametrize(
    ("topic", "messenger"),
    [
        ("chime.frb", "frb"), ("our.gw_alerts", "gw"), ("lab.neutrino.tracks", "neutrino"),
        ("gcn.notices.fermi.x", "grb"), ("maxi.gsc", "xray"), ("own.topic", "optical"),
    ],
)  # fmt: skip
def test_messenger_is_guessed_from_the_topic(topic: str, messenger: str) -> None:
    assert draft_from([b'{"a": 1}'], topic=topic).messenger == messenger


def test_voevent_is_understood() -> None:
    draft, notice = understood(packet(), "")
    assert draft.ivoids == ("ivo://org.example/own#",)
    assert draft.trigger == ("TrigID",)
    assert draft.packet_types == (115,)
    assert notice.event_id == "own_100000001"
    assert isinstance(notice.localization, Circle)


def test_voevents_of_several_types_are_one_feed() -> None:
    raws = [packet(), packet().replace(b'"115"', b'"116"')]
    draft = draft_from(raws)
    assert draft.packet_types == (115, 116)
    assert all(alone(draft, raw).outcome == "region" for raw in raws)


def test_voevent_without_a_trigger_is_named_by_its_ivoid() -> None:
    raw = packet(TrigID="Whatever")
    draft, notice = understood(raw)
    assert draft.trigger == ("@ivoid",)
    assert notice.event_id.startswith("own_GBM_Fin_Pos")


def test_address_of_a_map_is_kept() -> None:
    url = b"https://example.org/maps/a.multiorder.fits"
    raw = packet().replace(b"</What>", b'<Param name="area" value="%s"/></What>' % url)
    draft, notice = understood(raw)
    assert draft.skymap_urls[-1:] == ("area",)
    assert notice.skymap_url is not None


def test_nothing_can_be_guessed_from_other_bytes() -> None:
    with pytest.raises(NoticeError):
        draft_from([b"beep"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gcn.notices.X-ray", "gcn_notices_x_ray"),
        ("42", "feed_42"),
        ("", "feed"),
        ("é" * 80, "feed"),
        ("a" * 80, "a" * 40),
    ],
)
def test_feed_names_are_names(text: str, name: str) -> None:
    assert feed_name(text) == name


def test_hostile_texts_stay_texts() -> None:
    """What a stranger writes into a message cannot become a line of the file."""
    evil = 'x"\nprivate = true\n[transport]\nkafka = "evil:1'
    record = {evil: {"ra": 1, "dec": 2}, "mission": evil, "t0": "2026-01-01T00:00:00Z"}
    draft = draft_from([json.dumps(record).encode()], topic="own.topic")
    feed = feed_from_toml(feed_toml(draft, "two\nlines"), "draft")
    assert feed.topics == ("own.topic",)
    assert not feed.private
    assert feed.transport.kafka == ""
    with pytest.raises(ConfigError, match="topics"):
        feed_from_toml(feed_toml(replace(draft, topics=(evil,))), "draft")


_TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs", "Cn"]), max_size=10)
_NAMES = st.sampled_from(["ra", "dec", "t0", "id", "err_90", "is_test", "mode", "url", "$schema"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**13) | _TEXT
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["2026-03-01T04:05:06Z", "https://example.org/a.fits", "12:30:00"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(_NAMES | _TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(record=st.dictionaries(_NAMES | _TEXT, _VALUES, max_size=6))
def test_any_record_gives_a_file_that_loads(record: dict[str, Any]) -> None:
    raw = json.dumps(record).encode()
    draft = draft_from([raw], topic="own.topic")
    assert feed_from_toml(feed_toml(draft), "draft").name == draft.name
    assert alone(draft, raw, topic="own.topic").outcome != "held"


def test_every_line_of_a_file_is_explained() -> None:
    lines = feed_toml(draft_from([OWN], topic="own.topic"), "About.").splitlines()
    assert lines[0] == "# About."
    assert all(len(line) <= 100 for line in lines)
    keys = [n for n, line in enumerate(lines) if line.startswith(("mess", "topics", "test_", "["))]
    assert len(keys) > 3
    assert all(lines[n - 1].startswith("#") for n in keys)
    assert "GUESSED" in lines[next(n for n in keys if lines[n].startswith("messenger")) - 1]


# --- proposals -------------------------------------------------------------------------------


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    observer = Unknown(tmp_path)
    observer(report(OWN, topic="own.topic"))
    for number in (115, 116):
        raw = packet().replace(b'"115"', b'"%d"' % number)
        observer(report(raw, source="vtp:192.0.2.1", topic=""))
        observer(report(raw, 5, source="kafka:ours", topic="own.voevents"))
    observer.flush()
    return tmp_path


def test_proposals_understand_their_samples(heard: Path) -> None:
    first, second = suggestions(heard, load_feeds(), DEFAULT_CHAINS)
    assert (first.form, first.count, first.packet_types) == ("voevent", 4, (115, 116))
    assert first.sources == ("kafka", "vtp")
    assert (second.form, second.count, second.topics) == ("json", 1, ("own.topic",))
    for one in (first, second):
        feed = feed_from_toml(one.toml, "x")
        assert isinstance(feed, Feed)
        assert feed.name == one.name
        assert one.tried is not None
        assert one.tried.outcome == "region"
        assert one.problem == ""


def test_what_a_feed_knows_by_now_is_not_proposed(heard: Path, tmp_path: Path) -> None:
    first, second = suggestions(heard, load_feeds(), DEFAULT_CHAINS)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.toml").write_text(first.toml)
    assert [s.sign for s in suggestions(heard, load_feeds([folder]), DEFAULT_CHAINS)] == [
        second.sign
    ]


def test_names_of_proposals_are_free(tmp_path: Path) -> None:
    observer = Unknown(tmp_path)
    observer(report(b'{"when": 1, "x1": 2}', topic="lvk"))
    observer(report(b'{"when": 1, "x2": 2}', topic="lvk"))
    observer.flush()
    found = suggestions(tmp_path, load_feeds(), DEFAULT_CHAINS)
    assert sorted(s.name for s in found) == ["lvk_2", "lvk_3"]


def test_what_cannot_be_proposed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MAX_SAMPLE_BYTES", 10)
    observer = Unknown(tmp_path)
    observer(report(OWN))
    observer.flush()
    (found,) = suggestions(tmp_path, load_feeds(), DEFAULT_CHAINS)
    assert found.toml == ""
    assert "too large" in found.problem
