"""Bounds of time and memory, and a child process that may be lost at any moment."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, ServiceError
from crossmatch.fits_table import write_table
from crossmatch.model import MultiOrderMap
from crossmatch.skymap import write_skymap
from gateway.feeds.files import feed_from_toml
from gateway.feeds.registry import Registry, load_feeds
from gateway.listener.sandbox import Sandbox
from gateway.listener.wary import may_take_long
from gateway.understand import SkymapFile, Understood, understand

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "notices"
GBM = (DATA / "gbm_final.xml").read_bytes()
GW = json.loads((DATA / "gwalert.json").read_bytes())

PARSERS = """
import os, signal, sys
from crossmatch.errors import NoticeError
from gateway.feeds.message import Ignored

kept = []

def parse(message, feed):
    what = message.record["what"]
    if what == "endless":
        while True:
            pass
    if what == "deaf":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True:
            pass
    if what == "hog":
        while True:
            kept.append(bytes(10_000_000))
    if what == "quiet hog":
        try:
            kept.append(bytes(10**12))
        except MemoryError as error:
            raise NoticeError("own_reason", "no room") from error
    if what == "exit":
        os._exit(3)
    if what == "leave":
        sys.exit(0)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "strange":
        return Ignored(lambda: 1, feed.name, "1")
    if what == "raise":
        raise KeyError("what")
    print("a word that must not get into the output")
    return Ignored(what, feed.name, str(os.getpid()))
"""
FEED = """
name = "own"
title = "Own"
mission = "Own"
instrument = "X"
messenger = "grb"
format = "json"
topics = ["own.topic"]
streams = ["team"]
parser = "own_parsers:parse"
"""


def _feeds_in(place: Path, patch: pytest.MonkeyPatch) -> Path:
    """A feed with a parser that behaves as the message tells it."""
    (place / "own_parsers.py").write_text(PARSERS)
    patch.syspath_prepend(place)
    patch.delitem(sys.modules, "own_parsers", raising=False)
    feeds = place / "feeds"
    feeds.mkdir()
    (feeds / "own.toml").write_text(FEED)
    return feeds


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return _feeds_in(tmp_path, monkeypatch)


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """Of the test alone."""
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=20, megabytes=1000) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Of all tests that leave it usable, which is most: so it is in the service."""
    with pytest.MonkeyPatch.context() as patch:
        feeds = load_feeds([_feeds_in(tmp_path_factory.mktemp("sandbox"), patch)])
        with Sandbox(feeds, DEFAULT_CHAINS, seconds=20, megabytes=1000) as made:
            yield made


def own(what: str) -> bytes:
    return json.dumps({"what": what}).encode()


def pid_of(sandbox: Sandbox) -> int:
    found = sandbox.understand(own("pid"), topic="own.topic")
    assert found.ignored is not None
    return int(found.ignored.notice_id)


def skymap_fits(order: int = 6) -> bytes:
    n = 12 * 4**order
    density = np.random.default_rng(1).random(n)
    density *= n / density.sum() / (4 * np.pi)
    start = np.arange(n) << 2 * (sky.MAX_ORDER - order)
    end = np.arange(1, n + 1) << 2 * (sky.MAX_ORDER - order)
    far = np.where(np.arange(n) % 5 == 0, np.inf, 40.0)
    return write_skymap(MultiOrderMap(start, end, density, far, far, far), {})


def flat_map(nside: int) -> bytes:
    n = 12 * nside**2
    cards = {"ORDERING": "NESTED", "NSIDE": nside}
    return write_table([("PROB", "", np.full(n, 1 / n, np.float32))], cards)


def gw(fits: bytes) -> bytes:
    event = {**GW["event"], "skymap": base64.b64encode(fits).decode()}
    return json.dumps({**GW, "event": event}).encode()


