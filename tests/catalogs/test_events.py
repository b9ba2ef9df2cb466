"""Tables of events as notices: mapping, units, rejected rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from catalogs.events import event_columns, is_event_table, known_tables, read_events
from crossmatch.errors import CatalogError
from crossmatch.model import Circle, SystematicTerm

GBM = "name,ra,dec,trigger_time,error_radius\n"


def gbm(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "gbm.csv"
    path.write_text(GBM + "\n".join(rows) + "\n")
    return path


def test_a_gbm_burst_has_its_statistical_circle_and_the_systematics_of_its_time(
    tmp_path: Path,
) -> None:
    path = gbm(
        tmp_path,
        "GRB080714086,41.9,8.5,54661.086250618,7.5",
        "GRB200101861,10.0,8.5,58849.861,7.5",
        "GRB200102000,10.0,8.5,58850.0,0.05",
    )

    old, new, located = read_events(path).notices

    assert old.trigger_time == datetime(2008, 7, 14, 2, 4, 12, 53395, tzinfo=UTC)
    assert old.localization == Circle(
        41.9, 8.5, 7.5, 0.68, (SystematicTerm(3.7, 0.9), SystematicTerm(14.3, 0.1))
    )
    assert isinstance(new.localization, Circle)
    assert new.localization.systematic == (SystematicTerm(1.8, 0.52), SystematicTerm(4.1, 0.48))
    assert isinstance(located.localization, Circle)
    assert located.localization.systematic == ()
    assert (old.event_id, old.messenger, old.mission) == ("GRB080714086", "grb", "Fermi")
    assert len({n.sha256 for n in (old, new, located)}) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("G,,8.5,54661.0,7.5", "null_required"),
        (",41.9,8.5,54661.0,7.5", "null_required"),
        ("G,41.9,8.5,,7.5", "null_required"),
        ("G,361,8.5,54661.0,7.5", "ra_out_of_range"),
        ("G,41.9,-91,54661.0,7.5", "dec_out_of_range"),
        ("G,41.9,8.5,54661.0,0", "no_error_radius"),
        ("G,41.9,8.5,54661.0,", "no_error_radius"),
        ("G,41.9,8.5,54661.0,-1", "error_out_of_range"),
        ("G,41.9,8.5,54661.0,200", "error_out_of_range"),
        ("G,41.9,8.5,-99999,7.5", "time_out_of_range"),
    ],
)
def test_a_row_that_is_no_event_is_rejected_with_the_reason(
    tmp_path: Path, row: str, reason: str
) -> None:
    events = read_events(gbm(tmp_path, row, "GOOD,41.9,8.5,54661.0,7.5"))

    assert [n.event_id for n in events.notices] == ["GOOD"]
    assert [(r.row, r.reason) for r in events.rejected] == [(0, reason)]


def test_units_of_the_file_count(tmp_path: Path) -> None:
    table = Table(
        {
            "name": ["A", "B"],
            "ra": MaskedColumn([1.0, 2.0], mask=[False, True], unit=u.hourangle),
            "dec": [0.5, 0.5] * u.deg,
            "trigger_time": [58000.0, 58000.0],
            "error_radius": [120.0, 120.0] * u.arcmin,
        }
    )
    table.write(tmp_path / "t.vot", format="votable")

    events = read_events(tmp_path / "t.vot")

    circle = events.notices[0].localization
    assert isinstance(circle, Circle)
    assert (circle.ra_deg, circle.dec_deg, circle.radius_deg) == pytest.approx((15.0, 0.5, 2.0))
    assert [r.reason for r in events.rejected] == ["null_required"]


def test_a_wrong_unit_refuses_the_table(tmp_path: Path) -> None:
    table = Table({n: [1.0] for n in ("name", "ra", "dec", "trigger_time", "error_radius")})
    table["error_radius"].unit = u.m
    table.write(tmp_path / "t.fits")

    with pytest.raises(CatalogError) as caught:
        read_events(tmp_path / "t.fits")
    assert caught.value.reason == "wrong_unit"


def test_swift_s_own_table_has_the_date_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "swift.csv"
    path.write_text(
        "GRB,Time [UT],Trigger Number,BAT RA (J2000),BAT Dec (J2000),"
        "BAT 90% Error Radius [arcmin]\n"
        "201216C,23:07:31.5,1013243,16.358,16.537,1.2\n"
        "201217A,n/a,1013244,16.358,16.537,1.2\n"
    )

    events = read_events(path)

    (notice,) = events.notices
    assert notice.trigger_time == datetime(2020, 12, 16, 23, 7, 31, 500000, tzinfo=UTC)
    assert notice.localization == Circle(16.358, 16.537, 0.02, 0.9)
    assert [r.reason for r in events.rejected] == ["null_required"]


def test_gwtc_events_have_gps_times_and_wait_for_their_maps(tmp_path: Path) -> None:
    path = tmp_path / "gwtc.csv"
    path.write_text(
        "id,commonName,GPS,luminosity_distance,far\n"
        "GW170817-v3,GW170817,1187008882.4,40.0,1e-7\n"
        "GW150914-v4,GW150914,1126259462.4,440,\n"
    )

    first, second = read_events(path).notices

    assert first.trigger_time == datetime(2017, 8, 17, 12, 41, 4, 400000, tzinfo=UTC)
    assert first.localization is None
    assert first.skymap_url == "GW170817.fits"
    assert first.far_hz == pytest.approx(1e-7 / 3.15576e7)
    assert (second.far_hz, second.distance_mpc) == (None, 440.0)


def test_a_mapping_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("burst,alpha,delta,when,r90\nX1,10.5,-3.0,2020-01-01T00:00:00Z,30\n")
    mapping = {
        "name": "burst",
        "ra": "alpha",
        "dec": "delta",
        "time": "when",
        "time_format": "iso",
        "error": "r90",
        "error_unit": "arcmin",
        "messenger": "xray",
        "mission": "Own",
    }

    (notice,) = read_events(path, mapping).notices

    assert notice.localization == Circle(10.5, -3.0, 0.5, 0.9)
    assert notice.trigger_time == datetime(2020, 1, 1, tzinfo=UTC)
    assert notice.messenger == "xray"
    with pytest.raises(CatalogError) as caught:
        read_events(path, mapping | {"ra": "beta"})
    assert caught.value.reason == "bad_mapping"


@pytest.mark.parametrize("wrong", [{"colour": "x"}, {"time_format": "x"}, {"messenger": "x"}])
def test_a_wrong_mapping_says_so(wrong: dict[str, str]) -> None:
    good = {"name": "a", "time": "b", "time_format": "mjd", "messenger": "grb", "mission": "M"}

    with pytest.raises(CatalogError) as caught:
        event_columns(good | wrong)
    assert caught.value.reason == "bad_mapping"


@pytest.mark.parametrize("suffix", ["csv", "fits", "parquet"])
def test_what_is_called_a_table_and_is_none_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(bytes(range(1, 256)))
    assert is_event_table(path)
    with pytest.raises(CatalogError, match="is no FITS, VOTable, Parquet or CSV file"):
        read_events(path)


def test_what_a_mapping_lacks_is_told() -> None:
    with pytest.raises(CatalogError) as caught:
        event_columns({"name": "a", "time": "b", "time_format": "mjd"})
    assert caught.value.reason == "bad_mapping"
    assert caught.value.detail == "the mapping of columns lacks messenger, mission"
    good = {"name": "a", "time": "b", "time_format": "mjd", "messenger": "grb", "mission": "M"}
    with pytest.raises(CatalogError, match="colour: not known; a mapping may have id, name, time"):
        event_columns(good | {"colour": "x"})


def test_an_unknown_table_asks_for_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(CatalogError) as caught:
        read_events(path)
    assert caught.value.reason == "unknown_columns"


def test_shipped_mappings_are_valid() -> None:
    assert [t.id for t in known_tables()] == ["fermi_gbm", "swift_heasarc", "swift_archive", "gwtc"]


def test_tables_are_told_from_notices(tmp_path: Path) -> None:
    for name, content, table in (
        ("a.xml", b"<?xml version='1.0'?><VOTABLE/>", True),
        ("b.xml", b"<?xml version='1.0'?><voe:VOEvent/>", False),
        ("c.json", b"{}", False),
        ("d.csv", b"a,b", True),
        ("e.fits", b"SIMPLE  =                    T", True),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_event_table(tmp_path / name) is table


@pytest.mark.realdata
def test_the_real_gbm_catalogue(shared_data: Path) -> None:
    path = shared_data / "catalogs" / "fermi_gbm_grb_2008-2021.votable.xml"

    events = read_events(path)

    assert len(events.notices) + len(events.rejected) == 3120
    assert {r.reason for r in events.rejected} == {"no_error_radius"}
    by_name = {n.event_id: n for n in events.notices}
    time = by_name["GRB170816599"].trigger_time
    assert time is not None
    assert abs((time - datetime(2017, 8, 16, 14, 23, 3, 955000, tzinfo=UTC)).total_seconds()) < 1e-4
    # Its place is AT2017gfo's, without an error.
    assert "GRB170817529" in {r.name for r in events.rejected}


@pytest.mark.realdata
def test_an_error_of_zero_may_be_given_a_meaning(shared_data: Path) -> None:
    path = shared_data / "catalogs" / "fermi_gbm_grb_2008-2021.votable.xml"
    columns = replace(known_tables()[0], zero_error_deg=0.05)

    events = read_events(path, columns)

    assert events.rejected == []
    (grb,) = (n for n in events.notices if n.event_id == "GRB170817529")
    assert grb.localization == Circle(197.45, -23.3815, 0.05, 0.68)
