"""What people read while the night is played, and at its end."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from rich.markup import escape

from broker.ledger import NOTICE_OUTCOMES, alert_outcomes
from gateway import services
from gateway.config import Config
from gateway.night.facts import facts
from gateway.night.notices import Timed
from gateway.night.screen import Screen, tier_markup
from gateway.night.watch import Statement


def introduce(screen: Screen) -> None:
    """What is real here and what is not."""
    screen.say("[bold]The night of 17 August 2017[/], replayed through the live gateway")
    screen.say(
        "GW170817 (here S170817a, as today's events are named), GRB 170817A and AT2017gfo"
        f" (here {facts()['kilonova']['object_id']}) are as they were. Every other alert is"
        " generated, and notices that say so are invented.\n"
        "The survey has ZTF's alert format but stands at Cerro Pachón, with a small early watch"
        " at Siding Spring for the hours of Chilean daylight.\n"
    )


class Teller:
    """Says what comes over the topics, but not everything: the best, and counts of the rest."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._withdrawn: Counter[tuple[str, str]] = Counter()
        self._told: set[tuple[str, str, str]] = set()
        self.clock = ""

    def notice(self, timed: Timed) -> None:
        """A notice was sent."""
        way = " (by VTP, with comet-sendvo)" if timed.via == "vtp" else ""
        self._say(f"[cyan]notice[/]    {escape(timed.label)}{way}")

    def region(self, region: dict[str, Any]) -> None:
        """A region, or a retraction, came over its topic."""
        event = escape(region["event_id"])
        if region["alert_type"] == "retraction":
            self._say(f"[magenta]retracted[/] {event}")
        elif region["role"] != "observation":
            self._say(f"[dim]region    {event}: a {region['role']} event, not matched[/]")
        else:
            area = region["area90_deg2"]
            text = f"{area:,.0f}" if area >= 10 else f"{area:.3g}"
            self._say(
                f"[green]region[/]    {event} version {region['version']},"
                f" {region['kind']}: 90 % within {text} deg²"
            )

    def statement(self, statement: Statement) -> None:
        """A statement about a candidate came over its topic."""
        if statement["state"] == "withdrawn":
            with self._lock:
                self._withdrawn[(statement["event_id"], statement["reason"])] += 1
            return
        self.tell_withdrawn()
        told = (statement["event_id"], statement["counterpart_id"], statement["tier"])
        if statement["tier"] == "gold" and told not in self._told:
            self._told.add(told)
            mag = statement["mag"]
            seen = "" if mag is None else f", {statement['filter']} = {mag:.2f}"
            self._say(
                f"[yellow]candidate[/] {tier_markup(statement['tier'])}"
                f" {escape(statement['id'])} for {escape(statement['event_id'])},"
                f" level {statement['credible_level']:.3f}{seen}"
            )

    def tell_withdrawn(self) -> None:
        """Say how many candidates were withdrawn since the last time."""
        with self._lock:
            withdrawn, self._withdrawn = self._withdrawn, Counter()
        for (event, reason), count in withdrawn.items():
            self._say(
                f"[red]withdrawn[/] {count} candidate{'s' if count > 1 else ''} of"
                f" {escape(event)}: {reason.replace('_', ' ')}"
            )

    def _say(self, text: str) -> None:
        self._screen.say(f"[dim]{self.clock}[/] {text}")


def finish(screen: Screen, config: Config, folder: Path, result: dict[str, Any]) -> None:
    """The tables at the end; the result goes to a file too."""
    screen.say("")
    screen.candidates(result["candidates"], most=12)
    screen.say("")
    for association in result["associations"][:3]:
        events = " and ".join(
            f"{escape(e['event_id'])} (level {e['credible_level']:.3f}, {tier_markup(e['tier'])})"
            for e in association["events"]
        )
        screen.say(f"One counterpart, {association['counterpart_id']}: {events}")
    for event, reasons in result["withdrawn"].items():
        text = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.items())
        screen.say(f"Withdrawn of {escape(event)}: {text}")
    _tell_ledger(screen, result)
    path = folder / "result.json"
    path.write_text(json.dumps(result, indent=1), "utf-8")
    data = config.paths.state
    screen.say("\nWhat lies where:")
    for title, place in (
        ("picture", folder / "night.png"),
        ("this result", path),
        ("candidates (Delta table)", data / "candidates"),
        ("alerts (Delta table)", data / "alerts"),
        ("logs of the services", data / "logs"),
    ):
        screen.say(f"  {title:<26}{escape(str(place))}")


def _tell_ledger(screen: Screen, result: dict[str, Any]) -> None:
    ledger = result["ledger"]
    of_notices = {k: v for k, v in ledger["notices"].items() if k in NOTICE_OUTCOMES}
    for kind, counts in (("notices", of_notices), ("alerts", alert_outcomes(ledger["alerts"]))):
        received = ledger[kind].get("received", 0)
        parts = " + ".join(f"{n:,} {name}" for name, n in sorted(counts.items(), key=_by_count))
        hole = ledger[f"{kind}_unaccounted"]
        verdict = "[green]adds up[/]" if hole == 0 else f"[red]{hole:,} unaccounted for[/]"
        screen.say(f"Ledger, {kind}: {received:,} = {parts}  {verdict}")
    voevents = result["voevents"]
    screen.say(
        f"VOEvents: {voevents['made']:,} made, {voevents['broadcast']} broadcast by VTP,"
        f" {voevents['received_by_vtp']} received by a subscriber"
    )
    for title, name in (
        ("notice → region", "notice_to_region_s"),
        ("alert → candidate", "alert_to_candidate_s"),
    ):
        q = result["latency"][name]
        if q["n"]:
            screen.say(f"Latency, {title}: p50 {q['p50']:.2f} s, p99 {q['p99']:.2f} s ({q['n']:,})")


def _by_count(item: tuple[str, int]) -> int:
    return -item[1]


def how_to_use(screen: Screen, config: Config, path: Path) -> None:
    """Where the gateway that was left up can be reached."""
    state = config.paths.state
    publish = services.endpoint(state, "publish") or {}
    screen.say(
        f"\nThe gateway stays up. Kafka: {services.find_bootstrap(config)};"
        f" VTP: {publish.get('endpoint', '')}\n"
        f"  mmgateway --config {escape(str(path))} status\n"
        f"  mmgateway --config {escape(str(path))} down"
    )
