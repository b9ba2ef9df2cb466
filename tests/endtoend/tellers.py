"""How the story of a private event is told to a gateway, and who listens by VTP."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from voevents.vtp.messages import frame, transport_message

from .conftest import Gateway, until

STREAM = "ourteam"
SECRET = "Zyzzyva"
RA, DEC = 238.41, -0.18
OUR_RA, OUR_DEC = 238.765432109876, -0.123456789012
"""Where the private event is: near the public one, and written nowhere else."""
TRIGGER = datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)


class Robot(threading.Thread):
    """A VTP subscriber that keeps what it is sent, byte for byte, and says ack."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.frames: list[bytes] = []
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.settimeout(None)
        self.start()

    @property
    def events(self) -> list[bytes]:
        """The VOEvents among them."""
        return [f for f in self.frames if b"<voe:VOEvent" in f]

    def run(self) -> None:
        """Until the connection is closed."""
        with self._socket.makefile("rwb") as stream:
            while len(head := stream.read(4)) == 4:
                (length,) = struct.unpack(">I", head)
                self.frames.append(stream.read(length))
                found = re.search(rb'ivorn="([^"]+)"', self.frames[-1])
                if found:
                    origin, robot = found[1].decode(), "ivo://org.example/robot"
                    ack = transport_message("ack", origin=origin, response=robot, now=TRIGGER)
                    stream.write(frame(ack))
                    stream.flush()

    def close(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self._socket.close()


FEED = """\
name = "{name}"
title = "{title}"
mission = "{title}"
instrument = "camera"
messenger = "grb"
format = "json"
topics = ["{topic}"]
prefix = "{title}"
systematic_included = true
{mark}

[[kinds]]
name = "position of {title}"
"""
PUBLIC_TOPIC, PRIVATE_TOPIC = "observatory.events", "ourteam.events"


class Teller:
    """Sends notices by two feeds of the operator's, one of which is private."""

    def prepare(self, state: Path, with_private: bool) -> None:
        """Before the gateway starts with this state folder: the files of the feeds."""
        folder = state / "feeds"
        folder.mkdir(parents=True)
        public = {"name": "observatory", "title": "Own", "topic": PUBLIC_TOPIC, "mark": ""}
        private = {
            "name": SECRET.lower(),
            "title": SECRET,
            "topic": PRIVATE_TOPIC,
            "mark": f'streams = ["{STREAM}"]',
        }
        for fields in (public, private) if with_private else (public,):
            (folder / f"{fields['name']}.toml").write_text(FEED.format(**fields), "utf-8")

    def public(self, gateway: Gateway, serial: int, radius: float) -> None:
        """A version of the public event."""
        self._send(gateway, PUBLIC_TOPIC, _record("1", serial, RA, DEC, radius))

    def private(self, gateway: Gateway, serial: int, radius: float | None) -> None:
        """A version of the private event; without a radius its retraction."""
        self._send(gateway, PRIVATE_TOPIC, _record("7", serial, OUR_RA, OUR_DEC, radius))

    def garbage(self, gateway: Gateway) -> None:
        """Messages of the private feed that are rejected: one is no JSON, one has no place."""
        self._send(gateway, PRIVATE_TOPIC, f'{{"id": "{SECRET}", "ra": {OUR_RA}'.encode())
        self._send(gateway, PRIVATE_TOPIC, _record("8", 1, OUR_RA, 1000 * OUR_DEC, 1.0))

    def _send(self, gateway: Gateway, topic: str, value: bytes) -> None:
        want = gateway.ledger("notices").get("received", 0) + 1
        gateway.send(topic, [value])
        assert until(lambda: gateway.ledger("notices").get("received", 0) == want)


def _record(trigger: str, serial: int, ra: float, dec: float, radius: float | None) -> bytes:
    record = {
        "id": [trigger],
        "trigger_time": TRIGGER.isoformat(),
        "alert_datetime": (TRIGGER + timedelta(minutes=serial)).isoformat(),
        "alert_type": "retraction" if radius is None else "initial" if serial == 1 else "update",
        "record_number": serial,
        "ra": ra,
        "dec": dec,
        "ra_dec_error": radius,
        "containment_probability": 0.9,
        "systematic_included": True,
    }
    return json.dumps({k: v for k, v in record.items() if v is not None}).encode()
