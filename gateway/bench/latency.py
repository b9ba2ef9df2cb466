"""``mmgateway bench latency``: from an alert on its topic to its candidate, through everything.

A gateway of the bench's own: Kafka, listener, Spark, matching, archive. Alerts come at a steady
rate, each of another object inside a burst's circle; a consumer that reads committed messages
waits for their candidates. The same once more while late sky maps are searched for in the archive,
or while a CDS is asked of the candidates that takes long for each answer.
"""

from __future__ import annotations

import os
import shutil
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from broker import kafka_io, topics
from broker.archive import AlertArchive
from broker.codec import decode
from crossmatch.errors import ServiceError
from crossmatch.times import datetime_from_jd
from gateway.bench import alertpackets, own, sky30, slowcds
from gateway.bench.late_region import DISTANCE, late_map, sky_map
from gateway.bench.measure import OURS, Row, delays_row
from gateway.night.notices import GWALERT, Wave, gw_alert
from gateway.night.voevents import gbm_position

BENCH = "latency"
PACKAGES = ("mmgateway", "pyspark", "confluent-kafka", "fastavro", "deltalake")
ALERTS = "alerts.live"
GBM = "gcn.classic.voevent.FERMI_GBM_FIN_POS"
_PLACE = (238.41, -0.18)
_RADIUS_DEG = 5.0
_CHUNK = 50
_WARM_S = 20.0
_PATIENCE_S = 120.0
_QUIET_S = 3.0
"""Without a statement for so long a search has ended."""
_CDS = """\
[cds]
enabled = true
url = "{url}"
tap_url = ""
per_minute = 600.0
"""
_OF_THE_MOMENT = frozenset({"alert_datetime", "looked_up"})
"""What candidates say otherwise while they await an answer, or because it is later."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: alerts a second, candidates waited for, late maps searched beside."""

    per_second: float = 50.0
    candidates: int = 2000
    searches: int = 3
    nights: int = 30
    stamp_bytes: int = 20_000
    seed: int = 1


@dataclass(slots=True)
class _Heard:
    """When statements were read first, and what they said, by alert; how many told answers of
    CDS; and the latest of gravitational waves."""

    by_alert: dict[str, float] = field(default_factory=dict)
    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    looked_up: int = 0
    of_waves: dict[str, tuple[int, float]] = field(default_factory=dict)

    def note(self, statement: Mapping[str, Any], now: float) -> None:
        """Take note of a statement about a burst."""
        alert = str(statement["alert_id"])
        if statement["reason"] == "looked_up":
            # Never the first about an object: that of one before the measuring may come now.
            self.looked_up += 1
        elif alert not in self.by_alert:
            self.by_alert[alert] = now
            said = {k: v for k, v in statement.items() if k not in _OF_THE_MOMENT}
            self.first[alert] = said


def cases(
    folder: Path, sizes: Sizes, archive: AlertArchive | None = None, tell: Tell = lambda _: None
) -> list[Row]:
    """Rows of alerts alone and, with an archive to search in, beside late maps.

    Parameters
    ----------
    folder : Path
        For the state of the gateway, which is stopped again.
    sizes : Sizes
    archive : AlertArchive, optional
        As `sky30.stored` makes it, of ``sizes.nights`` nights; it is left as it is.

    Raises
    ------
    ServiceError
        If the gateway does not start, or candidates are missing.
    """
    with _gateway(folder, archive, tell) as bootstrap, _heard(bootstrap) as heard:
        sender = _Sender(bootstrap, sizes, heard)
        alone = _alone(sender, sizes, tell)
        rows = [_row("alone", alone, alone, sizes)]
        if archive is not None and sizes.searches:
            beside, took = _beside(sender, sizes, heard, tell)
            rows.append(_row("beside late maps", beside, alone, sizes, took))
    return rows


