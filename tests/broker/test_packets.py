"""Alert packets and files: recognised, mapped, read on past what is damaged."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broker import packets
from broker.history import history
from broker.packets import BadFile, decode_packet, native_row, read_alerts
from broker.surveys import normalise
from crossmatch.errors import AlertError
from tests.broker.lsstpackets import with_source

CANDIDATE = {
    "jd": 2458493.76,
    "fid": 2,
    "candid": 739260766315010006,
    "isdiffpos": "t",
    "ra": 75.2,
    "dec": 35.36,
    "magpsf": 15.37,
    "sigmapsf": 0.04,
    "diffmaglim": 20.55,
}
ZTF: dict[str, Any] = {
    "schemavsn": "3.3",
    "objectId": "ZTF18abc",
    "candid": 739260766315010006,
    "candidate": CANDIDATE,
    "prv_candidates": [
        CANDIDATE | {"jd": 2458490.7, "magpsf": None, "sigmapsf": None, "isdiffpos": None},
        CANDIDATE | {"jd": 2458480.7, "fid": 1, "magpsf": 16.0, "isdiffpos": "f"},
    ],
}
SOURCE = {
    "diaSourceId": 11,
    "diaObjectId": None,
    "ssObjectId": None,
    "midpointMjdTai": 60902.99,
    "ra": 351.57,
    "dec": 0.126,
    "band": "r",
    "psfFlux": 1241.0,
    "psfFluxErr": 12.0,
    "snr": 41.1,
    "isNegative": None,
}
LSST: dict[str, Any] = {
    "diaSourceId": 11,
    "diaSource": SOURCE,
    "diaObject": {"diaObjectId": 5, "firstDiaSourceMjdTai": 60900.99, "nDiaSources": 2},
    "prvDiaSources": [SOURCE | {"midpointMjdTai": 60901.99, "psfFlux": -1000.0}],
    "prvDiaForcedSources": [
        {"midpointMjdTai": 60899.0, "band": "r", "psfFlux": 5.0, "psfFluxErr": 12.0},
        {"midpointMjdTai": 60900.0, "band": "g", "psfFlux": 600.0, "psfFluxErr": 12.0},
        {"midpointMjdTai": 60901.99, "band": "r", "psfFlux": -990.0, "psfFluxErr": 12.0},
    ],
}


def avro_type(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        fields = [{"name": k, "type": avro_type(v, f"{name}_{k}")} for k, v in value.items()]
        return {"type": "record", "name": name, "fields": fields}
    if isinstance(value, list):
        return {"type": "array", "items": avro_type(value[0], f"{name}_item")}
    kinds = {int: "long", float: "double", str: "string", bool: "boolean"}
    return ["null", kinds.get(type(value), "long")]


def schema_of(record: dict[str, Any]) -> dict[str, Any]:
    if "candidate" in record:
        # Nulls of the samples are numbers elsewhere in them.
        filled = CANDIDATE | {"isdiffpos": "t"}
        record = record | {"prv_candidates": [filled]}
    return avro_type(record, "alert")  # type: ignore[no-any-return]


def packed(*records: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema_of(records[0])), records)
    return stream.getvalue()


def read(
    paths: list[Path], schemas: dict[int, str] | None = None
) -> tuple[pa.Table, list[BadFile]]:
    bad: list[BadFile] = []
    tables = [
        normalise(b.survey, b.native).alerts
        for b in read_alerts(paths, schemas or {}, report=bad.append)
    ]
    return (pa.concat_tables(tables) if tables else pa.table({})), bad


def test_a_ztf_container_may_hold_several_alerts() -> None:
    found = decode_packet(packed(ZTF, ZTF | {"objectId": "ZTF18def"}), "ztf", {})

    assert [r["objectId"] for r in found] == ["ZTF18abc", "ZTF18def"]


def test_an_alert_of_another_survey_is_refused() -> None:
    with pytest.raises(AlertError) as caught:
        decode_packet(packed(ZTF), "lsst", {})

    assert caught.value.reason == "not_an_alert"


def test_native_rows_have_the_survey_s_names() -> None:
    ztf, lsst = native_row(ZTF, "ztf"), native_row(LSST, "lsst")

    assert ztf["objectId"] == "ZTF18abc"
    assert ztf["candid"] == 739260766315010006
    assert ztf["magpsf"] == 15.37
    assert ztf["drb"] is None
    assert lsst["diaObjectId"] == 5  # the source lacks it in some schemas
    assert lsst["nDiaSources"] == 2
    assert lsst["isNegative"] is None


def test_a_leaf_of_another_type_is_refused() -> None:
    broken = ZTF | {"candidate": CANDIDATE | {"ra": "north"}}

    with pytest.raises(AlertError) as caught:
        native_row(broken, "ztf")
    assert caught.value.reason == "wrong_type"


def test_elasticc_names_and_flux_units_are_understood() -> None:
    source = {
        "diaSourceId": 1,
        "midPointTai": 59583.0511,
        "filterName": "Y",
        "ra": 65.75,
        "decl": -51.64,
        "psFlux": 10.0,
        "psFluxErr": 1.0,
    }
    first = native_row({"diaSource": source, "diaObject": {"hostgal_zphot_q10": None}}, "lsst")
    second = native_row({"diaSource": source, "diaObject": {"hostgal_zphot_q010": None}}, "lsst")

    assert (first["dec"], first["band"], first["midpointMjdTai"]) == (-51.64, "Y", 59583.0511)
    assert second["psfFlux"] == 10.0
    assert first["psfFlux"] == pytest.approx(10 ** (1 + 3.9 / 2.5))


def test_ztf_history_is_in_order_with_limits() -> None:
    first, second = history(ZTF, "ztf")

    assert (first.time_jd, first.filter, first.mag, first.positive) == (2458480.7, "g", 16.0, False)
    assert (second.filter, second.mag, second.limiting_mag) == ("r", None, 20.55)
    assert not second.is_detection


def test_lsst_history_takes_forced_photometry_where_there_was_no_detection() -> None:
    limit, forced, detected = history(LSST, "lsst")

    assert (limit.mag, limit.filter) == (None, "r")
    assert limit.limiting_mag == pytest.approx(31.4 - 2.5 * np.log10(60))
    assert forced.mag == pytest.approx(31.4 - 2.5 * np.log10(600))
    assert detected.mag == pytest.approx(23.9)
    assert not detected.positive


@pytest.mark.parametrize(("withdrawn_at", "points"), [(60902.5, 2), (None, 3), (float("nan"), 3)])
def test_a_source_that_was_taken_back_is_no_history(
    withdrawn_at: float | None, points: int
) -> None:
    earlier = SOURCE | {"midpointMjdTai": 60901.5, "timeWithdrawnMjdTai": withdrawn_at}
    forced = LSST["prvDiaForcedSources"][:2]

    found = history(LSST | {"prvDiaSources": [earlier], "prvDiaForcedSources": forced}, "lsst")

    assert len(found) == points


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_a_packet_without_history_has_none(survey: str) -> None:
    assert history({}, survey) == []


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, True, 1.0, [1]])
def test_a_number_that_its_column_cannot_hold_is_of_a_wrong_type(value: Any) -> None:
    """A writer's schema may have any type for a field."""
    record = ZTF | {"candidate": ZTF["candidate"] | {"nbad": value}}
    with pytest.raises(AlertError, match="wrong_type"):
        native_row(record, "ztf")


