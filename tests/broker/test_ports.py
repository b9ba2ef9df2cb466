"""Which ports Kafka listens on: the one that running clients know, as long as it can be had."""

from __future__ import annotations

import socket

import pytest

from broker.embedded import kafka
from broker.embedded.kafka import HOST, _free_ports


def taken() -> socket.socket:
    held = socket.socket()
    held.bind((HOST, 0))
    return held


def test_wanted_ports_are_given_where_they_are_free():
    with taken() as held:
        free = held.getsockname()[1]
    assert _free_ports((free, 0))[0] == free


def test_free_ports_lie_below_those_that_clients_are_given():
    first, second = _free_ports((0, 0))
    assert first != second
    assert {first, second} <= set(kafka._PORTS)


def test_a_taken_port_is_waited_for_when_clients_know_no_other(monkeypatch: pytest.MonkeyPatch):
    held = taken()
    port = held.getsockname()[1]
    # Whoever holds it lets go during the first pause.
    monkeypatch.setattr(kafka.time, "sleep", lambda _: held.close())

    assert _free_ports((port, 0), 30.0)[0] == port


def test_without_patience_another_one_is_taken_at_once():
    with taken() as held:
        port = held.getsockname()[1]
        assert _free_ports((port, 0))[0] != port
