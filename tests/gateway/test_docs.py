"""What the documentation shows exists, loads and works; reference pages are up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer

from catalogs.events import event_columns
from crossmatch import chains, cuts, score
from crossmatch.cutnames import CUTS
from crossmatch.model import Notice
from crossmatch.selections import BUILT_IN
from gateway import config
from gateway.cli import app, main
from gateway.feeds.files import feed_from_toml
from gateway.feeds.registry import load_feeds
from gateway.night.alerts import alerts
from voevents.build import build_voevent

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(ROOT / n for n in ("README.md", "CHANGELOG.md", "gateway/feeds/missions/README.md")),
        *DOCS.rglob("*.md"),
    ]
)
SELECTION = (DOCS / "explanation/selection.md").read_text("utf-8")
_LINK = re.compile(r"(?<!`)\[[^\]`]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`(mmgateway [a-z-][^`]*)`")
_OUTSIDE = re.compile(r"[^\w\- ]")


class Block(NamedTuple):
    """A fenced code block: the page it stands on, its language and its lines."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text[:40]!r}"


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        yield Block(page, found[1], found[2])


BLOCKS = [block for page in PAGES for block in blocks(page)]


def block(page: str, language: str, part: str) -> str:
    """The only block of a page in a language that contains a text."""
    found = [
        b.text
        for b in BLOCKS
        if b.page == DOCS / page and b.language == language and part in b.text
    ]
    assert len(found) == 1
    return found[0]


def commands(block: Block) -> Iterator[str]:
    if block.language not in ("sh", "text") or "[OPTIONS]" in block.text:
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        words = line.split("  (")[0].split(" | ")[0]
        if re.match(r"([A-Z_]+=\S+ )*mmgateway( |$)", words):
            yield words


def shown() -> list[tuple[str, str]]:
    """Every command of ours that a page shows, in a block or in a sentence."""
    found = [(b.page, c) for b in BLOCKS for c in commands(b)]
    found += [(p, c) for p in PAGES for c in _INLINE.findall(p.read_text("utf-8"))]
    return [(str(page.relative_to(ROOT)), command) for page, command in dict.fromkeys(found)]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMGATEWAY_CONFIG", raising=False)


# --- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "command"), shown())
def test_shown_commands_exist_with_their_options(page: str, command: str) -> None:
    words = [w for w in shlex.split(command, comments=True) if "=" not in w or w.startswith("-")]
    current: Any = typer.main.get_command(app)
    context = current.make_context("mmgateway", [], resilient_parsing=True)
    words = words[1:]
    while words and words[0].startswith("-") and words[0] != "--help":
        option = next(p for p in current.params if words[0] in p.opts)
        words = words[1 if option.is_flag or option.is_eager else 2 :]
    while words and words[0] != "--help" and hasattr(current, "commands"):
        current, words = current.commands[words[0]], words[1:]
    if not words or words == ["--help"] or hasattr(current, "commands"):
        return
    # Commands named in a sentence may leave out what they need.
    current.make_context(current.name, words, parent=context, resilient_parsing=len(words) < 2)


def test_the_options_of_a_wrong_command_are_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        test_shown_commands_exist_with_their_options("", "mmgateway replay --no-such-option x")


