"""Sky maps in FITS: multi-order and flat ones in, multi-order ones out.

Formats: IGWN Public Alerts User Guide ("Multi-Order Sky Maps"); the HEALPix FITS
conventions of healpy for flat maps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import healpy
import numpy as np

from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.fits_table import Table, Value, decompressed, read_table, write_table
from crossmatch.model import FloatArray, IntArray, MultiOrderMap

MAX_BYTES = 512 * 1024**2
_DISTANCES = ("DISTMU", "DISTSIGMA", "DISTNORM")
_PER_STERADIAN = {"", "sr-1", "sr**-1", "sr^-1", "1/sr", "/sr", "1 / sr", "1 / steradian"}
# Flat maps: all pixels below this density together hold less than a millionth, so
# leaving them out changes no credible level below 0.999999. It keeps a map of nside
# 2048 (50 million pixels) as small as what it says.
_NEGLIGIBLE_PER_SR = 1e-6 / (4 * math.pi)
# The horizon of the universe is at 14,000 Mpc: what is larger is no distance but a mark.
_MAX_MPC = 1e6
_MIN_SIGMA_MPC = 1e-3


def read_skymap(data: bytes, *, max_bytes: int = MAX_BYTES) -> MultiOrderMap:
    """Sky map of a FITS file, checked.

    Parameters
    ----------
    data : bytes
        FITS, gzipped or not: multi-order (``UNIQ``, ``PROBDENSITY``, and ``DISTMU``,
        ``DISTSIGMA``, ``DISTNORM`` where they are), or flat (``PROB`` or ``PROBABILITY``,
        RING or NESTED, implicit or with ``PIXEL``).
    max_bytes : int
        Bound on the decompressed size.

    Returns
    -------
    MultiOrderMap
        Equal neighbours of a flat map are merged, empty pixels left out.

    Raises
    ------
    RegionError
        ``skymap_too_large``, ``gzip_invalid``, ``not_fits``, ``fits_truncated``,
        ``fits_invalid``, ``no_table``, ``no_probability``, ``unit_unknown``,
        ``frame_not_icrs``, ``ordering_unknown``, ``nside_invalid``, ``skymap_empty``,
        ``cells_invalid``, ``cells_overlap``, ``density_not_finite``,
        ``density_negative`` or ``not_normalised``.
    """
    digest = hashlib.sha256(data).hexdigest()
    table = read_table(decompressed(data, max_bytes))
    frame = str(table.header.get("COORDSYS", "C")).strip().upper()
    if frame not in ("", "C", "ICRS", "CEL", "CELESTIAL", "EQ", "EQUATORIAL"):
        raise RegionError("frame_not_icrs", f"COORDSYS is {frame!r}; only ICRS ('C') is used")
    if "UNIQ" in table.columns:
        return _multi_order(table, digest)
    return _flat(table, digest)


def skymap_header(data: bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, str | float | None]:
    """What the header of a map says of its event; None where it does not.

    ``OBJECT``, ``DATE-OBS``, ``INSTRUME`` are text, ``DISTMEAN``, ``DISTSTD`` finite Mpc.

    Raises
    ------
    RegionError
        If the data are not a FITS table.
    """
    header = read_table(decompressed(data, max_bytes)).header
    found: dict[str, str | float | None] = {}
    for key in ("OBJECT", "DATE-OBS", "INSTRUME"):
        text = header.get(key)
        found[key] = text.strip() or None if isinstance(text, str) else None
    for key in ("DISTMEAN", "DISTSTD"):
        number = header.get(key)
        usable = isinstance(number, int | float) and math.isfinite(number)
        found[key] = float(number) if usable and number is not None else None
    return found


def _multi_order(table: Table, digest: str) -> MultiOrderMap:
    if "PROBDENSITY" not in table.columns:
        raise RegionError("no_probability", "there is a column UNIQ, but no PROBDENSITY")
    unit = str(table.header.get(f"TUNIT{table.columns['PROBDENSITY']}", "")).strip()
    if unit not in _PER_STERADIAN:
        raise RegionError("unit_unknown", f"PROBDENSITY in {unit!r}; only per steradian is used")
    uniq = table.column("UNIQ")
    if uniq.dtype.kind not in "iu":
        raise RegionError("cells_invalid", "UNIQ is not a column of integers")
    if uniq.size and uniq.max() >= 2**62:  # before unsigned numbers become signed
        raise RegionError("cells_invalid", f"UNIQ {uniq.max()} is no cell")
    ranges = sky.uniq_to_ranges(uniq.astype(np.int64))
    density = table.column("PROBDENSITY").astype(np.float64)
    distances = [table.column(name).astype(np.float64) for name in _distance_columns(table)]
    if len(density) != len(ranges) or any(len(d) != len(ranges) for d in distances):
        raise RegionError("fits_invalid", "columns of different lengths")
    order = np.argsort(ranges[:, 0])
    return checked_map(
        ranges[order, 0], ranges[order, 1], density[order], [d[order] for d in distances], digest
    )


def _distance_columns(table: Table) -> tuple[str, ...]:
    return _DISTANCES if all(name in table.columns for name in _DISTANCES) else ()


def checked_map(
    start: IntArray,
    end: IntArray,
    density: FloatArray,
    distances: list[FloatArray],
    sha256: str,
) -> MultiOrderMap:
    """Map of cells sorted by start, after checks.

    ``distances`` is empty, or DISTMU, DISTSIGMA, DISTNORM; cells without a usable
    estimate get (infinity, 1, 0).

    Raises
    ------
    RegionError
        ``skymap_empty``, ``cells_overlap``, ``density_not_finite``, ``density_negative`` or
        ``not_normalised`` (the total differs from 1 by more than 1e-3).
    """
    if len(start) == 0:
        raise RegionError("skymap_empty", "the map has no cells")
    if (end[:-1] > start[1:]).any():
        raise RegionError("cells_overlap", "two cells of the map overlap")
    _check_values(density)
    with np.errstate(over="ignore"):  # an infinite total is not 1 either
        total = float((density * ((end - start) * sky.PIXEL_SR)).sum())
    if not abs(total - 1) <= 1e-3:
        raise RegionError("not_normalised", f"the probabilities add up to {total:.6g}, not 1")
    mu, sigma, norm = _estimates(*distances) if distances else (None, None, None)
    return MultiOrderMap(start, end, density, mu, sigma, norm, sha256)


def _estimates(
    mu: FloatArray, sigma: FloatArray, norm: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distance columns, the cells without a usable estimate marked as ``ligo.skymap`` does.

    DISTMU is infinite there, DISTSIGMA 1 and DISTNORM 0.
    """
    with np.errstate(invalid="ignore"):
        usable = (
            (abs(mu) <= _MAX_MPC) & (sigma >= _MIN_SIGMA_MPC) & (sigma <= _MAX_MPC) & (norm >= 0)
        )
        usable &= np.isfinite(norm)
    return (
        np.where(usable, mu, np.inf),
        np.where(usable, sigma, 1.0),
        np.where(usable, norm, 0.0),
    )


