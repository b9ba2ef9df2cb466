"""Spark reads the archive of alerts as the guide shows, and finds what DuckDB and polars find."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from broker.archive import AlertArchive
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.times import jd_from_datetime

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GUIDE = Path(__file__).resolve().parents[2] / "docs/howto/archive.md"


def rows(batch: int) -> pa.Table:
    """Alerts around the cone of the guide, in March and April 2024."""
    rng = np.random.default_rng(batch)
    begin = jd_from_datetime(datetime(2024, 3, 20, tzinfo=UTC))
    found = [
        dict.fromkeys(ALERT_SCHEMA.names)
        | {
            "survey": "ztf" if rng.random() < 0.8 else "lsst",
            "object_id": f"ZTF{i}",
            "alert_id": batch * 1000 + i,
            "time_jd": begin + rng.uniform(0, 20),
            "ra_deg": 45 + rng.uniform(-2, 2),
            "dec_deg": 41 + rng.uniform(-2, 2),
            "filter": "gri"[i % 3],
            "withdrawn": (None, False, False, True)[i % 4],
            "topic": "t",
            "partition": 0,
            "offset": i,
        }
        for i in range(200)
    ]
    return pa.Table.from_pylist(found, schema=ALERT_SCHEMA)


def test_three_programs_give_the_same_rows(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = AlertArchive(Path("mmgateway-data/alerts").resolve())
    for batch in range(3):
        archive.append(rows(batch), batch)
    archive.compact(now=datetime.now(UTC) - timedelta(minutes=5))
    archive.append(rows(3), 3)

    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
    printed = []
    for code in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(GUIDE), "exec"), {})
        printed.append(out.getvalue())

    assert len(printed) == 3
    assert len(eval(printed[0])) > 20
    assert set(printed) == {printed[0]}
