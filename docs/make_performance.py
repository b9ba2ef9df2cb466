"""Page and plots of performance, from lines of benches: ``python docs/make_performance.py``.

Nothing is measured here: ``mmgateway bench all --out docs/performance/results.jsonl`` does that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from crossmatch.errors import ConfigError  # noqa: E402
from gateway.bench import every, report  # noqa: E402

LINES = ROOT / "docs" / "performance" / "results.jsonl"
PAGE = ROOT / "docs" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; the status to exit with."""
    parser = argparse.ArgumentParser(description="Page of performance from lines of benches.")
    parser.add_argument("--from", dest="lines", type=Path, default=LINES, help="JSON lines")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    parser.add_argument("--plots", type=Path, help="folder of plots; beside the lines by default")
    given = parser.parse_args(arguments)
    try:
        lines = every.read(given.lines)
    except ConfigError as error:
        print(f"{error}; `mmgateway bench all --out {given.lines}` measures", file=sys.stderr)
        return 1
    for path in report.written(lines, given.out, given.plots or given.lines.parent):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
