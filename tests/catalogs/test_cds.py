"""The client of CDS beside a server that speaks as CDS does, in all moods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from catalogs.cds import CdsClient, Pace, Place, Settings
from catalogs.cds_tables import rows_of
from crossmatch.errors import CatalogError, ServiceError
from crossmatch.remote import Answer
from tests.catalogs import cds_server
from tests.catalogs.cds_server import CdsServer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ARCSEC = 1 / 3600


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def cds() -> Iterator[CdsServer]:
    with cds_server.running() as server:
        server.add("NGC 4993", 197.45, -23.38, main_type="Galaxy", redshift=0.0098)
        server.add("beside", 197.45, -23.38 + 1.5 * ARCSEC)
        server.add("edge", 0.00005, 89.9)
        yield server


def client(
    cds: CdsServer, sleeps: list[float] | None = None, tap: bool = False, seconds: float = 5.0
) -> CdsClient:
    settings = Settings(
        cds.url, cds.tap_url if tap else "", timeout_seconds=seconds, per_minute=1e6
    )
    return CdsClient(settings, lambda: NOW, sleep=(sleeps if sleeps is not None else []).append)


def place(ra: float = 197.45, dec: float = -23.38, name: str = "MM-ZTF-a") -> Place:
    return Place(name, ra, dec)


def names(answers: list[Answer]) -> list[list[str | None]]:
    return [[s.name for s in answer.sources] for answer in answers]


def test_nearest_first_within_twice_the_radius_with_columns_and_versions(cds: CdsServer) -> None:
    (answer, none) = client(cds).ask("simbad", [place(), place(10.0, 10.0, "MM-ZTF-b")])
    assert names([answer, none]) == [["NGC 4993", "beside"], []]
    galaxy = answer.sources[0]
    assert (galaxy.type, galaxy.redshift, galaxy.ra_deg) == ("Galaxy", 0.0098, 197.45)
    assert (answer.version, answer.answered) == ("2026-03-01", "2026-03-01T12:00:00.000Z")
    assert (answer.via, answer.radius_arcsec, answer.counterpart_id) == ("xmatch", 2.0, "MM-ZTF-a")
    assert cds.last["cat2"] == "simbad"


def test_answer_holds_for_places_nearby_and_no_further(cds: CdsServer) -> None:
    (answer,) = client(cds).ask("simbad", [place()])
    assert answer.covers(197.45, -23.38 + 0.9 * ARCSEC, 1.0)
    assert not answer.covers(197.45, -23.38 + 1.1 * ARCSEC, 1.0)
    away, source = answer.nearest(197.45, -23.38 + 0.9 * ARCSEC, 1.0) or (0.0, None)
    assert source is not None
    assert (source.name, round(away, 6)) == ("beside", 0.6)


def test_place_beside_the_pole_and_across_zero(cds: CdsServer) -> None:
    (answer,) = client(cds).ask("simbad", [place(359.9999, 89.9)])
    assert names([answer]) == [["edge"]]


def test_many_positions_are_one_request(cds: CdsServer) -> None:
    places = [place(10 + i / 100, 5.0, f"MM-ZTF-{i}") for i in range(300)]
    cds.add("the 200th", 12.0, 5.0)
    answers = client(cds).ask("simbad", places)
    assert [a.counterpart_id for a in answers if a.sources] == ["MM-ZTF-200"]
    assert [len(asked) for asked in cds.asked] == [300]


def test_no_positions_are_no_request(cds: CdsServer) -> None:
    assert client(cds).ask("simbad", []) == []
    assert not cds.asked


def test_table_of_vizier_has_columns_of_its_own(cds: CdsServer) -> None:
    star = {"RA_ICRS": 20.0, "DE_ICRS": 30.0, "Source": 5, "Gmag": 17.5, "mag": 18.5}
    cds.tables["I/355/gaiadr3"] = [{"ra": 20.0, "dec": 30.0} | star]
    (answer,) = client(cds).ask("vizier:I/355/gaiadr3", [place(20.0, 30.0)])
    assert cds.last["cat2"] == "vizier:I/355/gaiadr3"
    assert (answer.catalog, answer.sources[0].magnitude) == ("vizier:I/355/gaiadr3", 18.5)


def test_source_whose_position_is_of_another_time_holds_for_the_asked_place_alone(
    cds: CdsServer,
) -> None:
    # A star that moves: the service matches where it was in 2000, and tells where it is.
    moved = {"ra": 20.0, "dec": 30.001, "true_ra": 20.0, "true_dec": 30.0001, "Name": "Barnard"}
    far = moved | {"true_dec": 30.0005, "Name": "other"}
    cds.tables["t"] = [moved, far]
    (answer,) = client(cds).ask("vizier:t", [place(20.0, 30.0)])
    (star,) = answer.sources
    assert (star.name, star.ra_deg, round(star.separation_arcsec, 2)) == ("Barnard", None, 0.36)
    assert answer.covers(20.0, 30.0, 1.0)
    assert not answer.covers(20.0, 30.0 + 0.1 * ARCSEC, 1.0)


@pytest.mark.parametrize("mood", ["down", "busy", "reset", "banned"])
def test_server_that_is_not_there_is_said_so(cds: CdsServer, mood: str) -> None:
    cds.mood = mood
    sleeps: list[float] = []
    with pytest.raises(ServiceError, match="CDS xMatch"):
        client(cds, sleeps).ask("simbad", [place()])
    assert len(cds.asked) == (1 if mood == "banned" else 3)
    assert [s for s in sleeps if s >= 1] == ([] if mood == "banned" else [2.0, 4.0])


@pytest.mark.parametrize("mood", ["silent", "drip"])
def test_slow_server_is_given_up_at_the_deadline(cds: CdsServer, mood: str) -> None:
    cds.mood = mood
    with pytest.raises(ServiceError, match="does not answer"):
        client(cds, seconds=0.15).ask("simbad", [place()])


def test_same_trouble_is_told_in_the_same_words(cds: CdsServer) -> None:
    settings = Settings("http://127.0.0.1:1/", per_minute=1e6)
    told = set()
    for _ in range(2):
        with pytest.raises(ServiceError) as caught:
            CdsClient(settings, lambda: NOW, sleep=lambda _: None).ask("simbad", [place()])
        told.add(str(caught.value))
    assert len(told) == 1
    assert "0x" not in told.pop()


def test_server_that_comes_back_between_two_tries_is_not_missed(cds: CdsServer) -> None:
    cds.mood = "down"

    def comes_back(_: float) -> None:
        cds.mood = "well"

    settings = Settings(cds.url, per_minute=1e6)
    (answer,) = CdsClient(settings, lambda: NOW, sleep=comes_back).ask("simbad", [place()])
    assert len(answer.sources) == 2


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("html", "cds_nonsense"),
        ("cut", "cds_nonsense"),
        ("other_places", "cds_nonsense"),
        ("unknown_row", "cds_nonsense"),
        ("far", "cds_nonsense"),
        ("overflow", "cds_overflow"),
        ("refused", "cds_refused"),
    ],
)
def test_nonsense_is_not_believed(cds: CdsServer, mood: str, reason: str) -> None:
    cds.mood = mood
    with pytest.raises(CatalogError) as caught:
        client(cds).ask("simbad", [place()])
    assert caught.value.reason == reason
    assert len(cds.asked) == 1


def test_simbad_is_asked_by_tap_when_xmatch_is_down(cds: CdsServer) -> None:
    (by_xmatch,) = client(cds).ask("simbad", [place()])
    cds.mood = "down"
    (by_tap, none) = client(cds, tap=True).ask("simbad", [place(), place(9.0, 9.0)])
    assert (by_tap.via, none.sources) == ("tap", ())
    assert [s.name for s in by_tap.sources] == [s.name for s in by_xmatch.sources]
    assert by_tap.sources[0].redshift == 0.0098
    assert len(cds.tap_asked) == 1


def test_tap_is_asked_about_a_hundred_places_at_a_time(cds: CdsServer) -> None:
    cds.mood = "down"
    places = [place(10 + i / 100, 5.0) for i in range(250)]
    assert len(client(cds, tap=True).ask("simbad", places)) == 250
    assert len(cds.tap_asked) == 3


def test_both_services_down_names_both(cds: CdsServer) -> None:
    cds.mood = cds.tap_mood = "down"
    with pytest.raises(ServiceError, match=r"xMatch.*TAP"):
        client(cds, tap=True).ask("simbad", [place()])


@pytest.mark.parametrize("mood", ["html", "cut", "other_places", "overflow"])
def test_nonsense_by_tap_is_not_believed(cds: CdsServer, mood: str) -> None:
    cds.mood, cds.tap_mood = "down", mood
    with pytest.raises(CatalogError):
        client(cds, tap=True).ask("simbad", [place()])


def test_tap_is_simbads_alone(cds: CdsServer) -> None:
    cds.mood = "down"
    with pytest.raises(ServiceError):
        client(cds, tap=True).ask("vizier:t", [place()])
    assert not cds.tap_asked


def test_requests_keep_their_pace() -> None:
    time, sleeps = [0.0], []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        time[0] += seconds

    pace = Pace(30.0, lambda: time[0], sleep)
    for _ in range(3):
        pace.wait()
    assert sleeps == [2.0, 2.0]
    time[0] += 100
    pace.wait()
    assert sleeps == [2.0, 2.0]


def test_entities_are_refused_before_they_are_read() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><VOTABLE>&b;</VOTABLE>'
    with pytest.raises(CatalogError, match="entities"):
        rows_of(bomb, ())


def test_missing_column_is_named() -> None:
    with pytest.raises(CatalogError, match="angDist"):
        rows_of(cds_server.votable(("a",), [[1.0]]), ("angDist",))


def test_server_speaks_csv_too(cds: CdsServer) -> None:
    import requests

    done = requests.post(
        cds.url,
        data={
            "request": "xmatch",
            "distMaxArcsec": 1,
            "RESPONSEFORMAT": "csv",
            "cat2": "simbad",
            "colRA1": "r",
            "colDec1": "d",
        },
        files={"cat1": ("a.csv", "mm_id,r,d\n0,197.45,-23.38\n")},
        timeout=5,
    )
    assert done.text.splitlines()[1] == "0.0,0,197.45,-23.38,NGC 4993,197.45,-23.38,Galaxy,0.0098"
