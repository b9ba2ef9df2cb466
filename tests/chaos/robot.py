"""A VTP subscriber that comes back whenever its connection breaks, and keeps what it got."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO

from voevents.vtp.messages import frame, transport_message
from voevents.vtp.packets import read_packet

_NAME = "ivo://org.example/robot"


class Robot(threading.Thread):
    """Listens until :meth:`close`.

    Parameters
    ----------
    port : callable
        Port of the broadcaster; None while there is none.
    """

    def __init__(self, port: Callable[[], int | None]) -> None:
        super().__init__(name="robot", daemon=True)
        self.connections: list[list[bytes]] = []
        """VOEvents by connection, in the order in which they came."""
        self._port = port
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self.start()

    @property
    def count(self) -> int:
        """VOEvents so far, repeats too."""
        return sum(len(events) for events in self.connections)

    def run(self) -> None:
        """Connect again and again."""
        while not self._over.is_set():
            # Refused, or reset when the publisher was killed.
            with suppress(OSError):
                self._listen()
            time.sleep(0.02)

    def _listen(self) -> None:
        port = self._port()
        if port is None:
            return
        with socket.create_connection(("127.0.0.1", port), timeout=5) as self._socket:
            self._socket.settimeout(None)
            events: list[bytes] = []
            self.connections.append(events)
            with self._socket.makefile("rwb") as stream:
                while len(head := stream.read(4)) == 4:
                    (length,) = struct.unpack(">I", head)
                    body = stream.read(length)
                    if len(body) < length:
                        # The connection broke within a packet: it was not received.
                        return
                    self._take(body, events, stream)

    def _take(self, body: bytes, events: list[bytes], stream: BinaryIO) -> None:
        packet = read_packet(body)
        now = datetime.now(UTC)
        if packet.kind == "voevent":
            events.append(body)
            answer = transport_message("ack", origin=packet.ivoid, response=_NAME, now=now)
        elif packet.role == "iamalive":
            answer = transport_message("iamalive", origin=packet.ivoid, response=_NAME, now=now)
        else:
            return
        stream.write(frame(answer))
        stream.flush()

    def close(self) -> None:
        """End it."""
        self._over.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
