"""Private JSON dialects: everything a feed file can say by paths and words."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crossmatch.model import Circle, Ellipse, Notice
from gateway.understand import Understood
from tests.gateway.reading import notice, read, with_files

DIALECT = """
name = "orbiter"
title = "Bursts of our orbiter"
mission = "Orbiter"
instrument = "camera"
messenger = "grb"
format = "json"
topics = ["orbiter.bursts"]
prefix = "Orb"
trigger = ["$.burst.run", "$.burst.no"]
kind_field = "$.meta.level"
error_unit = "arcmin"
frame = "galactic"
time_format = "unix_ms"
far = "$.burst.rate"
far_unit = "per_year"
significant = "$.burst.good"
classes = ["$.burst.p_grb"]
properties = ["$.burst.p_short"]
chain = "xray"
window_days = [-1.0, 2.0]

[fields]
trigger_time = "$.burst.at[0]"
alert_datetime = "$.meta.sent"
record_number = "$.meta.n"
ra = "$.place.l"
dec = "$.place.b"
ra_dec_error = "$.place.err"
alert_type = ""
instrument = "$.meta.eyes"
cites = "$.meta.refers"
retracts = "$.meta.takes_back"
source_name = "$.burst.name"
containment_probability = "$.place.prob"
systematic_included = "$.place.all"
healpix_url = "$.place.map"

[class_names]
"$.burst.p_grb" = "GRB"
"$.burst.p_short" = "short"

[details]
colour = "$.burst['colour of it']"
numbers = "$.burst.list"

[retraction_when]
"$.meta.state" = "withdrawn"

[test_when]
"$.meta.drill" = "*"

[ignore_when]
"$.meta.state" = "house*"

[[kinds]]
name = "weak"
values = ["1", "weak*"]
subthreshold = true

[[kinds]]
name = "old friend"
values = ["2"]
known_source = true

