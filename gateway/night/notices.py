"""The notices of the night, rebuilt in the formats of the missions, in the order of sending.

What ``facts.toml`` states is as it was sent. Parameters that it does not state (serial
numbers, classification probabilities of the flight software, durations) are plausible
fillers, and the sky maps are models with the published areas, positions and distances.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from crossmatch.model import FloatArray, MultiOrderMap
from crossmatch.skymap import write_skymap
from gateway.night import voevents
from gateway.night.facts import burst_position, decoy, facts, julian_date, wave_map
from gateway.night.maps import (
    Arc,
    Density,
    Distance,
    antenna_power,
    fits_header,
    multi_order_map,
    single_detector,
)

GWALERT = "igwn.gwalert"
CLASSIC = "gcn.classic.voevent."
# The volume that one detector hears; it also gives the area of 24,000 square degrees.
_VOLUME_EXPONENT = 1.5


@dataclass(frozen=True, slots=True)
class Timed:
    """One notice and when it was sent.

    ``topic`` is GCN's Kafka topic for it; with ``via`` "vtp" it is to be submitted to
    the VTP receiver instead.
    """

    sent: datetime
    topic: str
    payload: bytes
    label: str
    via: Literal["kafka", "vtp"]


@dataclass(frozen=True, slots=True)
class Wave:
    """One gravitational-wave event as its notices describe it."""

    superevent_id: str
    time: datetime
    far_hz: float
    search: str
    pipeline: str
    properties: dict[str, float]
    classification: dict[str, float]
    invented: bool = False


def notices(rng_seed: int = 170817) -> list[Timed]:
    """All notices, sorted by the time of sending.

    Parameters
    ----------
    rng_seed : int
        Seeds the small roughness of the sky maps; times, positions and areas do not
        depend on it.
    """
    found = [
        _earlier_wave(rng_seed),
        *_burst(),
        *_wave(rng_seed),
        _swift(),
        _icecube(),
        _mock(rng_seed),
        *_retracted(rng_seed),
    ]
    return sorted(found, key=lambda n: (n.sent, n.topic, n.label))


def sky_maps(rng_seed: int = 170817) -> dict[str, MultiOrderMap]:
    """The sky maps by event and alert type, for example ``"S170817a PRELIMINARY"``."""
    maps = {f"S170817a {kind}": _wave_sky(kind, rng_seed)[0] for kind in _WAVE_SKIES}
    earlier = facts()["earlier_wave"]
    maps["S170814a INITIAL"] = _arc_sky(earlier, _EARLIER_SHAPE, rng_seed)[0]
    for kind, shape in (("lvk_mock", _MOCK_SHAPE), ("lvk_retracted", _RETRACTED_SHAPE)):
        entry = decoy(kind)
        maps[f"{entry['id']} PRELIMINARY"] = _arc_sky(entry, shape, rng_seed)[0]
    return maps


# Shapes: direction, length, width, bend, degrees. Lengths times widths give the areas.
_EARLIER_SHAPE = (62.0, 3.9, 1.063, 50.0)
_MOCK_SHAPE = (35.0, 14.0, 4.05, 65.0)
_RETRACTED_SHAPE = (78.0, 19.0, 5.44, 70.0)
_INITIAL_SHAPE = (153.0, 4.6, 0.466, 40.0)
_UPDATE_SHAPE = (153.4, 4.85, 0.485, 40.0)
_WAVE_SKIES = ("PRELIMINARY", "INITIAL", "UPDATE")


def _rough(density: Density, seed: int) -> Density:
    """``density`` with a few per cent of smooth structure, as no real map is quite regular."""
    rng = np.random.default_rng([seed, 814])
    waves = rng.normal(size=(6, 3))
    phases = rng.uniform(0, 2 * np.pi, size=6)

    def with_structure(vectors: FloatArray) -> FloatArray:
        ripple = np.cos(vectors @ (4 * waves.T) + phases).sum(axis=1)
        shaped: FloatArray = density(vectors) * (1 + 0.01 * ripple)
        return shaped

    return with_structure


def _arc_sky(
    entry: Any, shape: tuple[float, float, float, float], seed: int
) -> tuple[MultiOrderMap, Distance]:
    angle, along, across, bend = shape
    arc = Arc(entry["peak_ra"], entry["peak_dec"], angle, along, across, bend)

    def nearer_at_the_edge(vectors: FloatArray) -> FloatArray:
        # Off the ridge the source must be louder than it was likely to be, hence nearer.
        s, t = arc.coordinates(vectors)
        return 1.02 - 0.12 * (1 - np.exp(-0.125 * ((s / along) ** 2 + (t / across) ** 2)))

    distance = Distance(entry["distance_mpc"], entry["distance_error_mpc"], nearer_at_the_edge)
    return multi_order_map(_rough(arc, seed), distance), distance


def _wave_sky(kind: str, seed: int) -> tuple[MultiOrderMap, Distance]:
    entry = dict(wave_map(kind))
    if kind != "PRELIMINARY":
        first = wave_map("INITIAL")
        entry = {"peak_ra": first["peak_ra"], "peak_dec": first["peak_dec"]} | entry
        return _arc_sky(entry, _INITIAL_SHAPE if kind == "INITIAL" else _UPDATE_SHAPE, seed)
    jd = julian_date(facts()["merger"]["time"])

    def farther_where_sensitive(vectors: FloatArray) -> FloatArray:
        return 1.25 * np.sqrt(np.maximum(antenna_power(vectors, jd), 0.04))

    distance = Distance(entry["distance_mpc"], entry["distance_error_mpc"], farther_where_sensitive)
    return multi_order_map(_rough(single_detector(jd, _VOLUME_EXPONENT), seed), distance), distance


def gw_alert(
    wave: Wave,
    kind: str,
    sent: datetime,
    instruments: list[str],
    sky: tuple[MultiOrderMap, Distance] | None,
    external: dict[str, Any] | None = None,
    time: datetime | None = None,
) -> bytes:
    """One ``igwn.gwalert`` message; without a sky map a RETRACTION, whose event is null."""
    host = "invented.invalid" if wave.invented else "gracedb.ligo.org"
    event: dict[str, Any] | None = None
    when = time or wave.time
    if sky is not None:
        cards = fits_header(
            wave.superevent_id,
            instruments,
            when.strftime("%Y-%m-%dT%H:%M:%S.%f"),
            sent.strftime("%Y-%m-%dT%H:%M:%S"),
            sky[1],
        )
        event = {
            "significant": True,
            "time": _milliseconds(when),
            "far": wave.far_hz,
            "instruments": instruments,
            "group": "CBC",
            "pipeline": wave.pipeline,
            "search": wave.search,
            "properties": wave.properties,
            "classification": wave.classification,
            "duration": None,
            "central_frequency": None,
            "skymap": base64.b64encode(write_skymap(sky[0], cards)).decode("ascii"),
        }
    message = {
        "alert_type": kind,
        "time_created": sent.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "superevent_id": wave.superevent_id,
        "urls": {"gracedb": f"https://{host}/superevents/{wave.superevent_id}/view/"},
        "event": event,
        "external_coinc": external,
    }
    return json.dumps(message).encode("ascii")


def _milliseconds(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:23] + "Z"


def _burst() -> list[Timed]:
    burst = facts()["burst"]
    trigger, when = burst["trigger_id"], burst["trigger_time"]
    alert_sent = burst["alert_sent"]
    found = [
        Timed(
            alert_sent,
            CLASSIC + "FERMI_GBM_ALERT",
            voevents.gbm_alert(trigger, when, alert_sent),
            "GRB 170817A: Fermi GBM alert",
            "kafka",
        )
    ]
    topics = {"flight": "FLT_POS", "ground": "GND_POS", "final": "FIN_POS"}
    for kind, topic in topics.items():
        p = burst_position(kind)
        payload = voevents.gbm_position(
            kind, trigger, when, p["sent"], p["ra"], p["dec"], p["radius"]
        )
        label = f"GRB 170817A: Fermi GBM {kind} position, {p['radius']:g} deg"
        found.append(Timed(p["sent"], f"{CLASSIC}FERMI_GBM_{topic}", payload, label, "kafka"))
    return found


def _coincidence() -> dict[str, Any]:
    burst = facts()["burst"]
    return {
        "gcn_notice_id": int(burst["trigger_id"]),
        "ivorn": voevents.gbm_alert_ivorn(burst["trigger_id"], burst["trigger_time"]),
        "observatory": "Fermi",
        "search": "GRB",
        "time_difference": burst["time_difference_s"],
        "time_coincidence_far": burst["time_coincidence_far_hz"],
        "time_sky_position_coincidence_far": burst["time_sky_position_coincidence_far_hz"],
    }


def _wave(seed: int) -> list[Timed]:
    entry, merger = facts()["wave"], facts()["merger"]
    wave = Wave(
        superevent_id=entry["superevent_id"],
        time=merger["time"],
        far_hz=entry["far_hz"],
        search="AllSky",
        pipeline="gstlal",
        properties={
            "HasNS": entry["has_ns"],
            "HasRemnant": entry["has_remnant"],
            "HasMassGap": entry["has_mass_gap"],
        },
        classification={"BNS": entry["p_bns"], "NSBH": 0.0, "BBH": 0.0, "Terrestrial": 0.0},
    )
    found = []
    for version in entry["maps"]:
        kind = version["alert_type"]
        time = merger["low_latency_time" if kind == "PRELIMINARY" else "time"]
        payload = gw_alert(
            wave,
            kind,
            version["sent"],
            version["instruments"],
            _wave_sky(kind, seed),
            _coincidence(),
            time,
        )
        label = (
            f"{entry['name']}: {kind} from {'+'.join(version['instruments'])},"
            f" {version['area90_deg2']:,.0f} deg²"
        )
        found.append(Timed(version["sent"], GWALERT, payload, label, "kafka"))
    return found


def _earlier_wave(seed: int) -> Timed:
    entry = facts()["earlier_wave"]
    wave = Wave(
        superevent_id=entry["superevent_id"],
        time=entry["time"],
        far_hz=entry["far_hz"],
        search="AllSky",
        pipeline="pycbc",
        properties={"HasNS": 0.0, "HasRemnant": 0.0, "HasMassGap": 0.0},
        classification={"BNS": 0.0, "NSBH": 0.0, "BBH": 1.0, "Terrestrial": 0.0},
    )
    sky = _arc_sky(entry, _EARLIER_SHAPE, seed)
    payload = gw_alert(wave, "INITIAL", entry["sent"], entry["instruments"], sky)
    label = f"{entry['name']}: INITIAL, black holes, {entry['area90_deg2']:g} deg², still active"
    return Timed(entry["sent"], GWALERT, payload, label, "kafka")


def _invented_wave(kind: str, search: str) -> Wave:
    entry = decoy(kind)
    return Wave(
        superevent_id=entry["id"],
        time=entry["time"],
        far_hz=4.2e-10,
        search=search,
        pipeline="gstlal",
        properties={"HasNS": 1.0, "HasRemnant": 0.9, "HasMassGap": 0.0},
        classification={"BNS": 0.94, "NSBH": 0.02, "BBH": 0.0, "Terrestrial": 0.04},
        invented=True,
    )


def _mock(seed: int) -> Timed:
    entry = decoy("lvk_mock")
    sky = _arc_sky(entry, _MOCK_SHAPE, seed)
    payload = gw_alert(
        _invented_wave("lvk_mock", "MDC"), "PRELIMINARY", entry["sent"], ["H1", "L1"], sky
    )
    label = f"{entry['id']}: mock event (invented), {entry['area90_deg2']:g} deg²"
    return Timed(entry["sent"], GWALERT, payload, label, "kafka")


def _retracted(seed: int) -> list[Timed]:
    entry = decoy("lvk_retracted")
    wave = _invented_wave("lvk_retracted", "AllSky")
    sky = _arc_sky(entry, _RETRACTED_SHAPE, seed)
    first = gw_alert(wave, "PRELIMINARY", entry["sent"], ["H1", "L1"], sky)
    last = gw_alert(wave, "RETRACTION", entry["retracted"], [], None)
    label = f"{entry['id']}: PRELIMINARY (invented), {entry['area90_deg2']:g} deg²"
    return [
        Timed(entry["sent"], GWALERT, first, label, "kafka"),
        Timed(entry["retracted"], GWALERT, last, f"{entry['id']}: RETRACTION (invented)", "kafka"),
    ]


def _swift() -> Timed:
    entry = decoy("swift_bat")
    payload = voevents.swift_bat(
        entry["id"], entry["time"], entry["sent"], entry["ra"], entry["dec"], entry["radius"]
    )
    label = "Swift BAT position (invented), 3 arcmin"
    return Timed(entry["sent"], CLASSIC + "SWIFT_BAT_GRB_POS_ACK", payload, label, "vtp")


def _icecube() -> Timed:
    entry = decoy("icecube_gold")
    payload = voevents.icecube_gold(
        entry["id"],
        entry["time"],
        entry["sent"],
        entry["ra"],
        entry["dec"],
        (entry["radius"], entry["radius50"]),
    )
    label = f"IceCube gold track (invented), {entry['radius']:g} deg"
    topic = CLASSIC + "ICECUBE_ASTROTRACK_GOLD"
    return Timed(entry["sent"], topic, payload, label, "kafka")