def test_readme_begins_with_the_two_commands() -> None:
    first = next(blocks(ROOT / "README.md"))
    lines = [line.split("#")[0].strip() for line in first.text.splitlines()]
    assert lines == ["make run", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {"run", "test", "install", "check", "clean"} <= set(targets)


def test_configuration_commands_work_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("config init", "config check", "config show"):
        assert main(words.split()) == 0
    assert Path("mmgateway.toml").read_text("utf-8") == config.default_toml()
    assert "valid" in capsys.readouterr().out


def test_crossmatch_of_the_tutorial_finds_at2017gfo() -> None:
    """The notice of the tutorial lies at AT2017gfo, and the demo saw that 14 times."""
    folder = Path("packets")
    folder.mkdir()
    for alert in alerts(1000, 1):
        if "gfo" in alert.object_id:
            (folder / f"{alert.candid}.avro").write_bytes(alert.payload)
    command = block("tutorial.md", "sh", "mmgateway crossmatch").strip()
    words = command.replace("docs/examples", str(DOCS / "examples")).split()[1:]
    assert main(words) == 0
    rows = Path("pairs.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 14
    assert all("Swift_99999990" in row and "ZTF17atgfoaa" in row for row in rows[1:])
    columns = [name.strip('"') for name in rows[0].split(",")]
    page = (DOCS / "howto/batch.md").read_text("utf-8")
    assert [name for name in columns if f"`{name}`" not in page] == []


# --- other code ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_compiles(code: Block) -> None:
    compile(code.text, str(code.page), "exec")


@pytest.mark.parametrize("toml", [b for b in BLOCKS if b.language == "toml"], ids=str)
def test_toml_loads(toml: Block) -> None:
    values = tomllib.loads(toml.text)
    if "format" in values:
        feed_from_toml(toml.text, str(toml.page))
    elif "time_format" in values:
        event_columns(values)
    else:
        path = Path("mmgateway.toml")
        path.write_text(toml.text, "utf-8")
        # A secret is never shown in a file, but the file needs one.
        config.load(path, environ={"MMGATEWAY_GCN__CLIENT_SECRET": "secret"})


def test_quasars_stay_in_the_chains_that_the_recipe_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mmgateway.toml").write_text(block("howto/cuts.md", "toml", "with_point_sources"), "utf-8")
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().err == ""
    found = config.load(Path("mmgateway.toml"), environ={})
    default = cuts.default_selection(config.load(None, environ={}).cuts)
    assert found.selections["with_point_sources"].steps == default.steps[:-1]
    assert default.steps[-1].name == "star"
    demands = {name: chain.demands for name, chain in found.chains.items()}
    free = {name for name, selection in demands.items() if selection is None}
    assert free == {"neutrino", "neutrino_statistical", "gw_bbh"}
    others = {s.steps[0].name for s in demands.values() if s is not None and len(s.steps) == 1}
    assert others == {"star"}


def test_code_blocks_say_their_language() -> None:
    assert {b.language for b in BLOCKS} <= {"sh", "text", "toml", "python", "xml"}


def test_notice_of_the_tutorial_is_a_swift_position() -> None:
    notice = load_feeds().parse((DOCS / "examples/notice.xml").read_bytes())
    assert isinstance(notice, Notice)
    assert notice.event_id == "Swift_99999990"
    assert notice.trigger_time == datetime(2017, 8, 17, 22, tzinfo=UTC)


def test_robot_of_the_guide_reads_our_voevents(capsys: pytest.CaptureFixture[str]) -> None:
    candidate = {
        "candidate_id": "MM-ZTF-x.Swift_1.1", "counterpart_id": "MM-ZTF-x", "role": "observation",
        "alert_type": "initial", "alert_datetime": "2026-03-01T04:05:06Z", "ref_ID": "ivo://a/b#c",
        "ra": 197.45, "dec": -23.38, "observation_start": "2026-03-01T04:00:00Z", "tier": "gold",
        "survey": "ztf", "id": "x", "event_name": "Swift 1", "mag": 17.5, "filter": "i",
    }  # fmt: skip
    events = Path("events")
    events.mkdir()
    document = build_voevent(candidate, author_ivo="ivo://org.mmgateway")
    (events / "one").write_bytes(document)
    code = block("howto/robots.md", "python", "voeventparse")
    exec(compile(code, "robots.md", "exec"), {})
    assert capsys.readouterr().out.split() == [
        "ivo://org.mmgateway/candidates#MM-ZTF-x.Swift_1.1",
        *("initial", "gold", "197.45", "-23.38", "17.5", "i"),
    ]


# --- pages -----------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {_OUTSIDE.sub("", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    broken = []
    for link in _LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        for link in _LINK.findall(page.read_text("utf-8")):
            if not link.startswith("http"):
                waiting.append((page.parent / link.partition("#")[0]).resolve())
    pages = {p for p in DOCS.rglob("*.md") if p.parent.name != "decisions"}
    assert sorted(pages - reached) == []


def test_reference_is_up_to_date() -> None:
    """If this fails: ``python docs/make_reference.py``, and look at what changed."""
    generator = load(DOCS / "make_reference.py")
    stale = [
        name
        for name, make in generator.PAGES.items()
        if (DOCS / "reference" / name).read_text("utf-8") != make()
    ]
    assert stale == []


def test_picture_is_there_and_small() -> None:
    picture = DOCS / "images/night.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 600_000


def test_citation_and_change_log_name_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert version in (ROOT / "CHANGELOG.md").read_text("utf-8")


# --- the numbers of the selection ------------------------------------------------------------


@pytest.mark.parametrize("chain", chains.DEFAULT_CHAINS.values(), ids=lambda c: str(c.name))
def test_selection_page_has_the_values_of_each_chain(chain: chains.Chain) -> None:
    row = next(r for r in SELECTION.splitlines() if r.startswith(f"| `{chain.name}` |"))
    cells = [c.strip() for c in row.strip("|").split("|")]
    start, end = chain.window.start_days, chain.window.end_days
    begin = "−600 s" if round(start * 86400) == -600 else f"{start:g}".replace("-", "−")
    assert cells[2] == f"{begin} to {end:g} d"
    assert cells[3] == f"{chain.level:g}, {chain.level_silver:g}"


def test_selection_page_has_every_cut_and_factor() -> None:
    assert [name for name in cuts.CUT_NAMES if f"| `{name}` |" not in SELECTION] == []
    code = Path(score.__file__).read_text("utf-8")
    factors = re.findall(r'^        "(\w+)": ', code, re.M)
    assert len(set(factors)) == 11
    assert [name for name in factors if f"| `{name}` |" not in SELECTION] == []
    for number in (score.FADE_MAG_PER_DAY, score.RISE_MAG_PER_DAY, score.SMALL_REGION_DEG2):
        assert f"{number:g}" in SELECTION
    assert f"{score.GOLD_MAX_AREA_DEG2:,.0f} deg²" in SELECTION


def test_page_on_cuts_has_every_cut_and_selection() -> None:
    page = (DOCS / "howto/cuts.md").read_text("utf-8")
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert [name for name in (*CUTS, *BUILT_IN, "default") if name not in named] == []


def test_status_of_the_tutorial_names_all_services() -> None:
    text = block("tutorial.md", "text", "service  state")
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert names == ["kafka", "listen", "match", "publish"]