[[kinds]]
name = "burst"
"""
BURST: dict[str, Any] = {
    "alert_type": "a word of their own",
    "meta": {"level": 3, "n": 2, "sent": 1767323200000, "eyes": ["A", "B"], "refers": ["Orb:1"]},
    "burst": {
        "run": 7, "no": "0042", "at": [1767323045670, 5], "rate": 36.525, "good": 1, "name": "X",
        "p_grb": 0.9, "p_short": 0.2, "colour of it": "blue", "list": [1, 2.5, {}],
    },
    "place": {"l": 123.0, "b": "-30.5", "err": [90, 60, 20], "prob": 0.5, "all": True,
              "map": "https://example.org/maps/1.fits"},
}  # fmt: skip


@pytest.fixture(scope="module")
def dialect(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Understood]:
    registry = with_files(tmp_path_factory.mktemp("feeds"), orbiter=DIALECT)

    def read_changed(**changes: Any) -> Understood:
        table = json.loads(json.dumps(BURST))
        for path, value in changes.items():
            group, _, name = path.partition("__")
            table[group][name] = value
        return read(json.dumps(table).encode(), registry, topic="orbiter.bursts")

    return read_changed


def test_private_dialect_says_everything(dialect: Callable[..., Understood]) -> None:
    understood = dialect()
    found, region = understood.notice, understood.region
    assert found is not None
    assert region is not None
    assert (found.event_id, found.notice_id, found.kind) == ("Orb_7_42", "Orb:7_42:2", "burst")
    assert (found.role, found.alert_type, found.instrument) == ("observation", "update", "A,B")
    assert found.trigger_time == datetime(2026, 1, 2, 3, 4, 5, 670000, UTC)
    assert found.order == (1767323200.0, 0, 2)
    assert found.far_hz == pytest.approx(36.525 / (365.25 * 86400))
    assert found.classification == {"GRB": 0.9, "short": 0.2}
    assert (found.event_class, found.significant, found.known_source) == ("GRB", True, False)
    assert (found.cites, found.retracts) == (("Orb:1",), ())
    assert found.skymap_url == "https://example.org/maps/1.fits"
    assert found.details == {
        "colour": "blue", "numbers": "1, 2.5", "source_name": "X", "systematic_included": "true",
    }  # fmt: skip
    assert (region.chain, region.window.start_days, region.window.end_days) == ("xray", -1.0, 2.0)


def test_galactic_ellipse_is_turned_to_icrs(dialect: Callable[..., Understood]) -> None:
    """Independent truth: astropy's frames; the angle from a point a little along the axis."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    found = dialect().notice
    assert found is not None
    place = found.localization
    assert isinstance(place, Ellipse)
    centre = SkyCoord(123.0 * u.deg, -30.5 * u.deg, frame="galactic")
    tip = centre.directional_offset_by(20 * u.deg, 1 * u.arcmin)
    assert (place.ra_deg, place.dec_deg) == pytest.approx(
        (centre.icrs.ra.deg, centre.icrs.dec.deg), abs=2e-5
    )
    assert (place.semi_major_deg, place.semi_minor_deg, place.containment) == (1.5, 1.0, 0.5)
    angle = centre.icrs.position_angle(tip.icrs).deg % 180
    assert place.position_angle_deg == pytest.approx(angle, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"meta__state": "WITHDRAWN"}, ("retraction", "retraction")),
        ({"meta__takes_back": ["7_41", "Orb:7_40:1"]}, ("retraction", "retraction")),
        ({"meta__state": "housekeeping"}, ("ignored", "unwanted")),
        ({"burst__run": None}, ("rejected", "no_trigger_id")),
        ({"burst__no": "a/b"}, ("rejected", "bad_trigger_id")),
        ({"burst__at": ["soon"]}, ("rejected", "bad_field")),
        ({"burst__at": [1e300]}, ("rejected", "bad_time")),
        ({"burst__at": [True]}, ("rejected", "bad_field")),
        ({"burst__at": [0]}, ("rejected", "bad_time")),
        ({"place__l": 361}, ("rejected", "bad_position")),
        ({"place__l": "east"}, ("rejected", "bad_field")),
        ({"place__b": 91}, ("rejected", "bad_position")),
        ({"place__l": None}, ("region", "")),
        ({"place__l": None, "place__map": "ftp://x/y"}, ("no_position", "no_position")),
        ({"place__err": ["1", "x"]}, ("rejected", "bad_field")),
        ({"place__err": 1e5}, ("no_position", "whole_sky")),
        ({"place__err": [1, -1]}, ("rejected", "bad_position")),
        ({"place__err": -999}, ("no_position", "no_error_radius")),
        ({"place__l": -999, "place__b": -999, "place__err": -999}, ("no_position", "sentinel")),
        ({"place__l": 0, "place__b": 0, "place__err": 0}, ("no_position", "null_position")),
        ({"place__prob": 90}, ("rejected", "bad_position")),
        ({"meta__n": 1.5}, ("rejected", "bad_field")),
        ({"burst__p_grb": "high"}, ("rejected", "bad_field")),
        ({"burst__rate": "often"}, ("rejected", "bad_field")),
    ],
)
def test_private_dialect_is_checked(
    dialect: Callable[..., Understood], changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    if "place__map" not in changes and expected != ("region", ""):
        changes = changes | {"place__map": None}
    found = dialect(**changes)
    if expected == ("region", ""):
        # The map's address is all there is: no region before the map is there.
        assert (found.outcome, found.reason) == ("no_position", "skymap_elsewhere")
    else:
        assert (found.outcome, found.reason) == expected


def test_marks_of_a_private_dialect(dialect: Callable[..., Understood]) -> None:
    def of(**changes: Any) -> Notice:
        found = dialect(**changes).notice
        assert found is not None
        return found

    assert of(meta__drill=False).role == "observation"
    assert of(meta__drill="yes").role == "test"
    assert (of(meta__level=1).kind, of(meta__level=1).significant) == ("weak", False)
    assert of(meta__level="Weak one").kind == "weak"
    assert of(meta__level=2).known_source
    assert not of(burst__good=False).significant
    back = of(meta__takes_back=["7_41", "Orb:7_40:1"])
    assert back.retracts == ("Orb_7_42", "Orb_7_41", "Orb:7_40:1", "Orb:7_42:0", "Orb:7_42:1")
    circle = of(place__err=30.0).localization
    assert isinstance(circle, Circle)
    assert circle.radius_deg == 0.5
    assert of(place__l=-237.0 + 180.0).localization is not None, "longitudes from -180"


def test_private_retraction_names_events_of_its_own_world(tmp_path: Path) -> None:
    registry = with_files(tmp_path, orbiter=DIALECT.replace("[fields]", "private = true\n[fields]"))
    meta = {**BURST["meta"], "takes_back": ["7_41", "ivo://a/b#c"]}
    found = notice({**BURST, "meta": meta}, registry, topic="orbiter.bursts")
    assert found.event_id == "orbiter:Orb_7_42"
    assert found.retracts[:3] == ("orbiter:Orb_7_42", "orbiter:Orb_7_41", "ivo://a/b#c")


def test_address_of_a_map_is_made_from_what_the_mission_gives(tmp_path: Path) -> None:
    rules = 'skymap_rules = [["/maps/", "/healpix/"], ["plots", ""]]'
    text = DIALECT.replace("[fields]", f"{rules}\n[fields]")
    registry = with_files(tmp_path, orbiter=text)
    found = notice(BURST, registry, topic="orbiter.bursts")
    assert found.skymap_url == "https://example.org/healpix/1.fits"
    place = {**BURST["place"], "map": "https://example.org/plots/1.png"}
    found = notice({**BURST, "place": place}, registry, topic="orbiter.bursts")
    assert found.skymap_url is None


@pytest.mark.parametrize(
    ("time_format", "system", "value"),
    [
        ("iso", "UTC", "2026-01-02T03:04:05.670"),
        ("iso", "TT", "2026-01-02T03:05:14.854"),
        ("iso", "TT", "2026-01-02T03:04:05.670Z"),
        ("unix", "UTC", 1767323045.67),
        ("unix", "UTC", "1767323045.67"),
        ("unix_ms", "UTC", 1767323045670),
        ("mjd", "UTC", 61042.12784340278),
        ("mjd", "TT", 61042.12864414352),
        ("jd", "UTC", 2461042.6278434028),
        ("gps", "UTC", 1451358263.67),
    ],
)
def test_time_formats(tmp_path: Path, time_format: str, system: str, value: Any) -> None:
    text = (
        'name = "clock"\ntitle = "Clock"\nmission = "C"\ninstrument = ""\nmessenger = "frb"\n'
        f'format = "json"\ntopics = ["clock"]\nprefix = "C"\ntime_format = "{time_format}"\n'
        f'time_system = "{system}"\n[fields]\ntrigger_time = "t"\n'
    )
    table = {"t": value, "id": "1", "ra": 1.0, "dec": 2.0, "ra_dec_error": 0.1}
    found = notice(table, with_files(tmp_path, clock=text), topic="clock")
    assert found.feed == "clock"
    assert found.trigger_time is not None
    wanted = datetime(2026, 1, 2, 3, 4, 5, 670000, UTC)
    assert abs((found.trigger_time - wanted).total_seconds()) < 1e-3


def test_box_with_corners_row_by_row_is_the_same_box() -> None:
    schema = "https://gcn.nasa.gov/schema/main/gcn/notices/maxi/gsc.unknown.schema.json"
    box = {"$schema": schema, "id": "1", "trigger_time": "2026-01-02T03:04:05Z",
           "ra": 0.0, "dec": 80.0}  # fmt: skip
    around = [[359.0, 79.0], [1.0, 79.0], [1.0, 81.0], [359.0, 81.0]]
    by_row = [around[0], around[1], around[3], around[2]]
    areas = [
        read(json.dumps({**box, "rectangular_error_corners": c}).encode()).region
        for c in (around, by_row)
    ]
    assert areas[0] is not None
    assert areas[1] is not None
    assert areas[0].area90_deg2 == pytest.approx(areas[1].area90_deg2)
    assert areas[0].localized_by == "polygon"
    for corners in ([[1, 2]], [[1, 2, 3]] * 4, "box", [[1, 2], [1, 3], [2, 720]], [["a", 1]] * 3):
        found = read(json.dumps({**box, "rectangular_error_corners": corners}).encode())
        assert found.reason in ("bad_position", "bad_field")
