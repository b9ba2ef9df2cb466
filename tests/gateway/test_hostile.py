"""Every hostile input has an outcome and a stable reason, from the bytes to the region.

Templates are a VOEvent of Fermi GBM, a JSON notice of Einstein Probe and an alert of
LIGO/Virgo/KAGRA; each row changes one thing.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import NoticeError
from crossmatch.fits_table import write_table
from crossmatch.model import Circle, MultiOrderMap
from crossmatch.region import credible_level, density_per_sr
from gateway.feeds.registry import load_feeds
from gateway.listener.sandbox import Sandbox
from gateway.understand import SkymapFile, Understood
from voevents.validate import check_submission

DATA = Path(__file__).parents[1] / "data" / "notices"
GBM = (DATA / "gbm_final.xml").read_bytes()
WXT = json.loads((DATA / "wxt.json").read_bytes())
GW = json.loads((DATA / "gwalert.json").read_bytes())
FEEDS = load_feeds()
TIME = b"2026-01-02T03:04:05.67</ISOTime>"
TRIGGER = datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)


BOX: list[Sandbox] = []


@pytest.fixture(scope="module", autouse=True)
def box() -> Iterator[None]:
    """The sandbox that reads all: as in the service, what may be large goes to its child."""
    with Sandbox(FEEDS, DEFAULT_CHAINS, seconds=10, megabytes=1500) as made:
        BOX.append(made)
        yield
        BOX.clear()


def read(raw: bytes, skymap: bytes | None = None) -> Understood:
    """What a message becomes, in bounded time, whatever it is."""
    file = None if skymap is None else SkymapFile(skymap, "fetched")
    begin = time.process_time()
    found = BOX[0].understand(raw, skymap=file)
    assert time.process_time() - begin < 1
    assert found.reason not in ("too_slow", "too_much_memory", "parser_died", "parser_failed")
    return found


def outcome(raw: bytes) -> tuple[str, str]:
    found = read(raw)
    return found.outcome, found.reason


def xml(*changes: tuple[bytes, bytes]) -> bytes:
    raw = GBM
    for old, new in changes:
        assert old in raw, old
        raw = raw.replace(old, new)
    return raw


def at(ra: str = "238.4100", dec: str = "-0.1800", error: str = "11.4300") -> bytes:
    return xml((b"238.4100", ra.encode()), (b"-0.1800", dec.encode()), (b"11.4300", error.encode()))


def when(text: str, system: str = "UTC") -> bytes:
    return xml((TIME, text.encode() + b"</ISOTime>"), (b"UTC-FK5", system.encode() + b"-FK5"))


def wxt(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (WXT | changes).items() if v is not ...}).encode()


def wxt_text(old: str, new: str) -> bytes:
    text = wxt().decode()
    assert old in text
    return text.replace(old, new).encode("utf-8", "surrogatepass")


def gw(skymap: bytes | str) -> bytes:
    text = skymap if isinstance(skymap, str) else base64.b64encode(skymap).decode()
    return json.dumps(GW | {"event": GW["event"] | {"skymap": text}}).encode()


DOCTYPE = b'<?xml version="1.0" encoding="UTF-8"?>\n'
LAUGHS = DOCTYPE + b"<!DOCTYPE v [" + b"".join(
    b'<!ENTITY e%d "%s">' % (i, b"ha" if not i else b"&e%d;" % (i - 1) * 10) for i in range(10)
) + b"]>"  # fmt: skip
QUADRATIC = DOCTYPE + b'<!DOCTYPE v [<!ENTITY e "' + b"x" * 60_000 + b'">]>'
EXTERNAL = DOCTYPE + b'<!DOCTYPE v SYSTEM "http://127.0.0.1:9/voevent.dtd">'
XXE = DOCTYPE + b'<!DOCTYPE v [<!ENTITY e SYSTEM "file:///etc/passwd">]>'

XML: dict[str, tuple[bytes, str, str]] = {
    "as it should be": (GBM, "region", ""),
    "billion laughs": (GBM.replace(DOCTYPE, LAUGHS).replace(b"Invented.</", b"&e9;</"),
                       "rejected", "xml_dtd"),
    "quadratic blow-up": (GBM.replace(DOCTYPE, QUADRATIC)
                          .replace(b"Invented.</", b"&e;" * 60_000 + b"</"),
                          "rejected", "xml_dtd"),
    "external entity": (GBM.replace(DOCTYPE, XXE).replace(b"Invented.</", b"&e;</"),
                        "rejected", "xml_dtd"),
    "external DTD": (GBM.replace(DOCTYPE, EXTERNAL), "rejected", "xml_dtd"),
    "any DTD": (GBM.replace(DOCTYPE, DOCTYPE + b"<!DOCTYPE VOEvent>"), "rejected", "xml_dtd"),
    "DTD in small letters": (GBM.replace(DOCTYPE, b"<!doctype v>"), "rejected", "xml_dtd"),
    "DTD in UTF-16": (GBM.replace(DOCTYPE, XXE).decode().encode("utf-16"),
                      "rejected", "xml_encoding"),
    "DTD in UTF-7": (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE v>',
                     "rejected", "xml_encoding"),
    "an entity that nobody defined": (xml((b"Invented.</", b"&e;</")), "rejected", "xml_broken"),
    "XInclude": (xml((b"<How>", b'<How><i:include xmlns:i="http://www.w3.org/2001/XInclude"'
                      b' href="file:///etc/passwd"/>')) if b"<How>" in GBM else
                 xml((b"<Who>", b'<Who><i:include xmlns:i="http://www.w3.org/2001/XInclude"'
                      b' href="file:///etc/passwd"/>')), "region", ""),
    "oversize": (xml((b"<Who>", b"<Who>" + b" " * (4 << 20))), "rejected", "too_large"),
    "too many elements": (xml((b"<Who>", b"<Who>" + b"<a/>" * 200_000)), "rejected", "too_large"),
    "deep": (xml((b"<Who>", b"<Who>" + b"<a>" * 100 + b"</a>" * 100)), "rejected", "too_deep"),
    "very deep": (xml((b"<Who>", b"<Who>" + b"<a>" * 100_000)), "rejected", "too_deep"),
    "many attributes": (xml((b"<Who>", b"<Who " + b" ".join(b'a%d="1"' % i for i in range(20_000))
                             + b">")), "region", ""),
    "an attribute twice": (xml((b"<Who>", b'<Who a="1" a="2">')), "rejected", "xml_broken"),
    "bad UTF-8": (xml((b"Invented.</", b"\xc3\x28</")), "rejected", "xml_broken"),
    "overlong UTF-8": (xml((b"Invented.</", b"\xc0\xbc</")), "rejected", "xml_broken"),
    "a surrogate": (xml((b"Invented.</", b"\xed\xa0\x80</")), "rejected", "xml_broken"),
    "NUL": (xml((b"Invented.</", b"\0</")), "rejected", "xml_broken"),
    "NUL as a reference": (xml((b"Invented.</", b"&#0;</")), "rejected", "xml_broken"),
    "a control character": (xml((b"Invented.</", b"&#8;</")), "rejected", "xml_broken"),
    "BOM": (b"\xef\xbb\xbf" + GBM, "region", ""),
    "blanks before": (b"\r\n " + GBM, "region", ""),
    "an encoding that lies": (GBM.replace(b"UTF-8", b"us-ascii")
                              .replace(b"Invented.</", b"\xc3\xa9</"), "rejected", "xml_broken"),
    "truncated": (GBM[:-40], "rejected", "xml_broken"),
    "two documents": (GBM + GBM[len(DOCTYPE):], "rejected", "xml_broken"),
    "HTML": (b"<html><body>502 Bad Gateway</body></html>", "rejected", "not_voevent"),
    "empty": (b"", "rejected", "empty"),
    "neither XML nor JSON": (b"\x1f\x8b\x08\x00", "rejected", "unknown_format"),
    "fails the schema": (xml((b"<Param ", b'<Param datatype="int" ')), "region", ""),
    "an element that the schema does not know": (xml((b"<Who>", b"<Why/><Who>")), "region", ""),
    "version 3": (xml((b'version="2.0"', b'version="3.0"')), "rejected", "bad_version"),
    "no ivorn": (xml((b"ivorn=", b"name=")), "rejected", "no_ivoid"),
    "a long ivorn": (xml((b"GBM_Fin_Pos", b"GBM_Fin_Pos" + b"x" * 2000)), "rejected", "bad_ivoid"),
    "an unknown role": (xml((b'role="observation"', b'role="rumour"')), "rejected", "bad_role"),
    "a long trigger": (xml((b'"100000001" ucd', b'"' + b"1" * 5000 + b'" ucd')),
                       "rejected", "bad_trigger_id"),
    "a path as trigger": (xml((b'"100000001" ucd', b'"../../etc" ucd')),
                          "rejected", "bad_trigger_id"),
}  # fmt: skip

POSITIONS: dict[str, tuple[bytes, str, str]] = {
    "RA 720": (at(ra="720"), "rejected", "bad_position"),
    "RA -10": (at(ra="-10"), "rejected", "bad_position"),
    "RA 360": (at(ra="360"), "region", ""),
    "Dec 90": (at(dec="90"), "region", ""),
    "Dec -90.0001": (at(dec="-90.0001"), "rejected", "bad_position"),
    "RA NaN": (at(ra="NaN"), "rejected", "bad_position"),
    "RA infinite": (at(ra="1e999"), "rejected", "bad_position"),
    "RA in words": (at(ra="five"), "rejected", "bad_position"),
    "RA in sexagesimal": (at(ra="15:53:38"), "rejected", "bad_position"),
    "RA of 5,000 digits": (at(ra="1" * 5000), "rejected", "bad_position"),
    "RA missing": (xml((b"<C1>238.4100</C1>", b"")), "rejected", "bad_position"),
    "error NaN": (at(error="NaN"), "rejected", "bad_position"),
    "error infinite": (at(error="inf"), "rejected", "bad_position"),
    "error negative": (at(error="-1"), "no_position", "no_error_radius"),
    "error zero": (at(error="0"), "no_position", "no_error_radius"),
    "error missing": (xml((b"<Error2Radius>11.4300</Error2Radius>", b"")),
                      "no_position", "no_error_radius"),
    "error tiny": (at(error="1e-300"), "region", ""),
    "error 1e-9": (at(error="1e-9"), "region", ""),
    "error 200": (at(error="200"), "no_position", "whole_sky"),
    "(0, 0) without error": (at("0", "0", "0"), "no_position", "null_position"),
    "(0, 0) with an error": (at("0.0", "0.0", "1.0"), "region", ""),
    "-1, -1, -1": (at("-1", "-1", "-1"), "no_position", "sentinel"),
    "-1, -1, 0": (at("-1.0", "-1.0", "0.0"), "no_position", "sentinel"),
    "pointing": (xml((b"source_object", b"pointing_direction")),
                 "no_position", "pointing_direction"),
    "unavailable": (xml((b"source_object", b"unavailable")), "no_position", "unavailable"),
    "inappropriate": (xml((b"source_object", b"inappropriate")), "no_position", "inappropriate"),
    "arcmin": (xml((b'<Position2D unit="deg"', b'<Position2D unit="arcmin"')), "region", ""),
    "furlong": (xml((b'<Position2D unit="deg"', b'<Position2D unit="furlong"')),
                "rejected", "bad_position"),
    "FK5": (xml((b"UTC-FK5-GEO", b"UTC-FK5-TOPO")), "region", ""),
    "ICRS": (xml((b"UTC-FK5-GEO", b"UTC-ICRS-GEO")), "region", ""),
    "FK4": (xml((b"UTC-FK5-GEO", b"UTC-FK4-GEO")), "rejected", "bad_position"),
    "Galactic": (xml((b"UTC-FK5-GEO", b"UTC-GAL-GEO")), "rejected", "bad_position"),
}  # fmt: skip

# The time, its system, and the time of the event in UTC or the reason.
TIMES: list[tuple[str, str, str]] = [
    ("2026-01-02T03:04:05.67", "UTC", "2026-01-02T03:04:05.670000"),
    ("2026-01-02T03:04:05.67Z", "UTC", "2026-01-02T03:04:05.670000"),
    ("2026-01-02T12:04:05+09:00", "UTC", "2026-01-02T03:04:05"),
    ("2026-01-02T03:05:14.854", "TDB", "2026-01-02T03:04:05.670000"),
    ("2026-01-02T03:05:14.854", "TT", "2026-01-02T03:04:05.670000"),
    ("2026-01-02T03:04:42.67", "TAI", "2026-01-02T03:04:05.670000"),
    ("2026-01-02T03:04:23.67", "GPS", "2026-01-02T03:04:05.670000"),
    ("2016-12-31T23:59:60", "UTC", "2017-01-01T00:00:00"),
    ("2025-12-31T23:59:60.5", "UTC", "2026-01-01T00:00:00"),
    ("2022-01-00T00:00:00", "UTC", "bad_time"),
    ("2023-05-09T8582729.92", "UTC", "bad_time"),
    ("2026-01-02", "UTC", "bad_time"),
    ("2026-02-30T00:00:00", "UTC", "bad_time"),
    ("yesterday", "UTC", "bad_time"),
    ("1767323045.67", "UTC", "bad_time"),
    ("1970-01-01T00:00:00", "UTC", "bad_time"),
    ("1989-12-31T23:59:59", "UTC", "bad_time"),
    ("2026-01-04T03:04:05", "UTC", "bad_time"),
    ("2099-01-01T00:00:00", "UTC", "bad_time"),
    ("2100-01-01T00:00:00", "UTC", "bad_time"),
    ("99999-01-01T00:00:00", "UTC", "bad_time"),
    ("9999-12-31T23:59:60", "UTC", "bad_time"),
    ("2026-01-02T03:04:05." + "1" * 5000, "UTC", "bad_time"),
    ("2026-01-02T03:04:05+99:99", "UTC", "bad_time"),
    ("2026-01-02T03:04:05", "TCB", "bad_time"),
    ("2026-01-02T03:04:05", "LOCAL", "bad_time"),
]

DEEP = "[" * 100 + "]" * 100
JSON: dict[str, tuple[bytes, str, str]] = {
    "as it should be": (wxt(), "region", ""),
    "BOM": (b"\xef\xbb\xbf" + wxt(), "region", ""),
    "a key twice": (wxt_text('"ra": 184.5', '"ra": 184.5, "ra": 10.0'),
                    "rejected", "json_duplicate_key"),
    "a key twice, deep inside": (wxt_text('"ra": 184.5', '"ra": 184.5, "x": {"a": 1, "a": 2}'),
                                 "rejected", "json_duplicate_key"),
    "a key twice, once escaped": (wxt_text('"ra": 184.5', '"ra": 184.5, "\\u0072a": 1'),
                                  "rejected", "json_duplicate_key"),
    "NaN": (wxt_text("184.5", "NaN"), "rejected", "json_nan"),
    "Infinity": (wxt_text("184.5", "Infinity"), "rejected", "json_nan"),
    "-Infinity": (wxt_text("184.5", "-Infinity"), "rejected", "json_nan"),
    "1e999": (wxt_text("184.5", "1e999"), "rejected", "json_nan"),
    "1e999 where nobody looks": (wxt_text('"ra"', '"x": [1e999], "ra"'), "rejected", "json_nan"),
    "an integer of 5,000 digits": (wxt_text("184.5", "1" * 5000), "rejected", "json_number"),
    "an integer of a million digits": (wxt_text("184.5", "1" * 10**6), "rejected", "json_number"),
    "a fraction of 5,000 digits": (wxt_text("184.5", "184." + "5" * 5000), "region", ""),
    "an id of 39 digits": (wxt(id=[10**38]), "region", ""),
    "an id of 65 digits": (wxt(id=[10**64]), "rejected", "json_number"),
    "deep": (wxt_text('"ra"', f'"x": {DEEP}, "ra"'), "rejected", "too_deep"),
    "very deep": (wxt_text('"ra"', '"x": ' + "[" * 200_000), "rejected", "too_deep"),
    "deep objects": (wxt_text('"ra"', '"x": ' + '{"a":' * 200_000), "rejected", "too_deep"),
    "bad UTF-8": (wxt().replace(b"WXT", b"W\xffT"), "rejected", "json_broken"),
    "a surrogate in UTF-8": (wxt_text("WXT", "W\ud800T"), "rejected", "json_broken"),
    "a lone surrogate": (wxt_text("WXT", "W\\ud800T"), "rejected", "json_text"),
    "half of a pair in a key": (wxt_text('"ra"', '"\\udc00": 1, "ra"'), "rejected", "json_text"),
    "a pair of surrogates": (wxt_text("WXT", "W\\ud83d\\ude00T"), "region", ""),
    "NUL": (wxt().replace(b"WXT", b"W\0T"), "rejected", "json_broken"),
    "NUL as an escape": (wxt_text("WXT", "W\\u0000T"), "rejected", "json_text"),
    "an escaped backslash before u0000": (wxt_text("WXT", "W\\\\u0000T"), "region", ""),
    "a line break in a text": (wxt_text("WXT", "W\nT"), "rejected", "json_broken"),
    "UTF-16": (wxt().decode().encode("utf-16-le"), "rejected", "json_broken"),
    "truncated": (wxt()[:-10], "rejected", "json_broken"),
    "two objects": (wxt() * 2, "rejected", "json_broken"),
    "single quotes": (b"{'a': 1}", "rejected", "json_broken"),
    "a comment": (wxt_text('"ra"', '/* */ "ra"'), "rejected", "json_broken"),
    "a comma too many": (wxt_text("7.5}", "7.5,}"), "rejected", "json_broken"),
    "a list": (b"[" + wxt() + b"]", "rejected", "json_not_object"),
    "RA 720": (wxt(ra=720), "rejected", "bad_position"),
    "RA -10": (wxt(ra=-10.0), "rejected", "bad_position"),
    "Dec 91": (wxt(dec=91), "rejected", "bad_position"),
    "RA as text": (wxt(ra="184.5"), "rejected", "bad_field"),
    "RA true": (wxt(ra=True), "rejected", "bad_field"),
    "RA of 60 digits": (wxt(ra=10**60), "rejected", "bad_position"),
    "RA null": (wxt(ra=None), "no_position", "no_position"),
    "no error": (wxt(ra_dec_error=...), "no_position", "no_error_radius"),
    "error 0": (wxt(ra_dec_error=0), "no_position", "no_error_radius"),
    "error -1": (wxt(ra_dec_error=-1), "no_position", "no_error_radius"),
    "error 200": (wxt(ra_dec_error=200), "no_position", "whole_sky"),
    "-1, -1, -1": (wxt(ra=-1, dec=-1, ra_dec_error=-1), "no_position", "sentinel"),
    "-999": (wxt(ra=-999, dec=-999, ra_dec_error=-999), "no_position", "sentinel"),
    "(0, 0) without error": (wxt(ra=0, dec=0, ra_dec_error=0), "no_position", "null_position"),
    "containment 1": (wxt(containment_probability=1.0), "rejected", "bad_position"),
    "containment 90": (wxt(containment_probability=90), "rejected", "bad_position"),
    "time naive": (wxt(trigger_time="2026-01-02T03:04:05"), "region", ""),
    "time 1970": (wxt(trigger_time="1970-01-01T00:00:00Z"), "rejected", "bad_time"),
    "time 2100": (wxt(trigger_time="2100-01-01T00:00:00Z"), "rejected", "bad_time"),
    "time a number": (wxt(trigger_time=1767323045), "rejected", "bad_field"),
    "time far after the notice": (wxt(alert_datetime="2026-01-01T00:00:00Z"),
                                  "rejected", "bad_time"),
    "time shortly after the notice": (wxt(alert_datetime="2026-01-02T03:03:00Z"), "region", ""),
}  # fmt: skip

ORDER3 = np.arange(12 * 4**3) + 4**4
DENSITY = np.full(len(ORDER3), 1 / (4 * np.pi))
DISTANCES = ("DISTMU", "DISTSIGMA", "DISTNORM")


def fits(
    uniq: Any = ORDER3, density: Any = DENSITY, more: dict[str, Any] | None = None, **cards: Any
) -> bytes:
    columns = [("UNIQ", "", np.asarray(uniq)), ("PROBDENSITY", "sr-1", np.asarray(density))]
    columns += [(name, "", np.asarray(values, float)) for name, values in (more or {}).items()]
    return write_table(columns, cards)


def flat(values: Any, **cards: Any) -> bytes:
    return write_table([("PROB", "", np.asarray(values, float))], cards)


def with_one(value: float) -> Any:
    changed = DENSITY.copy()
    changed[7] = value
    return changed


def unsigned(first: int) -> bytes:
    """UNIQ as unsigned numbers, the first of them as given."""
    numbers = ORDER3.astype(np.uint64)
    numbers[0] = first
    raw = fits((numbers ^ np.uint64(1 << 63)).astype(np.int64))
    card = b"TTYPE1  = 'UNIQ    '".ljust(80)
    assert card in raw
    # The card for the offset takes the place of one that nobody reads.
    return raw.replace(b"GCOUNT  =                    1".ljust(80),
                       b"TZERO1  =  9223372036854775808".ljust(80))  # fmt: skip


def cards(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert old in raw
    return raw.replace(old, new)


ORDER29 = np.r_[4**30 + np.arange(4), 4 + np.arange(1, 12)]
PEAK = np.r_[np.full(4, 0.2 / (4 * np.pi / (12 * 4**29))), np.full(11, 0.2 / 11 * 12 / 4 / np.pi)]

MAPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "as it should be": (fits, ""),
    "gzipped": (lambda: gzip.compress(fits()), ""),
    "not FITS": (lambda: b"<html>404</html>", "not_fits"),
    "empty": (lambda: b"", "no_skymap"),
    "truncated": (lambda: fits()[:-5000], "fits_truncated"),
    "truncated in the header": (lambda: fits()[:3000], "fits_truncated"),
    "only the primary header": (lambda: fits()[:2880], "no_table"),
    "gzip bomb": (lambda: gzip.compress(bytes(20 << 20)) * 30, "skymap_too_large"),
    "gzip in gzip": (lambda: gzip.compress(gzip.compress(fits())), "not_fits"),
    "gzip cut off": (lambda: gzip.compress(fits())[:-20], "gzip_invalid"),
    "gzip damaged": (lambda: gzip.compress(fits())[:40] + b"x" * 40, "gzip_invalid"),
    "NAXIS2 1e10": (lambda: cards(fits(), b"NAXIS2  =                  768",
                                  b"NAXIS2  =          10000000000"), "fits_truncated"),
    "NAXIS2 -1": (lambda: cards(fits(), b"NAXIS2  =                  768",
                                b"NAXIS2  =                   -1"), "fits_invalid"),
    "NAXIS1 1e18": (lambda: cards(fits(), b"NAXIS1  =                   16",
                                  b"NAXIS1  =  1000000000000000000"), "fits_invalid"),
    "a column of 1e9 numbers": (lambda: cards(fits(), b"TFORM2  = 'D       '  ",
                                              b"TFORM2  = '999999999D'"), "fits_invalid"),
    "no rows": (lambda: fits(ORDER3[:0], DENSITY[:0]), "skymap_empty"),
    "NaN": (lambda: fits(density=with_one(np.nan)), "density_not_finite"),
    "negative": (lambda: fits(density=with_one(-1e-12)), "density_negative"),
    "infinite": (lambda: fits(density=with_one(np.inf)), "density_not_finite"),
    "1e308": (lambda: fits(density=with_one(1e308)), "not_normalised"),
    "zero": (lambda: fits(density=DENSITY * 0), "not_normalised"),
    "a zero": (lambda: fits(density=with_one(0.0) * (768 / 767)), ""),
    "unnormalised": (lambda: fits(density=DENSITY * 1.01), "not_normalised"),
    "in percent": (lambda: fits(density=DENSITY * 100), "not_normalised"),
    "a cell twice": (lambda: fits(np.r_[ORDER3[:-1], ORDER3[0]]), "cells_overlap"),
    "a cell in a cell": (lambda: fits(np.r_[4, ORDER3[1:]]), "cells_overlap"),
    "UNIQ negative": (lambda: fits(np.r_[-5, ORDER3[1:]]), "cells_invalid"),
    "UNIQ 0": (lambda: fits(np.r_[0, ORDER3[1:]]), "cells_invalid"),
    "UNIQ beyond order 29": (lambda: fits(np.r_[ORDER3[:-1], 4**31]), "cells_invalid"),
    "UNIQ 2^63 - 1": (lambda: fits(np.r_[ORDER3[:-1], 2**63 - 1]), "cells_invalid"),
    "UNIQ unsigned": (lambda: unsigned(int(ORDER3[0])), ""),
    "UNIQ unsigned 2^64 - 1": (lambda: unsigned(2**64 - 1), "cells_invalid"),
    "UNIQ as floats": (lambda: fits(ORDER3.astype(float)), "cells_invalid"),
    "order 29": (lambda: fits(ORDER29, PEAK), ""),
    "partial sky": (lambda: fits(ORDER3[:100], DENSITY[:100] * 7.68), ""),
    "COORDSYS C": (lambda: fits(COORDSYS="C"), ""),
    "no COORDSYS": (fits, ""),
    "Galactic": (lambda: fits(COORDSYS="G"), "frame_not_icrs"),
    "Ecliptic": (lambda: fits(COORDSYS="E"), "frame_not_icrs"),
    "per square degree": (lambda: cards(fits(), b"'sr-1    '", b"'deg-2   '"), "unit_unknown"),
    "no probability": (lambda: write_table([("UNIQ", "", ORDER3)], {}), "no_probability"),
    "distances infinite": (lambda: fits(more=dict.fromkeys(DISTANCES, DENSITY * np.inf)), ""),
    "distances NaN": (lambda: fits(more=dict.fromkeys(DISTANCES, DENSITY * np.nan),
                                   DISTMEAN=1e308), ""),
    "flat RING": (lambda: flat(np.full(768, 1 / 768), ORDERING="RING"), ""),
    "flat NESTED": (lambda: flat(np.full(768, 1 / 768), ORDERING="NESTED", NSIDE=8), ""),
    "flat without ORDERING": (lambda: flat(np.full(768, 1 / 768)), "ordering_unknown"),
    "flat with the wrong NSIDE": (lambda: flat(np.full(768, 1 / 768), ORDERING="RING", NSIDE=16),
                                  "nside_invalid"),
    "flat of 100 pixels": (lambda: flat(np.full(100, 0.01), ORDERING="RING"), "nside_invalid"),
    "flat UNSEEN": (lambda: flat(np.r_[-1.6375e30, np.full(767, 1 / 767)], ORDERING="RING"),
                    "density_negative"),
    "flat NaN": (lambda: flat(np.r_[np.nan, np.full(767, 1 / 767)], ORDERING="RING"),
                 "density_not_finite"),
    "flat zeros": (lambda: flat(np.zeros(768), ORDERING="RING"), "skymap_empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", XML)
def test_xml(name: str) -> None:
    raw, *expected = XML[name]

    assert outcome(raw) == tuple(expected)


@pytest.mark.parametrize("name", POSITIONS)
def test_positions(name: str) -> None:
    raw, *expected = POSITIONS[name]

    assert outcome(raw) == tuple(expected)


# What the formats say is known at the door already; what the feeds say comes later.
AT_THE_DOOR = {name: row for name, row in (XML | POSITIONS).items() if name not in (
    "empty", "neither XML nor JSON", "HTML", "a long trigger", "a path as trigger")}  # fmt: skip


@pytest.mark.parametrize("name", AT_THE_DOOR)
def test_an_author_by_vtp_is_told_the_same(name: str) -> None:
    raw, outcome, reason = AT_THE_DOOR[name]

    if outcome == "rejected":
        with pytest.raises(NoticeError) as caught:
            check_submission(raw)
        assert caught.value.reason == reason
    else:
        check_submission(raw)


def test_arcminutes_are_converted() -> None:
    raw = xml((b'<Position2D unit="deg"', b'<Position2D unit="arcmin"'))
    region = read(raw).region

    assert region is not None
    assert isinstance(region.localization, Circle)
    assert region.localization.ra_deg == pytest.approx(238.41 / 60)
    assert region.localization.radius_deg == pytest.approx(11.43 / 60)


@pytest.mark.parametrize(("text", "system", "expected"), TIMES)
def test_times(text: str, system: str, expected: str) -> None:
    found = read(when(text, system))

    if expected == "bad_time":
        assert (found.outcome, found.reason) == ("rejected", "bad_time")
    else:
        assert found.region is not None
        wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC)
        assert abs((found.region.trigger_time - wanted).total_seconds()) < 0.002


def test_endless_words_of_a_record_are_cut() -> None:
    """Two megabytes of instruments would go on to every candidate."""
    alert = json.loads(gw(fits()))
    alert["event"] |= {"instruments": ["X" * 2_000_000], "classification": {"y" * 10**6: 0.9}}
    found = read(json.dumps(alert).encode())

    assert found.region is not None
    assert (len(found.region.instrument), found.region.instrument[-1]) == (200, "…")
    assert (len(found.region.event_class), found.region.event_class[-1]) == (200, "…")


def test_an_endless_address_of_a_map_is_none() -> None:
    found = read(wxt(healpix_url="https://example.org/" + "m" * 3_000_000))

    assert found.region is not None
    assert found.notice is not None
    assert found.notice.skymap_url is None
    assert found.notice.details["map_address"] == "longer than 2,048 characters"


def test_endless_lists_of_citations_are_refused() -> None:
    cited = b"<EventIVORN cite='followup'>ivo://a/b#%d</EventIVORN>"
    many = b"".join(cited % i for i in range(2000))
    raw = xml((b"</WhereWhen>", b"</WhereWhen><Citations>" + many + b"</Citations>"))

    assert outcome(raw) == ("rejected", "too_many_names")


def test_what_departs_from_the_schema_is_marked() -> None:
    notice = read(xml((b"<Param ", b'<Param datatype="int" '))).notice

    assert notice is not None
    assert notice.details["notes"].startswith("schema: Element 'Param', attribute 'datatype'")


def test_a_retraction_is_heeded_whatever_its_time() -> None:
    raw = (DATA / "svom_retraction.xml").read_bytes()
    assert b"<ISOTime>20" in raw

    assert outcome(raw.replace(b"<ISOTime>20", b"<ISOTime>x20")) == ("retraction", "retraction")


@pytest.mark.parametrize("name", JSON)
def test_json(name: str) -> None:
    raw, *expected = JSON[name]

    assert outcome(raw) == tuple(expected)


@pytest.mark.parametrize(
    ("skymap", "expected"),
    [
        ("no base64!", "bad_skymap"),
        ("A", "bad_skymap"),
        ("AAAA" * 1000, "not_fits"),
        ("H4sI" + "A" * 4000, "gzip_invalid"),
    ],
)
def test_base64(skymap: str, expected: str) -> None:
    assert outcome(gw(skymap)) == ("rejected", expected)


@pytest.mark.parametrize("name", MAPS)
def test_sky_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(*args: object) -> None:
        raise AssertionError("a map was read outside the child")

    make, reason = MAPS[name]
    monkeypatch.setattr("gateway.understand.read_skymap", here)
    found = read(gw(make()))

    if reason == "no_skymap":
        assert (found.outcome, found.reason) == ("no_position", reason)
    elif reason:
        assert (found.outcome, found.reason) == ("rejected", reason)
        assert (found.feed, found.rejected is None) == ("lvk", False)
    else:
        assert found.region is not None
        assert_sane(found)


def test_a_map_by_address_is_checked_like_one_inside() -> None:
    raw = json.dumps(
        GW
        | {
            "event": {k: v for k, v in GW["event"].items() if k != "skymap"},
            "urls": {"skymap": "https://example.org/map.fits"},
        }
    ).encode()

    assert read(raw, fits(COORDSYS="G")).reason == "frame_not_icrs"
    assert read(raw, fits()).outcome == "region"


def assert_sane(found: Understood) -> None:
    """No NaN, no infinity, no sentinel in what goes out."""
    region = found.region
    assert region is not None
    numbers = [region.area90_deg2, region.level, region.distance_mpc, region.distance_error_mpc]
    assert all(n is None or (np.isfinite(n) and n >= 0) for n in numbers)
    assert isinstance(region.localization, MultiOrderMap)
    ra, dec = np.array([0.0, 80.0, 359.9]), np.array([-90.0, 30.0, 90.0])
    level = credible_level(region.localization, ra, dec)
    assert ((level >= 0) & (level <= 1)).all()
    assert np.isfinite(density_per_sr(region.localization, ra, dec)).all()