def beside_cds(
    folder: Path, sizes: Sizes, seconds: float, *, turns: int = 2, tell: Tell = lambda _: None
) -> list[Row]:
    """Rows without CDS, and with one that takes ``seconds`` for each answer.

    Each turn has a gateway without and one with it, new ones, that get the same alerts; the
    order changes from turn to turn. What is measured are the first statements about objects.

    Raises
    ------
    ServiceError
        If a gateway does not start, candidates are missing, or CDS was not asked.
    """
    part = replace(sizes, candidates=-(-sizes.candidates // turns))
    delays: dict[bool, list[float]] = {False: [], True: []}
    facts: Counter[str] = Counter()
    equal = True
    for turn in range(turns):
        said: dict[bool, dict[str, dict[str, Any]]] = {}
        for is_slow in (turn % 2 == 1, turn % 2 == 0):
            tell(f"turn {turn + 1} of {turns}, {'slow' if is_slow else 'without'} CDS")
            place = folder / f"{turn}-{'slow' if is_slow else 'without'}"
            place.mkdir()
            with slowcds.serving(seconds) if is_slow else nullcontext() as cds:
                found, heard = _turn(place, part, cds, tell)
            delays[is_slow] += found
            said[is_slow] = heard.first
            facts.update(_asked(cds, heard))
        equal &= said[False] == said[True]
    return _cds_rows(sizes, seconds, delays, equal, facts)


def _turn(
    folder: Path, sizes: Sizes, cds: slowcds.SlowCds | None, tell: Tell
) -> tuple[list[float], _Heard]:
    more = "" if cds is None else _CDS.format(url=cds.url)
    with _gateway(folder, None, tell, more) as bootstrap, _heard(bootstrap) as heard:
        return _alone(_Sender(bootstrap, sizes, heard), sizes, tell), heard


def _asked(cds: slowcds.SlowCds | None, heard: _Heard) -> dict[str, int]:
    if cds is None:
        return {}
    if not cds.answers:
        raise ServiceError("nothing was asked of the slow CDS; is there a proxy for 127.0.0.1?")
    return {
        "cds_answers": cds.answers,
        "cds_places": cds.places,
        "cds_updates": heard.looked_up,
    }


def _cds_rows(
    sizes: Sizes,
    seconds: float,
    delays: Mapping[bool, list[float]],
    equal: bool,
    facts: Mapping[str, int],
) -> list[Row]:
    alone = _row("alone", delays[False], delays[False], sizes)
    slow = _row("alone", delays[True], delays[False], sizes)
    return [
        alone,
        replace(
            slow,
            subject=f"{OURS}, CDS takes {seconds:g} s an answer",
            equal=equal,
            facts={**slow.facts, **facts},
        ),
    ]


def _alone(sender: _Sender, sizes: Sizes, tell: Tell) -> list[float]:
    """Seconds that candidates took of a gateway that has begun to work."""
    tell("warming up")
    sender.burst()
    sender.for_seconds(_WARM_S)
    sender.wait(sender.sent)
    tell(f"{sizes.candidates} alerts at {sizes.per_second:g} a second")
    return sender.wait(sender.for_seconds(sizes.candidates / sizes.per_second))


def _row(
    case: str,
    seconds: list[float],
    alone: list[float],
    sizes: Sizes,
    took: list[float] | None = None,
) -> Row:
    row = delays_row(
        BENCH,
        case,
        seconds,
        alone,
        sizes.per_second,
        compared=(
            f"from sending each of {len(seconds):,} alerts to reading its candidate,"
            " read_committed, archive on; seconds are the median, and the spread holds 98 % of them"
        ),
    )
    if took is None:
        return row
    told = ", ".join(f"{t:.1f}" for t in took)
    return replace(row, facts=dict(row.facts) | {"notice_to_last_candidate_s": told})


def _beside(
    sender: _Sender, sizes: Sizes, heard: _Heard, tell: Tell
) -> tuple[list[float], list[float]]:
    """Seconds of alerts sent while maps are searched for, and how long each search took."""
    seconds: list[float] = []
    took: list[float] = []
    for number in range(sizes.searches):
        name = f"S26111{number // 26}{string.ascii_lowercase[number % 26]}"
        tell(f"the same beside late map {number + 1} of {sizes.searches}")
        begin = time.monotonic()
        sender.wave(name)
        sent: dict[str, float] = {}
        while not _is_over(heard, name):
            if time.monotonic() - begin > _PATIENCE_S:
                raise ServiceError(f"the search for {name} did not end in {_PATIENCE_S:.0f} s")
            sent |= sender.for_seconds(0.5)
        end = heard.of_waves[name][1]
        seconds += sender.wait({alert: at for alert, at in sent.items() if at <= end})
        took.append(end - begin)
    return seconds, took


def _is_over(heard: _Heard, name: str) -> bool:
    found = heard.of_waves.get(name)
    return found is not None and time.monotonic() - found[1] > _QUIET_S


class _Sender:
    """Sends notices and alerts, and knows when."""

    def __init__(self, bootstrap: str, sizes: Sizes, heard: _Heard) -> None:
        self._producer = kafka_io.producer(bootstrap, {})
        self._sizes = sizes
        self._heard = heard
        self._rng = np.random.default_rng(sizes.seed)
        self._trigger_jd = sky30.FIRST_JD + sizes.nights
        self._packets = self._made()
        self.sent: dict[str, float] = {}

    def burst(self) -> None:
        """A circle of Fermi's, after all archived alerts."""
        when = datetime_from_jd(self._trigger_jd)
        sent = when + timedelta(minutes=10)
        self._send(GBM, gbm_position("final", "817000001", when, sent, *_PLACE, _RADIUS_DEG))

    def wave(self, name: str) -> None:
        """A map of :func:`gateway.bench.late_region.late_map`, as LIGO, Virgo and KAGRA send it."""
        trigger = late_map(self._sizes.nights).region.trigger_time
        wave = Wave(
            superevent_id=name,
            time=trigger,
            far_hz=4e-10,
            search="AllSky",
            pipeline="gstlal",
            properties={"HasNS": 1.0, "HasRemnant": 0.9, "HasMassGap": 0.0},
            classification={"BNS": 0.94, "NSBH": 0.02, "BBH": 0.0, "Terrestrial": 0.04},
            invented=True,
        )
        sent = trigger + timedelta(days=1)
        sky = (sky_map(), DISTANCE)
        self._send(GWALERT, gw_alert(wave, "INITIAL", sent, ["H1", "L1", "V1"], sky))

    def for_seconds(self, seconds: float) -> dict[str, float]:
        """Send alerts at the rate; when each was sent, by its number."""
        count = max(1, round(seconds * self._sizes.per_second))
        began = time.monotonic()
        sent = {}
        for number in range(count):
            due = began + number / self._sizes.per_second
            while (left := due - time.monotonic()) > 0:
                self._producer.poll(left)
            name, packet = next(self._packets)
            sent[name] = time.monotonic()
            self._send(ALERTS, packet)
        self.sent |= sent
        return sent

    def wait(self, sent: Mapping[str, float]) -> list[float]:
        """Seconds from sending each alert to reading its candidate."""
        until = time.monotonic() + _PATIENCE_S
        while not sent.keys() <= self._heard.by_alert.keys():
            if time.monotonic() > until:
                missing = len(sent.keys() - self._heard.by_alert.keys())
                raise ServiceError(f"{missing} of {len(sent)} candidates did not come")
            self._producer.poll(0.1)
        return [self._heard.by_alert[name] - at for name, at in sent.items()]

    def _made(self) -> Iterator[tuple[str, bytes]]:
        """Alerts inside the circle, a day after the burst, each of another object."""
        number = 0
        while True:
            ids = np.arange(number, number + _CHUNK)
            side = _RADIUS_DEG / 3
            alerts = alertpackets.Alerts(
                alert_id=ids + 10**15,
                object_number=ids,
                time_jd=np.full(_CHUNK, self._trigger_jd + 1.0) + ids / 86400,
                ra_deg=_PLACE[0] + self._rng.uniform(-side, side, _CHUNK),
                dec_deg=_PLACE[1] + self._rng.uniform(-side, side, _CHUNK),
                mag=self._rng.uniform(17.0, 20.0, _CHUNK),
            )
            packets = alertpackets.ztf(alerts, self._sizes.stamp_bytes, self._sizes.seed)
            yield from zip(map(str, alerts.alert_id.tolist()), packets, strict=True)
            number += _CHUNK

    def _send(self, topic: str, value: bytes) -> None:
        kafka_io.send(self._producer, topic, value)


@contextmanager
def _gateway(
    folder: Path, archive: AlertArchive | None, tell: Tell, more: str = ""
) -> Iterator[str]:
    """A gateway that matches; its Kafka's address."""
    if archive is not None:
        # Links: data files are never changed, only the log of the copy is to grow.
        alerts = own.state_folder(folder) / "alerts"
        shutil.copytree(archive.path, alerts, copy_function=_linked)
    tell("starting Kafka, the listener and the matching")
    names = ["kafka", "listen", "match"]
    with own.running(folder, names, alerts=[ALERTS], more=more) as gateway:
        yield gateway.bootstrap


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk.
        shutil.copy2(source, target)


@contextmanager
def _heard(bootstrap: str) -> Iterator[_Heard]:
    """What a consumer reads meanwhile."""
    heard = _Heard()
    bursts, waves = topics.candidates("grb"), topics.candidates("gw")

    def take(record: kafka_io.Record) -> None:
        now = time.monotonic()
        if record.topic == bursts:
            heard.note(decode(record.value), now)
            return
        # Tens of thousands: who decodes them all measures itself.
        event = dict(record.headers)["event_id"].decode()
        heard.of_waves[event] = (heard.of_waves.get(event, (0, 0.0))[0] + 1, now)

    with own.listening(bootstrap, [bursts, waves], take):
        yield heard
