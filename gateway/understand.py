"""One message from bytes to region: the path that live stream, files and trials share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from crossmatch.bounds import MAX_NAME, bounded, shortened
from crossmatch.chains import Chain
from crossmatch.errors import NoticeError, Rejected
from crossmatch.model import MapOrigin, Notice, Region
from crossmatch.region import make_region
from crossmatch.skymap import read_skymap, skymap_header
from gateway.feeds.message import Ignored
from gateway.feeds.parsers.members import MAP_FAULT
from gateway.feeds.registry import Registry

_LONGEST_WARNING = timedelta(days=1)

Kept = Literal["region", "no_position", "retraction", "ignored", "rejected", "held"]


@dataclass(frozen=True, slots=True)
class Understood:
    """What a message is, before anything is known of its event.

    ``streams`` are those that may see the message, also when it was rejected. ``region``
    counts as version 1. A message of a paused feed is ``held`` and was read no further.
    """

    outcome: Kept
    feed: str = ""
    feed_version: str = ""
    streams: tuple[str, ...] = ()
    notice: Notice | None = None
    ignored: Ignored | None = None
    region: Region | None = None
    rejected: Rejected | None = None

    @property
    def reason(self) -> str:
        """Stable code for what is not a region; empty for regions."""
        if self.rejected is not None:
            return self.rejected.reason
        if self.ignored is not None:
            return self.ignored.reason
        if self.outcome == "held":
            return "paused"
        return "" if self.notice is None or self.region else self.notice.no_position_reason


@dataclass(frozen=True, slots=True)
class SkymapFile:
    """Bytes of a sky map that did not come with the notice, and where they came from."""

    fits: bytes
    origin: MapOrigin


def understand(
    registry: Registry,
    chains: Mapping[str, Chain],
    raw: bytes,
    *,
    topic: str = "",
    feed: str = "",
    find_map: Callable[[Notice], SkymapFile | None] = lambda notice: None,
    heed_pause: bool = True,
    audience: tuple[str, ...] = (),
) -> Understood:
    """Read one message; what is wrong with it is part of the answer.

    Parameters
    ----------
    topic, feed : str
        As in :meth:`gateway.feeds.registry.Registry.route`.
    find_map : callable
        The map that a notice names by its address, if it can be had without waiting.
    heed_pause : bool
        False reads messages of paused feeds too.
    audience : tuple of str
        Private streams for which alone the message came: it is nobody else's, whatever it
        looks like, and ``no_feed`` when no feed of theirs knows it.
    """
    streams = audience or registry.audience_of(topic, feed=feed)
    version = ""
    try:
        routed = registry.route(raw, topic=topic, feed=feed, audience=audience)
        streams = routed.streams
        if routed.feed is not None:
            feed = routed.feed.name
            version = routed.feed.version
            if heed_pause and feed in registry.paused:
                return Understood("held", feed, version, streams)
        found = registry.understand(routed)
        if isinstance(found, Ignored):
            found = replace(found, notice_id=shortened(found.notice_id, MAX_NAME))
            return Understood("ignored", feed, version, streams, ignored=found)
        if found.role == "utility":
            ignored = Ignored(
                "utility",
                found.feed,
                shortened(found.notice_id, MAX_NAME),
                kind=shortened(found.kind, MAX_NAME),
                role=found.role,
                event_id=shortened(found.event_id, MAX_NAME),
                trigger_time=found.trigger_time,
            )
            return Understood("ignored", feed, version, streams, ignored=ignored)
        notice = placed(bounded(found), find_map)
        if notice.alert_type == "retraction":
            return Understood("retraction", feed, version, streams, notice)
        if notice.localization is None:
            return Understood("no_position", feed, version, streams, without_place(notice))
        _check_times(notice)
        region = make_region(notice, 1, chains)
        return Understood("region", feed, version, streams, notice, region=region)
    except Rejected as error:
        owner = None if feed else registry.owner_of(topic, streams)
        if owner is not None:
            feed, version = owner.name, owner.version
        return Understood("rejected", feed, version, streams, rejected=error)


def placed(notice: Notice, find_map: Callable[[Notice], SkymapFile | None]) -> Notice:
    """``notice`` with its map, its own or the one that ``find_map`` gives, as localisation.

    As it came when there is none, and retractions always; with a word on it when the
    embedded map is none, but a circle or an address is there as well.

    Raises
    ------
    Rejected
        When the map is none, or ``find_map`` says so.
    """
    if notice.alert_type == "retraction":
        return notice
    file = None if notice.skymap_fits is None else SkymapFile(notice.skymap_fits, "embedded")
    if file is None and notice.skymap_url:
        file = find_map(notice)
    if file is None:
        return notice
    try:
        skymap = read_skymap(file.fits)
    except Rejected as error:
        if file.origin != "embedded" or not (notice.localization or notice.skymap_url):
            raise
        # The circle is still good, and the map may be better where its address is.
        details = {**notice.details, MAP_FAULT: error.reason}
        return replace(notice, skymap_fits=None, details=details)
    distance, spread = notice.distance_mpc, notice.distance_error_mpc
    if distance is None and notice.messenger == "gw":
        distance, spread = _distance(file.fits)
    return replace(
        notice,
        distance_mpc=distance,
        distance_error_mpc=spread,
        skymap_fits=file.fits,
        localization=skymap,
        skymap_sha256=skymap.sha256,
        map_origin=file.origin,
    )


def _distance(fits: bytes) -> tuple[float | None, float | None]:
    """Mean distance and its error as a map's header gives them, Mpc: the alerts do not."""
    header = skymap_header(fits)
    mean, deviation = header["DISTMEAN"], header["DISTSTD"]
    if not isinstance(mean, float) or mean <= 0:
        return None, None
    return mean, deviation if isinstance(deviation, float) and deviation > 0 else None


def _check_times(notice: Notice) -> None:
    """Early warnings come a minute before the event; nobody observes what is a day ahead.

    A window around such a time would be wrong for long. Tests carry any times.
    """
    trigger = notice.trigger_time
    if notice.role == "observation" and trigger and trigger - notice.issued > _LONGEST_WARNING:
        raise NoticeError(
            "bad_time",
            f"the event, {trigger.isoformat()}, is more than a day after"
            f" the notice, {notice.issued.isoformat()}",
        )


def without_place(notice: Notice) -> Notice:
    """``notice``, which has no localisation, with a reason why."""
    if notice.no_position_reason:
        return notice
    why = "skymap_elsewhere" if notice.skymap_url else "no_position"
    return replace(notice, no_position_reason=why)
