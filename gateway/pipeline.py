"""What becomes of a notice: raw bytes kept, then region, retraction, or a reason why not.

No reactor and no Kafka here: a :class:`Sink` keeps what comes out, in memory for tests,
in Kafka for the service (:mod:`gateway.listen`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from broker.codec import (
    RegionRecord,
    decode,
    decode_region,
    encode,
    encode_dead_letter,
    encode_region,
    encode_retraction,
    from_iso,
    iso,
    region_key,
)
from crossmatch.chains import Chain
from crossmatch.errors import NoticeError, RegionError, Rejected, ServiceError
from crossmatch.model import MultiOrderMap, Notice, Region
from crossmatch.region import make_region
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Ignored
from gateway.intake import Decision, EventBook
from gateway.logs import EventLog
from gateway.mapfolder import localized
from gateway.sources import Arrival

log = EventLog("listen")

_PART = 64
_PART_BYTES = 2**20


@dataclass(slots=True)
class Batch:
    """What came out of some arrivals; it becomes visible as a whole or not at all.

    ``counts`` holds these arrivals, ``totals`` all since the topics began, ``next_notice``
    the first message of the notices topic that is not in it.
    """

    next_notice: int
    regions: list[tuple[bytes, bytes]] = field(default_factory=list)
    dead_letters: list[tuple[bytes, bytes]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    outcomes: list[str] = field(default_factory=list)


class Sink(Protocol):
    """Where notices and what they became are kept."""

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        """Keep the raw bytes; return their offsets once they are safe."""

    def commit(self, batch: Batch) -> None:
        """Publish a batch, all or nothing."""


class SkymapStore:
    """Sky maps by the SHA-256 of their bytes: ``<state>/skymaps/<sha256>.fits``."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "skymaps"

    def put(self, fits: bytes) -> str:
        """Keep ``fits``; the path relative to the state folder.

        Raises
        ------
        ServiceError
            If it cannot be written.
        """
        name = f"{hashlib.sha256(fits).hexdigest()}.fits"
        path = self._folder / name
        try:
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                # A reader may look at any moment, and the power may fail: all or nothing.
                descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
                try:
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(fits)
                        file.flush()
                        os.fsync(file.fileno())
                    os.chmod(temporary, 0o644)
                    os.replace(temporary, path)
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ServiceError(f"{path}: sky map cannot be written: {error.strerror}") from error
        return f"{self._folder.name}/{name}"