def _check_values(values: FloatArray) -> None:
    if not np.isfinite(values).all():
        raise RegionError("density_not_finite", "a probability is NaN or infinite")
    if (values < 0).any():
        raise RegionError("density_negative", f"a probability is {values.min():.6g}")


def _flat(table: Table, digest: str) -> MultiOrderMap:
    name = next((n for n in ("PROB", "PROBABILITY") if n in table.columns), None)
    if name is None:
        found = ", ".join(table.columns)
        raise RegionError("no_probability", f"no UNIQ, PROB or PROBABILITY among {found}")
    probability = table.column(name)
    if probability.size == 0:
        raise RegionError("skymap_empty", "the map has no pixels")
    _check_values(probability)
    nside = _nside(table, len(probability))
    per_sr = 12 * nside**2 / (4 * math.pi)
    chosen = np.flatnonzero(probability > _NEGLIGIBLE_PER_SR / per_sr)
    with np.errstate(over="ignore"):
        density = probability[chosen].astype(np.float64) * per_sr
    distances = [_column_like(table, n, probability)[chosen] for n in _distance_columns(table)]
    pixels = _pixels(table, chosen, nside)
    ipix = _nested(table, pixels, nside)
    if (np.diff(ipix) < 0).any():
        rank = np.argsort(ipix)
        ipix, density, distances = ipix[rank], density[rank], [d[rank] for d in distances]
    start, end, columns = _merge_siblings(ipix, nside.bit_length() - 1, [density, *distances])
    return checked_map(start, end, columns[0], columns[1:], digest)


def _column_like(table: Table, name: str, other: FloatArray) -> FloatArray:
    column = table.column(name).astype(np.float64)
    if len(column) != len(other):
        raise RegionError("fits_invalid", "columns of different lengths")
    return column


