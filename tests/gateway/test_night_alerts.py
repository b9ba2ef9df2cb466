"""The alerts: readable packets, sane distributions, and the objects that must be there."""

import io
import json
from datetime import UTC, datetime, timedelta
from importlib import resources

import fastavro
import numpy as np
import pytest

from broker import packets as broker_packets
from broker.history import history as history_of
from crossmatch.lightcurve import fade_rate, rise_rate
from gateway.night import packets
from gateway.night.alerts import alert_positions, alert_times, alerts
from gateway.night.facts import decoy, facts, julian_date
from gateway.night.maps import unit_vectors
from gateway.night.population import (
    AGN,
    ASTEROID,
    BOGUS,
    EARLY_SN,
    KILONOVA,
    NEW_SN,
    OLD_SN,
    STAR,
    YOUNG_SN,
    names,
    night,
)
from gateway.night.sky import ecliptic_coordinates, galactic_coordinates

N = 2000
MERGER = julian_date(facts()["merger"]["time"])
SOURCE = facts()["kilonova"]


@pytest.fixture(scope="module")
def made():
    return list(alerts(N, 5))


@pytest.fixture(scope="module")
def records(made):
    return [r for a in made for r in fastavro.reader(io.BytesIO(a.payload))]


@pytest.fixture(scope="module")
def sky():
    return night(60_000, 5)


@pytest.fixture(scope="module")
def source_records(records):
    return [r for r in records if r["objectId"] == SOURCE["object_id"]]


def test_schema_has_the_fields_of_ztf_in_order():
    text = resources.files("gateway.night").joinpath("ztf.avsc").read_text("utf-8")
    schema = json.loads(text)
    fastavro.parse_schema(schema)
    names_ = [f["name"] for f in schema["fields"]]
    assert names_[:6] == [
        "schemavsn", "publisher", "objectId", "candid", "candidate", "prv_candidates",
    ]  # fmt: skip
    candidate = [s.name for s in packets.slots("candidate")]
    assert (candidate[0], candidate[-1], len(candidate)) == ("jd", "drbversion", 103)
    assert len(packets.slots("prv_candidate")) == 57


@pytest.mark.realdata
def test_schema_is_that_of_a_real_packet(shared_data):
    folder = shared_data / "alerts" / "ztf_avro" / "ZTF21abiuvdk_lightcurve"
    with sorted(folder.glob("*.avro"))[0].open("rb") as file:
        real = fastavro.reader(file).writer_schema

    def plain(record):
        return [(f["name"], f["type"]) for f in record["fields"]]

    ours = fastavro.parse_schema(json.loads(packets.schema_json()))
    for name in ("candidate", "prv_candidates"):
        a, b = (
            next(f["type"] for f in schema["fields"] if f["name"] == name)
            for schema in (real, ours)
        )
        if name == "prv_candidates":
            a, b = (next(t for t in x if t != "null")["items"] for x in (a, b))
        assert plain(a) == plain(b)


def test_packets_are_containers_with_one_record(made, records):
    assert len(records) == len(made) == N
    for alert, record in zip(made, records, strict=True):
        assert (record["objectId"], record["candid"]) == (alert.object_id, alert.candid)
        assert record["candidate"]["candid"] == alert.candid


def test_encoding_agrees_with_fastavro(made, records):
    schema = fastavro.parse_schema(json.loads(packets.schema_json()))
    for alert, record in list(zip(made, records, strict=True))[::40]:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, record)
        again = fastavro.schemaless_reader(io.BytesIO(out.getvalue()), schema)
        assert out.getvalue() == alert.body
        assert again == record


def test_our_own_reader_takes_the_packets(made):
    (record,) = broker_packets.decode_packet(made[0].payload, "ztf", {})
    assert broker_packets.native_row(record, "ztf")["objectId"] == made[0].object_id


def test_bodies_are_of_the_size_of_packets_without_images(made):
    assert 1500 < np.mean([len(a.body) for a in made]) < 4000


