"""Decoding and matching by executors in processes of their own, as on a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    "MMGATEWAY_CLUSTER" not in os.environ,
    reason="takes half a minute: make cluster, or MMGATEWAY_CLUSTER=1",
)

_RUN = """\
import json, shutil, sys
from pathlib import Path
from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.spark import spark_session
from gateway.bench.cluster import executors_folder
from tests.integration import test_stream_workers as both
from tests.integration.streaming import World

folder = Path(sys.argv[1])
spark = spark_session(
    java=find_java(),
    jars=fetch_jars(SPARK),
    local_dir=folder / "spark",
    master="local-cluster[2,1,1024]",
    driver_memory="1g",
)
driver = both.warm(World(spark, folder / "driver"))
workers = both.warm(World(spark, folder / "workers", in_workers=True))
for messages in both.batches():
    driver.take(*messages)
    workers.take(*messages)
work = executors_folder(spark)
unpacked = [str(p) for p in work.glob("*/regions/*/tables.json")]
told = [
    {"said": both.said(w), "ledgers": both.ledgers(w), "letters": len(both.letters(w))}
    for w in (driver, workers)
]
print(json.dumps({"driver": told[0], "workers": told[1], "unpacked": unpacked}))
spark.stop()
shutil.rmtree(work)
"""


def test_executors_decode_and_match_as_the_driver_does(tmp_path: Path):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["workers"] == told["driver"]
    assert {s["state"] for s in told["driver"]["said"]} == {"in_force", "withdrawn"}
    assert told["unpacked"], "executors write the regions down that they map"
