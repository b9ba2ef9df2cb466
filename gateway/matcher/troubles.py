"""What an operator of the matching should know without asking."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from broker.diskguard import PacketNews
from gateway.config import Alarms
from gateway.logs import EventLog
from gateway.watch.alarmrules import TOLD_SECONDS, Alarm, AlarmKind
from gateway.watch.alarms import Announcer

log = EventLog("match")

_KINDS: dict[str, AlarmKind] = {
    "dropped": "packets_dropped",
    "refused": "packets_refused",
    "unreadable": "packets_unreadable",
}


class Troubles:
    """Alarms of the match service: packets that had to go, chores that fail.

    What happened at one moment stays an alarm for a day; a chore that fails until it works.

    Parameters
    ----------
    settings : Alarms
    path : Path
        Remembers what was told.
    now : callable
        UTC.
    produce : callable
        Puts a key and a value on ``mm.alarms``.
    """

    def __init__(
        self,
        settings: Alarms,
        path: Path,
        now: Callable[[], datetime],
        produce: Callable[[bytes, bytes], object],
    ) -> None:
        self._now = now
        self._announcer = Announcer(settings, path, now=now, produce=produce)
        self._in_force = {alarm.key: alarm for alarm in self._announcer.told}

    def start(self) -> None:
        """Begin to tell."""
        self._announcer.start()

    def stop(self) -> None:
        """Tell what waits, and end."""
        self._announcer.stop()

    def packets(self, _: datetime, news: PacketNews) -> None:
        """Note what became of whole packets."""
        log.warning(f"packets_{news.kind}", packets=news.packets, detail=news.text)
        data = {"packets": news.packets, "bytes": news.bytes, "night": news.night}
        self._begin(
            Alarm(
                kind=_KINDS[news.kind],
                subject=news.night or "packets",
                sentence=news.text,
                since=self._now(),
                data=data,
            )
        )

    def chore(self, name: str, error: Exception | None) -> None:
        """Note that a chore failed, or that it works (None)."""
        kind: AlarmKind = "packets_not_copied" if name == "copy packets" else "chore_failed"
        if error is None:
            self._in_force.pop(f"{kind}/{name}", None)
            return
        log.warning("chore_failed", chore=name, detail=str(error))
        sentence = f"the matcher could not {name}: {error}"
        self._begin(Alarm(kind=kind, subject=name, sentence=sentence, since=self._now()))

    def announce(self) -> None:
        """Tell what is new and what is over."""
        old = self._now() - timedelta(seconds=TOLD_SECONDS)
        lasting = ("chore_failed", "packets_not_copied")
        self._in_force = {
            key: alarm
            for key, alarm in self._in_force.items()
            if alarm.kind in lasting or alarm.since > old
        }
        self._announcer.announce(list(self._in_force.values()))

    def _begin(self, alarm: Alarm) -> None:
        self._in_force.setdefault(alarm.key, alarm)