def same_region(a: Understood, b: Understood) -> bool:
    assert a.region is not None
    assert b.region is not None
    one, two = a.region.localization, b.region.localization
    assert isinstance(one, MultiOrderMap)
    assert isinstance(two, MultiOrderMap)
    for name in ("start", "end", "density", "distmu", "distsigma", "distnorm"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    return replace(a.region, localization=two) == b.region


def test_a_small_notice_needs_no_child(sandbox: Sandbox) -> None:
    assert sandbox.understand(GBM) == understand(load_feeds(), DEFAULT_CHAINS, GBM)
    assert sandbox._child is None


def test_a_small_notice_with_a_map_goes_to_the_child_before_the_map_is_read(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flat map of the whole sky packs well: kilobytes become hundreds of megabytes."""
    raw = gw(gzip.compress(flat_map(512)))
    assert len(raw) < 64 * 1024

    def here(*args: object) -> None:
        raise AssertionError("the map was read here")

    monkeypatch.setattr("gateway.understand.read_skymap", here)
    found = sandbox.understand(raw)

    assert found.region is not None
    assert found.region.localized_by == "map_embedded"


def test_a_small_notice_with_a_map_has_its_time(folder: Path) -> None:
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=0.05, megabytes=1000) as sandbox:
        found = sandbox.understand(gw(gzip.compress(flat_map(512))))

    assert (found.outcome, found.reason, found.feed) == ("rejected", "too_slow", "lvk")


OPERATORS = """
name = "dome"
title = "Dome"
mission = "Dome"
instrument = "camera"
messenger = "optical"
format = "json"
trigger = ["id"]
"""


@pytest.mark.parametrize(
    ("line", "long"),
    [
        ("", False),
        ('members = ["dome", "$.a.b[0]"]', False),
        ('test_triggers = "T"', True),
        ('skymap_rules = [["a+$", ""]]', True),
        ('skymap_urls = ["$..url"]', True),
        ('members = ["dome", "$.a[?@.b == 1]"]', True),
        ('trigger = ["$.id or $..id"]', True),
        ('test_when = { word = "*a*b*" }', True),
        ('test_when = { word = "*a*" }', False),
        ('retraction_when = { "$.a[*].b" = "x" }', True),
        ('[fields]\nra = "$.ra[?@ > 1]"', True),
        ('[[kinds]]\nname = "a"\nwhen = { "$..a" = "1" }', True),
    ],
)
def test_patterns_and_queries_of_the_operators_are_for_the_child(line: str, long: bool) -> None:
    trigger = 'trigger = ["id"]\n'
    text = OPERATORS.replace(trigger, "") if line.startswith("trigger") else OPERATORS
    members = "" if line.startswith("members") else 'members = ["dome"]\n'

    assert may_take_long(feed_from_toml(text + members + line, "dome.toml")) is long


def test_no_built_in_feed_is_slow() -> None:
    assert [f.name for f in load_feeds().feeds if may_take_long(f)] == []


@pytest.mark.parametrize(
    "line", ['skymap_rules = [["(a+)+$", ""]]\nskymap_urls = ["map"]', 'test_triggers = "(a+)+$"']
)
def test_a_pattern_without_end_costs_one_notice(folder: Path, line: str) -> None:
    (folder / "dome.toml").write_text(OPERATORS + 'members = ["dome"]\n' + line)
    many = "a" * 60 + "!"
    record = {"dome": 1, "id": "a" * 60 + ".", "map": many, "trigger_time": "2026-01-02T03:04:05Z",
              "ra": 1, "dec": 2, "ra_dec_error": 1}  # fmt: skip
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=0.3, megabytes=1000) as sandbox:
        found = sandbox.understand(json.dumps(record).encode())
        other = sandbox.understand(GBM)

    assert (found.reason, other.outcome) == ("too_slow", "region")


def test_other_messages_are_still_read_here(sandbox: Sandbox, folder: Path) -> None:
    (folder / "dome.toml").write_text(OPERATORS + 'members = ["dome", "$.a[?@.b == 1]"]\n')
    sandbox.replace(load_feeds([folder]))

    assert sandbox.understand(GBM).outcome == "region"
    wxt = sandbox.understand((DATA / "wxt.json").read_bytes())
    assert (wxt.outcome, sandbox._child) == ("region", None)
    sandbox.understand(b'{"dome": 1, "a": []}')
    assert sandbox._child is not None


def test_a_big_map_gives_the_region_that_it_gives_here(shared: Sandbox) -> None:
    raw = gw(skymap_fits())

    found = shared.understand(raw)

    assert shared._child is not None
    assert same_region(found, understand(load_feeds(), DEFAULT_CHAINS, raw))
    assert found.notice is not None
    assert found.notice.localization is found.region.localization  # type: ignore[union-attr]


def test_a_map_that_was_fetched_is_read_in_the_child(shared: Sandbox) -> None:
    event = {k: v for k, v in GW["event"].items() if k != "skymap"}
    raw = json.dumps({**GW, "event": event, "urls": {"skymap": "https://a/b.fits"}}).encode()
    fits = skymap_fits(2)

    assert shared.understand(raw).reason == "skymap_elsewhere"
    found = shared.understand(raw, skymap=SkymapFile(fits, "fetched"))

    assert shared._child is not None
    assert found.region is not None
    assert found.region.localized_by == "map_fetched"


def test_a_parser_of_the_operators_runs_in_the_child(shared: Sandbox) -> None:
    assert pid_of(shared) not in (0, os.getpid())
    assert pid_of(shared) == pid_of(shared)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("hog", "too_much_memory"),
        ("quiet hog", "too_much_memory"),
        ("exit", "parser_died"),
        ("leave", "parser_died"),
        ("crash", "parser_died"),
        ("raise", "parser_failed"),
        ("strange", "parser_failed"),
    ],
)
def test_a_bad_parser_costs_one_notice(shared: Sandbox, what: str, reason: str) -> None:
    found = shared.understand(own(what), topic="own.topic")

    assert (found.outcome, found.reason) == ("rejected", reason)
    assert (found.feed, found.streams) == ("own", ("team",))
    assert len(found.feed_version) == 12
    assert pid_of(shared) > 0


@pytest.mark.parametrize("what", ["endless", "deaf"])
def test_an_endless_parser_is_stopped(folder: Path, what: str) -> None:
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=0.3, megabytes=1000) as sandbox:
        found = sandbox.understand(own(what), feed="own")

        assert (found.outcome, found.reason, found.feed) == ("rejected", "too_slow", "own")
        assert found.streams == ("team",)
        assert pid_of(sandbox) > 0


def test_a_parser_of_the_operators_has_less_time_than_ours(folder: Path) -> None:
    feeds = load_feeds([folder])
    with Sandbox(feeds, DEFAULT_CHAINS, seconds=60, megabytes=1000, parser_seconds=0.2) as sandbox:
        found = sandbox.understand(own("endless"), topic="own.topic")
        big = sandbox.understand(gw(skymap_fits()))

    assert found.rejected is not None
    assert (found.reason, found.rejected.detail) == ("too_slow", "took more than 0.2 s")
    assert big.outcome == "region"


@pytest.mark.parametrize("what", ["endless", "hog", "crash"])
def test_a_feed_of_which_nothing_can_be_read_is_paused(folder: Path, what: str) -> None:
    told: list[tuple[str, str]] = []
    with Sandbox(
        load_feeds([folder]), DEFAULT_CHAINS, seconds=60, megabytes=500, parser_seconds=0.2,
        paused=lambda *said: told.append(said),
    ) as sandbox:  # fmt: skip
        found = [sandbox.understand(own(what), topic="own.topic") for _ in range(4)]
        assert [f.outcome for f in found] == ["rejected"] * 3 + ["held"]
        ((feed, why),) = told
        assert (feed, found[0].reason in why) == ("own", True)
        # Its file was changed, or it was enabled again.
        sandbox.replace(load_feeds([folder]))
        assert pid_of(sandbox) > 0
        again = [sandbox.understand(own(what), topic="own.topic") for _ in range(4)]
    assert [f.outcome for f in again] == ["rejected"] * 3 + ["held"]
    assert len(told) == 2


def test_a_feed_that_can_be_read_now_and_then_is_not_paused(folder: Path) -> None:
    whats = ("crash", "crash", "fine", "crash", "raise", "crash", "crash")
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=60, megabytes=500) as sandbox:
        found = [sandbox.understand(own(what), topic="own.topic").outcome for what in whats]
    assert found == ["ignored" if what == "fine" else "rejected" for what in whats]


def test_our_own_feeds_are_never_paused(folder: Path) -> None:
    raw = gw(gzip.compress(flat_map(512)))
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=0.02, megabytes=1000) as sandbox:
        reasons = {sandbox.understand(raw).reason for _ in range(4)}
    assert reasons == {"too_slow"}


def test_of_what_dies_while_it_is_recognised_the_topic_tells_the_feed(folder: Path) -> None:
    raw = own("x" * 300_000)
    with Sandbox(load_feeds([folder]), DEFAULT_CHAINS, seconds=0.0, megabytes=1000) as sandbox:
        found = sandbox.understand(raw, topic="own.topic")

    assert (found.reason, found.feed, found.streams) == ("too_slow", "own", ("team",))


def test_a_paused_feed_is_held(sandbox: Sandbox, folder: Path) -> None:
    sandbox.replace(replace(load_feeds([folder]), paused=frozenset({"own"})))

    assert sandbox.understand(own("pid"), topic="own.topic").outcome == "held"
    assert sandbox.understand(own("pid"), topic="own.topic", heed_pause=False).outcome == "ignored"


def test_other_feeds_and_newer_parsers_are_taken_up(sandbox: Sandbox, folder: Path) -> None:
    first = pid_of(sandbox)
    (folder.parent / "own_parsers.py").write_text(PARSERS.replace("Ignored(what", "Ignored('new'"))
    (folder / "own.toml").write_text(FEED.replace('["team"]', '["others"]'))

    sandbox.replace(load_feeds([folder]))
    found = sandbox.understand(own("hello"), topic="own.topic")

    assert (found.reason, found.streams) == ("new", ("others",))
    assert pid_of(sandbox) != first


def test_a_parser_without_a_name_is_refused(folder: Path) -> None:
    registry = load_feeds([folder])
    nameless = Registry(registry.feeds, {**registry.parsers, "own": lambda message, feed: None})  # type: ignore[dict-item, return-value]

    with pytest.raises(ConfigError, match="function of a module"):
        Sandbox(nameless, DEFAULT_CHAINS, seconds=1, megabytes=100)


def test_a_child_that_cannot_start_is_a_failure_of_the_service(
    sandbox: Sandbox, folder: Path
) -> None:
    (folder.parent / "own_parsers.py").write_text("import no_such_module")

    with pytest.raises(ServiceError, match="no_such_module"):
        sandbox.understand(own("pid"), topic="own.topic")


def test_a_fault_of_ours_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gateway.listener.sandbox.understand", broken)
    with Sandbox(load_feeds(), DEFAULT_CHAINS, seconds=1, megabytes=100) as sandbox:
        found = sandbox.understand(GBM)

    assert (found.outcome, found.reason, found.feed) == ("rejected", "parser_failed", "fermi_gbm")


def test_signals_to_all_processes_leave_the_child_at_work(shared: Sandbox) -> None:
    pid = pid_of(shared)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)

    assert pid_of(shared) == pid
    assert os.getpgid(pid) != os.getpgid(0)


def test_a_child_killed_while_idle_is_replaced(shared: Sandbox) -> None:
    pid = pid_of(shared)
    os.kill(pid, signal.SIGKILL)
    assert shared._child is not None
    shared._child._process.wait()

    assert pid_of(shared) != pid


def test_close_ends_the_child_and_it_may_be_used_again(shared: Sandbox) -> None:
    pid = pid_of(shared)
    shared.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert pid_of(shared) != pid


def test_the_child_ends_with_its_parent_and_its_words_stay_out_of_the_output(folder: Path) -> None:
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(folder.parent)!r}]
        from pathlib import Path
        from crossmatch.chains import DEFAULT_CHAINS
        from gateway.feeds.registry import load_feeds
        from gateway.listener.sandbox import Sandbox

        feeds = load_feeds([Path({str(folder)!r})])
        sandbox = Sandbox(feeds, DEFAULT_CHAINS, seconds=9, megabytes=99)
        found = sandbox.understand(b'{{"what": "x"}}', topic="own.topic")
        print(found.reason, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    # The pipe of standard error is at its end only when the child has let go of it, too.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=60
    )

    assert done.returncode == -signal.SIGKILL
    assert b"a word" in done.stderr
    assert done.stdout == b"x\n"
