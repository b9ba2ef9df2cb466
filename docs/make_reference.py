"""Pages of docs/reference, made from the code: ``python docs/make_reference.py``.

A test compares the committed pages with what this gives, so they cannot fall behind.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tomllib
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, OptionInfo

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
PACKAGES = ("crossmatch", "catalogs", "broker", "voevents", "gateway")

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from broker import topics  # noqa: E402
from broker.ledger import ALERT_OUTCOMES, NOTICE_OUTCOMES  # noqa: E402
from crossmatch.chains import DEFAULT_CHAINS, Chain  # noqa: E402
from crossmatch.columns import ALERT_FIELDS, CANDIDATE_FIELDS, Field  # noqa: E402
from crossmatch.cuts import CUT_NAMES  # noqa: E402
from crossmatch.selections import NOT_KNOWN  # noqa: E402
from gateway.cli import app  # noqa: E402
from gateway.config import ENV_PREFIX, default_toml  # noqa: E402
from gateway.feeds.registry import load_feeds  # noqa: E402
from gateway.feeds.spec import Feed, Kind  # noqa: E402
from gateway.offline.reasons import SENTENCES  # noqa: E402
from gateway.services import topic_specs  # noqa: E402
from voevents.build import GROUPS  # noqa: E402

_MADE = "<!-- Made by docs/make_reference.py: change the code, then run that. -->"
_OUT_OF_RANGE = re.compile(r"[a-z]+_out_of_range")


def page(title: str, *parts: str) -> str:
    """Text of a page."""
    return "\n\n".join([f"# {title}", _MADE, *parts]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


# --- configuration ---------------------------------------------------------------------------


def settings(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Table, key, default as written, and comment of each value of a commented TOML file."""
    section, comment = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif line.startswith("["):
            section, comment = line.strip("[]"), []
        elif "=" in line:
            key, _, value = line.partition(" = ")
            yield section, key, value, " ".join(comment)
            comment = []
        else:
            comment = []


def configuration() -> str:
    """Every key with its default, its variable and its meaning; the chains."""
    text = default_toml()
    by_table: dict[str, list[list[str]]] = defaultdict(list)
    for section, key, value, comment in settings(text):
        variable = f"{ENV_PREFIX}{section}__{key}".upper()
        by_table[section].append([_code(key), _code(value), _code(variable), comment])
    assert by_table.keys() == tomllib.loads(text).keys()
    parts = [
        "`mmgateway config init` writes all of this as one commented file. The file is"
        " `mmgateway.toml` in the current folder, or the one of `--config` or"
        " `MMGATEWAY_CONFIG`. A variable of the environment goes before the file. Texts are"
        " taken as they stand, numbers, lists and tables are read as TOML; a table replaces the"
        " whole table. An unknown table or key is an error."
    ]
    for section, rows in by_table.items():
        parts += [f"## [{section}]", table(["key", "default", "variable", "meaning"], rows)]
    parts += [
        "## [chains.NAME]",
        "Selection chains. Any value of the table can be replaced, for example `window = [0, 30]`"
        " in `[chains.gw_ns]`. The reasons are in"
        " [Selection of candidates](../explanation/selection.md).",
        table(
            ["chain", "`window` (d)", "`level`", "`level_silver`", "`needs_new`", "`max_tier`",
             "`gold_first_days`", "`active_days`", "`min_abs_mag`, `max_abs_mag`"],
            [_chain(c) for c in DEFAULT_CHAINS.values()],
        ),
        f"`demands` and `silver_demands` name selections. By default every chain demands"
        f" {_code(NOT_KNOWN)} (`false`: nothing), and nothing of silver.",
        "## [selections.NAME]",
        "`cuts`: a list of cuts and selections; `doc`: what it is for. See"
        " [How to choose cuts](../howto/cuts.md).",
    ]  # fmt: skip
    return page("Configuration", *parts)


def _chain(chain: Chain) -> list[str]:
    start, end = chain.window.start_days, chain.window.end_days
    begin = f"{start * 86400:.0f} s" if -1 < start < 0 else f"{start:g}"
    bounds = [chain.min_abs_mag, chain.max_abs_mag]
    return [
        _code(chain.name),
        f"{begin} … {end:g}",
        f"{chain.level:g}",
        f"{chain.level_silver:g}",
        "yes" if chain.needs_new else "no",
        chain.max_tier,
        "" if chain.gold_first_days is None else f"{chain.gold_first_days:g}",
        "" if chain.active_days is None else f"{chain.active_days:g}",
        ", ".join(f"{b:g}" for b in bounds if b is not None),
    ]


