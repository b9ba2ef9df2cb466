import base64
import csv
import gzip
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from mocpy import MOC

from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.model import MultiOrderMap
from crossmatch.region import area_deg2, credible_level, credible_ranges, density_per_sr
from crossmatch.skymap import read_skymap, skymap_header, write_skymap


def fits_bytes(columns: dict[str, np.ndarray], **cards: object) -> bytes:
    """Table written by astropy, so that reading does not rest on our own writer."""
    made = []
    for name, values in columns.items():
        code = {"i8": "K", "u8": "K", "f8": "D", "f4": "E"}[values.dtype.str[1:]]
        zero = 2**63 if values.dtype.kind == "u" else None
        made.append(fits.Column(name, code, bzero=zero, array=values))
    hdu = fits.BinTableHDU.from_columns(made)
    hdu.header.update(cards)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def flat_probability(nside: int) -> np.ndarray:
    """A spot around (80, 30), NESTED, adding up to 1."""
    ra, dec = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)
    p = np.exp(-0.5 * (sky.separation_deg(80, 30, ra, dec) / 10) ** 2)
    return p / p.sum()


ORDER3 = np.arange(12 * 4**3) + 4**4


def order3(**columns: np.ndarray) -> dict[str, np.ndarray]:
    density = np.full(len(ORDER3), 1 / (4 * np.pi))
    return {"UNIQ": ORDER3, "PROBDENSITY": density, **columns}


class TestMultiOrder:
    @pytest.mark.parametrize("kind", [np.int64, np.uint64])
    def test_signed_and_unsigned_cell_numbers(self, kind: type) -> None:
        skymap = read_skymap(fits_bytes(order3(UNIQ=ORDER3.astype(kind))))
        assert len(skymap.start) == 768
        assert skymap.start[0] == 0
        assert skymap.end[-1] == sky.N_PIX
        assert skymap.distmu is None

    def test_gzip_and_digest(self) -> None:
        data = gzip.compress(fits_bytes(order3()))
        assert len(read_skymap(data).sha256) == 64
        assert read_skymap(data).sha256 != read_skymap(fits_bytes(order3())).sha256

    def test_rows_in_any_order(self) -> None:
        rng = np.random.default_rng(1)
        density = rng.random(768)
        density *= 768 / density.sum() / (4 * np.pi)
        shuffle = rng.permutation(768)
        a = read_skymap(fits_bytes(order3(PROBDENSITY=density)))
        b = read_skymap(fits_bytes({"PROBDENSITY": density[shuffle], "UNIQ": ORDER3[shuffle]}))
        assert np.array_equal(a.density, b.density)
        assert np.array_equal(a.start, b.start)

    def test_single_precision(self) -> None:
        density = np.full(768, 1 / (4 * np.pi), np.float32)
        assert read_skymap(fits_bytes(order3(PROBDENSITY=density))).density.dtype == np.float64

    def test_a_million_cells_take_a_third_of_a_second_at_most(self) -> None:
        ipix = np.arange(2**20)
        density = np.random.default_rng(2).random(2**20)
        density /= density.sum() * 4 * np.pi / (12 * 4**9)
        data = fits_bytes({"UNIQ": ipix + 4**10, "PROBDENSITY": density})
        begin = time.process_time()
        skymap = read_skymap(data)
        ranges = credible_ranges(skymap, 0.9)
        assert time.process_time() - begin < 0.6  # 0.15 s on a quiet core
        assert len(ranges) > 1000


