"""``mmgateway bench pipeline`` with a Kafka and a Spark, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.bench import pipeline_costs

pytestmark = pytest.mark.integration

_RUN = """\
import json, sys
from pathlib import Path
from gateway.bench import pipeline
sizes = pipeline.Sizes(packets=900, stamp_bytes=500, regions=40, batch=300, runs=1, plain=300,
    survey=sys.argv[2], sources=1000)
rows = pipeline.cases(Path(sys.argv[1]), sizes)
print(json.dumps([row.as_dict() for row in rows]))
"""


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_the_live_matcher_matches_what_one_region_after_another_matches(
    tmp_path: Path, survey: str
):
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path), survey],
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row["subject"] for row in rows[:5]] == [
        "mmgateway",
        "Spark, reading and decoding the prefix",
        "Spark, counting bytes",
        "mmgateway without catalogues",
        "fastavro, one region after another",
    ]
    assert rows[0]["equal"] is True
    assert all(row["facts"]["alerts_per_s"] > 0 for row in rows[:4])
    split = {row["subject"]: row["seconds"] for row in rows[5:]}
    # What is told from differences of a few short runs may be lost in their noise.
    differences = {pipeline_costs.DECODE, pipeline_costs.HAND_OVER}
    assert set(pipeline_costs.STEPS) - differences <= set(split) <= set(pipeline_costs.STEPS)
    assert split["cuts and join"] > 0 < split["archive"]