# --- fields ----------------------------------------------------------------------------------


def candidates() -> str:
    """Fields of a candidate statement, grouped as in its VOEvent."""
    by_name = {f.name: f for f in CANDIDATE_FIELDS}
    named = {n for names in GROUPS.values() for n in names}
    parts = [
        "A statement about a candidate: a record of the topics `mm.candidates.*`, a row of the"
        " Delta table `candidates` and the Params of a VOEvent, under the same names. A field that"
        " is not required may be null, and is then missing in the VOEvent. Positions are ICRS,"
        " times ISO 8601 UTC, magnitudes AB. UCDs are those of the IVOA (UCD1+), units VOUnits.",
        "The parts are the Groups of the VOEvent, in its order.",
    ]
    for group, names in GROUPS.items():
        rest = [n for n in by_name if n not in named] if group == "Context" else []
        rows = [_field(by_name[n]) for n in (*names, *rest)]
        parts += [
            f"## {group}",
            table(["field", "type", "unit", "UCD", "required", "meaning"], rows),
        ]
    return page("Fields of a candidate", *parts)


def alerts() -> str:
    """Fields of an alert as matching and the archive see it."""
    return page(
        "Fields of an alert",
        "The slim columns that are made of each ZTF or LSST alert, and that the Delta table"
        " `alerts` has. That table also has `ipix29` (HEALPix pixel of order 29, NESTED), `night`"
        " (the partition: UTC date of the exposure minus half a day) and `batch_id`.",
        table(["field", "type", "unit", "UCD", "required", "meaning"], map(_field, ALERT_FIELDS)),
    )


def _field(field: Field) -> list[str]:
    needed = "yes" if field.required else ""
    kind = "list of string" if field.kind == "strings" else field.kind
    return [_code(field.name), kind, field.unit, field.ucd, needed, field.doc]


def regions() -> str:
    """Fields of a region and of a dead letter."""
    parts = [
        "A message of `mm.regions` is one Avro object container with one record, named"
        " `mmgateway.v1.Region`. `fastavro.reader` alone reads it."
    ]
    parts.append(_avro("region.avsc"))
    parts += [
        "## Dead letters",
        "A message of `mm.deadletter` is such a container too, of the record"
        " `mmgateway.v1.DeadLetter`.",
        _avro("deadletter.avsc"),
    ]
    return page("Fields of a region", *parts)


def _avro(name: str) -> str:
    schema = json.loads((ROOT / "broker" / "schemas" / name).read_text("utf-8"))
    rows = [[_code(f["name"]), _avro_type(f["type"]), f.get("doc", "")] for f in schema["fields"]]
    return f"{schema['doc']}\n\n" + table(["field", "type", "meaning"], rows)


def _avro_type(kind: Any) -> str:
    if isinstance(kind, list):
        others = [_avro_type(k) for k in kind if k != "null"]
        return f"{' or '.join(others)}, or null"
    if isinstance(kind, dict):
        if kind["type"] == "array":
            return f"list of {_avro_type(kind['items'])}"
        inner = ", ".join(f"`{f['name']}` {_avro_type(f['type'])}" for f in kind["fields"])
        return f"({inner})"
    return str(kind)


# --- topics ----------------------------------------------------------------------------------

_TOPICS = {
    topics.NOTICES: "every notice as it came, before anything else is done with it; where it came"
    " from is in the headers",
    topics.REGION_LOG: "every version of every event, public and private, as"
    " [a region](regions.md), and retractions: what the matcher reads",
    topics.REGIONS: "the public part of `mm.regionlog`",
    topics.HELD: "messages of paused feeds, until the feed is enabled again",
    topics.ALARMS: "silent feeds, lapsing credentials and the like, as JSON",
    topics.DEAD_LETTER: "what could not be used, with [reason](reasons.md) and raw bytes",
    topics.VOEVENTS: "each statement as a VOEvent 2.0; header `ivoid`, and `vtp` = `yes` if it"
    " goes out by VTP",
    topics.LEDGER: "counts of each batch as JSON, for alerts and for notices",
    topics.STATE: "state of each candidate, for the gateway itself",
    topics.MARKER: "last committed batch, for the gateway itself",
}


