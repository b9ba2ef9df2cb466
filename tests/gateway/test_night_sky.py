"""Sun, altitudes, fields and exposures, against astropy and by brute force."""

from datetime import UTC, datetime

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from gateway.night.facts import facts, julian_date, unix_seconds
from gateway.night.maps import antenna_power, unit_vectors
from gateway.night.sky import (
    MIN_ALTITUDE_DEG,
    NAUTICAL_DEG,
    altitude_deg,
    ecliptic_coordinates,
    exposures,
    fields,
    galactic_coordinates,
    night_bounds,
    site,
    sun_altitude_deg,
    target_fields,
)

NIGHT = julian_date(datetime(2017, 8, 17, 20, tzinfo=UTC))
SOURCE = facts()["kilonova"]


@pytest.fixture(autouse=True)
def _offline():
    with iers.conf.set_temp("auto_download", False):
        yield


def test_altitude_agrees_with_astropy():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 40, 50)
    place = site("main")
    where = EarthLocation.from_geodetic(place.longitude_deg, place.latitude_deg, 2700)
    frame = AltAz(obstime=Time(NIGHT + 0.2, format="jd"), location=where)
    expected = SkyCoord(ra, dec, unit="deg").transform_to(frame).alt.deg
    # Precession since 2000 alone moves positions by a quarter of a degree.
    np.testing.assert_allclose(altitude_deg(place, NIGHT + 0.2, ra, dec), expected, atol=0.3)


def test_galactic_coordinates_agree_with_astropy():
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 90, 50)
    expected = SkyCoord(ra, dec, unit="deg").galactic
    longitude, latitude = galactic_coordinates(ra, dec)
    np.testing.assert_allclose(longitude, expected.l.deg, atol=1e-3)
    np.testing.assert_allclose(latitude, expected.b.deg, atol=1e-4)


def test_ecliptic_latitude_agrees_with_astropy():
    ra, dec = np.array([0.0, 90.0, 200.0]), np.array([0.0, 23.4393, -60.0])
    frame = SkyCoord(ra, dec, unit="deg").barycentricmeanecliptic
    np.testing.assert_allclose(
        ecliptic_coordinates(ra, dec)[1], frame.lat.to(u.deg).value, atol=5e-3
    )


def test_source_stood_at_47_degrees_at_nautical_dusk():
    at = julian_date(datetime(2017, 8, 17, 23, 18, tzinfo=UTC))
    assert altitude_deg(site("main"), at, SOURCE["ra"], SOURCE["dec"]) == pytest.approx(47, abs=0.7)


def test_siding_spring_was_dark_while_chile_was_not():
    times = np.array([julian_date(datetime(2017, 8, 17, h, 30, tzinfo=UTC)) for h in (13, 15, 17)])
    assert (sun_altitude_deg(site("early"), times) < NAUTICAL_DEG).all()
    assert (sun_altitude_deg(site("main"), times) > NAUTICAL_DEG).all()


def test_night_bounds_are_where_the_sun_crosses_minus_12():
    dusk, dawn = night_bounds(site("main"), NIGHT)
    np.testing.assert_allclose(
        sun_altitude_deg(site("main"), np.array([dusk, dawn])), NAUTICAL_DEG, atol=0.3
    )
    assert 0.4 < dawn - dusk < 0.5


def test_fields_tile_the_sphere():
    grid = fields()
    number = np.arange(len(grid.ra_deg))
    west, east, south, north = grid.corners(number)
    area = (east - west) * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
    assert np.degrees(area.sum()) == pytest.approx(np.degrees(720), rel=1e-9)


def test_field_of_its_own_centre():
    grid = fields()
    np.testing.assert_array_equal(grid.of(grid.ra_deg, grid.dec_deg), np.arange(len(grid.ra_deg)))


def test_field_of_positions_lies_between_its_corners():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 500), rng.uniform(-90, 90, 500)
    west, east, south, north = fields().corners(fields().of(ra, dec))
    assert ((west <= ra) & (ra <= east) & (south <= dec) & (dec <= north)).all()


def test_exposures_are_taken_in_the_dark_and_high_enough():
    plan, grid = exposures(), fields()
    for key, here in (("early", plan.early), ("main", ~plan.early)):
        place = site(key)
        assert (sun_altitude_deg(place, plan.jd[here]) < NAUTICAL_DEG + 1.5).all()
        height = altitude_deg(
            place, plan.jd[here], grid.ra_deg[plan.field[here]], grid.dec_deg[plan.field[here]]
        )
        assert height.min() > MIN_ALTITUDE_DEG - 10
        assert np.mean(height > MIN_ALTITUDE_DEG) > 0.95


def test_one_exposure_at_a_time():
    plan = exposures()
    for here in (plan.early, ~plan.early):
        assert np.diff(plan.jd[here]).min() * 86400 > 39


def test_early_watch_ends_before_the_three_detector_map_and_begins_after_the_merger():
    plan = exposures()
    seconds = unix_seconds(plan.jd[plan.early])
    initial = next(m for m in facts()["wave"]["maps"] if m["alert_type"] == "INITIAL")
    assert seconds.min() > facts()["merger"]["time"].timestamp()
    assert seconds.max() + 600 < initial["sent"].timestamp()


def test_source_is_first_exposed_when_it_was_discovered():
    plan = exposures()
    number = target_fields(fields())[0]
    first = unix_seconds(plan.jd[plan.field == number])[0]
    assert first == pytest.approx(SOURCE["first_image"].timestamp(), abs=1)
    assert plan.fid[plan.field == number][0] == 3


def test_pairs_of_visits_are_a_quarter_of_an_hour_apart():
    plan = exposures()
    first_night = plan.jd < plan.jd[0] + 1
    for number in np.unique(plan.field[first_night & ~plan.early]):
        times = plan.jd[first_night & ~plan.early & (plan.field == number)]
        assert np.diff(times).min() > 15 / 1440


def test_antenna_power_does_not_exceed_one_and_has_its_zeros():
    rng = np.random.default_rng(4)
    vectors = unit_vectors(
        rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    )
    power = antenna_power(vectors, NIGHT)
    assert 0.97 < power.max() <= 1.0 + 1e-9
    assert power.min() < 0.01
    # Mean over the sphere of an L-shaped detector (Schutz 2011, CQG 28, 125023).
    assert power.mean() == pytest.approx(0.4, abs=0.01)
