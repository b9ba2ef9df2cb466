"""``mmgateway catalogs``: what people and programs are told, and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astropy.table import Table

from gateway.cli import main

STARS = """\
source_id,ra,dec,parallax,parallax_error,pmra,pmdec,ref_epoch
1,10.0,0.0,5.0,0.1,1000.0,0.0,2016.0
2,10.001,0.0,0.1,0.2,,,
3,200.0,-23.38,0.1,0.2,0.5,0.5,2016.0
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mmgateway.toml").write_text('[paths]\nstate = "state"\n')
    Path("stars.csv").write_text(STARS)


TNS = """\
"2026-02-28 00:00:00"
"objid","name_prefix","name","ra","declination","redshift","typeid","type","reporting_groupid",\
"reporting_group","source_groupid","source_group","discoverydate","discoverymag","discmagfilter",\
"filter","reporters","time_received","internal_names","Discovery_ADS_bibcode",\
"Class_ADS_bibcodes","creationdate","lastmodified"
"1","AT","2026aaa","150.1","2.2","","","","48","ALeRCE","48","ZTF","2026-02-27 08:00:00.000",\
"19.1","110","g-ZTF","A. Reporter, B. Reporter","2026-02-27 09:00:00","ZTF26a, ATLAS26a","","",\
"2026-02-27 09:00:01","2026-02-28 00:00:00"
"2","SN","2026bbb","10.0","-45.25","0.031","3","SN Ia","18","ATLAS","18","ATLAS",\
"2026-02-20 08:00:00.000","18.0","71","orange-ATLAS","C. Reporter","2026-02-20 09:00:00","","",\
"2026TNSCR.1","2026-02-20 09:00:01","2026-02-28 00:00:00"
"""


