"""A server that speaks as CDS does: xMatch (multipart upload, VOTable or CSV) and TAP.

It can be told to be slow, to answer nonsense, to be down or to reset connections.
"""

from __future__ import annotations

import csv
import io
import re
import socket
import struct
import threading
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from crossmatch.remote import separation_arcsec

SIMBAD_COLUMNS = ("main_id", "ra", "dec", "main_type", "redshift")
_CIRCLE = re.compile(r"CIRCLE\('ICRS', ([-\d.]+), ([-\d.]+), ([-\d.]+)\)")


@dataclass
class CdsServer:
    """What the server has, how it behaves, and what it was asked.

    ``mood`` and ``tap_mood``: well, down (503), busy (429), reset, silent (never answers), drip
    (byte by byte, for ever), cut, html, other_places, unknown_row, far, overflow, refused, banned.
    """

    sources: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    mood: str = "well"
    tap_mood: str = "well"
    poison: Callable[[float, float], bool] = lambda ra, dec: False
    asked: list[list[tuple[float, float]]] = field(default_factory=list)
    tap_asked: list[str] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.address}/xmatch/api/v1/sync"

    @property
    def tap_url(self) -> str:
        return f"{self.address}/simbad/sim-tap"

    def add(self, name: str, ra: float, dec: float, **columns: Any) -> None:
        self.sources.append(
            {"main_id": name, "ra": ra, "dec": dec, "main_type": "Star", "redshift": None} | columns
        )

    def xmatch(self, fields: dict[str, str], upload: str) -> tuple[Sequence[str], list[list[Any]]]:
        """Rows of a cross-match: distance, the uploaded columns, those of the catalogue."""
        name = fields["cat2"]
        known = self.sources if name == "simbad" else self.tables[name.removeprefix("vizier:")]
        columns = SIMBAD_COLUMNS if name == "simbad" else tuple(known[0]) if known else ("ra",)
        rows = list(csv.DictReader(io.StringIO(upload)))
        ra_name, dec_name = fields["colRA1"], fields["colDec1"]
        places = [(float(r[ra_name]), float(r[dec_name])) for r in rows]
        self.asked.append(places)
        self.last = fields
        if any(self.poison(*place) for place in places):
            raise ValueError
        found = []
        radius = float(fields["distMaxArcsec"])
        known = sorted(known, key=_true_dec)
        decs = [_true_dec(source) for source in known]
        for row, (ra, dec) in zip(rows, places, strict=True):
            # A thousand positions and ten thousand sources are looked at within a second.
            low, high = (bisect(decs, dec + side * (radius + 1) / 3600) for side in (-1, 1))
            for source in known[low:high]:
                away = separation_arcsec(
                    ra, dec, source.get("true_ra", source["ra"]), _true_dec(source)
                )
                if away <= radius:
                    mine = [int(row["mm_id"]), ra, dec]
                    found.append([away, *mine, *(source[c] for c in columns)])
        return ("angDist", *rows[0], *columns), found

    def cone_search(self, adql: str) -> tuple[Sequence[str], list[list[Any]]]:
        self.tap_asked.append(adql)
        circles = [tuple(map(float, one)) for one in _CIRCLE.findall(adql)]
        found = [
            [source[c] for c in SIMBAD_COLUMNS]
            for source in self.sources
            if any(
                separation_arcsec(ra, dec, source["ra"], source["dec"]) <= radius * 3600
                for ra, dec, radius in circles
            )
        ]
        return SIMBAD_COLUMNS, found


def _true_dec(source: dict[str, Any]) -> float:
    return float(source.get("true_dec", source["dec"]))


