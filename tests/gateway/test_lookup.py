"""Look-ups of the configuration's catalogues: by name, by path, replaced while running."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from crossmatch.candidate import EventDistance, Versions, assess
from crossmatch.chains import DEFAULT_CHAINS, chains_with
from crossmatch.errors import ConfigError
from crossmatch.model import Circle
from crossmatch.neighbours import host_at
from crossmatch.selections import BUILT_IN, selection_of
from gateway.config import Config, load
from gateway.lookup import local_lookup, lookup_of, store_of
from tests.broker import conftest as broker
from tests.broker.runner import Runner
from tests.crossmatch.test_candidate import matched, region

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JD = 2461000.5
GALAXIES = "name,ra,dec,distmpc,mag\nnear,10,0.001,400,20\nbright,10,0.003,40.7,12\n"
STARS = "source_id,ra,dec,parallax,parallax_error\n7,10,0.0001,5,0.1\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, name: str, kind: Kind, text: str) -> str:
    path = store.root.parent / f"{name}.csv"
    path.write_text(text)
    return store.add(path, Wanted(name=name, kind=kind), NOW).version


def test_each_position_has_what_all_catalogues_have_near(store: Store) -> None:
    galaxies, stars = add(store, "g", Kind.galaxies, GALAXIES), add(store, "s", Kind.stars, STARS)
    lookup, versions = local_lookup(["s", "g", "nearby_galaxies"], store)
    assert versions[:2] == (f"s@{stars}", f"g@{galaxies}")
    found = lookup(np.array([10.0, 200.0, 100.0]), np.array([0.0, 0.0, -50.0]), np.full(3, JD))
    assert found[0].looked_up == ("s", "g", "nearby_galaxies")
    assert found[0].catalog_versions == versions
    assert [(h.name, h.distance_mpc) for h in found[0].hosts] == [("bright", 40.7), ("near", 400.0)]
    assert found[0].kinds == {"stars", "galaxies"}
    (star,) = found[0].nearest
    assert (star.kind, star.name, star.parallax_sigma) == ("stars", "7", pytest.approx(50.0))
    # That of the nearest, which is not the likeliest host.
    assert found[0].galaxy_arcsec == pytest.approx(3.6)
    assert found[0].near == (
        "s: stars, 0.36 arcsec, 7, parallax 50 sigma",
        "g: galaxies, 10.80 arcsec, bright, mag 12, 40.7 Mpc, " + found[0].near[1].split(", ")[-1],
    )
    # One and the same for all that have nothing near.
    assert found[1] is found[2]
    assert (found[1].near, found[1].hosts, found[1].nearest) == ((), (), ())


def test_galaxies_of_all_catalogues_may_be_the_host_the_likeliest_first(store: Store) -> None:
    add(store, "a", Kind.galaxies, "name,ra,dec\nfar,10,0.01\n")
    add(store, "b", Kind.galaxies, GALAXIES)
    path = store.root.parent / "c.csv"
    path.write_text("name,ra,dec,z,mag\nbrighter,10,0.003,0.01,11\n")
    lookup, _ = local_lookup(["a", "b", f"c={path}"], store)
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    assert [host.name for host in found.hosts] == ["brighter", "bright", "near", "far"]
    assert found.hosts[0].redshift == 0.01
    assert len(found.near) == 3


CHANCE = "name,ra,dec,distmpc,mag\nchance,197.45,-23.3645,{},21\n"
"""Nearly a minute from where alerts are in `matched`."""


@pytest.mark.parametrize("way", ["stored", "file"])
@pytest.mark.parametrize(
    ("distance_mpc", "mags", "tier"),
    [(900, (17.5, 18.5), "gold"), (40, (17.5, 17.5), "silver")],
)
def test_a_galaxy_that_is_near_by_chance_neither_lowers_nor_lifts(
    store: Store, way: str, distance_mpc: float, mags: tuple[float, float], tier: str
) -> None:
    """By its distance it made a kilonova too luminous, and a flat object gold."""
    add(store, "g", Kind.galaxies, CHANCE.format(distance_mpc))
    spec = "g" if way == "stored" else f"g={store.root.parent / 'g.csv'}"
    lookup, _ = local_lookup([spec], store)
    (found,) = lookup(np.array([197.45]), np.array([-23.38]), np.array([JD]))
    assert found.hosts == ()
    (text,) = found.near
    assert "chance, mag 21" in text
    notice = {"messenger": "gw", "mission": "LVC", "localization": Circle(197.0, -23.0, 5.0, 0.9),
              "classification": {"BNS": 1.0}, "significant": True}  # fmt: skip
    alerts = [matched(1, 0.5, mags[0]), matched(2, 1.5, mags[1])]
    alerts = [one._replace(credible_level=0.5) for one in alerts]
    made = assess(
        region(**notice), DEFAULT_CHAINS["gw_ns"], alerts, found, EventDistance(40.0, 5.0),
        Versions("c", "v"),
    )  # fmt: skip
    assert made.columns["host_name"] is None
    assert made.columns["tier"] == tier


def test_of_galaxies_near_by_chance_and_the_host_the_events_distance_chooses(store: Store) -> None:
    """NGC 4993 has no magnitude in the shipped sample."""
    text = "name,ra,dec,distmpc,mag\nfaint,197.4504,-23.3812,900,20\nchance,197.45,-23.365,41,21\n"
    add(store, "g", Kind.galaxies, text)
    lookup, _ = local_lookup(["g", "nearby_galaxies"], store)
    (found,) = lookup(np.array([197.45035]), np.array([-23.38148]), np.array([JD]))
    assert [host.name for host in found.hosts] == ["faint", "NGC 4993"]
    assert (host := host_at(found.hosts, 40.0, 8.0)).name == "NGC 4993"
    assert host.separation_arcsec == pytest.approx(10.1, abs=0.2)


def test_a_replaced_catalogue_is_asked_with_the_next_call(store: Store) -> None:
    one = add(store, "s", Kind.stars, STARS)
    lookup, _ = local_lookup(["s"], store)
    asked = np.array([10.0]), np.array([0.0]), np.array([JD])
    assert lookup(*asked)[0].catalog_versions == (f"s@{one}",)
    two = add(store, "s", Kind.stars, STARS.replace("7,10,", "8,90,"))
    (found,) = lookup(*asked)
    assert (found.catalog_versions, found.near) == ((f"s@{two}",), ())
    store.remove("s")
    assert lookup(*asked)[0].catalog_versions == (f"s@{two}",)


def test_an_unknown_name_tells_which_were_added(store: Store) -> None:
    add(store, "s", Kind.stars, STARS)
    with pytest.raises(ConfigError, match=r"'gaia' is not one that was added \(s\), name=path or"):
        local_lookup(["gaia"], store)


def test_stars_are_looked_for_where_they_are_at_the_time(store: Store) -> None:
    text = "source_id,ra,dec,pmra,pmdec,ref_epoch\n1,10,0,3600,0,2000\n"
    add(store, "s", Kind.stars, text)
    lookup, _ = local_lookup(["s"], store)
    jd = 2451545.0 + 365.25 * np.array([0.0, 10.0, 10.0])
    found = lookup(np.array([10.0, 10.0, 10.01]), np.zeros(3), jd)
    assert [len(f.near) for f in found] == [1, 0, 1]


def test_a_version_may_be_named(store: Store) -> None:
    one = add(store, "s", Kind.stars, STARS)
    lookup, versions = local_lookup([f"s@{one}"], store)
    add(store, "s", Kind.stars, STARS.replace("7,10,", "8,90,"))
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    assert versions == found.catalog_versions == (f"s@{one}",)
    assert found.near
    with pytest.raises(ConfigError, match="not_a_catalog"):
        local_lookup(["s@0123"], store)


def test_a_catalogue_that_was_removed_is_still_asked(store: Store) -> None:
    add(store, "s", Kind.stars, STARS)
    lookup, _ = local_lookup(["s"], store)
    store.remove("s")
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    assert found.near


@pytest.mark.parametrize(
    ("kind", "text", "told", "nearest"),
    [
        (
            Kind.stars,
            "source_id,ra,dec,parallax,parallax_error\n1,10,0.0000833,,\n2,10,0.000389,5,0.1\n",
            1.4,
            0.3,
        ),
        (Kind.galaxies, GALAXIES, 10.8, 3.6),
        (Kind.other, "name,ra,dec\na,10,0.0003\nb,10,0.0002\n", 0.72, 0.72),
    ],
)
def test_far_from_looks_at_the_nearest_source_whichever_is_told_of(
    store: Store, kind: Kind, text: str, told: float, nearest: float
) -> None:
    add(store, "c", kind, text)
    lookup, _ = local_lookup(["c"], store)
    (context,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    assert f"{told:.2f} arcsec" in context.near[0]
    assert context.distances == (("c", pytest.approx(nearest, abs=0.01)),)

    def standing(radius_arcsec: float) -> str | None:
        cuts = [{"cut": "far_from", "catalog": "c", "radius_arcsec": radius_arcsec}]
        chain = replace(DEFAULT_CHAINS["grb"], demands=selection_of("d", cuts, BUILT_IN))
        alerts = [matched(1, 0.5, 18.0)]
        return assess(
            region(), chain, alerts, context, EventDistance(), Versions("c", "v")
        ).standing

    assert standing(nearest - 0.05) == "passed"
    assert standing(nearest + 0.05) == "withheld.far_from"


def test_of_several_catalogues_of_a_kind_the_nearest_source_counts(store: Store) -> None:
    """And a star counts only if it is clearly one."""
    stars = "source_id,ra,dec,parallax,parallax_error\n{},10,{},{},0.1\n"
    add(store, "near", Kind.stars, stars.format(1, 0.0001, 0.2))
    add(store, "far", Kind.stars, stars.format(2, 0.0003, 5))
    add(store, "farther", Kind.stars, stars.format(3, 0.0004, 9))
    add(store, "one", Kind.agn, "name,ra,dec\nA,10,0.0005\n")
    add(store, "two", Kind.agn, "name,ra,dec\nB,10,0.0002\n")
    lookup, _ = local_lookup(["near", "farther", "far", "one", "two"], store)
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    assert [(one.kind, one.name) for one in found.nearest] == [("stars", "2"), ("agn", "B")]
    told = found.columns
    assert told["star_distance"] == pytest.approx(1.08, abs=0.01)
    assert told["star_significance"] == pytest.approx(50.0)
    assert (told["agn_name"], told["agn_distance"]) == ("B", pytest.approx(0.72, abs=0.01))


@pytest.mark.parametrize(("parallax", "standing"), [(5, "withheld.known_star"), (0.2, "passed")])
def test_what_is_a_star_by_a_catalogue_is_withheld_by_default(
    store: Store, parallax: float, standing: str
) -> None:
    add(
        store, "s", Kind.stars, f"source_id,ra,dec,parallax,parallax_error\n7,10,0,{parallax},0.1\n"
    )
    lookup, _ = local_lookup(["s"], store)
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    chain, alerts = DEFAULT_CHAINS["grb"], [matched(1, 0.5, 18.0)]
    made = assess(region(), chain, alerts, found, EventDistance(), Versions("c", "v"))
    assert made.standing == standing


def configured(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mmgateway.toml"
    path.write_text(f'[paths]\nstate = "{tmp_path}"\n{text}')
    return load(path, environ={})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[chains.grb]\ndemands = "cuts0"\n', "demands: simbad looks at 'simbad', which is not"),
        (
            '[chains.grb]\ndemands = "cuts0"\n[cds]\nenabled = true\nradius_arcsec = 0.9\n',
            "simbad looks 1 arcsec far, simbad is searched within 0.9",
        ),
        (
            '[match]\ncatalogs = ["s"]\n[chains.grb]\nsilver_demands = "wide"\n',
            "silver_demands: far_from looks 2 arcsec far, s is searched within 1.5",
        ),
        (
            '[match]\ncatalogs = ["s"]\n[chains.grb]\ndemands = "far_from_kind"\n',
            "demands: near_agn looks at catalogues of the kind 'agn', of which none is asked (s)",
        ),
        (
            '[match]\ncatalogs = ["nearby_galaxies"]\n[chains.grb]\ndemands = "galaxies"\n',
            "looks 61 arcsec far, nearby_galaxies is searched within 60",
        ),
    ],
)
def test_demands_of_catalogues_that_cannot_answer_stop_the_start(
    tmp_path: Path, text: str, sentence: str
) -> None:
    text += '[selections.wide]\ncuts = [{cut = "far_from", catalog = "s", radius_arcsec = 2}]\n'
    text += "[selections.galaxies]\ncuts = [{cut = 'far_from', catalog = 'nearby_galaxies',"
    config = configured(tmp_path, f"{text} radius_arcsec = 61}}]\n")
    add(store_of(config), "s", Kind.stars, STARS)
    with pytest.raises(ConfigError) as error:
        lookup_of(config)
    assert sentence in str(error.value)


def test_a_version_that_cannot_answer_the_demands_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = '[selections.wide]\ncuts = [{cut = "far_from", catalog = "s", radius_arcsec = 1.2}]\n'
    text = '[match]\ncatalogs = ["s"]\n[chains.grb]\ndemands = "wide"\n'
    config = configured(tmp_path, wide + text)
    store = store_of(config)
    one = add(store, "s", Kind.stars, STARS)
    lookup, _ = lookup_of(config)
    asked = np.array([10.0]), np.array([0.0]), np.array([JD])
    path = tmp_path / "small.csv"
    path.write_text(STARS)
    small = store.add(path, Wanted(name="s", kind=Kind.stars, radius_arcsec=1.0), NOW).version
    for _ in range(2):
        assert lookup(*asked)[0].catalog_versions == (f"s@{one}",)
    (line,) = [line for line in caplog.messages if "catalog_kept" in line]
    assert "cannot_answer" in line
    assert f"s@{small}: [chains.grb] demands: far_from looks 1.2 arcsec far" in line
    wider = store.add(path, Wanted(name="s", kind=Kind.stars, radius_arcsec=3.0), NOW).version
    assert lookup(*asked)[0].catalog_versions == (f"s@{wider}",)


def test_a_file_whose_unit_cannot_be_converted_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "g.fits"
    Table({"ra": [10.0], "dec": [20.0], "dist": [3500.0] * u.km / u.s}).write(path)
    with pytest.raises(ConfigError, match=r"column dist is in 'km / s', expected Mpc \(wrong_unit"):
        local_lookup([f"g={path}"])


@pytest.mark.parametrize(
    ("days", "standing"), [(0.0, "withheld.known_minor_planet"), (0.25, "passed")]
)
def test_what_is_an_asteroid_by_a_catalogue_is_withheld_by_default(
    store: Store, days: float, standing: str
) -> None:
    text = f"name,jd,ra,dec\nCeres,{JD - 0.5},9.9,0\nCeres,{JD + 0.5},10.1,0\n"
    add(store, "m", Kind.minor_planets, text)
    lookup, _ = local_lookup(["m"], store)
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD + days]))
    chain, alerts = DEFAULT_CHAINS["neutrino"], [matched(1, 0.5, 18.0)]
    made = assess(region(), chain, alerts, found, EventDistance(), Versions("c", "v"))
    assert made.standing == standing
    assert made.columns["minor_planet"] == (None if days else "Ceres")


@pytest.mark.parametrize("demands", ["known_star", "not_star_or_asteroid"])
def test_a_version_of_another_kind_is_not_taken_where_a_chain_names_the_kind(
    tmp_path: Path, demands: str
) -> None:
    text = f'[match]\ncatalogs = ["s"]\n[chains.grb]\ndemands = "{demands}"\n'
    config = configured(tmp_path, text)
    store = store_of(config)
    stars = add(store, "s", Kind.stars, STARS)
    lookup, _ = lookup_of(config)
    other = add(store, "s", Kind.variables, STARS)
    (found,) = lookup(np.array([10.0]), np.array([0.0]), np.array([JD]))
    # What is demanded by default means the kinds that there are.
    kept = (stars, {"stars"}) if demands == "known_star" else (other, {"variables"})
    assert (found.catalog_versions, found.kinds) == ((f"s@{kept[0]}",), kept[1])


def test_demands_of_catalogues_that_answer_are_taken(tmp_path: Path) -> None:
    wide = '[selections.wide]\ncuts = [{cut = "far_from", catalog = "s", radius_arcsec = 1.5}]\n'
    text = '[match]\ncatalogs = ["s"]\n[chains.grb]\ndemands = "wide"\n'
    simbad = '[chains.gw_ns]\ndemands = "cuts0"\n[chains.frb]\ndemands = "known_star"\n'
    simbad += "[cds]\nenabled = true\n"
    config = configured(tmp_path, wide + text + simbad)
    version = add(store_of(config), "s", Kind.stars, STARS)
    assert lookup_of(config)[1] == (f"s@{version}",)
    assert lookup_of(load(None, environ={}))[1] == ()


MINOR_PLANETS = "name,jd,ra,dec,mag\nCeres,2461000.5,10,0,18\nCeres,2461001.5,10.4,0,18\n"


def test_minor_planets_are_looked_for_where_they_are_at_the_time(store: Store) -> None:
    add(store, "m", Kind.minor_planets, MINOR_PLANETS)
    lookup, _ = local_lookup(["m"], store)
    asked = np.array([10.2, 10.2, 10.4]), np.full(3, 0.0002), JD + np.array([0.5, 0.6, 1.0])
    found = lookup(*asked)
    assert found[0].near == ("m: minor_planets, 0.72 arcsec, Ceres, mag 18",)
    assert found[0].distances == (("m", pytest.approx(0.72, abs=1e-3)),)
    assert [len(f.near) for f in found] == [1, 0, 1]


def test_that_a_table_is_over_is_said_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    version = add(store, "m", Kind.minor_planets, MINOR_PLANETS)
    lookup, _ = local_lookup(["m"], store)
    place = np.array([10.0]), np.array([0.0])
    lookup(*place, np.array([JD + 1.0]))
    lookup(np.empty(0), np.empty(0), np.empty(0))
    assert not caplog.messages
    for days in (1.001, 2.0):
        lookup(*place, np.array([JD + days]))
    (said,) = caplog.messages
    assert f"event=catalog_over catalog=m@{version} until=2025-11-22T00:00:00.000Z" in said
    add(store, "m", Kind.minor_planets, MINOR_PLANETS.replace("10.4", "10.5"))
    lookup(*place, np.array([JD + 2.0]))
    assert len(caplog.messages) == 2


def night(first_jd: float, ra: float = 10.0) -> str:
    """A table of twelve hours with one asteroid, which stands."""
    rows = (f"Ceres,{first_jd + days},{ra},0,18\n" for days in (0.0, 0.5))
    return "name,jd,ra,dec,mag\n" + "".join(rows)


def at_ceres(*days: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full(len(days), 10.0), np.zeros(len(days)), JD + np.array(days)


def test_each_time_is_asked_of_the_version_that_covers_it(store: Store) -> None:
    one = add(store, "m", Kind.minor_planets, night(JD))
    lookup, _ = local_lookup(["m"], store)
    assert lookup(*at_ceres(0.2))[0].catalog_versions == (f"m@{one}",)
    two = add(store, "m", Kind.minor_planets, night(JD + 1))
    # A process that starts then says the same.
    for asked in (lookup, local_lookup(["m"], store)[0]):
        found = asked(*at_ceres(1.2, 0.2, 1.5, 0.0))
        versions = [context.catalog_versions for context in found]
        assert versions == [(f"m@{v}",) for v in (two, one, two, one)]
        assert [context.nearest[0].name for context in found] == ["Ceres"] * 4
        assert {context.looked_up for context in found} == {("m",)}


def test_what_two_versions_cover_is_asked_of_the_one_in_use(store: Store) -> None:
    one = add(store, "m", Kind.minor_planets, night(JD))
    two = add(store, "m", Kind.minor_planets, night(JD, ra=20.0))
    lookup, _ = local_lookup(["m"], store)
    for version in (two, one, two):
        store.use("m", version)
        (found,) = lookup(*at_ceres(0.2))
        assert found.catalog_versions == (f"m@{version}",)
        assert bool(found.near) == (version == one)


def test_a_pinned_version_is_asked_about_its_own_times_alone(store: Store) -> None:
    add(store, "m", Kind.minor_planets, night(JD))
    two = add(store, "m", Kind.minor_planets, night(JD + 1))
    lookup, _ = local_lookup([f"m@{two}"], store)
    early, now = lookup(*at_ceres(0.2, 1.2))
    assert (early.looked_up, early.catalog_versions, early.kinds) == ((), (), frozenset())
    assert now.catalog_versions == (f"m@{two}",)


def test_a_time_that_no_version_covers_is_not_looked_up(store: Store) -> None:
    stars = add(store, "s", Kind.stars, STARS.replace("7,10,", "7,90,"))
    planets = add(store, "m", Kind.minor_planets, night(JD, ra=50.0))
    lookup, _ = local_lookup(["s", "m", "nearby_galaxies"], store)
    found = lookup(*at_ceres(0.2, 0.6, 0.3, -0.1))
    assert [context.looked_up for context in found[:2]] == [
        ("s", "m", "nearby_galaxies"),
        ("s", "nearby_galaxies"),
    ]
    assert found[0].kinds - found[1].kinds == {"minor_planets"}
    assert found[0].catalog_versions[:2] == (f"s@{stars}", f"m@{planets}")
    assert found[1].catalog_versions == (found[0].catalog_versions[0], found[0].catalog_versions[2])
    # One for all that were asked the same.
    assert found[0] is found[2]
    assert found[1] is found[3]


@pytest.mark.parametrize(
    ("missing", "days", "standing"),
    [
        ("pass", 0.2, "passed"),
        ("fail", 0.2, "passed"),
        ("pass", 0.6, "passed"),
        ("fail", 0.6, "withheld.far_from"),
    ],
)
def test_of_a_time_that_no_version_covers_the_cut_decides(
    store: Store, missing: str, days: float, standing: str
) -> None:
    add(store, "m", Kind.minor_planets, night(JD, ra=50.0))
    lookup, _ = local_lookup(["m"], store)
    (context,) = lookup(*at_ceres(days))
    cuts = [{"cut": "far_from", "catalog": "m", "radius_arcsec": 2, "missing": missing}]
    chain = replace(DEFAULT_CHAINS["grb"], demands=selection_of("d", cuts, BUILT_IN))
    made = assess(
        region(), chain, [matched(1, 0.5, 18.0)], context, EventDistance(),
        Versions("c", "v", ("m@latest",)),
    )  # fmt: skip
    assert made.standing == standing
    covered = days < 0.5
    assert made.columns["looked_up"] == ("m" if covered else "not_looked_up")
    assert len(made.columns["catalog_versions"]) == covered


def test_an_asteroid_of_the_night_before_stays_withheld_when_all_is_judged_anew(
    store: Store,
) -> None:
    chains = chains_with({"grb": {}})
    alert = broker.alert(1, 150.0, 2.0, days=0.2)
    tonight = night(broker.T0_JD, ra=150.0).replace(",0,18", ",2,18")
    version = add(store, "m", Kind.minor_planets, tonight)
    runner = Runner(
        lambda archive, aside: broker.engine_of(
            archive, aside=aside, chains=chains, lookup=local_lookup(["m"], store)[0]
        )
    )
    event = broker.record(broker.notice("E1", 1, 150.0, 2.0, 3.0), 1)
    assert runner.step(broker.alerts([alert]), [event]) == []
    add(store, "m", Kind.minor_planets, night(broker.T0_JD + 1, ra=150.0))
    assert runner.reselect(runner.new_engine) == []
    # Without a table of that night it is not known to be one.
    store.remove("m", version)
    (said,) = runner.reselect(runner.new_engine)
    assert (said["state"], said["looked_up"]) == ("in_force", "not_looked_up")


def test_versions_that_are_removed_while_asked(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = (add(store, "m", Kind.minor_planets, night(JD + n)) for n in range(3))
    lookup, _ = local_lookup(["m"], store)
    lookup(*at_ceres(0.2))
    for version in (one, two):
        store.remove("m", version)
    for _ in range(2):
        found = lookup(*at_ceres(0.2, 1.2, 2.2))
        # What is open is asked on.
        versions = [context.catalog_versions for context in found]
        assert versions == [(f"m@{one}",), (), (f"m@{three}",)]
    (line,) = [line for line in caplog.messages if "catalog_left_out" in line]
    assert two in line
    store.remove("m")
    found = lookup(*at_ceres(0.2, 2.2))
    assert [len(context.near) for context in found] == [1, 1]


def test_another_version_that_cannot_answer_the_demands_is_not_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = '[selections.wide]\ncuts = [{cut = "far_from", catalog = "m", radius_arcsec = 4}]\n'
    text = '[match]\ncatalogs = ["m"]\n[chains.grb]\ndemands = "wide"\n'
    config = configured(tmp_path, wide + text)
    store = store_of(config)
    path = tmp_path / "small.csv"
    path.write_text(night(JD))
    small = Wanted(name="m", kind=Kind.minor_planets, radius_arcsec=3.0)
    version = store.add(path, small, NOW).version
    add(store, "m", Kind.minor_planets, night(JD + 1))
    lookup, _ = lookup_of(config)
    for _ in range(2):
        assert lookup(*at_ceres(0.2))[0].looked_up == ()
    (line,) = [line for line in caplog.messages if "catalog_left_out" in line]
    assert f"m@{version}: [chains.grb] demands: far_from looks 4 arcsec far" in line


def test_times_that_no_version_covers_are_said_once_of_the_one_in_use(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, "m", Kind.minor_planets, night(JD))
    two = add(store, "m", Kind.minor_planets, night(JD + 1))
    lookup, _ = local_lookup(["m"], store)
    lookup(*at_ceres(0.0, 0.5, 1.0, 1.5))
    assert not caplog.messages
    for _ in range(2):
        lookup(*at_ceres(0.7, 1.2))
        lookup(*at_ceres(1.2, 1.6))
    early, over = caplog.messages
    assert f"event=catalog_early catalog=m@{two} since=2025-11-22T00:00:00.000Z" in early
    assert f"event=catalog_over catalog=m@{two} until=2025-11-22T12:00:00.000Z" in over
