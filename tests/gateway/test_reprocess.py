"""Past steps done once more give what was published, byte for byte; other cuts give other things."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker import search
from tests.gateway.pastworld import PastWorld, play


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happened_every_statement_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # Searches stop in the middle of a night.
    monkeypatch.setattr(search, "ROWS", 3)
    monkeypatch.setattr(search, "ENOUGH", 2)
    world = PastWorld(tmp_path)
    play(world, random.Random(seed), 12)

    result = world.verified()

    assert [d.as_dict() for d in result.differences] == []
    assert result.is_identical
    assert sum(a.statements for a in result.accounts) > 0
