"""Verdicts from the table of TNS: by name, by place, once."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crossmatch.errors import CatalogError
from gateway.offline.counterparts import grouped
from gateway.offline.tns import TnsObject, classification, matches, plan, read_table
from gateway.offline.verdicts import Log, new_verdict
from tests.gateway.candidatefiles import statement

NOW = datetime(2024, 2, 1, tzinfo=UTC)
# The columns of tns_public_objects.csv; the rows are made up in its shape.
HEADER = (
    '"objid","name_prefix","name","ra","declination","redshift","typeid","type",'
    '"reporting_groupid","reporting_group","source_groupid","source_group","discoverydate",'
    '"discoverymag","discmagfilter","filter","reporters","time_received","internal_names",'
    '"Discovery_ADS_bibcode","Class_ADS_bibcodes","creationdate","lastmodified"\n'
)


def row(name: str, type_: str, internal: str = "", ra: str = "10.0", dec: str = "20.0") -> str:
    return (
        f'"1","SN","{name}","{ra}","{dec}","0.06","3","{type_}","48","ZTF","48","ZTF",'
        '"2024-01-15 06:00:00.000","19.1","110","g-ZTF","J. Doe, A. Müller on behalf of ""ZTF""",'
        f'"2024-01-15 07:00:00","{internal}","","","2024-01-15 07:00:00","2024-01-20 07:00:00"\n'
    )


def table(folder: Path, *rows: str, stamp: str = '"2024-01-31 00:00:00"\n') -> Path:
    path = folder / "tns_public_objects.csv"
    path.write_text(stamp + HEADER + "".join(rows), encoding="utf-8")
    return path


def thing(name: str = "2024abc", type_: str = "SN Ia", **changed) -> TnsObject:
    plain = {
        "prefix": "SN", "name": name, "ra_deg": 197.45, "dec_deg": -23.38, "type": type_,
        "redshift": "", "group": "ZTF", "internal_names": (),
    }  # fmt: skip
    return TnsObject(**plain | changed)


@pytest.mark.parametrize("stamp", ['"2024-01-31 00:00:00"\n', "2024-01-31 00:00:00\r\n", ""])
def test_the_first_line_may_be_a_time_stamp(tmp_path: Path, stamp: str):
    path = table(tmp_path, row("2024abc", "SN Ia", "ZTF24aaa, ATLAS24xyz"), stamp=stamp)
    (one,) = read_table(path).objects
    assert one.full_name == "SN 2024abc"
    assert one.internal_names == ("ZTF24aaa", "ATLAS24xyz")
    assert (one.ra_deg, one.dec_deg, one.type) == (10.0, 20.0, "SN Ia")


def test_rows_are_counted_and_only_classified_ones_with_a_place_kept(tmp_path: Path):
    path = table(
        tmp_path, row("a", "SN Ia"), row("b", ""), row("c", "CV", ra=""), row("d", "CV", dec="nan")
    )
    found = read_table(path)
    assert (found.rows, found.without_position, len(found.objects)) == (4, 2, 1)


def test_the_archive_of_the_web_site_is_read_as_it_is(tmp_path: Path):
    path = table(tmp_path, row("a", "SN Ia"))
    packed = tmp_path / "tns_public_objects.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(path, path.name)
    assert read_table(packed) == read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", b"a,b,c\n1,2,3\n", "not_a_table"),
        ("x.csv", b"", "not_a_table"),
        ("x.zip", b"no archive", "unreadable"),
        ("x.csv", b'name,ra,declination,type,internal_names\n"' + b"x" * 200_000, "unreadable"),
        ("missing.csv", None, "no_such_file"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        read_table(tmp_path / name)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("tns_class", "word"),
    [
        ("SN", "supernova"), ("SN IIn", "supernova"), ("SLSN-I", "supernova"),
        ("SN Ic-BL", "ic_bl"), ("SN Ic-BL-Ca-rich", "ic_bl"), ("SN Ic", "supernova"),
        ("Kilonova", "kilonova"), ("Afterglow", "afterglow"), ("TDE-H-He", "tde"),
        ("AGN", "agn"), ("QSO", "agn"), ("Blazar", "blazar"), ("Galaxy", "host"),
        ("CV", "cv"), ("Nova", "nova"), ("Varstar", "variable"), ("M dwarf", "flare"),
        ("LBV", "lrn"), ("ILRT", "lrn"), ("Gap II", "lrn"), ("Impostor-SN", "lrn"),
        ("WR-WN", "star"), ("FBOT", "fbot"), ("Light-Echo", "unrelated"),
        ("Other", None), ("Std-spec", None), ("FRB", None), ("NA/Unknown", None),
    ],
)  # fmt: skip
def test_classes_of_tns_have_our_words(tns_class, word):
    assert classification(tns_class) == word


def test_a_name_of_the_survey_matches_however_far_the_places_are():
    known = grouped([statement(state="withdrawn")])
    (found,) = matches([thing(internal_names=("ZTF17aabcdef",), ra_deg=10.0)], known, 2.0)
    assert found.separation_arcsec is None