@pytest.mark.parametrize("schema", ['"string"', '{"type": "array", "items": "long"}'])
def test_a_container_of_something_else_is_no_alert(schema: str) -> None:
    stream = io.BytesIO()
    fastavro.writer(stream, json.loads(schema), ["x"] if schema == '"string"' else [[1]])
    with pytest.raises(AlertError, match="not_an_alert"):
        decode_packet(stream.getvalue(), "ztf", {})


@pytest.mark.parametrize("found", [7, "text", ["text"], {"jd": 1.0}, [{"jd": 1e300, "fid": [1]}]])
def test_a_history_of_another_type_is_none(found: Any) -> None:
    assert history({"prv_candidates": found}, "ztf") == []
    assert history({"prvDiaSources": found, "diaObject": found}, "lsst") == []


def test_files_folders_and_tarballs_give_the_same_alerts(tmp_path: Path) -> None:
    folder = tmp_path / "night" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.avro").write_bytes(packed(ZTF))
    (folder / "_SUCCESS").write_bytes(b"")
    for name, mode in (("b.tar", "w"), ("c.tar.gz", "w:gz"), ("d.tar.bz2", "w:bz2")):
        with tarfile.open(tmp_path / "night" / name, mode) as archive:  # type: ignore[call-overload]
            archive.add(folder / "a.avro", arcname="x/a.avro")

    alerts, bad = read([tmp_path / "night"])

    assert bad == []
    assert alerts["object_id"].to_pylist() == ["ZTF18abc"] * 4
    assert sum(t.endswith(":x/a.avro") for t in alerts["topic"].to_pylist()) == 3


