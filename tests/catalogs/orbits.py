"""Invented minor planets on circles around the Sun, seen from an Earth on a circle.

``python tests/catalogs/orbits.py`` writes the tables of tests/data/ephemerides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from astropy import units as u
from astropy.coordinates import Angle
from astropy.time import Time

FOLDER = Path(__file__).resolve().parents[1] / "data" / "ephemerides"
FIRST_JD, STEPS_A_DAY, STEPS = 2461100.5, 4, 9
_OBLIQUITY = math.radians(23.4393)
# Degrees a day of the Earth.
_YEAR_RATE = 0.9856


@dataclass(frozen=True)
class Orbit:
    """A circle: radius in au, inclination, node and longitude on the first day in degrees."""

    name: str
    number: int
    radius: float
    inclination: float
    node: float
    longitude: float

    def place(self, jd: float) -> tuple[float, float]:
        """Right ascension and declination in degrees."""
        days = jd - FIRST_JD
        along = math.radians(self.longitude - self.node + _YEAR_RATE * self.radius**-1.5 * days)
        node, tilt = math.radians(self.node), math.radians(self.inclination)
        earth = math.radians(178.0 + _YEAR_RATE * days)
        flat, up = math.sin(along) * math.cos(tilt), math.sin(along) * math.sin(tilt)
        x = self.radius * (math.cos(along) * math.cos(node) - flat * math.sin(node))
        y = self.radius * (math.cos(along) * math.sin(node) + flat * math.cos(node))
        x, y, z = x - math.cos(earth), y - math.sin(earth), self.radius * up
        y, z = (
            y * math.cos(_OBLIQUITY) - z * math.sin(_OBLIQUITY),
            y * math.sin(_OBLIQUITY) + z * math.cos(_OBLIQUITY),
        )
        return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))

    def rates(self, jd: float) -> tuple[float, float]:
        """Motion in arcseconds an hour, along right ascension times the cosine."""
        (ra1, dec1), (ra2, dec2) = self.place(jd - 0.01), self.place(jd + 0.01)
        east = ((ra2 - ra1 + 180) % 360 - 180) * math.cos(math.radians((dec1 + dec2) / 2))
        return 3600 * east / 0.48, 3600 * (dec2 - dec1) / 0.48


ORBITS = [
    *(
        Orbit(f"Inventa {i}", 900001 + i, 2.1 + 0.11 * i, 3.0 * (i % 5), 31.0 * i, 150.0 + 7.0 * i)
        for i in range(10)
    ),
    # One that nobody has numbered; one near the Earth; one far above the plane.
    Orbit("2026 ZZ1", -1, 3.05, 11.0, 200.0, 181.0),
    Orbit("2026 ZZ2", -1, 1.06, 4.0, 178.0, 179.5),
    Orbit("2026 ZZ3", -1, 2.6, 68.0, 95.0, 183.0),
]
TIMES = [FIRST_JD + step / STEPS_A_DAY for step in range(STEPS)]


def main() -> None:
    horizons = ["targetname,datetime_str,datetime_jd,RA,DEC,RA_rate,DEC_rate,V"]
    skybot = ["Number,Name,RA,DEC,Type,V,posunc,centerdist,RA_rate,DEC_rate,epoch"]
    mpc = ["Designation,Date,RA,Dec,V"]
    for orbit in ORBITS:
        for jd in TIMES:
            ra, dec = orbit.place(jd)
            east, north = orbit.rates(jd)
            time = Time(jd, format="jd", scale="utc")
            text = time.strftime("%Y-%b-%d %H:%M")
            horizons.append(
                f"{orbit.name},{text},{jd:.9f},{ra:.5f},{dec:.5f},{east:.4f},{north:.4f},19.1"
            )
            hours = Angle(ra * u.deg).to_string(unit=u.hourangle, sep=" ", precision=2, pad=True)
            degrees = Angle(dec * u.deg).to_string(sep=" ", precision=1, pad=True, alwayssign=True)
            mpc.append(f"{orbit.name},{time.isot},{hours},{degrees},19.1")
        jd = TIMES[4]
        ra, dec = orbit.place(jd)
        east, north = orbit.rates(jd)
        skybot.append(
            f"{orbit.number},{orbit.name},{ra:.6f},{dec:.6f},MB>Inner,19.1,0.05,12.5,"
            f"{east:.4f},{north:.4f},{jd}"
        )
    for name, lines in (("horizons", horizons), ("skybot", skybot), ("mpc", mpc)):
        (FOLDER / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