def test_alerts_are_sorted_and_unique(made):
    times = [a.sent for a in made]
    assert times == sorted(times)
    assert len({a.candid for a in made}) == N


def test_sent_minutes_after_the_exposure(made, records):
    for alert, record in zip(made, records, strict=True):
        exposed = datetime.fromtimestamp((record["candidate"]["jd"] - 2440587.5) * 86400, UTC)
        assert timedelta(minutes=6) < alert.sent - exposed < timedelta(minutes=10)


def test_alert_times_are_those_of_the_alerts(made):
    np.testing.assert_allclose(alert_times(N, 5), [a.sent.timestamp() for a in made], atol=1e-5)


def test_positions_are_those_of_the_packets(records):
    ra, dec = alert_positions(N, 5)
    packets_ = unit_vectors(
        *(np.array([r["candidate"][k] for r in records]) for k in ("ra", "dec"))
    )
    apart = np.linalg.norm(packets_ - unit_vectors(ra, dec), axis=1)
    assert np.degrees(apart.max()) * 3600 < 1


def test_known_minor_bodies_have_names(records):
    named = [r for r in records if 0 <= r["candidate"]["ssdistnr"] < 5]
    assert len(named) > 150
    assert all(r["candidate"]["ssnamenr"].isdigit() for r in named)


def test_equal_seeds_give_equal_bytes(made):
    assert [a.body for a in alerts(N, 5)] == [a.body for a in made]


def test_another_seed_gives_another_night(made):
    other = next(alerts(N, 6))
    assert other.body != made[0].body


def test_too_few_alerts_are_refused():
    with pytest.raises(ValueError, match="fewer than"):
        next(alerts(10, 5))


def test_values_are_in_range(records):
    for record in records:
        c = record["candidate"]
        assert 0 <= c["ra"] < 360
        assert -90 <= c["dec"] <= 90
        assert c["fid"] in (1, 2, 3)
        assert c["isdiffpos"] in ("t", "f")
        assert 0 <= c["rb"] <= 1
        assert 0 <= c["drb"] <= 1
        assert 10 < c["magpsf"] < c["diffmaglim"] + 0.5
        assert c["jdstarthist"] <= c["jd"]
        assert c["ndethist"] >= 1
        assert all(v == v for v in c.values()), "no NaN"


def test_history_lies_in_the_month_before(records):
    for record in records:
        jd = record["candidate"]["jd"]
        times = [p["jd"] for p in record["prv_candidates"]]
        assert times == sorted(times)
        assert all(jd - 30 < t < jd for t in times)


def test_history_starts_no_earlier_than_the_object(records):
    for record in records:
        seen = [p["jd"] for p in record["prv_candidates"] if p["magpsf"] is not None]
        assert all(t >= record["candidate"]["jdstarthist"] - 1e-9 for t in seen)


def test_history_repeats_earlier_alerts(source_records):
    candids = [r["candid"] for r in source_records]
    last = source_records[-1]["prv_candidates"]
    assert [p["candid"] for p in last if p["candid"] is not None] == candids[:-1]


def test_source_is_first_seen_at_discovery(source_records):
    first = source_records[0]["candidate"]
    assert first["jd"] == pytest.approx(julian_date(SOURCE["first_image"]), abs=1e-5)
    assert first["fid"] == 3
    assert first["magpsf"] == pytest.approx(17.5, abs=0.1)
    assert first["ndethist"] == 1


def test_source_has_limits_before(source_records):
    entries = source_records[0]["prv_candidates"]
    assert entries
    assert all(p["magpsf"] is None and p["diffmaglim"] > 18 for p in entries)
    assert entries[-1]["jd"] == pytest.approx(SOURCE["last_limit_mjd"] + 2400000.5)
    assert entries[-1]["diffmaglim"] == pytest.approx(SOURCE["last_limit_mag"])