def test_reading_goes_on_past_bad_files(tmp_path: Path) -> None:
    whole = packed(ZTF)
    (tmp_path / "a.avro").write_bytes(whole[:-5])
    (tmp_path / "b.avro").write_bytes(b"")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "d.tar.gz").write_bytes(b"no tar")
    (tmp_path / "e.avro").write_bytes(packed({"other": 1}))
    (tmp_path / "f.avro").write_bytes(whole)

    alerts, bad = read([tmp_path, tmp_path / "missing.avro"])

    assert alerts.num_rows == 1
    assert [(Path(b.path).name, b.reason) for b in bad] == [
        ("a.avro", "truncated"),
        ("b.avro", "empty"),
        ("c.parquet", "unreadable"),
        ("d.tar.gz", "unreadable"),
        ("e.avro", "unknown_survey"),
        ("missing.avro", "unreadable"),
    ]


def test_parquet_and_avro_of_the_same_alerts_agree(tmp_path: Path) -> None:
    for name, record in (("ztf", ZTF), ("lsst", LSST)):
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / f"{name}.parquet")
        (tmp_path / f"{name}.avro").write_bytes(packed(record))
        columns = ["object_id", "alert_id", "time_jd", "ra_deg", "filter", "mag", "n_detections"]

        from_parquet, bad = read([tmp_path / f"{name}.parquet"])
        from_avro, _ = read([tmp_path / f"{name}.avro"])

        assert bad == []
        assert from_parquet.select(columns).equals(from_avro.select(columns))


@pytest.mark.parametrize(
    ("withdrawn_at", "expected"), [(60903.5, True), (None, False), (-1.0, False)]
)
def test_avro_and_parquet_tell_what_was_taken_back(
    tmp_path: Path, withdrawn_at: float | None, expected: bool
) -> None:
    source = SOURCE | {"timeWithdrawnMjdTai": withdrawn_at}
    schema = schema_of(LSST | {"diaSource": SOURCE | {"timeWithdrawnMjdTai": 1.0}})
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema), [LSST | {"diaSource": source}])
    (tmp_path / "a.avro").write_bytes(stream.getvalue())
    pq.write_table(pa.Table.from_pylist([LSST | {"diaSource": source}]), tmp_path / "a.parquet")

    alerts, bad = read([tmp_path])

    assert bad == []
    assert alerts["withdrawn"].to_pylist() == [expected, expected]


def test_rows_are_numbered_across_parquet_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "ROWS_PER_BATCH", 2)
    pq.write_table(pa.Table.from_pylist([ZTF] * 5), tmp_path / "a.parquet")

    alerts, _ = read([tmp_path])

    assert alerts["offset"].to_pylist() == [0, 1, 2, 3, 4]


def test_progress_adds_up_to_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.avro").write_bytes(packed(ZTF))
    (tmp_path / "b.avro").write_bytes(b"broken")
    sizes: list[int] = []

    list(read_alerts([tmp_path], {}, report=lambda _: None, progress=sizes.append))

    assert sizes == [len(packed(ZTF)), 6]


