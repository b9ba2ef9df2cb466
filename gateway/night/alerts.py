"""Optical alerts of the night in ZTF's packet format, in the order in which they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from broker.flatavro import varint
from crossmatch.model import FloatArray, IntArray
from gateway.night import packets
from gateway.night.facts import unix_seconds
from gateway.night.history import History, entries
from gateway.night.packets import Column
from gateway.night.population import (
    AGN,
    ASTEROID,
    BOGUS,
    KILONOVA,
    STAR,
    YOUNG_SN,
    Night,
    names,
    near_decoy,
    night,
)

DEFAULT_ALERTS = 100_000
SEED = 170817
_CHUNK = 4096
_NULL = -999.0
_MINUTE = 60.0
# Days before Julian date that ZTF's night numbers and image numbers count from.
_NIGHT_ZERO_JD = 2457754.5


@dataclass(frozen=True, slots=True)
class TimedAlert:
    """One alert: when it is sent (UTC), whose it is, and its record.

    The packet is put together when asked for: its header is the same in all of them.
    """

    sent: datetime
    object_id: str
    candid: int
    body: bytes

    @property
    def payload(self) -> bytes:
        """The packet: an Avro object container with one record."""
        return packets.container(self.body)


def alerts(n: int = DEFAULT_ALERTS, seed: int = SEED) -> Iterator[TimedAlert]:
    """Exactly ``n`` alerts in order of sending; equal seeds give equal bytes.

    Raises
    ------
    ValueError
        When ``n`` is below about 300: AT2017gfo and its company must be there.
    """
    sky = night(n, seed)
    sent = _send_times(sky, seed)
    order = np.lexsort((sky.object, sent))
    object_ids = names(sky.objects, seed)
    history = History.of(sky, seed)
    numbers = _candids(sky)
    fixed = _object_columns(sky, seed)
    for first in range(0, n, _CHUNK):
        rows = order[first : first + _CHUNK]
        yield from _chunk(sky, rows, sent, object_ids, numbers, fixed, history, seed, first)


def alert_times(n: int = DEFAULT_ALERTS, seed: int = SEED) -> FloatArray:
    """(n,) Unix times at which ``alerts(n, seed)`` are sent, sorted; much faster than these."""
    return np.sort(_send_times(night(n, seed), seed))


def alert_positions(n: int = DEFAULT_ALERTS, seed: int = SEED) -> tuple[FloatArray, FloatArray]:
    """(n,) right ascensions and declinations, degrees, of the objects of ``alerts(n, seed)``.

    In order of sending; to 0.1 arcsec those of the packets.
    """
    sky = night(n, seed)
    order = sky.object[np.lexsort((sky.object, _send_times(sky, seed)))]
    return sky.objects.ra_deg[order], sky.objects.dec_deg[order]


def _send_times(sky: Night, seed: int) -> FloatArray:
    """(n,) Unix seconds: exposure, read-out and a few minutes of processing by image."""
    rng = np.random.default_rng([seed, 7])
    wait = rng.uniform(6 * _MINUTE, 8 * _MINUTE, size=len(sky.exposures.jd))
    exposed = unix_seconds(sky.exposures.jd) + 30 + wait
    # An image's alerts leave within seconds of each other.
    return np.asarray(exposed[sky.exposure] + rng.uniform(0, 10, size=len(sky.exposure)))


def _quadrants(sky: Night) -> IntArray:
    """(m,) read-out channel, 0 to 63, of each object from its place in the field."""
    west, east, south, north = sky.grid.corners(sky.objects.field)
    column = ((sky.objects.ra_deg % 360 - west) / (east - west) * 8).astype(np.int64)
    row = ((sky.objects.dec_deg - south) / (north - south) * 8).astype(np.int64)
    return np.clip(column, 0, 7) + 8 * np.clip(row, 0, 7)


def image_numbers(jd: FloatArray, rcid: IntArray) -> tuple[IntArray, IntArray]:
    """(n,) night numbers and image numbers as ZTF builds them: night, time, channel, 15."""
    since = jd - _NIGHT_ZERO_JD
    nid = np.floor(since).astype(np.int64)
    part = np.floor((since - nid) * 1e5).astype(np.int64)
    return nid, (nid * 100_000 + part) * 10_000 + rcid * 100 + 15


def _candids(sky: Night) -> IntArray:
    """(n,) alert numbers: image, sign, serial number in the image."""
    rcid = _quadrants(sky)[sky.object]
    _, pid = image_numbers(sky.exposures.jd[sky.exposure], rcid)
    order = np.argsort(pid, kind="stable")
    ordered = pid[order]
    serial = np.empty(len(pid), dtype=np.int64)
    serial[order] = np.arange(len(pid)) - np.searchsorted(ordered, ordered, side="left")
    if serial.max(initial=0) >= 5000:
        raise ValueError("more alerts in one image than it can number")
    return np.asarray(pid * 1_000_000 + np.where(sky.positive, 15_000, 10_000) + serial)


def _object_columns(sky: Night, seed: int) -> dict[str, FloatArray]:
    """Catalogue neighbours of every object; NaN where there is none."""
    rng = np.random.default_rng([seed, 3])
    objects = sky.objects
    n = len(objects)
    kind = objects.kind
    star, agn = kind == STAR, kind == AGN
    # Nearest catalogue source: itself, a host, or whatever lies there.
    host = ~(star | agn | (kind == ASTEROID) | (kind == BOGUS))
    distance = np.abs(rng.rayleigh(8.0, size=n))
    distance[star | agn] = rng.rayleigh(0.25, size=int((star | agn).sum()))
    distance[host] = 0.5 + rng.exponential(3.0, size=int(host.sum()))
    score = np.where(rng.uniform(size=n) < 0.5, rng.beta(8, 0.5, size=n), rng.beta(0.7, 6, size=n))
    score[star] = 1 - rng.beta(0.5, 12, size=int(star.sum()))
    # A star too crowded or faint to be classified: ZTF writes 0.5.
    unclear = star & (rng.uniform(size=n) < 0.04) & ~near_decoy(objects.ra_deg, objects.dec_deg)
    score[unclear] = 0.5
    score[agn] = np.where(
        rng.uniform(size=int(agn.sum())) < 0.45,
        rng.beta(9, 0.6, size=int(agn.sum())),
        rng.beta(0.8, 5, size=int(agn.sum())),
    )
    score[host] = rng.beta(0.5, 20, size=int(host.sum()))
    bright = np.clip(21.5 - rng.exponential(2.0, size=n), 12, 22.5)
    bright[star] = np.clip(objects.mag[star] - rng.uniform(0.2, 2.5, size=int(star.sum())), 11, 21)
    columns = {"distpsnr1": distance, "sgscore1": score, "srmag1": bright}
    # What is bright enough has an orbit by now.
    unnamed = (objects.mag > 19) & (rng.uniform(size=n) < 0.2)
    known = (kind == ASTEROID) & ~unnamed
    columns["ssdistnr"] = np.where(known, rng.rayleigh(0.4, size=n), np.nan)
    columns["minor_body"] = np.where(known, rng.integers(1000, 600_000, size=n), 0).astype(float)
    columns["neargaia"] = np.where(star, distance, rng.rayleigh(18.0, size=n))
    columns["host"] = np.where(star | agn, distance, rng.rayleigh(4.0, size=n))
    _name_hosts(columns, kind)
    return columns


def _name_hosts(columns: dict[str, FloatArray], kind: IntArray) -> None:
    """AT2017gfo lies 10 arcsec from the middle of a bright galaxy, the other one in its host."""
    for which, distance, bright in ((KILONOVA, 10.0, 12.2), (YOUNG_SN, 2.6, 17.9)):
        here = kind == which
        columns["distpsnr1"][here] = distance
        columns["sgscore1"][here] = 0.03
        columns["srmag1"][here] = bright
        columns["neargaia"][here] = distance
        columns["host"][here] = distance


def _chunk(
    sky: Night,
    rows: IntArray,
    sent: FloatArray,
    object_ids: NDArray[np.bytes_],
    numbers: IntArray,
    fixed: dict[str, FloatArray],
    history: History,
    seed: int,
    first: int,
) -> Iterator[TimedAlert]:
    objects = sky.object[rows]
    columns = _candidate_columns(sky, rows, numbers, fixed, np.random.default_rng([seed, 5, first]))
    head, head_ends = packets.encode(
        packets.HEAD,
        {
            "schemavsn": Column("3.3"),
            "publisher": Column("mmgateway (simulated)"),
            "objectId": Column(object_ids[objects]),
            "candid": Column(numbers[rows]),
        },
        len(rows),
    )
    body, body_ends = packets.encode(packets.slots("candidate"), columns, len(rows))
    past, past_ends, counts = entries(history, sky, rows, numbers, fixed)
    nulls = b"\x00\x00\x00"
    texts = object_ids[objects].astype(str).tolist()
    for i, (when, text, candid) in enumerate(
        zip(sent[rows].tolist(), texts, numbers[rows].tolist(), strict=True)
    ):
        # An array is written as blocks of items, and ends with an empty block.
        array = b"\x00"
        if counts[i]:
            items = past[past_ends[i] : past_ends[i + 1]]
            array = b"\x02" + varint(int(counts[i])) + items + b"\x00"
        record = (
            head[head_ends[i] : head_ends[i + 1]]
            + body[body_ends[i] : body_ends[i + 1]]
            + array
            + nulls
        )
        yield TimedAlert(datetime.fromtimestamp(when, UTC), text, candid, record)


def _scores(kind: IntArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, IntArray]:
    """Real-bogus, deep real-bogus and bad pixels by class."""
    n = len(kind)
    bogus = kind == BOGUS
    rb = np.where(bogus, rng.beta(2.0, 6.0, size=n), rng.beta(9.0, 2.2, size=n))
    drb = np.where(bogus, rng.beta(0.4, 5.0, size=n), 1 - rng.beta(0.6, 12.0, size=n))
    bad = np.where(bogus & (rng.uniform(size=n) < 0.3), rng.integers(1, 5, size=n), 0)
    best = kind >= YOUNG_SN
    rb[best] = rng.uniform(0.82, 0.97, size=int(best.sum()))
    drb[best] = rng.uniform(0.97, 1.0, size=int(best.sum()))
    return rb, drb, bad


def _candidate_columns(
    sky: Night,
    rows: IntArray,
    numbers: IntArray,
    fixed: dict[str, FloatArray],
    rng: np.random.Generator,
) -> dict[str, Column]:
    """All fields of ``candidate`` for some alerts."""
    obj, exposure = sky.object[rows], sky.exposure[rows]
    kind, plan, n = sky.objects.kind[obj], sky.exposures, len(rows)
    columns = _image_columns(sky, rows, numbers)
    columns |= _measured_columns(sky, rows, rng)
    rb, drb, bad = _scores(kind, rng)
    distance, score, bright = (fixed[k][obj] for k in ("distpsnr1", "sgscore1", "srmag1"))
    moving = fixed["ssdistnr"][obj]
    known = ~np.isnan(moving)
    start = sky.objects.start_jd[obj]
    first_here = _first_exposure(sky)[obj]
    start = np.where(np.isnan(start), plan.jd[first_here], start)
    body_names = np.char.mod("%d", fixed["minor_body"][obj].astype(np.int64)).astype("S8")
    columns |= {
        "rb": Column(rb),
        "drb": Column(drb),
        "nbad": Column(bad),
        "ssdistnr": Column(np.where(known, moving, _NULL)),
        "ssmagnr": Column(np.where(known, sky.mag[rows] + 0.1, _NULL)),
        "ssnamenr": Column(np.where(known, body_names, b"null")),
        "distpsnr1": Column(distance),
        "sgscore1": Column(score),
        "srmag1": Column(bright),
        "sgmag1": Column(bright + 0.6),
        "simag1": Column(bright - 0.2),
        "szmag1": Column(bright - 0.3),
        "objectidps1": Column(10**17 + obj * 1009),
        "distpsnr2": Column(distance + rng.rayleigh(6.0, size=n)),
        "sgscore2": Column(rng.uniform(size=n)),
        "distpsnr3": Column(distance + 8 + rng.rayleigh(6.0, size=n)),
        "sgscore3": Column(rng.uniform(size=n)),
        "nmtchps": Column(rng.integers(1, 15, size=n)),
        "ndethist": Column(sky.objects.prior[obj] + sky.nth[rows] + 1),
        "ncovhist": Column(200 + sky.objects.prior[obj] * 3 + sky.nth[rows]),
        "jdstarthist": Column(start),
        "jdendhist": Column(plan.jd[exposure]),
        "neargaia": Column(fixed["neargaia"][obj]),
        "maggaia": Column(bright + 0.1),
        "neargaiabright": Column(_NULL),
        "maggaiabright": Column(_NULL),
        "distnr": Column(fixed["host"][obj]),
        "magnr": Column(bright),
        "sigmagnr": Column(0.03),
    }
    for name in ("sgmag", "srmag", "simag", "szmag"):
        columns |= {f"{name}2": Column(_NULL), f"{name}3": Column(_NULL)}
    return columns


def _first_exposure(sky: Night) -> IntArray:
    """(m,) exposure of the first detection of each object."""
    first = np.zeros(len(sky.objects), dtype=np.int64)
    here = sky.nth == 0
    first[sky.object[here]] = sky.exposure[here]
    return first


def _image_columns(sky: Night, rows: IntArray, numbers: IntArray) -> dict[str, Column]:
    """Fields that say which image it was."""
    obj, exposure, plan = sky.object[rows], sky.exposure[rows], sky.exposures
    rcid = _quadrants(sky)[obj]
    jd = plan.jd[exposure]
    nid, pid = image_numbers(jd, rcid)
    field = plan.field[exposure] + 1
    target = plan.fid[exposure] == 3
    return {
        "jd": Column(jd),
        "fid": Column(plan.fid[exposure]),
        "pid": Column(pid),
        "diffmaglim": Column(plan.limit[exposure]),
        "programpi": Column("simulated"),
        "programid": Column(1),
        "candid": Column(numbers[rows]),
        "tblid": Column(numbers[rows] % 5000),
        "nid": Column(nid),
        "rcid": Column(rcid),
        "field": Column(field),
        "tooflag": Column(target.astype(np.int64)),
        "rfid": Column(field * 1_000_000 + plan.fid[exposure] * 10_000 + rcid),
        "jdstartref": Column(2457600.5),
        "jdendref": Column(2457900.5),
        "nframesref": Column(15),
        "rbversion": Column("t17_f5_c3"),
        "drbversion": Column("d6_m7"),
        "exptime": Column(30.0),
        "magzpsci": Column(26.2),
        "magzpsciunc": Column(1e-5),
        "magzpscirms": Column(0.03),
        "nmatches": Column(900),
        "clrcoeff": Column(0.09),
        "clrcounc": Column(1e-5),
    }


def _measured_columns(sky: Night, rows: IntArray, rng: np.random.Generator) -> dict[str, Column]:
    """Position, brightness and shape, with a tenth of an arcsecond of noise in position."""
    obj, n = sky.object[rows], len(rows)
    dec = sky.objects.dec_deg[obj] + rng.normal(0, 0.1 / 3600, size=n)
    east = rng.normal(0, 0.1 / 3600, size=n) / np.cos(np.radians(dec))
    ra = (sky.objects.ra_deg[obj] + east) % 360
    mag, sigma = sky.mag[rows], sky.sigma[rows]
    difference = np.where(
        sky.objects.kind[obj] == BOGUS, rng.normal(0, 0.5, size=n), rng.normal(0, 0.07, size=n)
    )
    limit = sky.exposures.limit[sky.exposure[rows]]
    edge = rng.uniform(20, 1500, size=n)
    fwhm = rng.gamma(20, 0.11, size=n)
    return {
        "ra": Column(ra),
        "dec": Column(dec),
        "ranr": Column(ra),
        "decnr": Column(dec),
        "xpos": Column(rng.uniform(20, 3050, size=n)),
        "ypos": Column(edge),
        "mindtoedge": Column(edge),
        "isdiffpos": Column(np.where(sky.positive[rows], b"t", b"f")),
        "magpsf": Column(mag),
        "sigmapsf": Column(sigma),
        "magap": Column(mag + difference),
        "sigmagap": Column(1.4 * sigma),
        "magdiff": Column(difference),
        "magapbig": Column(mag + 1.2 * difference),
        "sigmagapbig": Column(1.8 * sigma),
        "magfromlim": Column(limit - mag),
        "scorr": Column(1.0857 / sigma),
        "chipsf": Column(rng.gamma(4, 0.4, size=n)),
        "sky": Column(rng.normal(0, 0.3, size=n)),
        "fwhm": Column(fwhm),
        "seeratio": Column(rng.uniform(0.6, 2.0, size=n)),
        "classtar": Column(rng.beta(6, 1, size=n)),
        "aimage": Column(0.45 * fwhm),
        "bimage": Column(0.4 * fwhm),
        "aimagerat": Column(0.45),
        "bimagerat": Column(0.4),
        "elong": Column(1.125),
        "nneg": Column(rng.integers(0, 6, size=n)),
        "sumrat": Column(rng.beta(20, 0.5, size=n)),
        "chinr": Column(0.8),
        "sharpnr": Column(0.02),
    }
