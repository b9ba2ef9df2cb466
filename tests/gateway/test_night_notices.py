"""The notices: formats, order, sky maps, and that our own feeds understand them."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from lxml import etree

from crossmatch.model import Circle
from crossmatch.region import area_deg2, credible_level
from crossmatch.skymap import read_skymap
from gateway.feeds.registry import load_feeds
from gateway.night.facts import decoy, facts
from gateway.night.maps import distance_parameters
from gateway.night.notices import GWALERT, notices, sky_maps
from voevents.validate import validate_voevent

SOURCE = np.array([facts()["kilonova"]["ra"]]), np.array([facts()["kilonova"]["dec"]])
AREAS = {
    "S170814a INITIAL": 60.0,
    "S170817a PRELIMINARY": 24_000.0,
    "S170817a INITIAL": 31.0,
    "S170817a UPDATE": 34.0,
    "MS170817zzz PRELIMINARY": 820.0,
    "S170817zzz PRELIMINARY": 1480.0,
}


@pytest.fixture(scope="module")
def sent():
    return notices()


@pytest.fixture(scope="module")
def parsed(sent):
    registry = load_feeds()
    return [registry.parse(n.payload, topic=n.topic) for n in sent]


@pytest.fixture(scope="module")
def maps():
    return sky_maps()


@pytest.fixture(scope="module")
def read_maps(sent):
    """Sky maps as a subscriber gets them, by event and alert type."""
    found = {}
    for notice in sent:
        if notice.topic != GWALERT:
            continue
        message = json.loads(notice.payload)
        if message["event"] is not None:
            data = base64.b64decode(message["event"]["skymap"])
            found[f"{message['superevent_id']} {message['alert_type']}"] = data
    return found


def test_notices_come_in_the_order_of_sending(sent):
    times = [n.sent for n in sent]
    assert times == sorted(times)


def test_the_burst_is_told_before_the_wave(sent):
    labels = [n.label for n in sent]
    first_burst = next(i for i, text in enumerate(labels) if "Fermi" in text)
    first_wave = next(i for i, text in enumerate(labels) if text.startswith("GW170817"))
    assert first_burst < first_wave


def test_voevents_are_valid(sent):
    documents = [n for n in sent if n.topic != GWALERT]
    assert len(documents) == 6
    for notice in documents:
        validate_voevent(notice.payload)


def test_ivorns_are_unique(sent):
    ivorns = [etree.fromstring(n.payload).get("ivorn") for n in sent if n.topic != GWALERT]
    assert len(set(ivorns)) == len(ivorns)


def test_burst_positions_cite_the_alert(sent):
    documents = {n.topic: etree.fromstring(n.payload) for n in sent if "FERMI" in n.topic}
    alert = documents.pop("gcn.classic.voevent.FERMI_GBM_ALERT").get("ivorn")
    assert len(documents) == 3
    for document in documents.values():
        assert document.findtext("Citations/EventIVORN") == alert


def test_alert_without_position_has_zeros_and_says_so(sent):
    (payload,) = (n.payload for n in sent if n.topic.endswith("GBM_ALERT"))
    document = etree.fromstring(payload)
    assert float(document.findtext(".//C1")) == 0
    assert document.find(".//Param[@name='Coords_String']").get("value").startswith("unavailable")


def test_wave_messages_have_the_keys_of_igwn_gwalert(sent):
    for notice in sent:
        if notice.topic == GWALERT:
            assert set(json.loads(notice.payload)) == {
                "alert_type",
                "time_created",
                "superevent_id",
                "urls",
                "event",
                "external_coinc",
            }


def test_wave_names_the_burst(sent):
    message = next(json.loads(n.payload) for n in sent if n.label.startswith("GW170817"))
    assert message["external_coinc"]["gcn_notice_id"] == 524666471
    assert message["external_coinc"]["time_difference"] == -2.0
    assert message["event"]["far"] == 3.47773e-12


def test_retraction_has_no_event(sent):
    (payload,) = (n.payload for n in sent if "RETRACTION" in n.label)
    assert json.loads(payload)["event"] is None


def test_one_notice_goes_by_vtp(sent):
    assert [n.via for n in sent].count("vtp") == 1


def test_invented_events_say_so(sent):
    for notice in sent:
        if "invented" in notice.label:
            assert b"invented" in notice.payload


@pytest.mark.parametrize("name", AREAS)
def test_areas_are_those_of_the_facts(read_maps, name):
    skymap = read_skymap(read_maps[name])
    assert area_deg2(skymap, 0.9) == pytest.approx(AREAS[name], rel=0.03)


@pytest.mark.parametrize("name", AREAS)
def test_maps_are_probabilities_on_few_thousand_cells(read_maps, name):
    skymap = read_skymap(read_maps[name])
    size = (skymap.end - skymap.start) * (np.pi / 3 / 4.0**29)
    assert (skymap.density * size).sum() == pytest.approx(1, abs=1e-9)
    assert size.sum() == pytest.approx(4 * np.pi)
    assert 1000 < len(size) < 8000


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("S170817a PRELIMINARY", 0.0, 0.9),
        ("S170817a INITIAL", 0.5, 0.85),
        ("S170817a UPDATE", 0.5, 0.85),
    ],
)
def test_source_lies_inside_each_version(read_maps, name, low, high):
    level = credible_level(read_skymap(read_maps[name]), *SOURCE)[0]
    assert low < level < high


@pytest.mark.parametrize("name", ["S170814a INITIAL", "S170817zzz PRELIMINARY"])
def test_source_lies_outside_the_other_events(read_maps, name):
    assert credible_level(read_skymap(read_maps[name]), *SOURCE)[0] > 0.999


def test_peak_of_the_three_detector_map_is_where_it_was_published(maps):
    skymap = maps["S170817a INITIAL"]
    entry = next(m for m in facts()["wave"]["maps"] if m["alert_type"] == "INITIAL")
    level = credible_level(skymap, np.array([entry["peak_ra"]]), np.array([entry["peak_dec"]]))[0]
    assert level < 0.05


def test_young_supernova_lies_inside_the_three_detector_map(maps):
    other = facts()["young_supernova"]
    skymap = maps["S170817a INITIAL"]
    level = credible_level(skymap, np.array([other["ra"]]), np.array([other["dec"]]))[0]
    assert 0.2 < level < 0.85


def _distance_moments(skymap):
    size = (skymap.end - skymap.start) * (np.pi / 3 / 4.0**29)
    r = np.linspace(0.25, 250, 1000)
    shape = np.exp(-0.5 * ((r - skymap.distmu[:, None]) / skymap.distsigma[:, None]) ** 2)
    factor = skymap.density * size * skymap.distnorm / (np.sqrt(2 * np.pi) * skymap.distsigma)
    posterior = (factor[:, None] * shape).sum(axis=0) * r**2
    total = posterior.sum()
    mean = (posterior * r).sum() / total
    return total * 0.25, mean, np.sqrt((posterior * (r - mean) ** 2).sum() / total)


@pytest.mark.parametrize("kind", ["PRELIMINARY", "INITIAL", "UPDATE"])
def test_distance_columns_give_the_distance_of_the_facts(maps, kind):
    total, mean, deviation = _distance_moments(maps[f"S170817a {kind}"])
    expected = next(m for m in facts()["wave"]["maps"] if m["alert_type"] == kind)
    assert total == pytest.approx(1, abs=1e-3)
    assert mean == pytest.approx(expected["distance_mpc"], rel=1e-3)
    assert deviation == pytest.approx(expected["distance_error_mpc"], rel=1e-3)


def test_distance_parameters_of_a_narrow_posterior_are_its_moments():
    mu, sigma, norm = distance_parameters(0.01)
    assert (mu, sigma) == pytest.approx((1, 0.01), rel=5e-4)
    assert norm == pytest.approx(1 / (mu**2 + sigma**2), rel=1e-6)


def test_headers_say_that_the_map_is_a_model(read_maps):
    with fits.open(BytesIO(read_maps["S170817a INITIAL"])) as file:
        header = file[1].header
        assert header["ORDERING"] == "NUNIQ"
        assert header["DISTMEAN"] == 40
        assert "not the map" in header["ORIGIN"]


def test_our_feeds_understand_every_notice(parsed):
    assert [n.event_id for n in parsed] == [
        "S170814a",
        *["Fermi_524666471"] * 3,
        "S170817a",
        "Fermi_524666471",
        "S170817a",
        f"Swift_{decoy('swift_bat')['id']}",
        f"IceCube_{decoy('icecube_gold')['id']}",
        "S170817a",
        "S170817zzz",
        "MS170817zzz",
        "S170817zzz",
    ]


def test_only_the_mock_event_is_a_test(parsed):
    assert {n.event_id for n in parsed if n.role != "observation"} == {"MS170817zzz"}


def test_issue_times_are_those_of_sending(sent, parsed):
    assert [n.issued for n in parsed] == [n.sent for n in sent]


def test_source_has_the_published_levels_in_the_circles(parsed):
    levels = {
        n.kind: credible_level(n.localization, *SOURCE)[0]
        for n in parsed
        if n.event_id == "Fermi_524666471" and isinstance(n.localization, Circle)
    }
    assert levels["ground"] == pytest.approx(0.902, abs=2e-3)
    assert levels["final"] == pytest.approx(0.974, abs=2e-3)


def test_equal_seeds_give_equal_bytes(sent):
    assert [n.payload for n in notices()] == [n.payload for n in sent]


def test_seed_changes_maps_but_not_areas(maps):
    first, second = maps["S170817a INITIAL"], sky_maps(2)["S170817a INITIAL"]
    assert not np.array_equal(first.density, second.density)
    assert area_deg2(first, 0.9) == pytest.approx(area_deg2(second, 0.9), rel=0.03)
