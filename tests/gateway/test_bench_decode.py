"""Packets of the decode bench and the peers that read them; Spark's part is measured only."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from broker.history import history
from broker.packets import decode_packet, native_row
from gateway.bench import decode, decode_peers, lsstpackets
from gateway.bench.alertpackets import Alerts
from gateway.cli import main

LSST = {lsstpackets.SCHEMA_ID: lsstpackets.schema_json()}


def alerts(count: int) -> Alerts:
    n = np.arange(count)
    return Alerts(10**17 + n, n, 2461042.5 + n / 1e4, n * 0.01, n * 0.01 - 30, 18 + n / 1e4)


@pytest.mark.parametrize(("survey", "kilobytes"), decode.CASES)
def test_packets_have_the_size_asked_for_and_differ(survey: str, kilobytes: int):
    packets = decode.made(survey, kilobytes, 20, 1)
    assert all(abs(len(p) - 1000 * kilobytes) < 60 + 20 * kilobytes for p in packets)
    assert len(set(packets)) == 20
    assert packets == decode.made(survey, kilobytes, 20, 1) != decode.made(survey, kilobytes, 20, 2)


def test_lsst_packets_say_what_was_asked_for():
    given = alerts(5)
    rows = []
    for packet in lsstpackets.lsst(given, 100):
        (record,) = decode_packet(packet, "lsst", LSST)
        assert len(record["cutoutTemplate"]) == 100
        # A forced measurement of the same exposure counts once with its source.
        assert len(history(record, "lsst")) == lsstpackets.FORCED
        rows.append(native_row(record, "lsst"))
    assert [row["diaSourceId"] for row in rows] == given.alert_id.tolist()
    assert [row["ra"] for row in rows] == given.ra_deg.tolist()
    flux = np.array([row["psfFlux"] for row in rows])
    assert 31.4 - 2.5 * np.log10(flux) == pytest.approx(given.mag, abs=1e-6)
    assert {row["nDiaSources"] for row in rows} == {lsstpackets.SOURCES + 1}


def test_packets_without_cut_outs_say_so():
    (record,) = decode_packet(lsstpackets.lsst(alerts(1))[0], "lsst", LSST)
    assert record["cutoutScience"] is record["ssSource"] is None


def test_packets_are_made_fast_enough_to_feed_a_burst():
    given = alerts(5000)
    began = time.process_time()
    lsstpackets.lsst(given, 14_800)
    assert 5000 / (time.process_time() - began) > 5000


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_peers_read_the_same_record_in_their_ways(survey: str):
    (packet,) = decode.made(survey, 82, 1, 1)
    (record,) = decode_packet(packet, survey, LSST)
    if survey == "ztf":
        text = decode.writer_schema(packet) or ""
        read = decode_peers.fastavro_body(text, decode_peers.body_start(text))
        assert decode_peers.fastavro_container(packet) == record
    else:
        read = decode_peers.fastavro_body(lsstpackets.schema_json(), lambda _: 5)
    assert read(packet) == record
    assert decode_peers.native(survey, read(packet)) == native_row(record, survey)


def test_the_deserialiser_of_confluent_reads_the_same_record():
    read = decode_peers.confluent(lsstpackets.schema_json())
    if read is None:
        pytest.skip("confluent-kafka's extras avro and schemaregistry are not installed")
    (packet,) = decode.made("lsst", 3, 1, 1)
    assert [read(packet)] == decode_packet(packet, "lsst", LSST)


def test_the_schema_is_one_text_without_parts():
    assert json.loads(lsstpackets.schema_json())["name"] == "lsst.v10_0.alert"


def test_spark_reads_enough_whole_records_for_its_job_to_count_little():
    assert decode.Sizes().by_from_avro == 200_000
    assert decode.Sizes(packets=100, by_peers=50).by_from_avro == 50


def test_a_size_that_is_not_measured_is_refused(capsys):
    assert main(["bench", "decode", "--size", "5"]) == 2
    assert "3, 47, 82" in capsys.readouterr().err