def topic_page() -> str:
    """Every topic with what it holds and how long it is kept."""
    rows = []
    for spec in topic_specs():
        meaning = _TOPICS.get(spec.name) or _candidate_topic(spec.name)
        config = dict(spec.config)
        readers = "operators" if spec.name in topics.OPERATOR_ONLY else "everybody"
        rows.append([_code(spec.name), meaning, readers, _kept(config), str(spec.partitions)])
    return page(
        "Topics",
        "All are made when they are missing. Read them with `isolation.level=read_committed`: what"
        " others see may never be committed. Records are Avro object containers, one to a message,"
        " where nothing else is said.",
        table(["topic", "holds", "for", "kept", "partitions"], rows),
        "Each private stream has topics of its own, `mm.private.<stream>.*`, with what the public"
        " ones of that name have: `notices`, `regions`, `deadletter`, `voevents`,"
        " `candidates.<messenger>` and `candidates.<messenger>.test`. See"
        " [How to subscribe](../howto/subscribe.md#private-streams).",
        "Alert topics on our own Kafka (`[match] alert_topics_ztf`, `alert_topics_lsst`) are made"
        " with 4 partitions and kept for 7 days. A topic that exists is left as it is.",
    )


def _candidate_topic(name: str) -> str:
    messenger, _, test = name.removeprefix(topics.CANDIDATES_PREFIX).partition(".")
    of = "tests and mock events" if test else "events"
    return f"[statements](candidates.md) about candidates for {messenger} {of}"


def _kept(config: dict[str, str]) -> str:
    if config.get("cleanup.policy") == "compact":
        return "compacted"
    period = int(config.get("retention.ms", "-1"))
    return "for ever" if period < 0 else f"{period // 86_400_000} d"


# --- commands --------------------------------------------------------------------------------


def commands() -> str:
    """Help of every command, from the functions behind them."""
    callback = app.registered_callback
    assert callback is not None
    parts = [
        "Every command has `--help`. Exit status: 0 done, 1 failed, 2 bad usage or configuration.",
        "## mmgateway",
        "Options that stand before the command.",
        *_parameters(callback.callback)[1],
    ]
    for info in app.registered_commands:
        parts += _command("mmgateway", info)
    for group in app.registered_groups:
        for info in group.typer_instance.registered_commands if group.typer_instance else ():
            parts += _command(f"mmgateway {group.name}", info)
    return page("Commands", *parts)


def _command(parent: str, info: Any) -> list[str]:
    if info.hidden:
        return []
    name = f"{parent} {info.name or info.callback.__name__}"
    arguments, tables = _parameters(info.callback)
    usage = " ".join([name, "[OPTIONS]", *arguments])
    parts = [f"## {name}", _plain(inspect.getdoc(info.callback) or ""), f"```text\n{usage}\n```"]
    examples = (info.epilog or "").split("\n\n")[1:]
    return [*parts, *tables, "Examples:", "```text\n" + "\n".join(examples) + "\n```"]


def _parameters(function: Any) -> tuple[list[str], list[str]]:
    """Names of the arguments, and tables of arguments and options."""
    signature = inspect.signature(function, eval_str=True)
    arguments: list[list[str]] = []
    options: list[list[str]] = []
    for name, parameter in signature.parameters.items():
        kind, *notes = typing.get_args(parameter.annotation) or (None,)
        note = next((n for n in notes if isinstance(n, OptionInfo | ArgumentInfo)), None)
        if isinstance(note, ArgumentInfo):
            word = note.metavar or name.upper()
            if parameter.default is not inspect.Parameter.empty:
                word = word if word.startswith("[") else f"[{word}]"
            arguments.append([_code(word), _plain(note.help or "")])
        elif isinstance(note, OptionInfo):
            options.append(_option(name, parameter.default, kind, note))
    tables = []
    if arguments:
        tables.append(table(["argument", "meaning"], arguments))
    if options:
        tables.append(table(["option", "default", "meaning"], options))
    return [a[0].strip("`") for a in arguments], tables