def test_schemas_come_by_number_with_their_parts(tmp_path: Path) -> None:
    folder = tmp_path / "v9_0"
    folder.mkdir()
    inner = {"type": "record", "name": "lsst.v9_0.part", "fields": [{"name": "x", "type": "int"}]}
    outer = {
        "type": "record",
        "name": "lsst.v9_0.alert",
        "fields": [{"name": "part", "type": "lsst.v9_0.part"}],
    }
    (folder / "lsst.v9_0.part.avsc").write_text(json.dumps(inner))
    (folder / "lsst.v9_0.alert.avsc").write_text(json.dumps(outer))

    schemas = packets.read_lsst_schemas(tmp_path)

    assert list(schemas) == [900]
    assert '"x"' in schemas[900]
    with pytest.raises(AlertError):
        packets.read_lsst_schemas(folder)


@pytest.mark.realdata
def test_all_real_ztf_and_lsst_alerts_are_read(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    counts = {"ztf": 0, "lsst": 0}
    bad: list[BadFile] = []
    rejected = []
    for batch in read_alerts([shared_data / "alerts"], schemas, report=bad.append):
        counts[batch.survey] += batch.native.num_rows
        rejected += normalise(batch.survey, batch.native).rejected

    assert counts == {"ztf": 711, "lsst": 391}
    # The generated 7.4 packet has Unix seconds where a date belongs.
    assert [r.reason for r in rejected] == ["time_out_of_range"]
    assert sorted({b.reason for b in bad}) == ["truncated", "unknown_survey"]
    assert all("damaged" in b.path or "other_avro" in b.path for b in bad)
    assert len(bad) == 12


@pytest.mark.realdata
def test_a_real_rubin_packet_from_kafka(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    path = shared_data / "alerts" / "lsst_avro" / "boom_lsst" / "7912941781254298.avro"

    (record,) = decode_packet(path.read_bytes(), "lsst", schemas)
    alerts, _ = read([path], schemas)

    assert alerts["ra_deg"].to_pylist() == pytest.approx([55.752], abs=5e-4)
    assert alerts["dec_deg"].to_pylist() == pytest.approx([-32.268], abs=5e-4)
    assert alerts["alert_id"].to_pylist() == [record["diaSourceId"]]
    # 2025-10-13 05:35:39.168, TAI or UTC.
    assert alerts["time_jd"].to_pylist() == pytest.approx([2460961.7331], abs=1e-3)


@pytest.mark.realdata
def test_a_light_curve_s_packets_tell_one_history(shared_data: Path) -> None:
    folder = shared_data / "alerts" / "ztf_avro" / "ZTF21abiuvdk_lightcurve"
    files = sorted(folder.glob("*.avro"))
    records = [decode_packet(f.read_bytes(), "ztf", {})[0] for f in files]
    own = {round(r["candidate"]["jd"], 5): r["candidate"]["magpsf"] for r in records}

    last = history(records[-1], "ztf")

    detected = {round(p.time_jd, 5): p.mag for p in last if p.mag is not None}
    shared = own.keys() & detected.keys()
    assert len(shared) > 10
    # The history has four decimals.
    assert all(own[t] == pytest.approx(detected[t], abs=1e-4) for t in shared)
    assert [p.time_jd for p in last] == sorted(p.time_jd for p in last)


@pytest.mark.realdata
def test_no_real_alert_is_taken_back_but_one_that_is_made_so(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    bad: list[BadFile] = []
    batches = read_alerts([shared_data / "alerts"], schemas, report=bad.append)
    standing = [normalise(b.survey, b.native).alerts["withdrawn"] for b in batches]
    path = shared_data / "alerts" / "lsst_avro" / "boom_lsst" / "7912941781254298.avro"

    value = with_source(path.read_bytes(), schemas, timeWithdrawnMjdTai=60962.25)

    (record,) = decode_packet(value, "lsst", schemas)
    assert {v for column in standing for v in column.to_pylist()} == {False}
    assert native_row(record, "lsst")["timeWithdrawnMjdTai"] == 60962.25
