"""Candidates become valid, complete and repeatable VOEvents."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import NoticeError
from voevents.build import build_voevent, candidate_ivoid, reference_ivoid
from voevents.validate import validate_voevent

AUTHOR = "ivo://org.mmgateway"
NOTICE = f"{AUTHOR}/notices#G298048-4-Initial"


def candidate(**changed: Any) -> dict[str, Any]:
    """A record with every column filled, as AT2017gfo would have it."""
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True,
        "strings": ["one", "two"],
    }  # fmt: skip
    record = {field.name: values[field.kind] for field in CANDIDATE_FIELDS}
    record |= {
        "candidate_id": "MM17gfo/G298048/2",
        "counterpart_id": "MM17gfo",
        "record_number": 2,
        "alert_type": "update",
        "state": "in_force",
        "reason": "fades in i & g",
        "supersedes": "MM17gfo/G298048/1",
        "alert_datetime": "2017-08-18T23:34:12.500000Z",
        "alert_tense": "current",
        "role": "observation",
        "event_id": "gw:G298048",
        "event_name": "GW170817",
        "messenger": "gw",
        "ref_ID": "G298048-4-Initial",
        "event_trigger_time": "2017-08-17T12:41:04.400000Z",
        "survey": "ztf",
        "id": "ZTF17aaagfo",
        "alert_id": "9007199254740993",
        "ra": 197.45037499999998,
        "dec": -23.381472,
        "ra_dec_error": 5e-05,
        "observation_start": "2017-08-18T23:33:00.123456Z",
        "filter": "i",
        "mag": 17.48,
        "fade_rate": 0.9,
        "credible_level": 0.4,
        "tier": "gold",
        "streams": [],
        "expires": "2017-08-31T12:41:04Z",
    }
    return record | changed


def build(record: dict[str, Any], stream: str = "") -> bytes:
    return build_voevent(
        record,
        author_ivo=AUTHOR,
        contact_name="On call",
        contact_email="on@call.example",
        stream=stream,
    )


def params(document: bytes) -> dict[str, etree._Element]:
    return {p.get("name"): p for p in etree.fromstring(document).iter("Param")}


def cited(document: bytes) -> list[tuple[str, str]]:
    root = etree.fromstring(document)
    return [(e.get("cite"), e.text) for e in root.iter("EventIVORN")]


def test_document_is_valid_and_repeatable() -> None:
    document = build(candidate())
    validate_voevent(document)
    assert document == build(candidate())


def test_every_column_is_a_param_with_its_unit_and_ucd() -> None:
    found = params(build(candidate(streams=["ourteam"]), "ourteam"))
    assert set(found) == {field.name for field in CANDIDATE_FIELDS}
    for field in CANDIDATE_FIELDS:
        assert found[field.name].get("unit", "") == field.unit
        assert found[field.name].get("ucd", "") == field.ucd


def test_what_catalogues_have_near_it_stands_together() -> None:
    root = etree.fromstring(build(candidate()))
    (context,) = (g for g in root.iter("Group") if g.get("name") == "Context")
    names = [param.get("name") for param in context]
    assert names[:6] == [
        "host_name", "host_distance", "host_offset", "redshift", "p_cc", "simbad_name",
    ]  # fmt: skip
    assert {"star_distance", "agn_name", "known_transient", "minor_planet"} < set(names)
    assert names.index("minor_planet_distance") < names.index("nearby")


def test_missing_values_are_left_out() -> None:
    required = {f.name for f in CANDIDATE_FIELDS if f.required}
    optional = {f.name: None for f in CANDIDATE_FIELDS if not f.required}
    document = build(candidate(**optional, alert_type="initial"))
    validate_voevent(document)
    # A candidate for everybody names no private streams.
    assert set(params(document)) == required - {"streams"}
    assert b"None" not in document


def test_what_a_robot_reads_comes_first() -> None:
    names = list(params(build(candidate())))
    assert names[:16] == [
        "role", "alert_type", "counterpart_id", "tier", "ra", "dec", "ra_dec_error",
        "mag", "filter", "observation_start", "mag_error", "mag_system",
        "fade_rate", "fade_rate_error", "fade_filter", "expires",
    ]  # fmt: skip


def test_params_are_grouped() -> None:
    root = etree.fromstring(build(candidate()))
    assert [g.get("name") for g in root.iter("Group")] == [
        "Candidate", "Event", "Counterpart", "Photometry", "Context", "Provenance",
    ]  # fmt: skip
    assert root.find("What/Param") is None


def test_head_and_position_repeat_the_record_exactly() -> None:
    record = candidate()
    root = etree.fromstring(build(record))
    assert root.get("ivorn") == candidate_ivoid(record, AUTHOR)
    assert root.get("role") == "observation"
    assert root.findtext("Who/AuthorIVORN") == AUTHOR
    assert root.findtext("Who/Date") == "2017-08-18T23:34:12.500000"
    assert root.findtext("Who/Author/contactEmail") == "on@call.example"
    assert root.find(".//ObservatoryLocation").get("id") == "Palomar"
    assert root.find(".//AstroCoordSystem").get("id") == "UTC-ICRS-TOPO"
    assert root.findtext(".//ISOTime") == "2017-08-18T23:33:00.123456"
    assert float(root.findtext(".//C1")) == record["ra"]
    assert float(root.findtext(".//C2")) == record["dec"]
    assert float(root.findtext(".//Error2Radius")) == record["ra_dec_error"]
    assert root.find("Why").get("expires") == "2017-08-31T12:41:04"
    assert float(root.find("Why").get("importance")) == 0.9
    assert root.findtext("Why/Inference/Name") == "GW170817"


def test_big_alert_ids_keep_their_digits() -> None:
    assert params(build(candidate()))["alert_id"].get("value") == "9007199254740993"


def test_unknown_position_error_becomes_one_arcsecond() -> None:
    root = etree.fromstring(build(candidate(ra_dec_error=None)))
    assert float(root.findtext(".//Error2Radius")) == pytest.approx(1 / 3600)


def test_first_statement_follows_up_the_notice() -> None:
    document = build(candidate(alert_type="initial", supersedes=None, record_number=1))
    assert cited(document) == [("followup", NOTICE)]


def test_update_supersedes_the_statement_before() -> None:
    before = candidate_ivoid({"candidate_id": "MM17gfo/G298048/1"}, AUTHOR)
    assert cited(build(candidate())) == [
        ("supersedes", before),
        ("followup", NOTICE),
    ]


def test_withdrawal_retracts_only_its_own_statement_and_says_why() -> None:
    document = build(
        candidate(alert_type="retraction", state="withdrawn", reason="outside the revised map")
    )
    before = candidate_ivoid({"candidate_id": "MM17gfo/G298048/1"}, AUTHOR)
    assert cited(document) == [("retraction", before)]
    root = etree.fromstring(document)
    assert root.findtext("Citations/Description") == "outside the revised map"
    assert float(root.find("Why").get("importance")) == 0.0


def test_a_retraction_of_nothing_is_refused() -> None:
    with pytest.raises(NoticeError, match="candidate_incomplete"):
        build(candidate(alert_type="retraction", supersedes=None))


@pytest.mark.parametrize("role", ["test", "observation", "utility", "prediction"])
def test_role_is_carried(role: str) -> None:
    assert etree.fromstring(build(candidate(role=role))).get("role") == role


def test_unknown_role_is_refused() -> None:
    with pytest.raises(NoticeError, match="candidate_invalid"):
        build(candidate(role="injection"))


@pytest.mark.parametrize(
    ("messenger", "ref_id", "ivoid"),
    [
        ("grb", "ivo://nasa.gsfc.gcn/Fermi#GBM_Alert_1", "ivo://nasa.gsfc.gcn/Fermi#GBM_Alert_1"),
        ("gw", "S240422ed-2-Preliminary", f"{AUTHOR}/notices#S240422ed-2-Preliminary"),
        ("xray", "EP 01709/1", "ivo://org.mmgateway/notices#EP%2001709%2F1"),
    ],
)
def test_reference_is_an_ivoid_whatever_the_mission_sent(
    messenger: str, ref_id: str, ivoid: str
) -> None:
    assert reference_ivoid({"messenger": messenger, "ref_ID": ref_id}, AUTHOR) == ivoid


def test_different_statements_have_different_ivoids() -> None:
    names = ["a b", "a%20b", "a#b", "a/b", "a%2Fb", "ä", "a"]
    ivoids = {candidate_ivoid({"candidate_id": n}, AUTHOR) for n in names}
    assert len(ivoids) == len(names)
    assert all(i.startswith("ivo://org.mmgateway/candidates#") for i in ivoids)
    assert all(i.isascii() and " " not in i for i in ivoids)


@pytest.mark.parametrize("author", ["ivo://org.mmgateway/", "ivo://org.mmgateway#x"])
def test_author_ivo_may_end_untidily(author: str) -> None:
    assert candidate_ivoid({"candidate_id": "a"}, author) == "ivo://org.mmgateway/candidates#a"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mag", math.nan), ("score", math.inf), ("ra", 720.0), ("ra", math.nan),
        ("dec", -91.0), ("observation_start", "yesterday"), ("ra_dec_error", math.nan),
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(NoticeError, match="candidate_invalid"):
        build(candidate(**{name: value}))


@pytest.mark.parametrize("name", ["ref_ID", "ra", "observation_start", "tier"])
def test_a_record_without_the_essentials_is_refused(name: str) -> None:
    with pytest.raises(NoticeError, match="candidate_incomplete"):
        build(candidate(**{name: None}))


def test_markup_and_control_characters_in_text_do_no_harm() -> None:
    document = build(
        candidate(reason='<Param name="x"/> \x00\x1b ]]> &amp; é', host_name="\ufffe\ud800")
    )
    validate_voevent(document)
    assert params(document)["reason"].get("value") == ('<Param name="x"/> \ufffd\ufffd ]]> &amp; é')


@settings(max_examples=50, deadline=None, derandomize=True)
@given(text=st.text(min_size=1, max_size=30), number=st.floats(allow_nan=False, width=64))
def test_any_text_and_number_makes_a_valid_document(text: str, number: float) -> None:
    if math.isinf(number):
        number = 0.0
    names = ["reason", "host_name", "event_name", "ref_ID", "candidate_id", "supersedes", "id"]
    document = build(candidate(**dict.fromkeys(names, text), score=number, factors=[text, text]))
    validate_voevent(document)
    assert float(params(document)["score"].get("value")) == number


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    plain = candidate()
    arrays = plain | {
        name: np.float64(value) for name, value in plain.items() if isinstance(value, float)
    }
    assert build(arrays) == build(plain)


def location(observatory: dict[str, str], survey: str) -> str | None:
    document = build_voevent(candidate(survey=survey), author_ivo=AUTHOR, observatory=observatory)
    return etree.fromstring(document).find(".//ObservatoryLocation").get("id")


def test_site_is_the_configured_one() -> None:
    assert location({"ztf": "La Silla <Chile>"}, "ztf") == "La Silla <Chile>"


def test_survey_without_a_site_is_on_the_ground() -> None:
    assert location({"ztf": ""}, "ztf") == "GEOSURFACE"
    assert location({"ztf": "Palomar"}, "atlas") == "GEOSURFACE"


@pytest.mark.parametrize("alert_type", ["update", "retraction"])
def test_private_copy_has_no_name_that_a_public_one_could_have(alert_type: str) -> None:
    public = build(candidate(alert_type=alert_type))
    copies = {
        stream: build(candidate(alert_type=alert_type, streams=["a", "b"]), stream)
        for stream in ("a", "b")
    }
    for stream, document in copies.items():
        validate_voevent(document)
        ivoid = etree.fromstring(document).get("ivorn")
        assert ivoid == f"{AUTHOR}/private/{stream}/candidates#MM17gfo%2FG298048%2F2"
        ours = f"{AUTHOR}/private/{stream}/"
        assert all(name.startswith(ours) for _, name in cited(document))
    names = [{etree.fromstring(d).get("ivorn"), *(n for _, n in cited(d))}
             for d in (public, *copies.values())]  # fmt: skip
    assert len(set.union(*names)) == sum(map(len, names))


@pytest.mark.parametrize(("streams", "stream"), [(["a"], ""), (["a"], "b"), ([], "a"), (None, "a")])
def test_copy_for_who_may_not_see_it_is_refused(streams: list[str] | None, stream: str) -> None:
    with pytest.raises(NoticeError, match="wrong_stream"):
        build(candidate(streams=streams), stream)
