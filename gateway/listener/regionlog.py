"""The log of regions: what is written of each version, and what is known again from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from broker import topics
from broker.codec import decode, encode, from_iso, iso
from broker.regioncodec import (
    RegionRecord,
    decode_region,
    encode_region,
    encode_retraction,
    region_key,
)
from crossmatch.errors import RegionError, Rejected
from crossmatch.model import MultiOrderMap, Notice, Region
from crossmatch.versions import reach, world_of
from gateway.intake import Decision, EventBook, Identity, identity
from gateway.listener.outbox import Batch
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.logs import EventLog

log = EventLog("listen")

_SWEEP_EVERY = timedelta(hours=1)
# So that years of records need no more memory at a start than what is kept of them.
_SWEEP_RECORDS = 5000


class RegionLog:
    """Writes regions and retractions to the log and to the topics of those who may see them.

    Parameters
    ----------
    store : SkymapStore
        Where the sky maps go.
    """

    def __init__(self, store: SkymapStore) -> None:
        self._store = store
        # Region messages by what they came of, to send one again under another number.
        self._records: dict[Identity, bytes] = {}
        # Retractions, to send one again after what it took back.
        self._retractions: dict[Identity, tuple[Notice, bytes]] = {}
        self._next_sweep: datetime | None = None

    def __len__(self) -> int:
        """Region messages that are kept to be sent again."""
        return len(self._records)

    def region(self, notice: Notice, region: Region, arrival: Arrival, batch: Batch) -> None:
        """One version of an event."""
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
        _add(notice, value, batch)
        self._records[identity(notice)] = value

    def retraction(self, notice: Notice, arrival: Arrival, batch: Batch) -> None:
        """The retraction of an event."""
        value = encode_retraction(notice, received=iso(arrival.received))
        _add(notice, value, batch)
        self._retractions[identity(notice)] = notice, value

    def last_word(self, decision: Decision, batch: Batch) -> None:
        """Say once more what holds, if that is not what was said last.

        Whoever takes the last message of an event for true is right then. An older notice that
        comes late comes after what is in force, whose number it shifts, and perhaps after the
        retraction that took it back.
        """
        notice, current = decision.notice, decision.current
        if notice is None or (current is not None and identity(current) == identity(notice)):
            return
        if current is None:
            if notice.alert_type != "retraction":
                self._retract_again(notice, batch)
            return
        value = self._records.get(identity(current))
        if value is None:
            return
        fields = decode(value)
        if fields["version"] != decision.current_version:
            value = encode("region", fields | {"version": decision.current_version})
            self._records[identity(current)] = value
        _add(current, value, batch)

    def _retract_again(self, notice: Notice, batch: Batch) -> None:
        """The last of the retractions that took a notice back, as it was sent."""
        world = world_of(notice.role, notice.streams)
        names = {notice.event_id, notice.notice_id}
        found = [
            (retraction.order, retraction.notice_id, known)
            for known, (retraction, _) in self._retractions.items()
            if names & {retraction.event_id, *retraction.retracts}
            and world in reach(world_of(retraction.role, retraction.streams))
        ]
        if found:
            *_, last = max(found)
            _add(*self._retractions[last], batch)

    def restore(self, values: Iterable[bytes], book: EventBook, now: datetime) -> int:
        """Tell ``book`` what earlier runs wrote to the log; the number of records.

        The book forgets on the way as it did then, and what is due by ``now``: the versions
        of an event have the numbers that they would have without the restart. What is damaged
        in the log is logged and left out: it cannot be in force anywhere.
        """
        count = 0
        for value in values:
            try:
                record = decode_region(value)
                notice = _notice_of(record)
                received, expires = _moment(record, "received"), _moment(record, "expires")
            except (Rejected, KeyError, ValueError) as error:
                log.error("region_not_restored", detail=str(error))
                continue
            book.accept(notice, received=received, expires=expires)
            if record.alert_type == "retraction":
                self._retractions[identity(notice)] = notice, value
            else:
                self._records[identity(notice)] = value
            count += 1
            if count % _SWEEP_RECORDS == 0 and received is not None:
                self._forget(book, received)
        self._forget(book, now)
        return count

    def sweep(self, book: EventBook, now: datetime) -> None:
        """Once an hour: forget what is due, in the book and here."""
        if self._next_sweep is not None and now < self._next_sweep:
            return
        if self._next_sweep is not None:
            # At a start `restore` has just done it.
            self._forget(book, now)
        self._next_sweep = now + _SWEEP_EVERY

    def _forget(self, book: EventBook, now: datetime) -> None:
        for known in book.forget(now):
            self._records.pop(known, None)
            self._retractions.pop(known, None)


def slim(notice: Notice) -> Notice:
    """The notice without its map's bytes and cells, of which the book only needs the existence.

    A map that is elsewhere does not count: no region came of it.
    """
    if notice.localization is None:
        return replace(notice, skymap_fits=None, skymap_url=None)
    if isinstance(notice.localization, MultiOrderMap):
        return replace(notice, localization=None, skymap_fits=b"")
    return replace(notice, skymap_fits=None)


def _add(notice: Notice, value: bytes, batch: Batch) -> None:
    key = region_key(notice.event_id, notice.order)
    batch.add((topics.REGION_LOG, *topics.seen_by(topics.REGIONS, notice.streams)), key, value)


def _moment(record: RegionRecord, name: str) -> datetime | None:
    text = record.fields[name]
    return from_iso(text) if text else None


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
        skymap_sha256=record.skymap_sha256,
        retracts=record.retracts,
        streams=record.streams,
    )
