"""Benches told to end: the process that they wait for is told, too, and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.bench import ending

# Asks the process above it to end, and ends itself when it is asked: in a moment of its own.
CHILD = """
import os, pathlib, signal, sys
number = getattr(signal, sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {number})
os.kill(os.getppid(), number)
signal.sigwait({number})
pathlib.Path(sys.argv[2]).write_text("cleared")
if sys.argv[3] == "signal":
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
sys.exit(int(sys.argv[3]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_is_told_to_end_tells_the_other_process_and_ends_as_it_does(tmp_path: Path, name: str):
    mark = tmp_path / "mark"
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(SystemExit) as end:
        ending.run([sys.executable, "-c", CHILD, name, str(mark), "43"])
    assert end.value.code == 43
    assert mark.read_text() == "cleared"
    assert signal.getsignal(signal.Signals[name]) is before


def test_what_is_told_to_end_has_not_done_all_even_if_the_other_process_has(tmp_path: Path):
    with pytest.raises(SystemExit) as end:
        ending.run([sys.executable, "-c", CHILD, "SIGTERM", str(tmp_path / "mark"), "0"])
    assert end.value.code == 128 + signal.SIGTERM


def test_a_process_that_a_signal_ended_gives_the_status_of_that(tmp_path: Path):
    with pytest.raises(SystemExit) as end:
        ending.run([sys.executable, "-c", CHILD, "SIGTERM", str(tmp_path / "mark"), "signal"])
    assert end.value.code == 128 + signal.SIGTERM


def test_what_a_process_prints_is_kept_with_its_status():
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = ending.run([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_one_that_is_told_to_end_leaves_what_it_is_in_as_by_an_exception():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, ending.cleanly():
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
