"""The sentences that explain codes."""

from __future__ import annotations

import ast
from pathlib import Path

from gateway.feeds.registry import load_feeds
from gateway.offline.reasons import SENTENCES, sentence

PARSERS = Path(__file__).parents[2] / "gateway" / "feeds" / "parsers"


def test_every_code_of_the_built_in_feeds_has_a_sentence() -> None:
    codes = {
        code
        for feed in load_feeds().feeds
        for kind in feed.kinds
        for code in (kind.ignore, kind.no_position_reason)
    }
    params = {
        name.rpartition(".")[2].lower() for f in load_feeds().feeds for name in f.unusable_params
    }
    assert (codes | params) - {""} <= SENTENCES.keys()


def test_every_code_that_parsers_give_has_a_sentence() -> None:
    given = set()
    for path in PARSERS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "no_position_reason":
                given |= {str(c.value) for c in ast.walk(node.value) if isinstance(c, ast.Constant)}
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Ignored":
                first = node.args[0]
                given |= {str(c.value) for c in ast.walk(first) if isinstance(c, ast.Constant)}
    assert given
    assert given - {""} <= SENTENCES.keys()


def test_sentences_are_whole_ones() -> None:
    for code, text in SENTENCES.items():
        assert text.endswith(".")
        assert text[:1].isupper()
        assert "calls such messages" not in sentence(code)
    assert sentence("") == ""
