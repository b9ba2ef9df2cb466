"""What goes into a step of the broker and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import pyarrow as pa

from broker.archive import Seen
from broker.fold import Why
from broker.groups import Group, GroupKey
from broker.owed import OwedSearch
from broker.regioncodec import RegionRecord
from broker.tally import Tally
from broker.told import Drafts
from crossmatch.ahead import Found
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict

Kind: TypeAlias = Literal["alerts", "search", "selection", "close"]


class Archive(Protocol):
    """The archive as a step needs it."""

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """Add the alerts of a batch once."""

    def seen(self, alerts: pa.Table, before_batch: int) -> Seen:
        """Which alerts came in earlier batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a step: good alerts, region records, verdicts and answers of catalogues in order.


    ``rejected`` counts what was rejected by reason and alert topic, ``lost`` by topic what Kafka
    deleted before it was read; ``messages`` is the number of Kafka messages that bore the alerts.
    ``rejected`` counts by reason and alert topic, ``lost`` by topic what Kafka deleted before it
    was read; ``messages`` is the number of Kafka messages that bore the alerts. ``found`` has the
    regions of the alerts where somebody looked for them before.
    """

    batch_id: int
    alerts: pa.Table
    records: Sequence[RegionRecord] = ()
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)
    verdicts: Sequence[Verdict] = ()
    messages: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    lookups: Sequence[Answer] = ()
    found: Found | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Output of a step; it becomes visible in one transaction.

    ``groups`` and ``searches`` hold what changed, None for what is gone; searches go by
    their keys. ``ledger`` are the counts of the step, ``parts`` those by night and feed.
    ``search`` tells of a step of that kind how far each search had come and comes now.
    """

    kind: Kind
    step: int
    batch_id: int
    moment: str
    statements: list[dict[str, Any]]
    groups: dict[GroupKey, Group | None]
    searches: dict[str, OwedSearch | None]
    ledger: dict[str, int]
    parts: list[dict[str, Any]]
    search: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class Turn:
    """What a step has changed so far, and what there is to tell of it.

    ``drafts`` are candidates that were made ahead of it.
    """

    kind: Kind
    batch_id: int
    moment: str
    drafts: Drafts = field(default_factory=dict)
    touched: dict[GroupKey, Why] = field(default_factory=dict)
    groups: dict[GroupKey, Group | None] = field(default_factory=dict)
    searches: dict[str, OwedSearch | None] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
