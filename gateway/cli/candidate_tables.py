"""Candidates for people: the list of counterparts, and one with its events and history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gateway.offline.counterparts import Counterpart, Statement, Track

TIER_COLOURS = {"gold": "bold yellow", "silver": "bold", "bronze": "default"}
EFFECT_COLOURS = {"confirm": "green", "demote": "red", "neutral": "cyan"}
# Titles of what may lie near, the columns with its distance, and with what else is told of it.
_SOURCES = (
    ("Simbad", "simbad_distance", "simbad_name", "simbad_type"),
    ("star", "star_distance", "star_significance"),
    ("active galaxy", "agn_distance", "agn_name"),
    ("known transient", "known_transient_distance", "known_transient"),
    ("variable", "variable_distance", "variable_name", "variable_type"),
    ("minor planet", "minor_planet_distance", "minor_planet"),
)
# Widths of all columns of a history but the last; reasons fold between their words.
_FIRST_COLUMNS = 86


def tier_cell(track: Track) -> Text:
    """The tier for an event; dim when the object is no candidate of it any more."""
    from rich.text import Text

    tier = track.latest["tier"]
    return Text(tier, style=TIER_COLOURS[tier] if track.in_force else "dim")


def event_cell(track: Track, now: datetime) -> Text:
    """The event, and what restricts it."""
    from rich.text import Text

    test = " (test)" if track.latest["role"] == "test" else ""
    if not track.in_force:
        return Text(f"{track.event_id}{test} (withdrawn)", style="dim")
    expired = " (expired)" if track.expired(now) else ""
    return Text.assemble(f"{track.event_id}{test}", (expired, "dim"))


def show_list(shown: list[Counterpart], console: Console, now: datetime) -> None:
    """Print a table; where room is short, digits and wide gaps give way to names."""
    from gateway.cli.screen import PIPED_WIDTH, show_table

    table = _table(shown, now, short=False)
    # On a terminal nothing is measured that would be folded first.
    if console.measure(table, options=console.options.update(max_width=PIPED_WIDTH)).maximum > (
        console.width
    ):
        table = _table(shown, now, short=True)
    show_table(console, table)


def _table(shown: list[Counterpart], now: datetime, *, short: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    gap, time_length, digits = (1, 10, 3) if short else (2, 16, 4)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    titles = ["counterpart", "ra, dec (deg)", "mag", "seen (UTC)", "score", "tier", "event"]
    if any(one.best.latest.get("verdict") for one in shown):
        titles.append("verdict")
    for title in titles:
        table.add_column(title, no_wrap=title != "event", overflow="fold")
    for one in shown:
        newest = one.newest
        known: list[str | Text] = [
            Text(one.counterpart_id),
            f"{newest['ra']:{digits + 4}.{digits}f} {newest['dec']:+{digits + 4}.{digits}f}",
            brightness(newest),
            short_time(newest["last_detection"])[:time_length],
        ]
        verdict = verdict_text(one.best.latest)
        for track in one.tracks:
            score = f"{track.latest['score']:5.2f}"
            row = [*known, score, tier_cell(track), event_cell(track, now), verdict]
            table.add_row(*row[: len(titles)])
            # The other events follow below the first one.
            known, verdict = [""] * len(known), Text()
    return table


def show_one(one: Counterpart, console: Console, now: datetime) -> None:
    """Print what is known of an object, its events, and all that was stated."""
    from rich.text import Text

    from gateway.cli.screen import show_facts

    newest = one.newest
    console.print(Text(one.counterpart_id, style="bold"))
    show_facts(console, _object_facts(newest))
    for track in one.tracks:
        console.print()
        console.print(Text.assemble(tier_cell(track), " ", event_cell(track, now)))
        show_facts(console, _event_facts(track.latest))
        _show_history(track, console)


def _object_facts(newest: Statement) -> list[tuple[str, str]]:
    rate = newest["fade_rate"]
    fade = "" if rate is None else f"{abs(rate):.2f} mag/d"
    if fade and newest["fade_rate_error"] is not None:
        fade += f" ± {newest['fade_rate_error']:.2f} in {newest['fade_filter']}"
    host = newest["host_name"] or ""
    if host:
        host += _number(newest["host_distance"], ", {:.1f} Mpc")
        host += _number(newest.get("redshift"), ", z {:.4g}")
        host += _number(newest["host_offset"], ", {:.1f}″ away")
        host += _number(newest.get("p_cc"), ", P_cc {:.2g}")
    limit = _number(newest["last_nondetection_mag"], "> {:.2f}")
    if limit:
        limit += f" on {short_time(newest['last_nondetection_time'])}"
    return [
        ("position", f"{newest['ra']:.5f} {newest['dec']:+.5f}"),
        ("galactic latitude", f"{newest['galactic_latitude']:+.1f}°"),
        ("brightness", f"{brightness(newest).strip()} on {short_time(newest['last_detection'])}"),
        ("detections", f"{newest['n_detections'] or ''}"),
        ("first detection", short_time(newest["first_detection"])),
        ("last limit before", limit),
        ("rises" if rate is not None and rate < 0 else "fades", fade),
        ("rose", _number(newest["rise_rate"], "{:.2f} mag/d")),
        ("colour", _number(newest["color"], f"{newest['color_filters']} = {{:+.2f}}")),
        ("host", host),
        ("absolute magnitude", _number(newest["absolute_magnitude"], "{:.1f}")),
        *((title, _source(newest, *columns)) for title, *columns in _SOURCES),
        ("looked up", _looked_up(newest["looked_up"])),
    ]


def _source(newest: Statement, distance: str, *columns: str) -> str:
    """What is known of a source near it; columns may be younger than the statement."""
    known = [newest[name] for name in columns if newest.get(name) is not None]
    texts = [one if isinstance(one, str) else f"{one:.1f} sigma" for one in known]
    return ", ".join(filter(None, (*texts, _number(newest.get(distance), "{:.2f}″ away"))))


def _looked_up(catalogues: str) -> str:
    if catalogues == "not_looked_up":
        return "nowhere yet"
    return catalogues.replace(":not_looked_up", " (not yet)").replace(",", ", ")


def _event_facts(latest: Statement) -> list[tuple[str, str]]:
    joint = [name for name in latest.get("joint_events") or () if name != latest["event_id"]]
    instrument = f"{latest['ref_instrument']}, {latest['ref_type']}"
    after = latest["time_offset_first"]
    return [
        ("event", f"{latest['messenger']} of {short_time(latest['event_trigger_time'])}"),
        ("notice", f"{instrument}, version {latest['event_version']}"),
        ("also seen as", ", ".join(joint)),
        ("private to", ", ".join(latest["streams"])),
        ("first seen", "" if after is None else f"{after / 86400:+.2f} d after the trigger"),
        ("credible level", f"{latest['credible_level']:.3f}"),
        ("score", f"{latest['score']:.3f}"),
        ("because", ", ".join(latest["factors"]).replace("_", " ")),
        ("verdict", _verdict_sentence(latest)),
        ("note", latest.get("verdict_note") or ""),
        ("reference", latest.get("verdict_reference") or ""),
        ("expires", short_time(latest["expires"])),
    ]


def _show_history(track: Track, console: Console) -> None:
    """Print every statement; causes that have no room beside it stand below, in one piece."""
    from gateway.cli.screen import PIPED_WIDTH, show_facts, show_table

    causes = [str(said.get("cause") or "") for said in track.statements]
    whole = console.options.update(max_width=PIPED_WIDTH)
    others = console.measure(_history(track, with_causes=False), options=whole).maximum + 2
    beside = min(others, _FIRST_COLUMNS) + max(map(len, causes)) <= console.width
    show_table(console, _history(track, with_causes=beside))
    if not beside:
        numbers = [said["record_number"] for said in track.statements]
        show_facts(console, ((f"cause of {n}", c) for n, c in zip(numbers, causes, strict=True)))


def _history(track: Track, *, with_causes: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("no.", justify="right", no_wrap=True)
    for title in ("stated (UTC)", "type", "tier", "mag"):
        table.add_column(title, no_wrap=True)
    for title in ("reason", "changed"):
        table.add_column(title, overflow="fold")
    if with_causes:
        table.add_column("cause", no_wrap=True)
    for said in track.statements:
        row = [
            str(said["record_number"]),
            short_time(said["alert_datetime"], seconds=True),
            said["alert_type"],
            Text(said["tier"], style=TIER_COLOURS[said["tier"]]),
            brightness(said),
            said["reason"].replace("_", " "),
            ", ".join(said.get("changed") or ()).replace("_", " "),
            Text(said.get("cause") or ""),
        ]
        table.add_row(*row[: len(table.columns)])
    return table


def verdict_text(latest: Statement) -> Text:
    """The verdict in the colour of what it does."""
    from rich.text import Text

    effect = latest.get("verdict_effect") or ""
    return Text(latest.get("verdict") or "", style=EFFECT_COLOURS.get(effect, "default"))


def _verdict_sentence(latest: Statement) -> str:
    if not latest.get("verdict"):
        return ""
    by = f" by {latest['verdict_author']}" if latest.get("verdict_author") else ""
    when = f", {short_time(latest['verdict_time'])}" if latest.get("verdict_time") else ""
    return f"{latest['verdict']} ({latest['verdict_effect']}){by}{when}"


def brightness(said: Statement) -> str:
    """Magnitude and filter."""
    if said["mag"] is None:
        return ""
    return f"{said['mag']:5.2f} {said['filter'] or ''}".rstrip()


def short_time(iso: str | None, *, seconds: bool = False) -> str:
    """An ISO 8601 time as people read it, to the minute or second."""
    return (iso or "")[: 19 if seconds else 16].replace("T", " ")


def _number(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)
