"""Damaged notices end as regions or with reasons; ``make fuzz`` runs many more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.feeds.registry import load_feeds
from tests.fuzz import run

OWN = run.corpus(None)


def test_five_thousand_damaged_notices() -> None:
    """Real ones where they are, else our own. ``python -m tests.fuzz.run --only N`` repeats one."""
    summary = run.fuzz(1, range(5000), run.corpus())

    assert [(number, text) for number, text, _ in summary.broken] == []
    assert sum(summary.counts.values()) == 5000
    outcomes = {outcome for outcome, _ in summary.counts}
    assert outcomes >= {"region", "rejected", "no_position", "retraction", "ignored"}


def test_the_same_seed_gives_the_same_mutants() -> None:
    one, two = ([run.mutant_of(3, n, OWN, ["a"]) for n in range(50)] for _ in range(2))

    assert one == two
    assert one != [run.mutant_of(4, n, OWN, ["a"]) for n in range(50)]


def test_a_mutant_is_another_notice() -> None:
    changed = [run.mutant_of(5, n, OWN, ["a"])[0] not in OWN for n in range(200)]

    assert sum(changed) > 180


@pytest.mark.parametrize(
    "breaks",
    [ZeroDivisionError("ours"), run.Broken("not so")],
)
def test_what_breaks_a_promise_is_found(monkeypatch: pytest.MonkeyPatch, breaks: Exception) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise breaks

    monkeypatch.setattr(run, "understand", broken)

    summary = run.fuzz(1, range(100), OWN, most_broken=3)

    assert [number for number, _, _ in summary.broken] == [0, 1, 2]


def test_numbers_that_are_none_are_found() -> None:
    with pytest.raises(run.Broken, match=r"region.far_hz is nan"):
        run._check_numbers({"far_hz": float("nan")}, "region")


def test_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "SHARED", tmp_path / "nothing")

    assert run.main(["--count", "20", "--seed", "7"]) == 0
    assert "region" in capsys.readouterr().out
    monkeypatch.setattr(run, "REJECTIONS", frozenset())
    assert run.main(["--count", "60", "--seed", "7"]) == 1
    assert "unknown reason" in capsys.readouterr().out
    assert list(tmp_path.glob("fuzz-failures/7-*.bin"))


def test_the_corpus_is_understood_before_it_is_damaged() -> None:
    registry = load_feeds()

    found = {run.check(registry, raw, "").outcome for raw in OWN}

    assert {"region", "retraction"} <= found