class TestFlat:
    @pytest.mark.parametrize("name", ["PROB", "PROBABILITY"])
    def test_nested_and_ring_are_the_same_map(self, name: str) -> None:
        nested = flat_probability(32)
        ring = healpy.reorder(nested, n2r=True)
        maps = [
            read_skymap(fits_bytes({name: values}, ORDERING=ordering, NSIDE=32, COORDSYS="C"))
            for values, ordering in ((nested, "NESTED"), (ring, "RING"))
        ]
        assert np.array_equal(maps[0].start, maps[1].start)
        assert np.array_equal(maps[0].density, maps[1].density)
        peak = nested.max() * 12 * 32**2 / (4 * np.pi)
        assert maps[0].density.max() == pytest.approx(peak)

    def test_a_map_that_healpy_writes(self, tmp_path: Path) -> None:
        """With 1024 values in a row, as healpy does."""
        path = tmp_path / "map.fits"
        probability = flat_probability(64)
        healpy.write_map(path, probability, nest=True, column_names=["PROB"], dtype=np.float64)
        with fits.open(path) as hdus:
            assert hdus[1].columns["PROB"].format == "1024D"
        skymap = read_skymap(path.read_bytes())
        ra, dec = np.array([80.0, 85.0]), np.array([30.0, 35.0])
        expected = probability[healpy.ang2pix(64, ra, dec, nest=True, lonlat=True)]
        assert density_per_sr(skymap, ra, dec) == pytest.approx(expected * 12 * 64**2 / 4 / np.pi)

    def test_levels_are_those_of_the_pixels(self) -> None:
        probability = flat_probability(32)
        skymap = read_skymap(fits_bytes({"PROB": probability}, ORDERING="NESTED"))
        rng = np.random.default_rng(3)
        ra, dec = rng.uniform(60, 100, 200), rng.uniform(10, 50, 200)
        own = probability[healpy.ang2pix(32, ra, dec, nest=True, lonlat=True)]
        expected = [probability[probability >= p].sum() for p in own]
        assert credible_level(skymap, ra, dec) == pytest.approx(expected, abs=1e-6)

    def test_equal_siblings_become_one_cell_and_empty_ones_none(self) -> None:
        probability = np.zeros(12 * 4**4)
        probability[16:32] = 0.05  # all of cell 1 of order 2
        probability[100] = 0.2
        skymap = read_skymap(fits_bytes({"PROB": probability}, ORDERING="NESTED"))
        assert sky.cell_orders(skymap.start, skymap.end).tolist() == [2, 4]

    def test_siblings_at_different_distances_stay_apart(self) -> None:
        n = 12 * 4**2
        far = np.where(np.arange(n) % 4 == 3, 50.0, 40.0)
        columns = {"PROB": np.full(n, 1 / n), "DISTMU": far, "DISTSIGMA": far, "DISTNORM": far}
        skymap = read_skymap(fits_bytes(columns, ORDERING="NESTED"))
        assert len(skymap.start) == n
        assert skymap.distmu is not None
        assert np.array_equal(skymap.distmu, far)

    def test_explicit_pixels(self) -> None:
        columns = {"PIXEL": np.array([7, 3]), "PROB": np.array([0.25, 0.75])}
        skymap = read_skymap(fits_bytes(columns, ORDERING="NESTED", NSIDE=8, INDXSCHM="EXPLICIT"))
        assert (skymap.start >> 52).tolist() == [3, 7]
        assert skymap.density[0] / skymap.density[1] == 3


def reason(data: bytes) -> str:
    with pytest.raises(RegionError) as error:
        read_skymap(data, max_bytes=10**7)
    return error.value.reason


def one_value(value: float) -> np.ndarray:
    density = np.full(768, 1 / (4 * np.pi))
    density[5] = value
    return density


BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "html": ("not_fits", lambda: b"<html>"),
    "empty": ("not_fits", lambda: b""),
    "cut": ("fits_truncated", lambda: fits_bytes(order3())[:-6000]),
    "cut gzip": ("gzip_invalid", lambda: gzip.compress(fits_bytes(order3()))[:-30]),
    "bomb": ("skymap_too_large", lambda: gzip.compress(bytes(10**8))),
    "too long": ("skymap_too_large", lambda: bytes(10**7 + 1)),
    "no columns": ("no_probability", lambda: fits_bytes({"X": np.zeros(768)})),
    "no density": ("no_probability", lambda: fits_bytes({"UNIQ": ORDER3})),
    "per deg2": ("unit_unknown", lambda: fits_bytes(order3(), TUNIT2="deg-2")),
    "galactic": ("frame_not_icrs", lambda: fits_bytes(order3(), COORDSYS="G")),
    "ecliptic": ("frame_not_icrs", lambda: fits_bytes(order3(), COORDSYS="E")),
    "NaN": ("density_not_finite", lambda: fits_bytes(order3(PROBDENSITY=one_value(np.nan)))),
    "infinite": ("density_not_finite", lambda: fits_bytes(order3(PROBDENSITY=one_value(np.inf)))),
    "negative": ("density_negative", lambda: fits_bytes(order3(PROBDENSITY=one_value(-1e-9)))),
    "sum": ("not_normalised", lambda: fits_bytes(order3(PROBDENSITY=np.full(768, 0.0797)))),
    "zeros": ("not_normalised", lambda: fits_bytes(order3(PROBDENSITY=np.zeros(768)))),
    "no rows": ("skymap_empty", lambda: fits_bytes({k: v[:0] for k, v in order3().items()})),
    "twice": ("cells_overlap", lambda: fits_bytes(order3(UNIQ=np.r_[ORDER3[:-1], ORDER3[:1]]))),
    "nested cells": ("cells_overlap", lambda: fits_bytes(order3(UNIQ=np.r_[4, ORDER3[1:]]))),
    "no cell": ("cells_invalid", lambda: fits_bytes(order3(UNIQ=np.r_[3, ORDER3[1:]]))),
    "minus": ("cells_invalid", lambda: fits_bytes(order3(UNIQ=np.r_[-16, ORDER3[1:]]))),
    "beyond": ("cells_invalid", lambda: fits_bytes(order3(UNIQ=np.r_[ORDER3[1:], 2**62]))),
    "far beyond": ("cells_invalid", lambda: fits_bytes(
        order3(UNIQ=np.r_[ORDER3[1:].astype(np.uint64), np.uint64(2**63 + 9)]))),
    "float cells": ("cells_invalid", lambda: fits_bytes(order3(UNIQ=ORDER3.astype(float)))),
    "flat NaN": ("density_not_finite", lambda: fits_bytes({"PROB": one_value(np.nan)})),
    "flat unseen": ("density_negative", lambda: fits_bytes({"PROB": one_value(healpy.UNSEEN)})),
    "flat length": ("nside_invalid", lambda: fits_bytes({"PROB": np.ones(100)}, ORDERING="RING")),
    "flat nside": ("nside_invalid", lambda: fits_bytes({"PROB": np.full(108, 1 / 108)}, NSIDE=3)),
    "flat empty": ("skymap_empty", lambda: fits_bytes({"PROB": np.empty(0)}, ORDERING="RING")),
    "flat zeros": ("skymap_empty", lambda: fits_bytes({"PROB": np.zeros(768)}, ORDERING="RING")),
    "flat order": ("ordering_unknown", lambda: fits_bytes({"PROB": np.full(768, 1 / 768)})),
    "flat sum": ("not_normalised", lambda: fits_bytes({"PROB": np.ones(768)}, ORDERING="RING")),
    "pixel": ("cells_invalid", lambda: fits_bytes(
        {"PIXEL": np.array([-1]), "PROB": np.ones(1)}, ORDERING="RING", NSIDE=4)),
    "no table": ("no_table", lambda: fits_bytes(order3())[:2880]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_map_is_rejected_with_its_own_reason(name: str) -> None:
    expected, make = BAD[name]
    assert reason(make()) == expected


@pytest.mark.parametrize("name", ["", "C", "ICRS", "icrs"])
def test_names_of_the_icrs_are_accepted(name: str) -> None:
    assert len(read_skymap(fits_bytes(order3(), COORDSYS=name)).start) == 768


class TestWriting:
    def test_what_is_written_is_read_again(self, gaussian_map: MultiOrderMap) -> None:
        data = write_skymap(gaussian_map, {"OBJECT": "G1", "DISTMEAN": 40.0, "DISTSTD": 8.0})
        again = read_skymap(data)
        for name in ("start", "end", "density", "distmu", "distsigma", "distnorm"):
            assert np.array_equal(getattr(again, name), getattr(gaussian_map, name)), name
        header = skymap_header(data)
        assert (header["OBJECT"], header["DISTMEAN"], header["DISTSTD"]) == ("G1", 40.0, 8.0)

    def test_the_same_map_gives_the_same_bytes(self, gaussian_map: MultiOrderMap) -> None:
        assert write_skymap(gaussian_map, {"OBJECT": "a"}) == write_skymap(
            read_skymap(write_skymap(gaussian_map, {})), {"OBJECT": "a"}
        )

    def test_mocpy_finds_the_same_credible_region(
        self, gaussian_map: MultiOrderMap, tmp_path: Path
    ) -> None:
        path = tmp_path / "map.multiorder.fits"
        path.write_bytes(write_skymap(gaussian_map, {}))
        with fits.open(path) as hdus:
            hdus.verify("exception")
            header, table = hdus[1].header, hdus[1].data
            assert (header["ORDERING"], header["MOCORDER"]) == ("NUNIQ", 5)
            assert (np.diff(table["UNIQ"]) > 0).all()
            uniq = table["UNIQ"].astype(np.uint64)
            density = table["PROBDENSITY"].astype(np.float64)
        for level in (0.1, 0.5, 0.9, 0.99):
            moc = MOC.from_valued_healpix_cells(
                uniq, density, 29, values_are_densities=True, cumul_to=level
            )
            theirs = np.asarray(moc.to_depth29_ranges, np.int64)
            assert np.array_equal(credible_ranges(gaussian_map, level), theirs)

    def test_ranges_that_are_no_cells_are_refused(self) -> None:
        with pytest.raises(RegionError) as error:
            write_skymap(MultiOrderMap(np.array([0]), np.array([3]), np.ones(1)), {})
        assert error.value.reason == "cells_invalid"


class TestHeader:
    def test_what_is_missing_or_not_finite_is_none(self) -> None:
        data = fits_bytes(order3(), OBJECT="G7", DISTMEAN="inf")
        assert skymap_header(data) == {
            "OBJECT": "G7", "DATE-OBS": None, "INSTRUME": None, "DISTMEAN": None, "DISTSTD": None,
        }  # fmt: skip


FACT = re.compile(r"90% area ([\d.]+) deg2; 50% area ([\d.]+) deg2")


@pytest.mark.realdata
def test_areas_of_real_maps(shared_data: Path) -> None:
    """Every map file and every map in an alert of LIGO/Virgo/KAGRA, against the stated areas."""
    checked = 0
    with (shared_data / "MANIFEST.csv").open(newline="") as lines:
        rows = [(r["file"], FACT.search(r["facts"])) for r in csv.DictReader(lines)]
    for name, fact in rows:
        if fact is None:
            continue
        data = (shared_data / name).read_bytes()
        if name.endswith(".json"):
            data = base64.b64decode(json.loads(data)["event"]["skymap"])
        skymap = read_skymap(data)
        area90, area50 = float(fact[1]), float(fact[2])
        assert area_deg2(skymap, 0.9) == pytest.approx(area90, rel=5e-3, abs=0.006), name
        assert area_deg2(skymap, 0.5) == pytest.approx(area50, rel=5e-3, abs=0.006), name
        checked += 1
    assert checked >= 23


@pytest.mark.realdata
def test_levels_of_real_alerts(shared_data: Path) -> None:
    """Searched probabilities and densities that a second implementation found."""
    with (shared_data / "expected" / "gw_membership_20240115.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    inside: dict[tuple[str, str], int] = {}
    for event, status in sorted({(r["superevent_id"], r["gcn_status"]) for r in rows}):
        path = shared_data / "notices" / "gcn_2024-01" / "lvk" / f"{event}_{status}.json"
        skymap = read_skymap(base64.b64decode(json.loads(path.read_text())["event"]["skymap"]))
        mine = [r for r in rows if (r["superevent_id"], r["gcn_status"]) == (event, status)]
        numbers = np.array(
            [[float(r[k]) for k in ("ra", "dec", "credible_level", "probdensity_deg2")]
             for r in mine]
        )  # fmt: skip
        ra, dec, expected, density = numbers.T
        level = credible_level(skymap, ra, dec)
        assert level == pytest.approx(expected, abs=1e-9)
        assert density_per_sr(skymap, ra, dec) / sky.DEG2_PER_SR == pytest.approx(density)
        inside[event, status] = int((level <= 0.9).sum())
    assert inside == {
        ("S240112e", "initial"): 111, ("S240112e", "update_0"): 111,
        ("S240112y", "initial"): 37, ("S240112y", "update_0"): 37,
        ("S240114aj", "initial"): 70, ("S240114aj", "update_0"): 64,
        ("S240114b", "initial"): 18, ("S240114b", "update_0"): 18,
    }  # fmt: skip
