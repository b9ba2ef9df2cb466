"""A Spark session for the match: quiet, on loopback, with bounded Avro and no resolver."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from broker.embedded.java import Java, spark_java_home
from crossmatch.errors import ServiceError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# One absurd length in one packet would otherwise ask for gigabytes and end the Java machine.
# Nothing that we read is longer: names and bands; the cut-outs are never read.
AVRO_LIMITS = {
    "org.apache.avro.limits.string.maxLength": 1024 * 1024,
    "org.apache.avro.limits.bytes.maxLength": 8 * 1024 * 1024,
    "org.apache.avro.limits.collectionItems.maxLength": 1_000_000,
}

# WARN is the level at which Spark does not print that it changes the level.
_LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRefs = file
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}}{{UTC}} %p %c: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


def spark_session(
    *,
    java: Java,
    jars: Sequence[Path],
    local_dir: Path,
    master: str = "local[*]",
    driver_memory: str = "2g",
    app_name: str = "mmgateway",
    extra: Mapping[str, str] | None = None,
) -> SparkSession:
    """The process's Spark session, made at the first call.

    Parameters
    ----------
    java : Java
        For the driver, from `broker.embedded.java.find_java`.
    jars : sequence of Path
        From `broker.embedded.jars.fetch_jars`; sent to the executors where there are any.
    local_dir : Path
        Scratch space, the log ``spark.log`` and the wrapper of ``java``.
    master : str
        ``local[*]``, ``spark://…``, ``yarn`` or ``k8s://…``.
    driver_memory : str
        As Spark writes it, for example ``2g``.
    app_name : str
        Shown by a cluster's manager.
    extra : mapping, optional
        Spark settings that replace or add to ours; extra Java options are appended to ours.

    Raises
    ------
    ServiceError
        If the Java machine of Spark does not start or a setting is refused.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    local_dir = Path(local_dir).resolve()
    settings = spark_settings(jars, local_dir, master, driver_memory, extra or {})
    try:
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / "log4j2.properties").write_text(
            _LOG4J.format(log=str(local_dir / "spark.log").replace("\\", "\\\\"))
        )
    except OSError as error:
        raise ServiceError(f"{local_dir}: cannot be written: {error.strerror}") from error
    environ = {
        "JAVA_HOME": str(spark_java_home(java, local_dir)),
        # Executors of other hosts may have theirs elsewhere.
        "PYSPARK_PYTHON": settings.get("spark.pyspark.python", sys.executable),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    if master.startswith("local"):
        environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.appName(app_name)
    for name, value in settings.items():
        builder = builder.config(name, value)
    with _environment(environ):
        try:
            return builder.getOrCreate()
        except PySparkException as error:
            raise ServiceError(f"Spark did not start on {master}: {error.getMessage()}") from error
        except Exception as error:
            # Errors of the Java machine come through py4j with a Java stack trace as text.
            first = str(error).strip().splitlines()
            raise ServiceError(
                f"Spark did not start on {master}: {_cause(first)}; see {local_dir / 'spark.log'}"
            ) from error


def spark_settings(
    jars: Sequence[Path],
    local_dir: Path,
    master: str,
    driver_memory: str,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Spark settings of `spark_session`, in the order in which they are given to Spark."""
    limits = " ".join(f"-D{name}={value}" for name, value in AVRO_LIMITS.items())
    log4j = (local_dir / "log4j2.properties").as_uri()
    ours = {
        "spark.master": master,
        "spark.driver.memory": driver_memory,
        "spark.jars": ",".join(map(str, jars)),
        "spark.local.dir": str(local_dir),
        "spark.sql.warehouse.dir": (local_dir / "warehouse").as_uri(),
        # Spark looks for an interruption in the text of a Python error by a regular expression
        # that recurses at each character; a stack of 1 MiB ends at some thousand.
        "spark.driver.extraJavaOptions": f"-Xss16m {limits} -Dlog4j2.configurationFile={log4j}",
        "spark.executor.extraJavaOptions": limits,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Python workers get packets of 80 kB: count bytes, not only rows.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(32 * 1024 * 1024),
        "spark.sql.streaming.metricsEnabled": "false",
        "spark.sql.adaptive.enabled": "false",
    }
    if master.startswith("local"):
        ours["spark.driver.bindAddress"] = "127.0.0.1"
        ours["spark.driver.host"] = "127.0.0.1"
    for name, value in extra.items():
        added = name.endswith(".extraJavaOptions") and name in ours
        ours[name] = f"{ours[name]} {value}" if added else value
    return ours


def _cause(lines: Sequence[str]) -> str:
    causes = [x for x in lines if x.startswith("Caused by:")]
    chosen = causes[-1].removeprefix("Caused by:") if causes else (lines or ["no reason given"])[-1]
    return chosen.strip()[:300]


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Spark's launcher reads the environment; ours is as before afterwards."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