class NoticePipeline:
    """Takes notices in and says what each became.

    Parameters
    ----------
    registry : Registry
        The feeds.
    book : EventBook
        What is known of each event.
    chains : mapping
        Selection chains by name.
    sink : Sink
    store : SkymapStore
    totals : mapping, optional
        Counts of earlier runs.
    find_map : callable, optional
        The sky map that a notice names by its address, if it can be had
        (:func:`gateway.mapfolder.find_map`).
    """

    def __init__(
        self,
        registry: Registry,
        book: EventBook,
        chains: Mapping[str, Chain],
        sink: Sink,
        store: SkymapStore,
        totals: Mapping[str, int] | None = None,
        find_map: Callable[[Notice], bytes | None] = lambda notice: None,
    ) -> None:
        self._registry = registry
        self._book = book
        self._chains = chains
        self._sink = sink
        self._store = store
        self._find_map = find_map
        self._seen: set[str] = set()
        # Region messages by the hash of their notice, to send one again under another number.
        self._records: dict[str, bytes] = {}
        self.totals: Counter[str] = Counter(totals or {})
        self.reasons: Counter[str] = Counter()

    def take(
        self, arrivals: Sequence[Arrival], stored: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Keep the raw bytes, call ``stored``, then work; one outcome an arrival, in order.

        Outcomes are those of ``broker.ledger.NOTICE_OUTCOMES``.

        Raises
        ------
        ServiceError
            If something could not be kept; the bytes that are stored are worked through
            at the next start (:meth:`resume`).
        """
        offsets = self._sink.store(arrivals)
        stored()
        outcomes: list[str] = []
        for part in _parts(list(zip(arrivals, offsets, strict=True))):
            outcomes += self.resume(part)
        return outcomes

    def resume(self, arrivals: Sequence[tuple[Arrival, int]]) -> list[str]:
        """Work through notices that are stored at these offsets of the notices topic."""
        if not arrivals:
            return []
        batch = Batch(next_notice=max(offset for _, offset in arrivals) + 1)
        for arrival, offset in arrivals:
            outcome = self._outcome(arrival, offset, batch)
            batch.outcomes.append(outcome)
            batch.counts.update(("received", outcome))
        batch.totals = self.totals + batch.counts
        self._sink.commit(batch)
        self.totals = batch.totals
        return batch.outcomes

    def _outcome(self, arrival: Arrival, offset: int, batch: Batch) -> str:
        try:
            return self._work(arrival, batch)
        except Rejected as error:
            self._reject(error, arrival, offset, batch)
        except ServiceError:
            raise
        except Exception as error:
            # A fault of a parser must cost one notice, not the service, and be seen.
            log.error("parser_failed", exc_info=True, source=arrival.source, topic=arrival.topic)
            detail = f"{type(error).__name__}: {error}"
            self._reject(NoticeError("parser_failed", detail), arrival, offset, batch)
        return "rejected"

    def _work(self, arrival: Arrival, batch: Batch) -> str:
        if arrival.refused is not None:
            raise arrival.refused
        digest = hashlib.sha256(arrival.raw).hexdigest()
        if digest in self._seen:
            # Up to 140 copies of one notice were seen on GCN: do not read its map each time.
            log.info("notice_repeated", source=arrival.source, sha256=digest)
            return "duplicate"
        parsed = self._registry.parse(arrival.raw, topic=arrival.topic, feed=arrival.feed)
        if isinstance(parsed, Ignored):
            log.info("notice_ignored", feed=parsed.feed, reason=parsed.reason)
            return "ignored"
        notice = localized(parsed, self._find_map)
        region = None
        if notice.localization is not None and notice.alert_type != "retraction":
            # Before the book hears of it: what makes no region is no version of the event.
            region = make_region(notice, 1, self._chains)
        decision = self._book.accept(_slim(notice))
        if decision.outcome == "region" and region is not None:
            self._publish(notice, replace(region, version=decision.version), arrival, batch)
            self._renumber(decision, batch)
        elif decision.outcome == "retraction":
            value = encode_retraction(notice, received=iso(arrival.received))
            batch.regions.append((region_key(notice.event_id, notice.order), value))
        if decision.outcome != "ignored":
            self._seen.add(digest)
        log.info(
            "notice",
            outcome=decision.outcome,
            feed=notice.feed,
            kind=notice.kind,
            event_id=notice.event_id,
            version=decision.version,
            role=notice.role,
            notice_id=notice.notice_id,
        )
        return decision.outcome

    def _publish(self, notice: Notice, region: Region, arrival: Arrival, batch: Batch) -> None:
        path = ""
        if isinstance(region.localization, MultiOrderMap):
            if notice.skymap_fits is None:
                raise RegionError("map_not_kept", "the notice has a map but not its file")
            path = self._store.put(notice.skymap_fits)
        value = encode_region(
            region,
            trigger_id=notice.trigger_id,
            retracts=notice.retracts,
            skymap_path=path,
            received=iso(arrival.received),
        )
        batch.regions.append((region_key(region.event_id, region.order), value))
        self._records[region.notice_sha256] = value

    def _renumber(self, decision: Decision, batch: Batch) -> None:
        """Send the region in force again when an older notice came late and shifted its number."""
        current = decision.current
        if current is None or decision.notice is None or current.sha256 == decision.notice.sha256:
            return
        value = self._records.get(current.sha256)
        if value is None:
            return
        fields = decode(value)
        if fields["version"] != decision.current_version:
            value = encode("region", fields | {"version": decision.current_version})
            batch.regions.append((region_key(current.event_id, current.order), value))
            self._records[current.sha256] = value

    def _reject(self, error: Rejected, arrival: Arrival, offset: int, batch: Batch) -> None:
        self.reasons[error.reason] += 1
        log.warning(
            "notice_rejected",
            reason=error.reason,
            detail=error.detail,
            source=arrival.source,
            topic=arrival.topic,
            offset=offset,
        )
        value = encode_dead_letter(
            reason=error.reason,
            detail=error.detail,
            source=arrival.source,
            topic=arrival.topic,
            partition=arrival.partition,
            offset=arrival.offset,
            raw=arrival.raw,
            received=arrival.received,
        )
        batch.dead_letters.append((b"notice", value))

    def restore(self, values: Iterable[bytes]) -> int:
        """Take in what earlier runs published on the regions topic; the number of records.

        What is damaged there is logged and left out: it cannot be in force anywhere.
        """
        count = 0
        for value in values:
            try:
                record = decode_region(value)
                notice = _notice_of(record)
            except (Rejected, KeyError, ValueError) as error:
                log.error("region_not_restored", detail=str(error))
                continue
            self._book.accept(notice)
            self._seen.add(notice.sha256)
            if record.alert_type != "retraction":
                self._records[notice.sha256] = value
            count += 1
        return count


def _parts(arrivals: list[tuple[Arrival, int]]) -> Iterator[list[tuple[Arrival, int]]]:
    """Arrivals in parts that are committed together: small notices by the dozen, for speed,
    those with sky maps nearly alone, so that none waits for the maps of others.
    """
    part: list[tuple[Arrival, int]] = []
    size = 0
    for arrival in arrivals:
        part.append(arrival)
        size += len(arrival[0].raw)
        if size >= _PART_BYTES or len(part) >= _PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _slim(notice: Notice) -> Notice:
    """The notice without its map's bytes and cells, of which the book only needs the existence.

    A map that is elsewhere does not count: no region came of it.
    """
    if notice.localization is None:
        return replace(notice, skymap_fits=None, skymap_url=None)
    if isinstance(notice.localization, MultiOrderMap):
        return replace(notice, localization=None, skymap_fits=b"")
    return replace(notice, skymap_fits=None)


def _notice_of(record: RegionRecord) -> Notice:
    """As much of the notice behind a region message as the book needs."""
    fields = record.fields
    trigger_time = fields["trigger_time"]
    return Notice(
        feed=fields["feed"],
        mission=fields["mission"],
        instrument=fields["instrument"],
        kind=fields["kind"],
        notice_id=record.notice_id,
        event_id=record.event_id,
        trigger_id=fields["trigger_id"],
        messenger=fields["messenger"],
        role=fields["role"],
        alert_type=fields["alert_type"],
        issued=from_iso(fields["issued"]),
        order=record.order,
        trigger_time=None if trigger_time is None else from_iso(trigger_time),
        localization=None,
        sha256=record.notice_sha256,
        # Only tells the book that there was a place.
        skymap_fits=None if record.alert_type == "retraction" else b"",
        retracts=record.retracts,
    )
