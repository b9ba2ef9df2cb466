"""The topics that the services need, public and private, and how long each is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker import topics
from gateway.config import Config

_KEEP = {"retention.ms": "-1"}
_ALL = {"cleanup.policy": "delete"} | _KEEP
_WEEK = {"retention.ms": str(7 * 86_400_000)}
# Sky maps make notices, and so dead letters, larger than Kafka's default of 1 MiB.
_LARGE = {"max.message.bytes": str(8 * 1024 * 1024)}
# Small segments and an eager cleaner: these topics are read from their beginning at each start,
# and Kafka never cleans the segment it writes to (1 GiB by default).
_COMPACT = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
}
ALERT_PARTITIONS = 4


def topic_specs(alert_topics: Iterable[str] = (), streams: Iterable[str] = ()) -> list[Any]:
    """Every topic of ours as a ``broker.kafka_io.TopicSpec``, with how long it is kept.

    Parameters
    ----------
    alert_topics : iterable of str
        Alert topics that lie on our own Kafka.
    streams : iterable of str
        Private streams, each with topics of its own.
    """
    from broker.kafka_io import TopicSpec

    return [
        TopicSpec(topics.NOTICES, 1, _KEEP | _LARGE),
        # Every version of every event stays: a consumer rebuilds what is in force from them.
        TopicSpec(topics.REGION_LOG, 1, _ALL | _LARGE),
        TopicSpec(topics.REGIONS, 1, _ALL | _LARGE),
        TopicSpec(topics.HELD, 1, _KEEP | _LARGE),
        TopicSpec(topics.DEAD_LETTER, 1, _KEEP | _LARGE),
        TopicSpec(topics.RETRY, 1, _KEEP | _LARGE),
        # What was stated may be withdrawn years later, and whoever reads for the first time, or was
        # away for long, must find both. They are small: a few kB for each statement.
        *(TopicSpec(name, 1, _KEEP | _LARGE) for name in topics.all_candidates()),
        TopicSpec(topics.VOEVENTS, 1, _KEEP),
        TopicSpec(topics.VERDICTS, 1, _ALL),
        TopicSpec(topics.LOOKUPS, 1, _ALL),
        TopicSpec(topics.LEDGER, 1, _KEEP),
        TopicSpec(topics.ALARMS, 1, _KEEP),
        # A group with many alerts exceeds 1 MiB.
        TopicSpec(topics.STATE, 1, _COMPACT | _LARGE),
        TopicSpec(topics.MARKER, 1, _COMPACT | _LARGE),
        *private_topic_specs(streams),
        *(TopicSpec(name, ALERT_PARTITIONS, _WEEK | _LARGE) for name in alert_topics),
    ]


def private_topic_specs(streams: Iterable[str]) -> list[Any]:
    """Topics of private streams, ``mm.private.<stream>.*``, as ``broker.kafka_io.TopicSpec``."""
    from broker.kafka_io import TopicSpec

    held = {
        topics.NOTICES: _KEEP | _LARGE,
        topics.REGIONS: _ALL | _LARGE,
        topics.DEAD_LETTER: _KEEP | _LARGE,
        topics.VOEVENTS: _KEEP,
        **dict.fromkeys(topics.all_candidates(), _KEEP | _LARGE),
    }
    return [
        TopicSpec(name, 1, config)
        for stream in sorted(set(streams))
        for topic, config in held.items()
        for name in topics.seen_by(topic, [stream])
    ]


def ensure_topics(
    bootstrap: str,
    properties: Mapping[str, str],
    alert_topics: Iterable[str] = (),
    streams: Iterable[str] = (),
) -> list[str]:
    """Create what is missing of our topics; the names of those created.

    Raises
    ------
    ServiceError
        If Kafka does not answer or refuses.
    """
    from broker import kafka_io

    return kafka_io.ensure_topics(bootstrap, properties, topic_specs(alert_topics, streams))


def ensure_all_topics(config: Config, bootstrap: str) -> list[str]:
    """:func:`ensure_topics` with the alert topics and private streams of a configuration.

    The topics of streams that only feed files name are made by whoever writes to them first.
    """
    alerts = own_alert_topics(config)
    return ensure_topics(bootstrap, config.kafka.properties, alerts, config.streams)


def own_alert_topics(config: Config) -> tuple[str, ...]:
    """Alert topics on our own Kafka: none when alerts come from another one."""
    if config.match.alert_bootstrap:
        return ()
    return config.match.alert_topics_ztf + config.match.alert_topics_lsst
