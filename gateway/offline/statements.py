"""Statements about candidates as they were kept: the matcher's Delta table, or the topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from confluent_kafka import KafkaException
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from broker import kafka_io, topics
from broker.codec import decode
from crossmatch.errors import Rejected, ServiceError

if TYPE_CHECKING:
    import pyarrow.dataset as pads

LIST_COLUMNS = (
    "counterpart_id", "event_id", "role", "record_number", "candidate_id", "state", "reason",
    "streams", "alert_datetime", "event_name", "joint_events", "messenger", "survey", "id",
    "ra", "dec", "mag", "mag_error", "filter", "last_detection", "credible_level", "tier",
    "score", "factors", "expires", "verdict", "verdict_effect", "stream",
)  # fmt: skip
"""What a list of counterparts needs; whole statements have three times as much."""
_KEYS = ("counterpart_id", "event_id", "role")


class Table:
    """Statements in the Delta table of the matcher.

    Parameters
    ----------
    path : Path
        Folder of the table.
    private : bool
        Whether statements that only some streams may see are read too.

    Raises
    ------
    ServiceError
        When there is no table, or it cannot be read.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        try:
            self._data: pads.Dataset = DeltaTable(str(path)).to_pyarrow_dataset()
        except TableNotFoundError as error:
            raise ServiceError(
                f"there are no candidates at {path} yet: the matcher writes them ('mmgateway up');"
                " --from-kafka reads the topics of a gateway whose files are elsewhere"
            ) from error
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the candidates at {path} cannot be read: {error}") from error
        self._private = private

    def latest(self) -> list[dict[str, Any]]:
        """Latest statement of each event and counterpart, with ``LIST_COLUMNS``.

        Only the numbers of all statements are held at a time, not the statements.
        """
        keys = self._data.to_table(columns=[*_KEYS, "record_number", "candidate_id"])
        newest = keys.group_by(list(_KEYS)).aggregate([("record_number", "max")])
        newest = newest.rename_columns({"record_number_max": "record_number"}).append_column(
            "newest", [[True] * newest.num_rows]
        )
        wanted = keys.join(newest, [*_KEYS, "record_number"], join_type="inner")
        ids = wanted["candidate_id"].combine_chunks()
        return self._rows(LIST_COLUMNS, pc.field("candidate_id").isin(ids))

    def of(self, name: str) -> list[dict[str, Any]]:
        """All statements, whole, about a counterpart id or an object of a survey."""
        return self._rows((), (pc.field("counterpart_id") == name) | (pc.field("id") == name))

    def names(self) -> list[str]:
        """Ids of all counterparts that may be seen, sorted."""
        rows = self._data.to_table(columns=["counterpart_id", "streams"])
        if not self._private:
            rows = rows.filter(pc.equal(pc.list_value_length(rows["streams"]), 0))
        return sorted(pc.unique(rows["counterpart_id"]).to_pylist())

    def _rows(self, columns: Sequence[str], where: pc.Expression) -> list[dict[str, Any]]:
        has = self._data.schema.names
        # A table that an earlier version began has not all columns of today.
        wanted = [c for c in columns if c in has] or has
        rows = self._data.to_table(columns=wanted, filter=where).to_pylist()
        return visible([dict.fromkeys(columns) | row for row in rows], self._private)


def from_topics(
    bootstrap: str, properties: Mapping[str, str], *, private: bool = False
) -> list[dict[str, Any]]:
    """All statements on the topics of candidates, those of private streams too if so asked.

    Raises
    ------
    ServiceError
        When Kafka does not answer or may not be read.
    """
    asked = set(topics.all_candidates())
    found = []
    for name in _topic_names(bootstrap, properties):
        public, stream = topics.place_of(name)
        if public not in asked or (stream and not private):
            continue
        for record in kafka_io.read_all(bootstrap, properties, name):
            found.append(_decoded(record.value, name))
    return visible(found, private)


def visible(rows: Iterable[Mapping[str, Any]], private: bool) -> list[dict[str, Any]]:
    """``rows`` without those that only some streams may see, unless ``private``."""
    return [dict(row) for row in rows if private or not row.get("streams")]


def _topic_names(bootstrap: str, properties: Mapping[str, str]) -> list[str]:
    client = kafka_io.consumer(bootstrap, properties, "mmgateway-reader")
    try:
        return sorted(client.list_topics(timeout=kafka_io.ANSWER_SECONDS).topics)
    except KafkaException as error:
        raise ServiceError(
            f"no Kafka answers at {bootstrap} ({error.args[0].str()});"
            " start it with 'mmgateway up kafka' or correct [kafka] bootstrap"
        ) from error
    finally:
        client.close()


def _decoded(value: bytes, topic: str) -> dict[str, Any]:
    try:
        return decode(value)
    except Rejected as error:
        raise ServiceError(f"{topic} holds a message that is no statement: {error}") from error
