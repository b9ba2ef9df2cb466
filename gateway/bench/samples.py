"""Messages to measure with: as the missions write them, made from a seed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import numpy as np

from crossmatch import sky
from crossmatch.model import MultiOrderMap
from crossmatch.skymap import write_skymap
from gateway.night import voevents

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_KINDS = ("flight", "ground", "final")
_SCHEMA = "https://gcn.nasa.gov/schema/v4.1.0/gcn/notices/einstein_probe/wxt/alert.schema.json"


def gbm_voevents(count: int, seed: int) -> list[bytes]:
    """Fermi GBM positions of ``count`` triggers, each another; 8 kB of XML each."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    radius = rng.uniform(1.0, 20.0, count)
    found = []
    for i in range(count):
        when = _BEGIN + timedelta(seconds=100 * i)
        found.append(
            voevents.gbm_position(
                _KINDS[i % 3],
                str(788_918_400 + 100 * i),
                when,
                when + timedelta(seconds=30),
                round(float(ra[i]), 4),
                round(float(dec[i]), 4),
                round(float(radius[i]), 4),
            )
        )
    return found


def wxt_records(count: int, seed: int) -> list[bytes]:
    """Einstein Probe WXT alerts as unified JSON, each of another source."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    records = []
    for i in range(count):
        when = _BEGIN + timedelta(seconds=100 * i)
        record = {
            "$schema": _SCHEMA,
            "instrument": "WXT",
            "trigger_time": when.strftime("%Y-%m-%dT%H:%M:%S.") + "000Z",
            "id": [f"{1_709_000_000 + i:011d}"],
            "ra": round(float(ra[i]), 3),
            "dec": round(float(dec[i]), 3),
            "ra_dec_error": 0.0517,
            "image_energy_range": [0.5, 4],
            "net_count_rate": 1.0,
            "image_snr": 7.5,
            "additional_info": "The net count rate is derived from an accumulated image.",
        }
        records.append(json.dumps(record).encode())
    return records


def mapped_record(number: int, url: str) -> tuple[str, bytes]:
    """IceCube's alert of a track whose sky map lies at an address, and the name of its trigger."""
    when = _BEGIN + timedelta(hours=number)
    trigger = f"{141_000 + number}_{12_000 + number}"
    record = {
        "$schema": "https://gcn.nasa.gov/schema/v6.1.0/gcn/notices/icecube/"
        "single_neutrino_alerts.schema.json",
        "mission": "IceCube",
        "messenger": "Neutrino",
        "pipeline": "Gold Track Alert",
        "alert_type": "initial",
        "event_name": [f"IceCube-{when:%y%m%d}{chr(ord('A') + number % 24)}"],
        "id": [trigger],
        "trigger_time": when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "alert_datetime": (when + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ra": 22.9,
        "dec": 40.1,
        "ra_dec_error": 0.8,
        "containment_probability": 0.9,
        "healpix_url": url,
    }
    return trigger, json.dumps(record).encode()


# Far more gravitational waves than in a night: their maps are what takes time.
_MIXTURE = ("gbm", "swift", "wxt", "icecube", "gbm", "swift", "wxt", "icecube", "gbm", "wave")


def mixed(count: int, seed: int, cells: int) -> list[bytes]:
    """Messages of many missions in turn: Fermi GBM, Swift BAT, IceCube, Einstein Probe, LVK.

    One in ten is a gravitational wave with a map of ``cells`` cells inside.
    """
    rng = np.random.default_rng(seed)
    gbm, wxt = iter(gbm_voevents(count, seed)), iter(wxt_records(count, seed))
    skymap = base64.b64encode(large_map(cells, seed)).decode()
    found = []
    for i in range(count):
        ra, dec = (
            round(float(rng.uniform(0, 360)), 4),
            round(float(np.degrees(np.arcsin(rng.uniform(-1, 1)))), 4),
        )
        when = _BEGIN + timedelta(seconds=100 * i)
        sent = when + timedelta(seconds=30)
        kind = _MIXTURE[i % len(_MIXTURE)]
        if kind == "gbm":
            found.append(next(gbm))
        elif kind == "wxt":
            found.append(next(wxt))
        elif kind == "swift":
            found.append(voevents.swift_bat(str(1_300_000 + i), when, sent, ra, dec, 0.05))
        elif kind == "icecube":
            name = f"{140_000 + i}_{10_000 + i}"
            found.append(voevents.icecube_gold(name, when, sent, ra, dec, (0.8, 0.4)))
        else:
            found.append(_wave(i, when, sent, skymap))
    return found


def _wave(number: int, when: datetime, sent: datetime, skymap: str) -> bytes:
    """An alert of LIGO/Virgo/KAGRA as JSON."""
    event = {
        "significant": True,
        "time": when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "far": 4.2e-10,
        "instruments": ["H1", "L1", "V1"],
        "group": "CBC",
        "pipeline": "gstlal",
        "search": "AllSky",
        "properties": {"HasNS": 1.0, "HasRemnant": 0.9, "HasMassGap": 0.0},
        "classification": {"BNS": 0.94, "NSBH": 0.02, "BBH": 0.0, "Terrestrial": 0.04},
        "duration": None,
        "central_frequency": None,
        "skymap": skymap,
    }
    alert = {
        "alert_type": "PRELIMINARY",
        "time_created": sent.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "superevent_id": f"S{when:%y%m%d}x{number}",
        "urls": {"gracedb": "https://gracedb.invalid/"},
        "event": event,
        "external_coinc": None,
    }
    return json.dumps(alert).encode()


def large_map(cells: int, seed: int) -> bytes:
    """Multi-order FITS map of about ``cells`` cells, two lobes on the whole sky."""
    order = 0
    while 12 * 4 ** (order + 1) <= cells:
        order += 1
    ipix = np.arange(12 * 4**order, dtype=np.int64)
    split = np.random.default_rng(seed).permutation(ipix)[: (cells - len(ipix)) // 3]
    whole = np.setdiff1d(ipix, split, assume_unique=True)
    children = (split[:, None] * 4 + np.arange(4)).ravel()
    shift = 2 * (sky.MAX_ORDER - order)
    start = np.concatenate([whole << shift, children << (shift - 2)])
    end = np.concatenate([(whole + 1) << shift, (children + 1) << (shift - 2)])
    rank = np.argsort(start)
    start, end = start[rank], end[rank]
    ra, dec = sky.cell_centres(start, end)
    density = _lobes(ra, dec)
    density /= (density * ((end - start) * sky.PIXEL_SR)).sum()
    return write_skymap(MultiOrderMap(start, end, density), {"OBJECT": "M1"})


def _lobes(ra_deg: np.ndarray, dec_deg: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    total = np.full(len(ra), 1e-9)
    for ra0, dec0, width, weight in ((0.4, 0.7, 0.15, 1.0), (3.3, -0.5, 0.25, 0.4)):
        cosine = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
        total += weight * np.exp((cosine - 1) / width**2)
    return total
