"""The guide on feeds, followed word by word, but for what needs a running gateway."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossmatch.model import Circle, Notice, SystematicTerm
from gateway.cli import main
from gateway.feeds.drafts.unknown import Unknown
from gateway.feeds.registry import load_feeds
from gateway.reports import NoticeReport

GUIDE = (Path(__file__).resolve().parents[2] / "docs/howto/feeds.md").read_text("utf-8")
FEEDS = Path("mmgateway-data/feeds")
# These need a running gateway; the end-to-end tests have one.
LIVE = ("mmgateway up", "mmgateway replay", "mmgateway feeds stats", "comet-sendvo")


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Commands of the guide's sh blocks in order, each with its here-document."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S):
        lines = iter(block.replace("\\\n", " ").splitlines())
        for line in lines:
            command, mark, _ = line.partition(" <<'EOF'")
            here = []
            if mark:
                for inner in lines:
                    if inner == "EOF":
                        break
                    here.append(inner)
            yield command, "\n".join(here) + "\n"


def follow(command: str, here: str) -> str:
    """Run one command as a shell would; what it printed."""
    command, _, into = command.replace(" | tee ", " > ").partition(" > ")
    output = here
    if command != "cat":
        words = shlex.split(command)
        assert words[0] == "mmgateway", command
        captured = io.StringIO()
        with contextlib.redirect_stdout(captured):
            assert main(words[1:]) == 0, command
        output = captured.getvalue()
    if into:
        Path(into).write_text(output, "utf-8")
    return output


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which the whole guide was followed, and what each command printed."""
    place = tmp_path_factory.mktemp("guide")
    with contextlib.chdir(place):
        return place, {
            command: follow(command, here)
            for command, here in steps(GUIDE)
            if not command.startswith(LIVE)
        }


@pytest.fixture
def followed(done: tuple[Path, dict[str, str]], tmp_path: Path) -> dict[str, str]:
    """A copy of that folder to go on in."""
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True)
    return done[1]


def test_every_command_of_the_guide_works(followed: dict[str, str]) -> None:
    assert len(followed) > 12
    tried = followed["mmgateway feeds try sample.json"]
    for text in ("ourteam:ourscope_B-42", "private to", "30 arcmin, holds 68 %", "region"):
        assert text in tried
    assert "ourteam:own_42" in followed["mmgateway feeds try burst.xml"]
    assert Path("region.png").read_bytes().startswith(b"\x89PNG")
    for text in ("ourteam", "observatory", "ourteam.toml"):
        assert text in followed["mmgateway feeds list"]
    assert "maxi.toml" in follow("mmgateway feeds list", "")


def test_drafts_of_the_guide_understand_its_samples(followed: dict[str, str]) -> None:
    feeds = load_feeds([FEEDS])
    team = feeds.parse(Path("sample.json").read_bytes())
    observatory = feeds.parse(Path("burst.xml").read_bytes())
    assert isinstance(team, Notice)
    assert isinstance(observatory, Notice)
    assert team.localization == Circle(121.5, -12.25, 0.5, 0.68)
    assert team.trigger_time == datetime(2026, 3, 1, 4, 5, 6, 700_000, tzinfo=UTC)
    assert observatory.localization == Circle(121.5, -12.25, 2.0, 0.9)
    assert team.streams == observatory.streams == ("ourteam",)
    assert feeds.feed("observatory").transport.vtp == "vtp.example.org:8099"
    drafts = load_feeds([Path("drafts")])
    assert drafts.feed("ourteam_kafka").transport.properties["sasl.password"] == "$OURTEAM_PASSWORD"


def test_file_of_the_guide_reads_its_packet(followed: dict[str, str]) -> None:
    (toml,) = re.findall(
        r"^```toml\n(# mmgateway-data/feeds/observatory.*?)^```$", GUIDE, re.M | re.S
    )
    (FEEDS / "observatory.toml").write_text(toml, "utf-8")
    feeds = load_feeds([FEEDS])
    notice = feeds.parse(Path("burst.xml").read_bytes())
    assert isinstance(notice, Notice)
    assert (notice.event_id, notice.kind, notice.messenger) == (
        "ourteam:Own_42", "position", "grb",
    )  # fmt: skip
    assert notice.localization == Circle(
        121.5, -12.25, 2.0, 0.9, (SystematicTerm(1.0, 0.9), SystematicTerm(5.0, 0.1))
    )
    pointing = (
        Path("burst.xml")
        .read_bytes()
        .replace(b'"Packet_Type" value="1"', b'"Packet_Type" value="2"')
    )
    assert not isinstance(feeds.parse(pointing), Notice)


def test_rollback_of_the_guide(followed: dict[str, str]) -> None:
    path = FEEDS / "ourteam.toml"
    before = path.read_text("utf-8")
    path.write_text(before.replace("0.68", "0.9"), "utf-8")
    captured = follow("mmgateway feeds history ourteam --json", "")
    version = json.loads(captured)["changes"][0]["version"]
    (shown,) = re.findall(r"^mmgateway feeds rollback ourteam (\w+)$", GUIDE, re.M)
    assert len(shown) == len(version)
    follow(f"mmgateway feeds rollback ourteam {version}", "")
    assert path.read_text("utf-8") == before


def test_suggestion_of_the_guide_becomes_a_feed() -> None:
    raw = dict(steps(GUIDE))["cat > sample.json"].encode()
    time = datetime(2026, 3, 1, tzinfo=UTC)
    Unknown(Path("mmgateway-data"))(
        NoticeReport(
            feed="", source="kafka:own", topic="ourteam.bursts", outcome="rejected",
            reason="no_feed", received=time, finished=time, raw=raw,
        )
    )  # fmt: skip
    assert "ourteam.bursts" in follow("mmgateway feeds suggest", "")
    follow("mmgateway feeds suggest --write drafts", "")
    (path,) = Path("drafts").iterdir()
    path.rename(FEEDS / path.name)
    assert isinstance(load_feeds([FEEDS]).parse(raw), Notice)
