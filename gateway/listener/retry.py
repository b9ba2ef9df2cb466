"""Dead letters that an operator sends again: they come in by the topic ``mm.retry``.

Where reading goes on is part of what the listener commits, not an offset of a consumer
group: Kafka forgets those of a group that was idle for a week, and all would come again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from confluent_kafka import TopicPartition

from broker import topics
from gateway.listener.outbox import Headers, arrival_of, headers_of
from gateway.listener.sources import Arrival, Deliver, KafkaSource

NOTICE_KEY = b"notice"
"""Key of what the listener is to take; messages with other keys are for others."""


class RetrySource(KafkaSource):
    """Reads ``mm.retry`` from a given offset; each message is an arrival by its first door.

    Parameters
    ----------
    client : confluent_kafka.Consumer
    start : int
        First offset that is not taken in yet.
    deliver : Deliver
    now : callable
        UTC.
    """

    def __init__(
        self, client: Any, start: int, deliver: Deliver, now: Callable[[], datetime]
    ) -> None:
        super().__init__("retry", client, [topics.RETRY], deliver, now)
        self._start = start

    def _listen_to(self, names: Sequence[str]) -> None:
        self._client.assign([TopicPartition(name, 0, self._start) for name in names])

    def _is_notice(self, message: Any) -> bool:
        return super()._is_notice(message) and message.key() == NOTICE_KEY

    def _arrival(self, message: Any) -> Arrival:
        first = arrival_of(message.value(), message.headers() or ())
        return replace(first, received=self._now(), refused=None, retry=message.offset())

    def _commit(self, messages: Sequence[Any]) -> None:
        """The listener's own commits tell how far it came."""


def retry_headers(arrival: Arrival) -> Headers:
    """Headers of a notice on ``mm.retry``.

    Why its door refused it is left out, for the operator wants it read, and so is the wanted
    map that it answered, for which nobody waits any more.
    """
    return headers_of(replace(arrival, refused=None, answers="", retry=-1))
