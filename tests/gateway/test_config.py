from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossmatch.errors import ConfigError
from gateway.cli import app
from gateway.config import as_dict, default_toml, load
from gateway.matcher.wiring import selection_version
from voevents.build import OBSERVATORIES


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mmgateway.toml"
    path.write_text(text)
    return path


def test_template_and_defaults_are_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, default_toml())
    assert as_dict(load(path, {}))["kafka"] == as_dict(load(None, {}))["kafka"]


def test_environment_goes_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[kafka]\nport = 1000\nbootstrap = "file:1"\n')
    config = load(path, {"MMGATEWAY_KAFKA__BOOTSTRAP": "env:2", "MMGATEWAY_CONFIG": "ignored"})
    assert (config.kafka.port, config.kafka.bootstrap) == (1000, "env:2")


def test_secrets_are_masked_and_not_in_repr(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[gcn]\nclient_secret = "hush"\n[kafka]\nproperties = {"sasl.password" = "hush"}\n',
    )
    config = load(path, {})
    assert "hush" not in json.dumps(as_dict(config))
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka]\nprot = 1\n", ["[kafka] prot", "known", "port"]),
        ("[kavka]\nport = 1\n", ["[kavka]", "known", "kafka"]),
        ('[kafka]\nport = "many"\n', ["[kafka] port", "expected int"]),
        ("[kafka]\nport = 70000\n", ["70000", "not a port"]),
        ("[kafka\n", ["not valid TOML"]),
        ('[match]\nwhere = "cloud"\n', ["[match] where", "driver or workers", "cloud"]),
        ("[gcn]\nenabled = true\n", ["client_id", "gcn.nasa.gov"]),
        ('[vtp]\nremotes = ["nowhere"]\n', ["nowhere", "host:port"]),
        ("[chains.grb]\nlevel = 1.5\n", ["[chains.grb] level", "(0, 1]"]),
    ],
)
def test_mistakes_are_named_with_place_and_remedy(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {})
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("text", ["12e5", "1_2", "true", "0x1F", '"quoted"', "[1]", " a b ", ""])
def test_text_in_the_environment_is_taken_as_typed(text: str) -> None:
    config = load(None, {"MMGATEWAY_GCN__CLIENT_SECRET": text})
    assert config.gcn.client_secret == text


def test_other_values_in_the_environment_are_toml() -> None:
    config = load(
        None,
        {
            "MMGATEWAY_KAFKA__PORT": "1_000",
            "MMGATEWAY_LISTEN__POLL_SECONDS": "2",
            "MMGATEWAY_MATCH__INCLUDE_TESTS": "true",
            "MMGATEWAY_GCN__TOPICS": '["a", "b"]',
            "MMGATEWAY_KAFKA__PROPERTIES": '{ "sasl.password" = "12e5" }',
            "MMGATEWAY_CHAINS__GRB__LEVEL": "0.9",
            "MMGATEWAY_CUTS__MAX_MAG_DIFFERENCE": "false",
        },
    )
    assert (config.kafka.port, config.listen.poll_seconds) == (1000, 2.0)
    assert config.match.include_tests
    assert config.gcn.topics == ("a", "b")
    assert config.kafka.properties["sasl.password"] == "12e5"
    assert config.chains["grb"].level == 0.9
    assert config.cuts.max_mag_difference is None


@pytest.mark.parametrize("text", ["/data", '"/data"'])
def test_path_in_the_environment_needs_no_quotes(text: str) -> None:
    assert load(None, {"MMGATEWAY_PATHS__STATE": text}).paths.state == Path("/data")


def test_path_that_looks_like_a_number_is_a_path() -> None:
    assert load(None, {"MMGATEWAY_PATHS__STATE": "2026"}).paths.state == Path("2026")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MMGATEWAY_GCN__TOPICS": "a"}, ["[gcn] topics", "list", '["a", "b"]']),
        ({"MMGATEWAY_KAFKA__PROPERTIES": "a"}, ["[kafka] properties", "table"]),
        ({"MMGATEWAY_KAFKA__PORT": "many"}, ["environment: [kafka] port", "int", "many"]),
        ({"MMGATEWAY_KAFKA__PROT": "1"}, ["environment", "[kafka] prot", "known"]),
        ({"MMGATEWAY_KAFKA": "1", "MMGATEWAY_KAVKA__PORT": "1"}, ["[kavka]", "known"]),
        (
            {"MMGATEWAY_KAFKA__PORT": "1", "MMGATEWAY_KAFKA__PORT__X": "1"},
            ["environment", "MMGATEWAY_KAFKA__PORT__X"],
        ),
    ],
)
def test_mistakes_in_the_environment_are_named(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_site_of_one_survey_leaves_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, '[publish.observatory]\nztf = "CTIO"\natlas = "Haleakala"\n')
    assert dict(load(path, {}).publish.observatory) == {
        "ztf": "CTIO",
        "lsst": "Cerro Pachon",
        "atlas": "Haleakala",
    }
    environ = {"MMGATEWAY_PUBLISH__OBSERVATORY__LSST": "1_2"}
    assert load(None, environ).publish.observatory["lsst"] == "1_2"


