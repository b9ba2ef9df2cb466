"""Benches that are told to end clear away what they have: folders, services, other processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def cleanly() -> Iterator[None]:
    """Let what is inside be left in order when this process is told to end."""
    # Otherwise Python ends at once, and a Kafka of the bench's own goes on without it.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(command: Sequence[str], stderr: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, and keep what it prints.

    Parameters
    ----------
    command : sequence of str
    stderr : int, optional
        ``subprocess.PIPE`` keeps that, too; else it goes where ours goes.

    Raises
    ------
    SystemExit
        When this process is told to end: the other one is told, too, and waited for, since it has
        services and folders to clear away. The status is its own.
    """
    children: list[subprocess.Popen[str]] = []
    asked: list[int] = []

    def forward(number: int, _frame: object) -> None:
        asked.append(number)
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _ENDING}
    try:
        # In a group of its own: Ctrl-C at a terminal would come twice, and break its clearing up.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            process_group=0,
        )
        early = list(asked)
        children.append(child)
        for number in early:
            child.send_signal(number)
        printed, said = child.communicate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        status = child.returncode
        # One that was done just then has not failed, but what was to come after it is not done.
        sys.exit(128 - status if status < 0 else status or 128 + asked[0])
    return subprocess.CompletedProcess(command, child.returncode, printed, said)