def test_source_is_real_and_near_no_star(source_records):
    for record in source_records:
        c = record["candidate"]
        assert c["isdiffpos"] == "t"
        assert min(c["rb"], c["drb"]) > 0.8
        assert c["sgscore1"] < 0.1
        assert c["distpsnr1"] == pytest.approx(10)


def test_source_is_seen_twice_a_quarter_of_an_hour_apart_in_the_first_night(source_records):
    times = np.array([r["candidate"]["jd"] for r in source_records])
    first_night = times[times < MERGER + 1]
    assert first_night.max() - first_night.min() > 15 / 1440


def test_source_fades_measurably_in_the_second_night(source_records):
    second = [r for r in source_records if MERGER + 1 < r["candidate"]["jd"] < MERGER + 2]
    curve = _curve(second[-1])
    rate = fade_rate(curve)
    assert rate.mag_per_day > 0.3
    assert rate.significance > 3


def test_source_is_seen_in_two_filters_every_night(source_records):
    for night_number in range(5):
        low, high = MERGER + night_number, MERGER + night_number + 1
        filters = {
            r["candidate"]["fid"] for r in source_records if low < r["candidate"]["jd"] < high
        }
        assert len(filters) >= 2


def test_source_follows_the_published_light_curve(source_records):
    c = [r["candidate"] for r in source_records if r["candidate"]["fid"] == 1]
    assert c[0]["magpsf"] == pytest.approx(17.41, abs=0.1)
    assert c[1]["magpsf"] == pytest.approx(18.61, abs=0.15)


def _curve(record):
    c = record["candidate"]
    history = history_of(record, "ztf")
    last = history_of({"prv_candidates": [c]}, "ztf")
    return [*history, *last]


def test_young_supernova_rises(records):
    name = facts()["young_supernova"]["object_id"]
    found = [r for r in records if r["objectId"] == name]
    assert len(found) > 4
    assert found[0]["candidate"]["jdstarthist"] > MERGER
    rate = fade_rate(_curve(found[-1]))
    assert rate is None or rate.mag_per_day < 0
    assert (rise_rate(_curve(found[-1])) or 0) < 1


def test_no_other_new_transient_fades_or_rises_fast(records):
    new = {
        r["objectId"]: r
        for r in records
        if r["candidate"]["jdstarthist"] > MERGER
        and r["candidate"]["ndethist"] > 1
        and r["objectId"] != SOURCE["object_id"]
    }
    assert len(new) > 15
    for record in new.values():
        rate = fade_rate(_curve(record))
        assert rate is None or rate.mag_per_day < 0.3 or rate.significance < 3
        assert (rise_rate(_curve(record)) or 0) < 1


def test_shares_of_the_three_watches(sky):
    jd = sky.exposures.jd[sky.exposure]
    early = sky.exposures.early[sky.exposure]
    follow = jd > MERGER + 1
    assert early.mean() == pytest.approx(0.08, abs=0.015)
    assert (~early & ~follow).mean() == pytest.approx(0.83, abs=0.05)
    assert follow.mean() > 0.05


def test_night_has_exactly_the_number_asked_for(sky):
    assert len(sky.object) == 60_000
    assert sorted(np.unique(sky.object)) == list(range(len(sky.objects)))


def test_stars_crowd_the_galactic_plane(sky):
    height = {k: _heights(sky, k) for k in (STAR, AGN)}
    assert np.median(height[STAR]) < 0.6 * np.median(height[AGN])


def _heights(sky, kind):
    here = sky.objects.kind == kind
    return np.abs(galactic_coordinates(sky.objects.ra_deg[here], sky.objects.dec_deg[here])[1])


def test_extragalactic_sources_avoid_the_plane(sky):
    for kind in (AGN, OLD_SN, NEW_SN):
        assert _heights(sky, kind).min() > 5


def test_minor_bodies_follow_the_ecliptic(sky):
    here = sky.objects.kind == ASTEROID
    latitude = ecliptic_coordinates(sky.objects.ra_deg[here], sky.objects.dec_deg[here])[1]
    assert np.median(np.abs(latitude)) < 12


