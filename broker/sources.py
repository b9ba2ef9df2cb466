"""What the live query reads: alert topics and topics of ours, as slim rows made in the JVM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from broker import curves, decode, topics
from crossmatch.errors import ConfigError

OWN = (topics.REGION_LOG, topics.VERDICTS, topics.LOOKUPS)
"""Topics of ours that it reads: regions, verdicts and answers of catalogues."""

HISTORY = {"ztf": "ztf_history", "lsst": "lsst_history"}
"""Columns of light curves, by survey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the query reads.

    ``alert_bootstrap`` empty means that the alerts lie on our own Kafka; properties are
    librdkafka's and are translated for the JVM.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(repr=False)
    ztf: tuple[str, ...]
    lsst: tuple[str, ...]
    alert_bootstrap: str = ""
    alert_properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    lsst_schemas: Mapping[int, str] = field(default_factory=dict, repr=False)
    starting_offsets: str = "earliest"
    max_offsets_per_trigger: int = 20_000

    @property
    def survey(self) -> dict[str, str]:
        """Survey of each alert topic."""
        return dict.fromkeys(self.ztf, "ztf") | dict.fromkeys(self.lsst, "lsst")


def jvm_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """librdkafka properties as Spark's Kafka source takes them, each with its ``kafka.`` prefix."""
    plain = dict(properties)
    untranslated = [k for k in plain if k.startswith(_NOT_FOR_THE_JVM)]
    if untranslated:
        raise ConfigError(
            f"{untranslated[0]}: Spark's Kafka client has no such property; use SASL, or a"
            " Kafka without client certificates"
        )
    user, password = plain.pop("sasl.username", None), plain.pop("sasl.password", None)
    mechanism = plain.pop("sasl.mechanism", None) or plain.pop("sasl.mechanisms", None)
    authority = plain.pop("ssl.ca.location", None)
    if plain.get("ssl.endpoint.identification.algorithm") == "none":
        plain["ssl.endpoint.identification.algorithm"] = ""
    jvm = {k: v for k, v in plain.items() if k.startswith(("security.", "ssl.", "client.id"))}
    if mechanism is not None:
        jvm["sasl.mechanism"] = mechanism
    if user is not None:
        login = (
            "scram.ScramLoginModule" if "SCRAM" in (mechanism or "") else "plain.PlainLoginModule"
        )
        quoted = (password or "").replace("\\", "\\\\").replace('"', '\\"')
        jvm["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{login} required"
            f' username="{user}" password="{quoted}";'
        )
    if authority is not None:
        jvm |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": authority}
    return {f"kafka.{key}": value for key, value in jvm.items()}


_NOT_FOR_THE_JVM = ("ssl.certificate.", "ssl.key.", "ssl.keystore.", "sasl.oauthbearer.")


def raw_rows(spark: SparkSession, sources: Sources) -> DataFrame:
    """Streaming rows of ``topic, partition, offset, value``: alerts, and messages of ours."""
    alerts, ours = list(sources.survey), list(OWN)
    own = (spark, sources.bootstrap, sources.properties)
    if not sources.alert_bootstrap and sources.starting_offsets == "earliest":
        return _read(*own, [*alerts, *ours], sources, "earliest")
    theirs = (
        (spark, sources.alert_bootstrap, sources.alert_properties)
        if sources.alert_bootstrap
        else own
    )
    # Wherever the alerts begin, all of ours is read.
    return _read(*own, ours, sources, "earliest").unionByName(
        _read(*theirs, alerts, sources, sources.starting_offsets)
    )


def slim_columns(
    sources: Sources,
    learned: Mapping[str, Sequence[str]],
    numbers: Sequence[int] | None = None,
) -> list[Column]:
    """Columns ``topic, partition, offset, own, ztf, lsst`` of raw rows, decoded in the JVM.

    ``own`` has the bytes of a message of ours (`OWN`); ``ztf`` and ``lsst``
    are structs of native columns, ``route`` and ``schema_id``, with nulls in the rows of other
    topics. ``learned`` has the texts of writers' schemas by survey, ``numbers`` those of LSST's
    schemas that the JVM is to read: None for all.
    """
    value, topic = sf.col("value"), sf.col("topic")
    columns = [
        topic,
        sf.col("partition"),
        sf.col("offset"),
        sf.when(topic.isin(*OWN), value).alias("own"),
    ]
    if sources.ztf:
        mine = sf.when(topic.isin(*sources.ztf), value)
        columns.append(decode.ztf_packet(mine, learned["ztf"]).alias("ztf"))
    if sources.lsst:
        mine = sf.when(topic.isin(*sources.lsst), value)
        packet = decode.lsst_packet(mine, _messages(sources, numbers), learned["lsst"])
        columns.append(packet.alias("lsst"))
    return columns


def history_columns(
    sources: Sources,
    learned: Mapping[str, Sequence[str]],
    numbers: Sequence[int] | None = None,
) -> dict[str, Column]:
    """Light curves of raw rows that have a ``packet``, which may be null, by survey.

    Structs as `broker.curves.history_column`, null in the rows of other surveys; ``learned`` and
    ``numbers`` are those of `slim_columns`.
    """
    found = {}
    for survey, names in (("ztf", sources.ztf), ("lsst", sources.lsst)):
        if names:
            packet = sf.col("packet")
            messages = _messages(sources, numbers) if survey == "lsst" else {}
            curve = curves.history_column(survey, packet, messages, learned[survey])
            mine = packet.isNotNull() & sf.col("topic").isin(*names)
            found[survey] = sf.when(mine, curve)
    return found


def _messages(sources: Sources, numbers: Sequence[int] | None) -> dict[int, str]:
    known = sources.lsst_schemas
    return {i: known[i] for i in (known if numbers is None else numbers)}


def _read(
    spark: SparkSession,
    bootstrap: str,
    properties: Mapping[str, str],
    names: Sequence[str],
    sources: Sources,
    starting_offsets: str,
) -> DataFrame:
    return (
        spark.readStream.format("kafka")
        .options(**jvm_properties(properties))
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", ",".join(names))
        .option("startingOffsets", starting_offsets)
        # Alerts that Kafka deleted before they were read are counted as lost, not fatal.
        .option("failOnDataLoss", "false")
        .option("maxOffsetsPerTrigger", sources.max_offsets_per_trigger)
        # The source waits this long in every job when a partition has nothing new.
        .option("kafka.fetch.max.wait.ms", "20")
        .option("kafka.isolation.level", "read_committed")
        .option("kafka.max.partition.fetch.bytes", str(16 << 20))
        .load()
        .select("topic", "partition", "offset", "value")
    )
