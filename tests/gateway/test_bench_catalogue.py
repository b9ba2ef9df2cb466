"""The bench of look-ups: peers find the same, or it says so and fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalogs.sources import Matches
from gateway.bench import catalogue, catalogue_peers
from gateway.bench.measure import OURS
from gateway.cli import main

TINY = replace(catalogue.SMALL, sources=(3000,), positions=(1200,), runs=1)


def brute_force(sky: catalogue_peers.Sky) -> catalogue_peers.Run:
    """Every source with every position."""

    def run(ra: np.ndarray, dec: np.ndarray) -> Matches:
        a, d = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
        b, e = np.radians(ra)[:, None], np.radians(dec)[:, None]
        half = np.sin((d - e) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((a - b) / 2) ** 2
        away = np.degrees(2 * np.arcsin(np.sqrt(half))) * 3600
        return catalogue_peers._within(away.argmin(1), away.min(1), sky.radius_arcsec)

    return run


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SMALL", TINY)
    peer = catalogue_peers.Peer(name="brute force", needs="numpy", prepare=brute_force)
    monkeypatch.setattr(catalogue, "PEERS", (peer,))


def rows(capsys: pytest.CaptureFixture[str], status: int = 0) -> list[dict]:
    assert main(["bench", "catalogue", "--small", "--json"]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_ours_and_peers_find_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    ours, other = rows(capsys)
    assert (ours["subject"], ours["ratio_to_ours"], ours["equal"]) == (OURS, 1.0, None)
    assert (other["subject"], other["equal"]) == ("brute force", True)
    assert ours["items"] == 1200
    assert ours["case"] == "1,200 of 3,000"
    # About half of the positions have a source.
    assert 500 < int(ours["compared"].split(" positions, ")[1].split()[0]) < 700


def test_a_peer_that_finds_something_else_is_told_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(_: catalogue_peers.Sky) -> catalogue_peers.Run:
        return lambda ra, _: Matches(np.full(len(ra), -1), np.full(len(ra), np.inf))

    peer = catalogue_peers.Peer(name="wrong", needs="numpy", prepare=prepare)
    monkeypatch.setattr(catalogue, "PEERS", (peer,))
    assert [r["equal"] for r in rows(capsys, 1)] == [None, False]


def test_a_missing_peer_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [replace(p, needs="nowhere.at_all") for p in catalogue_peers.PEERS]
    monkeypatch.setattr(catalogue, "PEERS", tuple(peers))
    assert main(["bench", "catalogue", "--small"]) == 0
    said = capsys.readouterr()
    assert sum("left out" in line for line in said.err.splitlines()) == 3
    assert "no nowhere.at_all on the PATH" in said.err
    assert "1,200 of 3,000" in said.out


@pytest.mark.parametrize("peer", catalogue_peers.PEERS, ids=lambda p: p.name)
def test_a_peer_that_is_there_finds_the_same(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    peer: catalogue_peers.Peer,
) -> None:
    if (why := peer.missing()) is not None:
        pytest.skip(f"{peer.name} is left out: {why}")
    monkeypatch.setattr(catalogue, "PEERS", (peer,))
    assert [r["equal"] for r in rows(capsys)] == [None, True]


def test_what_was_made_is_used_again(tmp_path: Path) -> None:
    first = catalogue.made(tmp_path, 5000, 1)
    assert len(first) == 5000
    assert (np.diff(first.ipix29) >= 0).all()
    stamp = (tmp_path / "index/ra.npy").stat().st_mtime_ns
    again = catalogue.made(tmp_path, 5000, 2)
    assert (tmp_path / "index/ra.npy").stat().st_mtime_ns == stamp
    assert again.order == first.order