def test_sites_are_those_that_voevents_have_without_configuration() -> None:
    assert dict(load(None, {}).publish.observatory) == dict(OBSERVATORIES)


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["config", "show"])
    path = tmp_path / "shown.toml"
    path.write_text(shown.stdout, "utf-8")
    again = load(path, environ={})
    assert dataclasses.replace(again, source="") == dataclasses.replace(load(environ={}), source="")


@pytest.mark.parametrize(
    "text",
    [
        "[cuts]\nmin_real_bogus = nan",
        "[cuts]\nmoving_radius_arcsec = -5",
        "[chains.grb]\nlevel = 'x'",
        "[listen]\nparser_seconds = 0",
        "[match]\nmax_offsets_per_trigger = 0",
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        load(path, environ={})


# --- cuts and selections ----------------------------------------------------------------------

_SELECTIONS = (
    '[selections.mine]\ncuts = ["positive", {cut = "star", radius_arcsec = 1.5}]\n'
    '[selections.more]\ncuts = ["mine", "rising"]\ndoc = "mine and rising"\n'
)


def test_a_selection_may_be_made_before_matching_and_demanded_by_chains(tmp_path: Path) -> None:
    text = _SELECTIONS + (
        '[cuts]\nselection = "mine"\n[chains.grb]\ndemands = "more"\nsilver_demands = "fading"\n'
    )
    config = load(written(tmp_path, text), {})
    assert config.cuts.names == ("not_positive", "star")
    chain = config.chains["grb"]
    assert chain.demands == config.selections["more"]
    assert [step.cut for step in chain.silver_demands.steps] == ["fading"]
    plain = as_dict(config)
    assert plain["cuts"]["selection"] == "mine"
    assert (plain["chains"]["grb"]["demands"], plain["chains"]["gw_ns"]["demands"]) == (
        "more",
        "not_star_or_asteroid",
    )
    assert plain["selections"]["more"]["doc"] == "mine and rising"
    assert json.dumps(plain)


def test_a_chain_may_demand_nothing_after_all(tmp_path: Path) -> None:
    config = load(written(tmp_path, "[chains.grb]\ndemands = false\n"), {})
    assert config.chains["grb"].demands is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[cuts]\nselection = "cuts0"\n', "cuts0 has far_from, which needs more than an alert"),
        ('[cuts]\nselection = "nope"\n', "[cuts] selection: no selection 'nope'"),
        ("[cuts]\nselection = 3\n", "[cuts] selection: expected the name of a selection"),
        ('[chains.grb]\ndemands = "nope"\n', "[chains.grb] demands: no selection 'nope'"),
        ("[chains.grb]\ndemands = 3\n", "[chains.grb] demands: expected the name of a selection"),
        ("[selections.mine]\n", "[selections.mine] cuts: expected a list"),
    ],
)
def test_wrong_selections_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text), {})
    assert sentence in str(error.value)


def test_the_digest_of_the_rules_tells_selections_apart_and_knows_none(tmp_path: Path) -> None:
    """What is demanded by default is among the rules: where it changes, all is judged anew."""
    config = load(None, {})
    cuts = {k: v for k, v in dataclasses.asdict(config.cuts).items() if k != "selection"}
    chains = {
        name: {k: v for k, v in dataclasses.asdict(chain).items() if k != "silver_demands"}
        for name, chain in sorted(config.chains.items())
    }
    text = json.dumps({"cuts": cuts, "chains": chains}, sort_keys=True)
    assert selection_version(config) == hashlib.sha256(text.encode()).hexdigest()[:12]
    texts = [
        '[cuts]\nselection = "fink"\n',
        '[chains.grb]\ndemands = "fading"\n',
        "[chains.grb]\ndemands = false\n",
        '[selections.f]\ncuts = [{cut = "fading", min_sigma = 5}]\n[chains.grb]\ndemands = "f"\n',
    ]
    digests = {selection_version(load(written(tmp_path, one), {})) for one in texts}
    assert len(digests | {selection_version(config)}) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[match]\ncatalogs = ["gaia", "x", "gaia@0123456789ab"]\n', "gaia stands there twice"),
        ('[match]\ncatalogs = ["x=a.csv", "x=b.csv"]\n', "x stands there twice"),
        ('[match]\ncatalogs = ["simbad=a.csv"]\n', "simbad stands in [cds] catalogs too"),
        (
            '[match]\ncatalogs = ["vizier:I/355/gaiadr3=a.csv"]\n'
            '[cds]\ncatalogs = ["vizier:I/355/gaiadr3"]\n',
            "vizier:I/355/gaiadr3 stands in [cds] catalogs too",
        ),
    ],
)
def test_a_name_is_one_catalogue(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {})
    assert f"[match] catalogs: {words}" in str(caught.value)
