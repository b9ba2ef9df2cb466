"""Addresses of sky maps: as missions write them, and what the rules of a feed make of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError
from gateway.feeds.files import feed_from_toml
from gateway.feeds.mapaddress import map_address
from gateway.feeds.registry import load_feeds
from gateway.understand import understand

GBM = load_feeds().feed("fermi_gbm").skymap_rules
FOLDER = "https://heasarc.gsfc.nasa.gov/FTP/fermi/data/gbm/triggers/2026/bn260419326/quicklook/"
MAP = FOLDER + "glg_healpix_all_bn260419326.fit"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (FOLDER + "glg_locplot_all_bn260419326.png", MAP),
        (FOLDER.replace("https", "http") + "glg_locplot_all_bn260419326.png", MAP),
        (FOLDER + "glg_lc_medres34_bn260419326.gif", MAP),
        ("http://gcn.gsfc.nasa.gov/notices_f/gbm_gnd_loc_map_798737427.fits", ""),
    ],
)
def test_fermi_names_what_lies_beside_its_map(url: str, address: str):
    assert map_address(url, GBM) == address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (" https://example.org/map.fits ", "https://example.org/map.fits"),
        ("http://example.org/map.fits.gz,1", "http://example.org/map.fits.gz,1"),
        ("http://sub.gracedb.ligo.org/a.fits", "https://sub.gracedb.ligo.org/a.fits"),
        ("http://evil-ligo.org/a.fits", "http://evil-ligo.org/a.fits"),
        ("https://example.org/", ""),
        ("https://example.org/picture.PNG", ""),
        ("https://example.org/page.html", ""),
        ("ftp://example.org/map.fits", ""),
        ("https:///map.fits", ""),
        ("https://[::1/map.fits", ""),
        ("map.fits", ""),
        ("", ""),
    ],
)
def test_what_no_mission_means_as_a_map_is_none(url: str, address: str):
    assert map_address(url) == address


@pytest.mark.parametrize("rules", [GBM, ((r"(?:a+)+$", ""),)])
@pytest.mark.parametrize("text", ["glg_lc_", "/glg_lc_", "/glg_locplot_all_bn260419326.", "a", "."])
def test_no_rule_sees_what_is_too_long_to_be_an_address(monkeypatch, rules, text: str):
    """Patterns may take time that grows with the square of the text, or worse."""
    seen: list[int] = []

    class Counted:
        def search(self, url: str) -> None:
            seen.append(len(url))

    monkeypatch.setattr("gateway.feeds.mapaddress._compiled", lambda pattern: Counted())
    address = "https://example.org/" + text * (60_000 // len(text))

    assert map_address(address, rules) == ""
    assert map_address(address[:1000], rules) == address[:1000]
    assert set(seen) == {1000}


def test_no_rule_makes_an_address_too_long():
    assert map_address("https://example.org/" + "a" * 1500, [("(a+)$", r"\1\1")]) == ""


def test_the_rules_of_fermi_stop_at_the_file_name():
    """``glg_lc_`` many times over took seconds in one pattern."""
    for pattern, _ in GBM:
        assert pattern.startswith("/")
        assert not re.search(r"(?<!\\d)[+*]", pattern), pattern


@pytest.mark.parametrize(
    ("rule", "word"),
    [("['(', '']", "missing )"), ("['a', '\\1']", "more groups")],
)
def test_a_rule_that_cannot_work_is_told_when_the_feed_is_loaded(rule: str, word: str):
    text = (
        'name = "own"\ntitle = "Own"\nmission = "Own"\ninstrument = "camera"\n'
        'messenger = "optical"\nformat = "voevent"\nivoids = ["ivo://org.own/"]\n'
        f'trigger = ["TrigID"]\nskymap_rules = [{rule}]\n'
    )
    with pytest.raises(ConfigError, match=re.escape(word)):
        feed_from_toml(text, "own.toml")


@pytest.mark.realdata
def test_addresses_of_real_notices_are_fits_files_by_https(shared_data: Path):
    registry = load_feeds()
    ends: dict[str, set[str]] = {}
    for path in sorted((shared_data / "notices").glob("voevent_*/**/*.xml")):
        found = understand(registry, DEFAULT_CHAINS, path.read_bytes()).notice
        if found is None or not found.skymap_url or found.role != "observation":
            continue
        assert found.skymap_url.startswith("https://"), found.skymap_url
        assert re.search(r"\.fits?(\.gz)?(,\d+)?$", found.skymap_url), found.skymap_url
        end = re.sub(r"[0-9]+", "0", found.skymap_url.rpartition("/")[2])
        ends.setdefault(found.feed, set()).add(end)
    assert ends["fermi_gbm"] == {"glg_healpix_all_bn0.fit"}
    assert ends["fermi_gbm_subthreshold"] == {"gbm_subthresh_0.0_healpix.fits"}
    assert "bayestar.multiorder.fits,0" in ends["lvk_voevent"]
