"""The guide on catalogues, followed word by word."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogs.ephemeris import DEC_RATE_NAMES, RA_RATE_NAMES
from catalogs.kinds import RADIUS_ARCSEC
from catalogs.roles import _NAMES
from catalogs.timecolumns import TIME_NAMES
from gateway.cli import main

GUIDE = (Path(__file__).resolve().parents[2] / "docs/howto/catalogs.md").read_text("utf-8")


def commands() -> Iterator[tuple[str, str]]:
    """Commands of the sh blocks in order, each with its here-document."""
    for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.M | re.S):
        lines = iter(block.splitlines())
        for line in lines:
            command, mark, _ = line.partition(" <<'EOF'")
            here = []
            while mark and (text := next(lines)) != "EOF":
                here.append(text + "\n")
            yield command, "".join(here)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Each command and what it printed, in order; the bench has tests of its own."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("guide"))
        patch.delenv("MMGATEWAY_CONFIG", raising=False)
        first = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.M | re.S)[0]
        asked = first.replace('["nearby', '["galaxies", "nearby')
        for command, here in commands():
            if command.startswith("cat > "):
                Path(command.removeprefix("cat > ")).write_text(here, "utf-8")
            elif " bench " not in command:
                if command == "mmgateway config check":
                    Path("mmgateway.toml").write_text(asked, "utf-8")
                with Path("out").open("w+") as out:
                    patch.setattr("sys.stdout", out)
                    assert main(shlex.split(command)[1:]) == 0, command
                    out.seek(0)
                    found.append((command, out.read()))
    return found


def test_the_commands_do_as_the_guide_says(told: list[tuple[str, str]]) -> None:
    added = [text for command, text in told if " add galaxies" in command]
    assert len(added) == 2
    assert all("4 galaxies, added and in use" in text for text in added)
    (tried,) = (text for command, text in told if command.endswith("try 197.4504 -23.3815"))
    assert "faint one" in tried
    assert re.search("NGC 4993.*40.7 Mpc", tried)
    listed = [text.count("galaxies.csv") for command, text in told if command.endswith(" list")]
    assert listed == [1, 2, 0]
    said = dict(told)
    assert "galaxies, nearby_galaxies" in said["mmgateway config check"]
    assert said["mmgateway catalogs verify"].count("as it was added") == 2
    assert "removed" in said["mmgateway catalogs remove galaxies --all"]


def test_asteroids_are_found_as_the_guide_says(told: list[tuple[str, str]]) -> None:
    said = dict(told)
    (added,) = (text for command, text in told if " add ephemeris" in command)
    assert "2 minor_planets in 3 segments, added and in use" in added
    (tried,) = (text for command, text in told if " try " in command and "asteroids" in command)
    assert re.search("asteroids +0.0.″ +minor_planets, 2026 AB1, mag 20.4", tried)
    assert "over" in said["mmgateway catalogs list"]


@pytest.mark.parametrize("name", [*TIME_NAMES, *RA_RATE_NAMES, *DEC_RATE_NAMES])
def test_columns_of_ephemerides_are_in_the_guide(name: str) -> None:
    and_the_like = {"jd_utc", "julian_date", "date_________jdut", "mjd_utc", "time_mjd", "mjd_tdb"}
    and_the_like |= {"time_utc", "datetime_utc", "date_utc", "obs_time", "date-obs"}
    assert f"`{name}`" in GUIDE or name in and_the_like


@pytest.mark.parametrize("kind", RADIUS_ARCSEC)
def test_the_radius_of_each_kind_is_that_of_the_code(kind: str) -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{kind}` |"))
    assert row.endswith(f"| {RADIUS_ARCSEC[kind]:g}″ |")


@pytest.mark.parametrize("role", _NAMES)
def test_columns_of_the_guide_are_those_of_the_code(role: str) -> None:
    assert f"`{_NAMES[role][0]}`" in GUIDE
