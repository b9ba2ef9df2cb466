"""Documents that are no VOEvents are refused with a reason; nothing is fetched or expanded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from crossmatch.errors import NoticeError
from voevents.validate import check_submission, validate_submission, validate_voevent

VALID = b"""<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" role="test"
 ivorn="ivo://org.example/stream#1"><Who><Date>2017-08-17T12:41:06</Date></Who>
<WhereWhen><ObsDataLocation><ObservatoryLocation id="GEOSURFACE"/><ObservationLocation>
<AstroCoordSystem id="UTC-ICRS-TOPO"/><AstroCoords coord_system_id="UTC-ICRS-TOPO">
<Time><TimeInstant><ISOTime>2017-08-17T12:41:06</ISOTime></TimeInstant></Time>
<Position2D unit="deg"><Value2><C1>197.45</C1><C2>-23.38</C2></Value2>
<Error2Radius>0.1</Error2Radius></Position2D></AstroCoords></ObservationLocation>
</ObsDataLocation></WhereWhen></voe:VOEvent>"""


def reason(check: object, data: bytes) -> str:
    with pytest.raises(NoticeError) as caught:
        check(data)  # type: ignore[operator]
    return caught.value.reason


def test_a_valid_document_passes() -> None:
    validate_voevent(VALID)
    validate_submission(VALID)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "xml_broken"),
        (b"GET / HTTP/1.1\r\n\r\n", "xml_broken"),
        (VALID[:-20], "xml_broken"),
        (VALID.replace(b"UTF-8", b"no-such-code"), "xml_broken"),
        (VALID.replace(b"<Who>", b"<Whom>").replace(b"</Who>", b"</Whom>"), "schema_invalid"),
        (VALID.replace(b'role="test"', b'role="tset"'), "schema_invalid"),
        (VALID.replace(b' version="2.0" role', b" role"), "schema_invalid"),
        (b'<VOEvent version="2.0" ivorn="ivo://a/b#c"/>', "schema_invalid"),
    ],
)
def test_what_is_not_a_voevent_is_refused(data: bytes, expected: str) -> None:
    assert reason(validate_voevent, data) == expected


def test_the_reason_says_where() -> None:
    with pytest.raises(NoticeError, match=r"line 3: .*Whom"):
        validate_voevent(VALID.replace(b"Who>", b"Whom>"))


def test_document_types_and_entities_are_refused() -> None:
    bomb = VALID.replace(
        b"?>\n", b'?>\n<!DOCTYPE VOEvent [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>', 1
    )
    assert reason(validate_voevent, bomb) == "xml_dtd"


def test_absurd_depth_is_refused() -> None:
    assert reason(validate_voevent, b"<a>" * 5000 + b"</a>" * 5000) == "xml_broken"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"197.45", b"NaN", "position_invalid"),
        (b"197.45", b"720", "position_invalid"),
        (b"-23.38", b"-91", "position_invalid"),
        (b"-23.38", b"INF", "position_invalid"),
        (b"<ISOTime>2017-08-17T12:41:06", b"<ISOTime>yesterday", "bad_time"),
        (b"voe:VOEvent", b"voe:Event", "not_a_voevent"),
        (b'version="2.0"', b'version="9"', "version_unknown"),
        (b' version="2.0" role', b" role", "version_unknown"),
    ],
)
def test_nonsense_that_the_schema_allows_is_refused(old: bytes, new: bytes, expected: str) -> None:
    assert reason(validate_submission, VALID.replace(old, new)) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<Param ", b'<Param datatype="int" '),
        (b"<Who>", b"<Whom/><Who>"),
        (b"<Position2D unit=", b"<Position2D units="),
        (b"<C1>197.45</C1><C2>-23.38</C2></Value2>\n<Error2Radius>0.1",
         b"<C1>-1</C1><C2>-1</C2></Value2>\n<Error2Radius>-1"),
        (b' role="test"', b""),
        (b"<Date>2017", b"<Date>17"),
    ],
)  # fmt: skip
def test_what_can_be_read_is_taken_from_an_author(old: bytes, new: bytes) -> None:
    check_submission(VALID.replace(old, new))


def test_a_bad_time_does_no_harm_without_a_position() -> None:
    bad = VALID.replace(b"<ISOTime>2017", b"<ISOTime>17")

    assert reason(check_submission, bad) == "bad_time"
    check_submission(bad.replace(b"Position2D", b"Position"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"197.45", b"NaN", "bad_position"),
        (b"197.45", b"720", "bad_position"),
        (b"-23.38", b"-91", "bad_position"),
        (b"voe:VOEvent", b"voe:Event", "not_voevent"),
        (b'version="2.0"', b'version="9"', "bad_version"),
        (b"</voe:VOEvent>", b"", "xml_broken"),
    ],
)
def test_what_no_region_could_be_made_of_is_refused(old: bytes, new: bytes, expected: str) -> None:
    assert reason(check_submission, VALID.replace(old, new)) == expected


def test_leap_seconds_are_times() -> None:
    validate_submission(
        VALID.replace(b"<ISOTime>2017-08-17T12:41:06", b"<ISOTime>2016-12-31T23:59:60")
    )


@pytest.mark.parametrize("version", [b"1.1", b"2.1"])
def test_other_versions_are_accepted_from_authors(version: bytes) -> None:
    other = VALID.replace(b"v2.0", b"v" + version).replace(
        b'version="2.0"', b'version="%s"' % version
    )
    validate_submission(other)
    assert reason(validate_voevent, other) == "schema_invalid"


def test_threads_may_validate_at_once() -> None:
    broken = VALID.replace(b'role="test"', b'role="tset"')
    with ThreadPoolExecutor(4) as pool:
        reasons = list(pool.map(lambda _: reason(validate_voevent, broken), range(50)))
    assert reasons == ["schema_invalid"] * 50
