"""What was understood of one message, for people: labels and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"region": "green", "rejected": "red"}


def show_trial(console: Console, about: Mapping[str, Any]) -> None:
    """Print the values of :func:`gateway.offline.trial.details`."""
    from rich.text import Text

    from gateway.cli.screen import show_facts

    colour = _COLOURS.get(about["outcome"], "yellow")
    head = Text(about["path"], style="bold")
    head.append(f"  {about['outcome'].replace('_', ' ')}", style=colour)
    if about["reason"]:
        head.append(f"  {about['reason']}", style=colour)
    console.print(head, soft_wrap=True)
    show_facts(console, lines(about))


def lines(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and text of each line; an empty text is to be left out."""
    yield "why", about["explanation"]
    yield "feed", _feed(about)
    yield "other feeds", about.get("claim", "")
    if about["streams"]:
        yield "private to", ", ".join(about["streams"])
    if "kind" in about and "mission" in about:
        yield from _event_lines(about)
    elif about.get("notice_id"):
        yield "notice", about["notice_id"]
    if "window" in about:
        yield from _region_lines(about)
    if about.get("details"):
        known = {k: v for k, v in about["details"].items() if k != "systematic_included"}
        yield "details", "; ".join(f"{k} {v}" for k, v in known.items())
    yield "notes", about.get("notes", "")
    yield "--skymap", about.get("skymap_note", "")
    yield "picture", about.get("plot") or about.get("plot_note", "")


def _feed(about: Mapping[str, Any]) -> str:
    if not about["feed"]:
        return ""
    how = "recognised" if about["recognised"] else "told"
    how += ", paused" if about["paused"] else ""
    version = f", version {about['feed_version']}" if about["feed_version"] else ""
    return f"{about['feed']} ({how}){version}, {about['feed_file']}"


def _event_lines(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "event", about["event_id"]
    yield "notice", about["notice_id"]
    who = " ".join(filter(None, (about["mission"], about["instrument"])))
    yield "kind", f"{about['kind']}, {about['alert_type']}, by {who} ({about['messenger']})"
    yield "role", about["role"]
    yield "issued", about["issued"]
    time, sent = about["trigger_time_utc"], about.get("trigger_time_sent")
    yield "trigger time", f"{time or 'none'}" + (f"  (sent as {sent})" if sent else "")
    if about["retracted"]:
        yield "retracts", ", ".join(about["retracted"])
    if about["cites"]:
        yield "cites", ", ".join(about["cites"])
    yield "significance", _significance(about)
    yield "classes", _classes(about)
    if about["distance_mpc"] is not None:
        error = about["distance_error_mpc"]
        yield "distance", f"{about['distance_mpc']:g}" + (f" ± {error:g}" if error else "") + " Mpc"
    yield "sky map", about["skymap_url"] or ""


def _significance(about: Mapping[str, Any]) -> str:
    words = ["significant" if about["significant"] else "not significant"]
    if about["known_source"]:
        words.append("a known source")
    rate = about["far_hz"]
    if rate:
        years = 1 / (rate * 365.25 * 86400)
        each = f"one in {years:,.3g} years" if years >= 1 else f"{1 / years:,.3g} a year"
        words.append(f"false alarms {rate:.3g} Hz ({each})")
    return ", ".join(words)


def _classes(about: Mapping[str, Any]) -> str:
    odds = sorted(about["classification"].items(), key=lambda c: -c[1])
    shown = ", ".join(f"{name} {100 * p:.3g} %" for name, p in odds)
    return ": ".join(filter(None, (about["event_class"], shown)))


def _region_lines(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "position", f"RA {about['ra_deg']:.5f}°, Dec {about['dec_deg']:+.5f}° (ICRS)"
    yield "localised by", about["localized_by"].replace("_", ", ")
    sent = about.get("error_sent")
    if sent:
        level = f"holds {100 * sent['containment']:g} %"
        yield "error as sent", f"{sent['value']} {sent['unit']}, {level}"
    yield "error as used", _used(about["error_used"])
    yield "area", f"{area(about['area90_deg2'])} (90 %), {area(about['area50_deg2'])} (50 %)"
    window = about["window"]
    yield "chain", f"{about['chain']}, level {about['level']:g}"
    days = f"{days_text(window['start_days'])} to {days_text(window['end_days'])}"
    yield "window", f"{window['start']} to {window['end']}  ({days})"
    yield "expires", about["expires"]


def _used(used: Mapping[str, Any]) -> str:
    if used["shape"] == "circle":
        both, alone = used["radius90_deg"], used["radius90_statistical_deg"]
        if not used["systematic"]:
            included = "systematic included" if used["systematic_included"] else "statistical only"
            return f"90 % within {angle(both)} ({included})"
        terms = " + ".join(f"{t['radius68_deg']:g}° ({100 * t['weight']:g} %)"
                           for t in used["systematic"])  # fmt: skip
        return f"90 % within {angle(both)}; {angle(alone)} without the systematic {terms}"
    if used["shape"] == "ellipse":
        axes = f"{angle(used['semi_major90_deg'])} x {angle(used['semi_minor90_deg'])}"
        return f"90 % within an ellipse of {axes}, position angle {used['position_angle_deg']:g}°"
    if used["shape"] == "polygon":
        return f"a polygon of {len(used['vertices_deg'])} corners"
    return f"a sky map of {used['cells']:,} cells"


def angle(degrees: float) -> str:
    """An angle in the unit that suits its size.

    Examples
    --------
    >>> angle(3.7), angle(0.05), angle(0.0005)
    ('3.7°', '3′', '1.8″')
    """
    if degrees >= 1:
        return f"{degrees:.4g}°"
    minutes = degrees * 60
    return f"{minutes:.3g}′" if minutes >= 1 else f"{degrees * 3600:.3g}″"


def area(deg2: float) -> str:
    """An area in the unit that suits its size."""
    if deg2 >= 0.1:
        return f"{deg2:,.4g} deg²" if deg2 < 1000 else f"{deg2:,.0f} deg²"
    arcmin2 = deg2 * 3600
    return f"{arcmin2:.3g} arcmin²" if arcmin2 >= 0.1 else f"{arcmin2 * 3600:.3g} arcsec²"


def days_text(days: float) -> str:
    """A number of days, short ones in minutes or hours.

    Examples
    --------
    >>> days_text(-10 / 1440), days_text(20.0)
    ('-10 min', '20 d')
    """
    minutes = days * 1440
    if days == 0 or abs(days) >= 1:
        return f"{days:g} d"
    if math.isclose(minutes / 60, round(minutes / 60)):
        return f"{minutes / 60:g} h"
    return f"{minutes:g} min"