class _Handler(BaseHTTPRequestHandler):
    cds: CdsServer

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fields, upload = self._form(body)
        is_tap = self.path.endswith("/sim-tap/sync")
        mood = self.cds.tap_mood if is_tap else self.cds.mood
        try:
            names, rows = (
                self.cds.cone_search(fields["QUERY"]) if is_tap else self.cds.xmatch(fields, upload)
            )
        except ValueError:
            mood, names, rows = "html", (), []
        self._behave(mood, names, rows, fields.get("RESPONSEFORMAT", "votable"))

    def _form(self, body: bytes) -> tuple[dict[str, str], str]:
        kind = self.headers["Content-Type"]
        if not kind.startswith("multipart/"):
            given = parse_qs(body.decode())
            return {name: values[0] for name, values in given.items()}, ""
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        fields, upload = {}, ""
        parts: Any = message.get_payload()
        for part in parts:
            assert isinstance(part, Message)
            name = str(part.get_param("name", header="Content-Disposition"))
            text = bytes(part.get_payload(decode=True)).decode()  # type: ignore[arg-type]
            if part.get_filename():
                upload = text
            else:
                fields[name] = text
        return fields, upload

    def _behave(self, mood: str, names: Sequence[str], rows: list[list[Any]], form: str) -> None:
        match mood:
            case "down" | "busy" | "banned":
                self._send({"down": 503, "busy": 429, "banned": 403}[mood], b"try later")
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                self.wfile = io.BytesIO()  # type: ignore[assignment]
            case "silent":
                self.cds.over.wait()
            case "drip":
                self._send_head(200, 1_000_000)
                while not self.cds.over.wait(0.02):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            case "html":
                self._send(200, b"<html><body>Sorry</body></html>")
            case "cut":
                whole = votable(names, rows)
                self._send(200, whole[: len(whole) * 2 // 3])
            case "refused":
                self._send(200, votable((), [], "ERROR", "no such table"))
            case "overflow":
                self._send(200, votable(names, rows, "OVERFLOW"))
            case "unknown_row":
                self._send(200, votable(names, [[*r[:1], 999, *r[2:]] for r in rows]))
            case "far":
                self._send(200, votable(names, [[99.0, *r[1:]] for r in rows]))
            case "other_places":
                i = names.index("dec")
                moved = [[*r[:i], r[i] + 0.1, *r[i + 1 :]] for r in rows]
                self._send(200, votable(names, moved))
            case _ if form == "csv":
                self._send(200, as_csv(names, rows))
            case _:
                self._send(200, votable(names, rows))

    def _send_head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-votable+xml")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, body: bytes) -> None:
        self._send_head(status, len(body))
        self.wfile.write(body)


def votable(
    names: Sequence[str], rows: Sequence[Sequence[Any]], status: str = "OK", text: str = ""
) -> bytes:
    """A VOTable; columns of texts are those without a number."""
    fields, lines = [], []
    for i, name in enumerate(names):
        values = [row[i] for row in rows if row[i] is not None]
        if values and all(isinstance(v, int) for v in values):
            kind = 'datatype="int"'
        elif any(isinstance(v, str) for v in values):
            kind = 'datatype="char" arraysize="*"'
        else:
            kind = 'datatype="double"'
        fields.append(f'<FIELD name="{name}" ID="c{i}" {kind}/>')
    for row in rows:
        cells = "".join(f"<TD>{'' if v is None else escape(str(v))}</TD>" for v in row)
        lines.append(f"<TR>{cells}</TR>")
    return (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}">{text}</INFO>'
        f"<TABLE>{''.join(fields)}<DATA><TABLEDATA>{''.join(lines)}</TABLEDATA></DATA></TABLE>"
        "</RESOURCE></VOTABLE>"
    ).encode()


def as_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([names, *rows])
    return out.getvalue().encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is what some moods are for."""


@contextmanager
def running() -> Iterator[CdsServer]:
    """A server on loopback, until the end of the block."""
    cds = CdsServer()
    handler = type("Handler", (_Handler,), {"cds": cds})
    server = _Server(("127.0.0.1", 0), handler)
    cds.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield cds
    finally:
        cds.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
