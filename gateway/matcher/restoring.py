"""State as after the last committed step: brought back, and looked at for what is missing.

Topics, checkpoint and state folder belong together. A part that is lost or is of another run
would make the matcher say things twice, or not at all; it refuses to start instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from broker import kafka_io, topics
from broker.archive import AlertArchive
from broker.aside import Aside
from broker.engine import Engine
from broker.lookuplog import readable
from broker.lookups import SqliteAnswers
from broker.regioncodec import RegionRecord, decode_region
from broker.verdictlog import decode_verdict
from broker.writer import Marker, Writer
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import MultiOrderMap
from crossmatch.verdicts import Verdict
from gateway.logs import EventLog

log = EventLog("match")

_TOGETHER = (
    "topics, checkpoint and [paths] state belong together: restore what is missing, or begin with"
    " fresh topics and a fresh state folder"
)


class Regions:
    """Reads messages of ``mm.regionlog``: the one rule, live, at a start and of what is over.

    Parameters
    ----------
    load_map : callable
        From (hash, path) to the sky map.
    chains : collection of str
        Selection chains that there are.
    """

    def __init__(
        self, load_map: Callable[[str, str], MultiOrderMap], chains: Iterable[str]
    ) -> None:
        self._load_map = load_map
        self._chains = frozenset(chains)

    def read(self, data: bytes) -> RegionRecord:
        """A record.

        Raises
        ------
        Rejected
            If it is none, its sky map is missing, or its chain is not known.
        """
        record = decode_region(data, self._load_map)
        if record.region is not None and record.region.chain not in self._chains:
            raise Rejected("unknown_chain", f"no selection chain {record.region.chain!r} here")
        return record

    def read_again(self, data: bytes) -> RegionRecord | None:
        """A record that was read before; None if it became a dead letter then.

        Raises
        ------
        ServiceError
            If its sky map is there no longer.
        """
        try:
            return self.read(data)
        except Rejected as error:
            if error.reason == "map_missing":
                raise ServiceError(f"{error.detail}; {_TOGETHER}") from error
            log.warning("region_skipped", reason=error.reason, detail=error.detail)
            return None

    def put_aside(self, data: bytes) -> RegionRecord:
        """A record of an event that was put aside.

        Raises
        ------
        ServiceError
            If it cannot be read any more.
        """
        record = self.read_again(data)
        if record is None:
            raise ServiceError(f"an event that was put aside cannot be read; {_TOGETHER}")
        return record


def restore(
    engine: Engine,
    aside: Aside,
    writer: Writer,
    marker: Marker | None,
    regions: Regions,
    answers: SqliteAnswers,
    bootstrap: str,
    properties: Mapping[str, str],
) -> None:
    """Bring the engine to where the last committed step left it.

    Raises
    ------
    ServiceError
        If something that was there then is missing.
    """
    aside.restore(-1 if marker is None else marker.step)
    if marker is None:
        answers.restore(-1, 0, lambda: ())
        return
    _check_topic(bootstrap, properties, topics.REGION_LOG, marker.regions_next)
    _check_topic(bootstrap, properties, topics.VERDICTS, marker.verdicts_next)
    _check_topic(bootstrap, properties, topics.LOOKUPS, marker.lookups_next)
    answered = kafka_io.read_all(bootstrap, properties, topics.LOOKUPS, end=marker.lookups_next)
    answers.restore(marker.step, marker.lookups, lambda: readable(m.value for m in answered))
    said = kafka_io.read_all(bootstrap, properties, topics.REGION_LOG, end=marker.regions_next)
    verdicts = kafka_io.read_all(bootstrap, properties, topics.VERDICTS, end=marker.verdicts_next)
    state = writer.state()
    check_counts(marker, len(state.groups), aside.count())
    records = map(regions.read_again, aside.without_closed(m.value for m in said))
    engine.restore(
        [record for record in records if record is not None],
        state.groups,
        state.searches,
        _verdicts(m.value for m in verdicts),
        marker.step,
        marker.batch_id,
    )


def check_counts(marker: Marker, groups: int, put_aside: int) -> None:
    """Raise ServiceError unless groups and events put aside are as many as the marker says."""
    if groups != marker.groups:
        raise ServiceError(
            f"{topics.STATE} has {groups} groups of alerts, but {marker.groups} were committed;"
            f" {_TOGETHER}"
        )
    if put_aside != marker.aside:
        raise ServiceError(
            f"closed.sqlite has {put_aside} events that are over, but {marker.aside} were put"
            f" aside; {_TOGETHER}"
        )


def check_fit(
    marker: Marker | None, query_id: str, checkpoint: Path, archive: AlertArchive
) -> None:
    """Raise ServiceError unless marker, checkpoint and archive are of one run."""
    last = archive.last_batch()
    if marker is None:
        # Batch 0 may have been archived by a process that died before it published it.
        if last > 0:
            raise ServiceError(
                f"the archive {archive.path} has batches of a run of which Kafka holds nothing:"
                " restore Kafka's topics, or begin with a fresh [paths] state"
            )
        return
    if last < marker.archived:
        raise ServiceError(
            f"the archive {archive.path} ends with batch {last}, but batch {marker.archived} was"
            f" committed; {_TOGETHER}"
        )
    if query_id and marker.query in ("", query_id):
        return
    found = f"belongs to another run ({query_id})" if query_id else "is missing"
    raise ServiceError(
        f"the checkpoint {checkpoint} {found}, while Kafka holds batch {marker.batch_id} of"
        f" run {marker.query or 'unknown'}: restore it, or start both anew with fresh topics"
        " and a fresh [paths] state"
    )


def _check_topic(bootstrap: str, properties: Mapping[str, str], topic: str, next_: int) -> None:
    end = sum(kafka_io.ends(bootstrap, properties, topic).values())
    if end < next_:
        raise ServiceError(
            f"{topic} ends at {end}, but was read up to {next_}: it is not the same; {_TOGETHER}"
        )


def _verdicts(values: Iterable[bytes]) -> list[Verdict]:
    found = []
    for value in values:
        try:
            found.append(decode_verdict(value))
        except Rejected as error:
            log.warning("verdict_skipped", reason=error.reason, detail=error.detail)
    return found