def add(*options: str) -> int:
    return main(["catalogs", "add", "stars.csv", "--name", "gaia", "--kind", "stars", *options])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["catalogs", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_added_listed_shown_tried_verified_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogs", "list"]) == 0
    assert "none yet" in capsys.readouterr().out
    assert add() == 0
    assert "3 stars, added and in use" in capsys.readouterr().out
    assert add() == 0
    out = capsys.readouterr().out
    assert "was there already" in out
    assert "proper motion from pmra, pmdec, ref_epoch" in out
    for words, part in (
        (["list"], "gaia"),
        (["show", "gaia"], "the fastest moves 1″ a year"),
        (["try", "10", "0"], "parallax 50 sigma"),
        (["try", "100", "-20"], "nothing within 1.5″"),
        (["verify"], "as it was added"),
        (["remove", "gaia", "--all"], "removed"),
    ):
        assert main(["catalogs", *words]) == 0
        assert part in capsys.readouterr().out
    assert main(["catalogs", "try", "10", "0"]) == 0
    assert "no catalogues yet" in capsys.readouterr().out


def test_json_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    added = told(capsys, "add", "stars.csv", "--name", "gaia", "--kind", "stars", "--radius", "4")
    assert (added["known"], added["rows"], added["radius_arcsec"]) == (False, 3, 4.0)
    (row,) = told(capsys, "list")["catalogs"]
    assert (row["name"], row["version"], row["in_use"]) == ("gaia", added["version"], True)
    shown = told(capsys, "show", "gaia")
    assert shown["roles"]["parallax_mas"] == "parallax"
    assert shown["padding_arcsec_in_10_years"] == 10.0
    (answer,) = told(capsys, "try", "10", "0")["catalogs"]
    assert [n["name"] for n in answer["found"]] == ["1", "2"]
    assert answer["found"][1]["separation_arcsec"] == pytest.approx(3.6)
    (answer,) = told(capsys, "try", "10", "0", "--time", "2026-01-01", "--name", "gaia")["catalogs"]
    assert [n["name"] for n in answer["found"]] == ["2"]
    (verified,) = told(capsys, "verify", "gaia")["catalogs"]
    assert verified["faults"] == []
    assert told(capsys, "remove", "gaia", "--all")["removed"] == [added["version"]]


def test_the_list_of_tns_is_added_as_it_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tns_public_objects.csv").write_text(TNS)
    path = "tns_public_objects.csv"
    added = told(capsys, "add", path, "--name", "tns", "--kind", "transients")
    assert (added["rows"], added["position_columns"]) == (2, ["ra", "declination"])
    (answer,) = told(capsys, "try", "10", "-45.25")["catalogs"]
    (found,) = answer["found"]
    assert (found["name"], found["type"], found["redshift"]) == ("2026bbb", "SN Ia", 0.031)
    assert found["magnitude"] == 18.0


def test_show_says_what_is_made_of_columns(capsys: pytest.CaptureFixture[str]) -> None:
    units = {"ra": "deg", "dec": "deg", "dist": "kpc", "z": "km/s", "Bmag": "mag"}
    table = Table({name: [1.0] for name in units})
    for name, unit in units.items():
        table[name].unit = unit
    table.write("g.fits")
    assert main(["catalogs", "add", "g.fits", "--name", "g", "--kind", "galaxies"]) == 0
    remarks = told(capsys, "show", "g")["remarks"]
    assert remarks == [
        "z: km / s is no redshift, not used",
        "dist: kpc, told in Mpc",
        "P_cc from Bmag, which is not known to be an r magnitude",
    ]
    assert main(["catalogs", "show", "g"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "; ".join(remarks) in shown


def test_a_version_of_before_there_were_minor_planets_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = told(capsys, "add", "stars.csv", "--name", "gaia", "--kind", "stars")["version"]
    path = Path("state/catalogs/gaia", version, "catalog.json")
    facts = json.loads(path.read_text())
    del facts["segments"]
    path.write_text(json.dumps(facts))
    assert add() == 0
    assert f"gaia@{version}: 3 stars, was there already" in capsys.readouterr().out
    for words in (["list"], ["show", "gaia"], ["try", "10", "0"], ["verify"]):
        assert main(["catalogs", *words]) == 0


def test_versions_are_put_in_use_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    versions = [told(capsys, "add", "stars.csv", "--name", "gaia", "--radius", r)["version"]
                for r in ("1", "2")]  # fmt: skip
    assert main(["catalogs", "use", "gaia", versions[0]]) == 0
    assert told(capsys, "show", "gaia")["version"] == versions[0]
    assert main(["catalogs", "remove", "gaia", "--version", versions[0]]) == 2
    assert "is in use" in capsys.readouterr().err
    assert main(["catalogs", "remove", "gaia", "--version", versions[1]]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["add", "none.csv", "--name", "x"], "none.csv (no_such_file)"),
        (["add", "bad.csv", "--name", "x"], "bad.csv: row 2, column dec: no value"),
        (["add", "stars.csv", "--name", "X"], "lower-case"),
        (["add", "stars.csv", "--name", "x", "--unit", "gon"], "gon is none of deg, rad, hour"),
        (["show", "x"], "x is not in"),
        (["show", "gaia", "--version", "1"], "not_a_catalog"),
        (["use", "gaia", "1"], "has no version 1"),
        (["remove", "gaia"], "either --version VERSION or --all, or --older-than DAYS"),
        (["remove", "gaia", "--all", "--older-than", "3"], "or --older-than DAYS"),
        (["try", "10", "1", "--radius", "inf"], "inf: above 0, at most 3600"),
        (["try", "10", "1", "--radius", "nan"], "nan: above 0, at most 3600"),
        (["try", "10", "1", "--radius", "-1"], "-1: above 0, at most 3600"),
        (["add", "stars.csv", "--name", "x", "--radius", "1e9"], "above 0, at most 3600"),
        (["add", "stars.csv", "--name", "x", "--radius", "0"], "0: above 0, at most 3600"),
        (["add", "stars.csv", "--name", "simbad"], "'simbad' means something else"),
        (["add", "stars.csv", "--name", "x", "--ra", "dec"], "dec is to be right ascension and"),
        (["try", "10", "91"], "DEC in [-90, 90]"),
        (["try", "10", "1", "--time", "then"], "no ISO 8601 time"),
        (["verify", "--version", "1"], "belongs to one NAME"),
    ],
)
def test_bad_usage_is_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    Path("bad.csv").write_text("ra,dec\n1,2\n3,\n")
    assert add() == 0
    assert main(["catalogs", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in " ".join(error.replace("│", " ").split())


def test_motions_that_are_not_used_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("stars.csv").write_text(STARS.replace("ref_epoch", "year"))
    assert add() == 0
    remark = "pmra and pmdec: not used, since the epoch of the positions is not known"
    assert remark in capsys.readouterr().out
    assert remark in told(capsys, "show", "gaia")["remarks"][0]
    assert add("--epoch", "2016") == 0
    assert "not used" not in capsys.readouterr().out
    assert told(capsys, "show", "gaia")["remarks"] == []


def test_old_versions_are_removed_but_those_in_use_or_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions = [told(capsys, "add", "stars.csv", "--name", "gaia", "--radius", r)["version"]
                for r in ("1", "2", "3")]  # fmt: skip
    for version in versions:
        path = Path("state/catalogs/gaia", version, "catalog.json")
        facts = json.loads(path.read_text()) | {"added": "2026-01-01T00:00:00+00:00"}
        path.write_text(json.dumps(facts))
    with Path("mmgateway.toml").open("a") as file:
        file.write(f'[match]\ncatalogs = ["gaia@{versions[0]}"]\n')
    assert told(capsys, "remove", "gaia", "--older-than", "36500")["removed"] == []
    assert told(capsys, "remove", "gaia", "--older-than", "30")["removed"] == [versions[1]]
    assert main(["catalogs", "remove", "gaia", "--older-than", "30"]) == 0
    assert "gaia: removed nothing" in capsys.readouterr().out


def test_verify_fails_where_files_changed(capsys: pytest.CaptureFixture[str]) -> None:
    version = told(capsys, "add", "stars.csv", "--name", "gaia")["version"]
    array = Path("state/catalogs/gaia", version, "index/dec.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
    assert main(["catalogs", "verify"]) == 1
    assert "index/dec.npy: is not what was added" in capsys.readouterr().out


def test_a_catalogue_is_configured_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mmgateway.toml").write_text('[paths]\nstate = "state"\n[match]\ncatalogs = ["gaia"]\n')
    assert main(["config", "check"]) == 2
    assert "'gaia' is not one that was added (none)" in capsys.readouterr().err
    assert add() == 0
    assert main(["config", "check"]) == 0


@pytest.mark.realdata
def test_a_real_catalogue_is_added_and_tried(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "catalogs" / "glade_S190814bv_region.csv"
    told(capsys, "add", str(path), "--name", "glade", "--kind", "galaxies")
    (answer,) = told(capsys, "try", "11.7820", "-24.3710")["catalogs"]
    (galaxy,) = answer["found"]
    assert galaxy["distance_mpc"] == pytest.approx(244.25, abs=0.01)
    assert 0 < galaxy["p_cc"] < 1e-3


MINOR_PLANETS = """\
name,time,ra,dec,V
Ceres,2026-03-01,10.0,0.0,18.0
Ceres,2026-03-02,10.2,0.0,18.0
Vesta,2026-03-01,30.0,5.0,7.0
Vesta,2026-03-02,30.2,5.0,7.0
"""


def add_asteroids(*options: str) -> int:
    Path("ephemeris.csv").write_text(MINOR_PLANETS)
    words = ["add", "ephemeris.csv", "--name", "asteroids", "--kind", "minor_planets"]
    return main(["catalogs", *words, *options])


def test_minor_planets_are_added_listed_and_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert add_asteroids() == 0
    out = capsys.readouterr().out
    assert "2 minor_planets in 2 segments, added and in use" in out
    assert "from 2026-03-01T00:00:00.000Z to 2026-03-02T00:00:00.000Z, by column time" in out
    add()
    for words, part in (
        (["list"], "2026-03-01 – 2026-03-02, over"),
        (["show", "asteroids"], "straight between times up to 36 hours apart"),
        (["try", "10.1", "0", "--time", "2026-03-01T12:00"], "minor_planets, Ceres, mag 18"),
        (["try", "10.1", "0", "--time", "2461101.0"], "minor_planets, Ceres, mag 18"),
        (["try", "10.1", "0", "--name", "asteroids"], "it covers 2026-03-01T00:00:00.000Z – 2026"),
        (["verify"], "as it was added"),
    ):
        capsys.readouterr()
        assert main(["catalogs", *words]) == 0
        assert part in " ".join(capsys.readouterr().out.split())


def test_json_says_which_times_a_table_covers(capsys: pytest.CaptureFixture[str]) -> None:
    covers = ["2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z"]
    add()
    assert add_asteroids("--max-gap", "24", "--scale", "utc", "--time", "time") == 0
    asteroids, gaia = told(capsys, "list")["catalogs"]
    assert (asteroids["covers"], gaia["covers"]) == (covers, None)
    assert asteroids["segments"]["max_gap_hours"] == 24.0
    asteroids, gaia = told(capsys, "try", "10.1", "0", "--time", "2461101")["catalogs"]
    assert (asteroids["covers"], asteroids["time"]) == (covers, "2026-03-01T12:00:00.000Z")
    assert asteroids["found"][0]["separation_arcsec"] == pytest.approx(0, abs=1e-3)
    assert told(capsys, "try", "10.1", "0")["catalogs"][0]["found"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--kind", "minor_planets", "--epoch", "2016"], "minor planets have a time in each row"),
        (["--kind", "stars", "--max-gap", "3"], "are for --kind minor_planets"),
        (["--kind", "minor_planets", "--max-gap", "49"], "less than or equal to 48"),
        (["--kind", "minor_planets", "--time", "when"], "no column when: name, time"),
        (["--kind", "minor_planets", "--max-gap", "23"], "row 1: Ceres has no other time near"),
    ],
)
def test_bad_usage_with_minor_planets_is_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    Path("ephemeris.csv").write_text(MINOR_PLANETS)
    assert main(["catalogs", "add", "ephemeris.csv", "--name", "x", *words]) == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told(capsys, "list")["catalogs"] == []