def _option(name: str, default: Any, kind: Any, note: OptionInfo) -> list[str]:
    # Inside Annotated, typer takes the first name for the default until it reads the function.
    names = [n for n in (note.default, *(note.param_decls or ())) if str(n).startswith("-")]
    names = names or ["--" + name.replace("_", "-")]
    value = "" if kind is bool else f" {note.metavar or _value_name(kind)}"
    if default is inspect.Parameter.empty:
        shown = "required"
    else:
        shown = "" if default in (None, False) else _code(getattr(default, "value", default))
    return [_code(", ".join(names) + value), shown, _plain(note.help or "")]


def _value_name(kind: Any) -> str:
    kind = next((k for k in typing.get_args(kind) if k is not type(None)), kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    return {float: "NUMBER", int: "NUMBER"}.get(kind, "TEXT")


def _plain(text: str) -> str:
    """Help text without Rich markup."""
    return re.sub(r"(?<!\\)\[/?(?:bold)?\]", "", text).replace("\\[", "[").strip()


# --- feeds -----------------------------------------------------------------------------------


_FORMATS = {"json": "JSON", "voevent": "VOEvent", "igwn": "JSON of LIGO/Virgo/KAGRA"}


def feeds() -> str:
    """The built-in feeds and their kinds of notice."""
    every = sorted(load_feeds().feeds, key=lambda f: f.name)
    overview = [
        [f"[{f.name}](#{f.name})", f.title, f.messenger, _FORMATS.get(f.format, f.format)]
        for f in every
    ]
    parts = [
        "The built-in feeds. A feed of your own is one more file:"
        " [How to register a feed](../howto/feeds.md). Error radii hold the stated probability;"
        " systematic errors are 68 % radii with their weights, added in quadrature.",
        table(["feed", "what", "messenger", "format"], overview),
    ]
    for feed in every:
        facts = [f for f in _feed_facts(feed) if f[1]]
        parts += [f"## {feed.name}", f"{feed.title}.", table(["", ""], facts)]
        rows = [_kind(feed, k) for k in feed.kinds if feed.format in ("voevent", "json")]
        if rows:
            parts.append(table(["kind", "packet types or values", "what becomes of it"], rows))
    return page("Feeds", *parts)


def _feed_facts(feed: Feed) -> list[list[str]]:
    return [
        ["messenger", feed.messenger],
        ["format", _FORMATS.get(feed.format, feed.format)],
        ["recognised by", _recognised(feed)],
        ["topics", ", ".join(map(_code, feed.topics)) or "none"],
        ["test events", f"ids that match `{feed.test_triggers}`" if feed.test_triggers else ""],
        ["in use", "" if feed.enabled else f"after `mmgateway feeds enable {feed.name}`"],
    ]


def _recognised(feed: Feed) -> str:
    if feed.format == "igwn":
        return "its members"
    signs = ", ".join(map(_code, (*feed.ivoids, *feed.schemas)))
    if feed.members:
        members = " and ".join(map(_code, feed.members))
        signs = f"{signs} with {members}" if signs else f"members {members}"
    if feed.fallback:
        rest = "what no other feed knows"
        return f"{rest}, by {signs}" if signs else rest
    return signs or "its topic"


def _kind(feed: Feed, kind: Kind) -> list[str]:
    types = ", ".join(map(str, kind.packet_types or kind.values))
    marks = " and ".join(_code(f"{path} = {value}") for path, value in kind.when.items())
    types = ", ".join(filter(None, (types, marks))) or "all"
    if kind.ignore:
        return [kind.name, types, f"ignored: {_code(kind.ignore)}"]
    if kind.retraction:
        return [kind.name, types, "retraction"]
    if not kind.position:
        return [kind.name, types, f"no position: {_code(kind.no_position_reason)}"]
    told = [f"{100 * (kind.containment or feed.containment):g} % radius"]
    if kind.error_deg is not None:
        told.append(f"{kind.error_deg:g}° if none is given")
    for rule in kind.systematic:
        terms = " + ".join(f"{t.radius68_deg:g}° ({100 * t.weight:g} %)" for t in rule.terms)
        when = [f"before {rule.before:%Y-%m-%d}"] if rule.before else []
        when += [f"{k} = {v}" for k, v in rule.when.items()]
        told.append(f"systematic {terms}" + (f" if {' and '.join(when)}" if when else ""))
    marked = {"test": kind.test, "below threshold": kind.subthreshold}
    marked |= {"known source": kind.known_source, f"chain {_code(kind.chain)}": bool(kind.chain)}
    told += [word for word, holds in marked.items() if holds]
    return [kind.name, types, "; ".join(told)]


# --- reason codes ----------------------------------------------------------------------------

_REJECTIONS = {
    "NoticeError": "notice",
    "RegionError": "localisation or sky map",
    "AlertError": "alert",
    "CatalogError": "catalogue or table",
    "Rejected": "record",
}


def raised() -> Iterator[tuple[str, str, str]]:
    """(code, what is rejected, module) of every rejection that the code can make."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if module == "broker.surveys":
                    yield from ((code, "alert", module) for code in _row_codes(node))
                if not (isinstance(node, ast.Call) and node.args):
                    continue
                name = getattr(node.func, "id", "")
                first = node.args[0]
                if name in _REJECTIONS and isinstance(first, ast.Constant):
                    yield str(first.value), _REJECTIONS[name], module


def _row_codes(node: ast.AST) -> Iterator[str]:
    """Codes of rows, which are values of a table and not raised."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RejectedRow":
        yield from (str(a.value) for a in node.args[1:2] if isinstance(a, ast.Constant))
    elif isinstance(node, ast.Constant) and _OUT_OF_RANGE.fullmatch(str(node.value)):
        yield str(node.value)


def reasons() -> str:
    """Codes that programs may rely on."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for code, what, module in raised():
        found[what, code].add(module)
    parts = [
        "Codes are stable: programs may rely on them. The text beside a code is for people and may"
        " change.",
        "## Rejections",
        "The `reason` of a dead letter, or in the account of `mmgateway crossmatch`; in the ledger"
        " as `rejected.<code>` for alerts.",
    ]
    for what in dict.fromkeys(_REJECTIONS.values()):
        rows = [
            [_code(code), ", ".join(map(_code, sorted(modules)))]
            for (kind, code), modules in sorted(found.items())
            if kind == what
        ]
        if rows:
            parts += [f"### {what.capitalize()}", table(["code", "given in"], rows)]
    no_position = sorted(
        {r for f in load_feeds().feeds for k in f.kinds if (r := k.no_position_reason)}
    )
    parts += [
        "## Counts of the ledger",
        f"Alerts: `received` = {' + '.join(map(_code, ALERT_OUTCOMES))} + all `cut.*` + all"
        f" `rejected.*`. The cuts, in the order in which they are tried:"
        f" {', '.join(_code(f'cut.{n}') for n in CUT_NAMES)}. Also counted: `pairs`, `statements`."
        " Other selections have other cuts.",
        "Candidates (an object in an event) of chains that demand something: `judged` = `passed`"
        " + all `withheld.*` + all `lowered.*`, by the first cut that they fail. Those that are"
        " told, of every chain: `told.<tier>`. Each is counted once, in the night of its first"
        " alert, as what it is: when that changes, an entry has -1 for what it was and 1 for what"
        " it is; one that is withdrawn counts no longer.",
        f"Notices: `received` + `released` = {' + '.join(map(_code, NOTICE_OUTCOMES))}.",
        "## Reasons of a statement",
        "The field `reason` of a candidate: `new_candidate`, `new_alert`, `region_revised`; of a"
        " withdrawal: `outside_revised_region`, `event_retracted`, `failed_selection`.",
        "## Notices without a region",
        f"Kinds of the built-in feeds that carry no position:"
        f" {', '.join(map(_code, no_position))}. Others follow from the content of a notice: see"
        " [How to register a feed](../howto/feeds.md#when-a-notice-gives-no-region).",
        "## What these codes mean",
        "Of messages that are ignored and of notices without a region, as"
        " `mmgateway feeds try` says it:",
        table(["code", "meaning"], [[_code(c), text] for c, text in sorted(SENTENCES.items())]),
    ]
    return page("Reason codes", *parts)


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "commands.md": commands,
    "topics.md": topic_page,
    "candidates.md": candidates,
    "alerts.md": alerts,
    "regions.md": regions,
    "feeds.md": feeds,
    "reasons.md": reasons,
}


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    main()