def _nside(table: Table, n_values: int) -> int:
    explicit = "PIXEL" in table.columns
    nside = table.header.get("NSIDE", None if explicit else math.isqrt(n_values // 12))
    if (
        not isinstance(nside, int)
        or not 0 < nside <= 1 << sky.MAX_ORDER
        or nside & (nside - 1)
        or (not explicit and 12 * nside**2 != n_values)
    ):
        raise RegionError("nside_invalid", f"{n_values} pixels with NSIDE {nside!r}")
    return nside


def _pixels(table: Table, chosen: IntArray, nside: int) -> IntArray:
    if "PIXEL" not in table.columns:
        return chosen
    column = table.column("PIXEL")
    if column.dtype.kind not in "iu" or len(column) <= chosen.max(initial=-1):
        raise RegionError("cells_invalid", "PIXEL is not a column of pixel numbers")
    pixels = column[chosen].astype(np.int64)
    if pixels.size and not (pixels.min() >= 0 and pixels.max() < 12 * nside**2):
        raise RegionError("cells_invalid", "a pixel number is out of range")
    return pixels


def _nested(table: Table, pixels: IntArray, nside: int) -> IntArray:
    ordering = str(table.header.get("ORDERING", "")).strip().upper()
    if ordering in ("NESTED", "NEST"):
        return pixels
    if ordering != "RING":
        raise RegionError("ordering_unknown", f"ORDERING is {ordering!r}, not RING or NESTED")
    if pixels.size == 0:
        return pixels
    return np.asarray(healpy.ring2nest(nside, pixels), np.int64)


def _merge_siblings(
    ipix: IntArray, order: int, columns: list[FloatArray]
) -> tuple[IntArray, IntArray, list[FloatArray]]:
    """Cells of a flat map, four equal siblings made one as often as possible.

    Flat maps are mostly multi-order maps written out, and this undoes it: 12.6 million
    pixels of a map of nside 1024 become some hundred thousand cells.
    """
    starts, ends = [], []
    kept: list[list[FloatArray]] = []
    while len(ipix):
        shift = 2 * (sky.MAX_ORDER - order)
        base = np.flatnonzero(ipix & 3 == 0) if order else np.empty(0, np.int64)
        base = base[base + 3 < len(ipix)]
        base = base[ipix[base + 3] == ipix[base] + 3]
        for column in columns:
            value = column[base]
            for k in (1, 2, 3):
                equal = column[base + k] == value
                base, value = base[equal], value[equal]
        stays = np.ones(len(ipix), np.bool_)
        for k in range(4):
            stays[base + k] = False
        starts.append(ipix[stays] << shift)
        ends.append((ipix[stays] + 1) << shift)
        kept.append([c[stays] for c in columns])
        ipix, columns, order = ipix[base] >> 2, [c[base] for c in columns], order - 1
    if not starts:
        empty = np.empty(0, np.int64)
        return empty, empty, columns
    start = np.concatenate(starts)
    rank = np.argsort(start)
    joined = [np.concatenate(parts)[rank] for parts in zip(*kept, strict=True)]
    return start[rank], np.concatenate(ends)[rank], joined


def write_skymap(skymap: MultiOrderMap, header: Mapping[str, Value]) -> bytes:
    """Multi-order FITS file of a map, as LIGO/Virgo/KAGRA lay it out; equal maps, equal bytes.

    Parameters
    ----------
    skymap : MultiOrderMap
        Its ranges must be HEALPix cells.
    header : mapping
        Cards to add, for example ``OBJECT``, ``DATE-OBS``, ``DISTMEAN``.

    Raises
    ------
    RegionError
        ``cells_invalid``, if a range is not one cell.
    ValueError
        If a card is not one that FITS can hold.
    """
    uniq = sky.uniq_of_cells(skymap.start, skymap.end)
    rank = np.argsort(uniq)
    columns = [("UNIQ", "", uniq[rank]), ("PROBDENSITY", "sr-1", skymap.density[rank])]
    distances = (skymap.distmu, skymap.distsigma, skymap.distnorm)
    for name, unit, values in zip(_DISTANCES, ("Mpc", "Mpc", "Mpc-2"), distances, strict=True):
        if values is not None:
            columns.append((name, unit, values[rank]))
    cards: dict[str, Value] = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCORDER": int(sky.cell_orders(skymap.start, skymap.end).max(initial=0)),
        "INDXSCHM": "EXPLICIT",
    }
    return write_table(columns, {**header, **cards})