def test_minor_bodies_and_bogus_are_seen_once(sky):
    counts = np.bincount(sky.object)
    single = np.isin(sky.objects.kind, (ASTEROID, BOGUS))
    assert (counts[single] == 1).all()


def test_transients_are_positive_and_a_part_of_the_rest_negative(sky):
    kind = sky.objects.kind[sky.object]
    assert sky.positive[kind >= NEW_SN][kind[kind >= NEW_SN] > BOGUS].all()
    assert sky.positive[kind == NEW_SN].all()
    assert 0.3 < (~sky.positive[kind == STAR]).mean() < 0.6


def test_counts_rise_towards_the_limit(sky):
    counts = np.histogram(sky.mag, bins=[14, 16, 18, 20])[0]
    assert counts[0] < counts[1] < counts[2]


def test_errors_grow_towards_the_limit(sky):
    faint, bright = sky.mag > 20, sky.mag < 17
    assert np.median(sky.sigma[faint]) > 4 * np.median(sky.sigma[bright])
    assert sky.sigma.min() >= 0.02


def test_early_supernovae_are_new_and_seen_twice(sky):
    early = sky.objects.kind[sky.object] == EARLY_SN
    counts = np.bincount(sky.object[early & sky.exposures.early[sky.exposure]])
    assert (counts >= 2).sum() >= 12


def test_one_source_and_one_young_supernova(sky):
    assert [(sky.objects.kind == k).sum() for k in (KILONOVA, YOUNG_SN)] == [1, 1]


@pytest.mark.parametrize(("kind", "radius"), [("swift_bat", 0.5), ("icecube_gold", 3.0)])
def test_no_persistent_source_near_the_invented_events(sky, kind, radius):
    centre = decoy(kind)
    axis = unit_vectors(np.array(centre["ra"]), np.array(centre["dec"]))
    near = unit_vectors(sky.objects.ra_deg, sky.objects.dec_deg) @ axis > np.cos(np.radians(radius))
    assert set(sky.objects.kind[near]) <= {STAR, ASTEROID, BOGUS}


def test_retracted_and_mock_events_hold_many_alerts(sky):
    for kind in ("lvk_mock", "lvk_retracted"):
        centre = decoy(kind)
        axis = unit_vectors(np.array(centre["peak_ra"]), np.array(centre["peak_dec"]))
        vectors = unit_vectors(sky.objects.ra_deg, sky.objects.dec_deg)[sky.object]
        after = sky.exposures.jd[sky.exposure] > julian_date(centre["sent"])
        assert ((vectors @ axis > np.cos(np.radians(8))) & after).sum() > 200


def test_alerts_of_the_retracted_event_come_before_its_retraction(sky):
    centre = decoy("lvk_retracted")
    axis = unit_vectors(np.array(centre["peak_ra"]), np.array(centre["peak_dec"]))
    vectors = unit_vectors(sky.objects.ra_deg, sky.objects.dec_deg)[sky.object]
    jd = sky.exposures.jd[sky.exposure]
    near = (vectors @ axis > np.cos(np.radians(8))) & (jd > julian_date(centre["sent"]))
    assert (jd[near] < julian_date(centre["retracted"])).mean() > 0.5


def test_names_are_unique_and_of_ztf_form(sky):
    text = names(sky.objects, 5)
    assert len(np.unique(text)) == len(text)
    assert all(len(t) == 12 and t.startswith(b"ZTF17") and t[5:].isalpha() for t in text[:2000])


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, -64, -65, 2**31, -(2**40), 10**18, 2**62])
def test_a_number_is_written_as_fastavro_does(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    slot = (packets.HEAD[-1],)
    column = {"candid": packets.Column(np.array([value, 0], dtype=np.int64))}
    data, ends = packets.encode(slot, column, 2)
    assert data[: ends[1]] == out.getvalue()


def test_required_field_cannot_be_null():
    with pytest.raises(ValueError, match="candid cannot be null"):
        packets.encode((packets.HEAD[-1],), {}, 1)
