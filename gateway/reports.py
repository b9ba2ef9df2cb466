"""What the pipeline tells of each message, for health, statistics and suggestions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeReport:
    """One message after it was committed.

    Parameters
    ----------
    feed : str
        Empty when no feed knows it.
    source, topic : str
        As in :class:`gateway.listener.sources.Arrival`.
    outcome, reason : str
        As in :class:`gateway.understand.Understood`, or ``duplicate``.
    received, finished : datetime
        When it was heard, and when what came of it was committed; UTC.
    issued, trigger_time : datetime, optional
    event_id, kind, role : str
    raw : bytes
        Only of messages that no feed knows; else empty.
    """

    feed: str
    source: str
    topic: str
    outcome: str
    reason: str
    received: datetime
    finished: datetime
    issued: datetime | None = None
    trigger_time: datetime | None = None
    event_id: str = ""
    kind: str = ""
    role: str = ""
    raw: bytes = b""


class Observer(Protocol):
    """Is told of every message, in the thread of the pipeline; must not block or raise."""

    def __call__(self, report: NoticeReport) -> None:
        """Take note of one message."""
