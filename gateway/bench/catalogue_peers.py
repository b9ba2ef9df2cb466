"""Others that find the nearest source of each position within a radius."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from catalogs.sources import ARCSEC_PER_RAD, Matches
from crossmatch.model import FloatArray, IntArray
from crossmatch.sky import unit_vectors

STILTS_SECONDS = 600


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """Sources (n,) in degrees, the radius, and a folder for files."""

    ra_deg: FloatArray
    dec_deg: FloatArray
    radius_arcsec: float
    folder: Path


Run: TypeAlias = Callable[[FloatArray, FloatArray], Matches]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another way to the same matches.

    Parameters
    ----------
    name : str
    needs : str
        Python module, or a command where ``is_command``.
    prepare : callable
        From sources to what is timed.
    positions : (int, int)
        Fewest and most positions that it is asked.
    most_sources : int
        With more it would not fit into memory, or take too long.
    slow : bool
        Timed once.
    """

    name: str
    needs: str
    prepare: Callable[[Sky], Run]
    positions: tuple[int, int] = (0, 2_000_000)
    most_sources: int = 20_000_000
    is_command: bool = False
    slow: bool = False

    def missing(self) -> str | None:
        """Why it cannot be asked; None if it can."""
        if self.is_command:
            return None if shutil.which(self.needs) else f"no {self.needs} on the PATH"
        try:
            importlib.import_module(self.needs)
        except ImportError as e:
            return f"{e}; pip install 'mmgateway[bench]' installs it"
        return None


def scipy_run(sky: Sky) -> Run:
    """``cKDTree`` of unit vectors; what it finds is within the chord of the radius."""
    from scipy.spatial import cKDTree

    tree = cKDTree(unit_vectors(sky.ra_deg, sky.dec_deg))
    limit = 2 * np.sin(sky.radius_arcsec / ARCSEC_PER_RAD / 2)

    def run(ra_deg: FloatArray, dec_deg: FloatArray) -> Matches:
        chord, row = tree.query(
            unit_vectors(ra_deg, dec_deg), distance_upper_bound=limit * (1 + 1e-9)
        )
        away = 2 * np.arcsin(chord.clip(max=2) / 2) * ARCSEC_PER_RAD
        return _within(row, np.where(np.isfinite(chord), away, np.inf), sky.radius_arcsec)

    return run


def astropy_run(sky: Sky) -> Run:
    """``match_to_catalog_sky``; its tree is made by the first call and kept."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    known = SkyCoord(sky.ra_deg, sky.dec_deg, unit=u.deg)

    def run(ra_deg: FloatArray, dec_deg: FloatArray) -> Matches:
        places = SkyCoord(ra_deg, dec_deg, unit=u.deg)
        row, away, _ = places.match_to_catalog_sky(known)
        return _within(row, away.to_value(u.arcsec), sky.radius_arcsec)

    return run


def stilts_run(sky: Sky) -> Run:
    """``stilts tskymatch2``, best match for each position, from FITS files to a FITS file."""
    from astropy.table import Table

    catalog = sky.folder / "sources.fits"
    if not catalog.is_file():
        table = Table({"row": np.arange(len(sky.ra_deg)), "ra": sky.ra_deg, "dec": sky.dec_deg})
        table.write(catalog)

    def run(ra_deg: FloatArray, dec_deg: FloatArray) -> Matches:
        asked, found = sky.folder / "asked.fits", sky.folder / "found.fits"
        table = Table({"n": np.arange(len(ra_deg)), "pra": ra_deg, "pdec": dec_deg})
        table.write(asked, overwrite=True)
        subprocess.run(
            [
                *("stilts", "tskymatch2", f"in1={asked}", f"in2={catalog}", "ra1=pra"),
                *("dec1=pdec", "ra2=ra", "dec2=dec", f"error={sky.radius_arcsec}"),
                *("find=best1", "join=1and2", f"out={found}", "ofmt=fits"),
            ],
            check=True,
            capture_output=True,
            timeout=STILTS_SECONDS,
        )
        told = Table.read(found)
        row, away = np.full(len(ra_deg), -1, np.int64), np.full(len(ra_deg), np.inf)
        row[told["n"]], away[told["n"]] = told["row"], told["Separation"]
        return Matches(row, away)

    return run


def _within(row: IntArray, away: FloatArray, radius_arcsec: float) -> Matches:
    near = away <= radius_arcsec
    return Matches(np.where(near, row, -1), np.where(near, away, np.inf))


PEERS = (
    Peer(name="scipy cKDTree", needs="scipy.spatial", prepare=scipy_run),
    Peer(
        name="astropy match_to_catalog_sky",
        needs="scipy.spatial",
        prepare=astropy_run,
        positions=(0, 100_000),
    ),
    Peer(
        name="STILTS tskymatch2",
        needs="stilts",
        prepare=stilts_run,
        positions=(1_000, 100_000),
        is_command=True,
        slow=True,
    ),
)
