"""A server of the bench's own that answers as the xMatch service of CDS does, but takes long."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_COLUMNS = (
    *(("angDist", "double"), ("mm_id", "int"), ("mm_ra", "double"), ("mm_dec", "double")),
    *(("main_id", "char"), ("ra", "double"), ("dec", "double")),
    *(("main_type", "char"), ("redshift", "double")),
)
_PLACE = re.compile(rb"^(\d+),([\d.]+),(-?[\d.]+)\r?$", re.MULTILINE)


@dataclass(slots=True)
class SlowCds:
    """Where the server is, and what it answered so far."""

    url: str = ""
    answers: int = 0
    places: int = 0


@contextmanager
def serving(seconds: float) -> Iterator[SlowCds]:
    """A server that takes so long for each answer; it has a star at each place that it is asked of.

    Parameters
    ----------
    seconds : float
    """
    cds, over = SlowCds(), threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found = _PLACE.findall(self.rfile.read(int(self.headers["Content-Length"])))
            if over.wait(seconds):
                return
            body = votable(found)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-votable+xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            cds.answers += 1
            cds.places += len(found)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Who asked may be gone."""

    server = Server(("127.0.0.1", 0), Answer)
    cds.url = f"http://127.0.0.1:{server.server_port}/xmatch/api/v1/sync"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cds
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def votable(places: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    """The answer to places (number, right ascension, declination): a star at each."""
    size = {"char": ' arraysize="*"'}
    fields = "".join(
        f'<FIELD name="{name}" datatype="{kind}"{size.get(kind, "")}/>' for name, kind in _COLUMNS
    )
    rows = []
    for number, ra, dec in ([part.decode() for part in place] for place in places):
        cells = ("0.0", number, ra, dec, f"Star {number}", ra, dec, "Star", "")
        rows.append("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in cells) + "</TR>")
    return (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/><TABLE>'
        f"{fields}<DATA><TABLEDATA>{''.join(rows)}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    ).encode()