def test_a_number_of_rubin_matches_behind_the_name_of_the_survey():
    known = grouped([statement("170028523717525566", survey="lsst")])
    one = thing(internal_names=("LSST-AP-DO-170028523717525566",), ra_deg=10.0)
    assert len(matches([one], known, 2.0)) == 1


@pytest.mark.parametrize(("offset_arcsec", "count"), [(1.9, 1), (2.1, 0)])
def test_a_candidate_in_force_matches_within_the_radius(offset_arcsec, count):
    known = grouped([statement()])
    one = thing(dec_deg=-23.38 + offset_arcsec / 3600)
    found = matches([thing("far", ra_deg=100.0), one], known, 2.0)
    assert [m.separation_arcsec for m in found] == [pytest.approx(offset_arcsec, abs=1e-3)] * count


def test_a_withdrawn_candidate_is_not_matched_by_place():
    assert matches([thing()], grouped([statement(state="withdrawn")]), 2.0) == []


def test_of_several_objects_the_nearest_counts_and_a_name_more():
    known = grouped([statement()])
    near, far = thing("near"), thing("far", dec_deg=-23.3797)
    named = thing("named", internal_names=("ZTF17aabcdef",), ra_deg=9.0)
    assert [m.object.name for m in matches([far, near], known, 5.0)] == ["near"]
    assert [m.object.name for m in matches([near, named, far], known, 5.0)] == ["named"]


NOTHING = Log(())


def planned(type_: str, said=None, log=NOTHING, now=NOW, overrule=False):
    known = grouped(said or [statement()])
    (one,) = plan(matches([thing(type_=type_)], known, 2.0), log, now, overrule=overrule)
    return one


def test_a_class_becomes_a_verdict_that_names_its_source():
    given = planned("SN Ia").verdict
    assert (given.classification, given.effect, given.event_id) == ("supernova", "demote", "")
    assert (given.reference, given.author) == ("SN 2024abc", "TNS")
    assert given.note.startswith("TNS class SN Ia")


def test_the_same_table_again_gives_nothing_new():
    first = planned("SN Ia").verdict
    later = NOW + timedelta(days=1)
    assert planned("SN Ia", log=Log((first,)), now=later).action == "known"


def test_a_class_that_changes_and_changes_back_is_told_each_time():
    first = planned("SN Ia").verdict
    second = planned("Afterglow", log=Log((first,)), now=NOW + timedelta(days=1)).verdict
    third = planned("SN Ia", log=Log((first, second)), now=NOW + timedelta(days=2)).verdict
    assert len({first.verdict_id, second.verdict_id, third.verdict_id}) == 3
    log = Log((first, second, third))
    assert planned("SN Ia", log=log, now=NOW + timedelta(days=3)).action == "known"


def test_what_people_took_back_stays_taken_back():
    first = planned("SN Ia").verdict
    back = new_verdict(first.counterpart_id, "unclear", now=NOW + timedelta(hours=1))
    log = Log((first, back))
    for tns_class in ("SN Ia", "CV"):
        assert planned(tns_class, log=log, now=NOW + timedelta(days=1)).action == "kept"


@pytest.mark.parametrize("words", [["kilonova"], ["candidate"], ["supernova", "unclear"]])
def test_what_a_person_said_last_is_not_replaced_unless_overruled(words):
    said = Log(
        tuple(
            new_verdict("MM-ZTF-ZTF17aabcdef", word, now=NOW - timedelta(days=2 - n))
            for n, word in enumerate(words)
        )
    )
    assert planned("SN Ia", log=said).action == "kept"
    assert planned("SN Ia", log=said, overrule=True).verdict.classification == "supernova"


def test_overruled_once_the_table_gives_nothing_new():
    first = planned("SN Ia").verdict
    back = new_verdict(first.counterpart_id, "unclear", now=NOW + timedelta(hours=1))
    again = planned("SN Ia", log=Log((first, back)), now=NOW + timedelta(days=1), overrule=True)
    assert again.verdict.verdict_id != first.verdict_id
    log = Log((first, back, again.verdict))
    for overrule in (True, False):
        later = planned("SN Ia", log=log, now=NOW + timedelta(days=2), overrule=overrule)
        assert later.action == "known"


def test_a_class_that_decides_nothing_gives_no_verdict():
    assert planned("Other").action == "no_verdict"


BURST = {"messenger": "grb", "event_id": "Fermi_1"}
LATER = {"event_trigger_time": "2017-08-17T15:00:00.000Z"}


@pytest.mark.parametrize(
    ("tns_class", "said", "effect", "event"),
    [
        ("Kilonova", [statement()], "confirm", "GW170817"),
        ("Afterglow", [statement()], "neutral", ""),
        ("Afterglow", [statement(), statement(**BURST | LATER)], "confirm", "Fermi_1"),
        ("Kilonova", [statement(), statement(**BURST)], "confirm", ""),
        ("Kilonova", [statement(), statement(**BURST | LATER)], "neutral", ""),
        ("Kilonova", [statement(messenger="neutrino")], "neutral", ""),
    ],
)
def test_it_confirms_only_where_it_is_clear_for_which_event(tns_class, said, effect, event):
    given = planned(tns_class, said).verdict
    assert (given.effect, given.event_id) == (effect, event)
