"""What is installed is what the gateway needs, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("broker", "catalogs", "crossmatch", "gateway", "voevents")
DOCUMENTS = {"gateway/feeds/missions/README.md"}
# Reads something from each file that is no module, where an installed gateway reads it.
LOOK = """\
import gateway
from broker import codec, layouts
from broker.embedded.jars import KAFKA, SPARK
from catalogs.events import read_events
from catalogs.hosts import nearby_galaxies
from gateway.cli import main
from gateway.feeds.registry import load_feeds
from gateway.night.facts import facts
print(gateway.__file__)
assert len(nearby_galaxies()) > 5
assert len(load_feeds().feeds) > 10
assert facts()
raise SystemExit(main(["config", "check"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing of earlier builds gets in and nothing is left behind."""
    copy = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "tests", "deploy"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", "wheels"],
        cwd=copy, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (copy / "wheels").glob("mmgateway-*-py3-none-any.whl")
    return path


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == files - DOCUMENTS


def test_installed_wheel_finds_its_files(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet",
         "--disable-pip-version-check", "--target", str(place), str(wheel)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MMGATEWAY_")}
        | {"PYTHONPATH": str(place)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(place / "gateway"))
