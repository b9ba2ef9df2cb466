"""A draft of a feed file from a sample message: what its members and Params look like.

Nothing here decides anything: a person reads the draft, and its sample is tried with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from crossmatch.errors import NoticeError
from gateway.feeds.dialect import FIELDS
from gateway.feeds.drafts.template import Draft
from gateway.feeds.parsers.readings import (
    ERROR_UNITS,
    angle_from,
    checked_trigger,
    number_from,
    time_from,
)
from gateway.feeds.parsers.strictjson import load_object
from voevents.parse import Packet, parse_voevent

_MAX_LEAVES = 2000
_MESSENGERS = (
    ("frb", r"frb|fast.?radio|radio.?burst|chime|dsa.?110"),
    ("gw", r"gravitational|superevent|gracedb|gwalert|\bgw\b|igwn|ligo|virgo"),
    ("neutrino", r"neutrino|icecube|km3net|antares|\bnu\b|track.?alert|super.?k"),
    ("grb", r"\bgrbs?\b|gamma|burst|fermi|swift|svom|gecam|integral|konus|calet"),
    ("xray", r"x.?ray|maxi|einstein.?probe|erosita|nicer|\bwxt\b"),
)
_WORDS = re.compile(r"[^A-Za-z0-9]+")
# Names in the order in which they are believed; the whole last step of the path must fit.
_TRIGGER_TIME = (
    r"trigger_?(time|date|utc|mjd|jd)", r"t_?0(_utc)?",
    r"(event|burst|onset|discovery|detection)_?(time|date)", r"time_?of_?(event|burst|trigger)",
    r"(obs|observation)_?(time|date|start)?", r"date_?obs", r"start_?time",
    r"utc|isot|mjd|jd|epoch", r"(date_?)?time(_?utc)?", r"timestamp|datetime|date",
)  # fmt: skip
_ISSUED = (
    r"alert_?(date)?_?time", r"(issue|sent|send|creat|publish|notice|message|submi)\w*",
    r"time_created",
)  # fmt: skip
_RA = (r"ra(_?(deg|j2000|icrs|obj))?|raj2000", r"right_?ascension\w*", r"alpha\w*")
_DEC = (r"decl?(_?(deg|j2000|icrs|obj))?|dej2000|decj2000", r"declination\w*", r"delta\w*")
_UNIT_ENDS = r"(_?(deg|degrees|arcmin|arcsec|arc_min|arc_sec|mas|rad))?"
_ERROR = (
    r"ra_?dec_?(error|err|unc)\w*",
    r"(pos(ition)?|loc(alization)?|src|source|error|err|uncertainty)?_?(error|err|radius|rad|unc|"
    r"uncertainty|r)_?(50|68|90|95|99)?" + _UNIT_ENDS,
)
_ID = (
    r"(event|trigger|trig|burst|superevent|alert|candidate)_?(id|name|number|num|no)",
    r"id|ids|name|event|trigger|source_?name|object_?id",
)
_NUMBER = (r"record_?number|rev(ision)?|version|serial|seq(uence)?(_?(no|num|number))?",)
_TEST = r"(is_?)?(test|mock|simulat\w*|drill|injection|fake)(_?(flag|event|alert|notice))?"
_RETRACTED = r"(is_?)?(retract\w*|withdrawn|cancel\w*)(_?flag)?"
_MODE = r"role|mode|status|kind|type|alert_?type|alert_?tense|category|stream"
_CONTAINMENT = r"(containment|confidence|credible|cl|cred)\w*"
_TRIGGER_PARAM = (
    r"trig(ger)?_?(id|num|number)|event_?id|grace_?id|burst_?id|superevent_?id|alert_?id",
    r"id|name|event_?name|candidate_?(id|name)|source_?(id|name)",
)
_SERIAL_PARAM = r"rev(ision)?|serial|version|seq\w*|notice_?(number|num)"


def draft_from(samples: Sequence[bytes], *, topic: str = "", name: str = "") -> Draft:
    """Draft of a feed that understands the samples, the first of them above all.

    Parameters
    ----------
    samples : sequence of bytes
        Messages of one sender; one at least.
    topic : str
        Kafka topic that they came by, if any.
    name : str
        Of the feed; guessed when empty.

    Raises
    ------
    NoticeError
        When the first sample is neither a VOEvent nor a JSON object.
    """
    readable = [s for s in samples if _is_xml(s) == _is_xml(samples[0])]
    if _is_xml(samples[0]):
        draft = _of_voevent([parse_voevent(s) for s in readable], topic)
    else:
        draft = _of_json([load_object(s) for s in readable], topic)
    if name:
        draft = replace(draft, name=name)
    return replace(draft, title=draft.title or f"Notices of {draft.mission}")


def _is_xml(raw: bytes) -> bool:
    return raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def feed_name(text: str) -> str:
    """``text`` made into the name of a feed."""
    name = "_".join(_WORDS.sub(" ", text).lower().split())[:40].strip("_")
    return name if name[:1].isalpha() else f"feed_{name}".strip("_")


def _messenger_of(*texts: str) -> str:
    """Messenger that the first of the texts that tells one tells of."""
    for text in texts:
        # Names run words together with _ and ., which \b would not part.
        words = re.sub(r"[._/-]+", " ", text).lower()
        for messenger, pattern in _MESSENGERS:
            if re.search(pattern, words):
                return messenger
    return "optical"


# --- VOEvents --------------------------------------------------------------------------------


def _of_voevent(packets: Sequence[Packet], topic: str) -> Draft:
    first = packets[0]
    stream = first.ivoid.partition("#")[0]
    has_fragment = "#" in first.ivoid
    if not has_fragment:
        stream = "/".join(first.ivoid.split("/")[:4])
    prefix = f"{stream}#" if has_fragment else stream
    mission = re.split(r"[/#]", stream.removeprefix("ivo://"))[-1] or "VOEvent"
    trigger = _trigger_param(packets)
    tests = _flags(first.params.items(), _TEST)
    retractions = _flags(first.params.items(), _RETRACTED)
    types = sorted({p.packet_type for p in packets if p.packet_type is not None})
    described = " ".join([first.description, *first.concepts])
    return Draft(
        name=feed_name(stream.removeprefix("ivo://")),
        mission=mission,
        messenger=_messenger_of(stream, topic, described),
        format="voevent",
        topics=(topic,) if topic else (),
        ivoids=(prefix,),
        prefix=feed_name(mission),
        trigger=(trigger or "@ivoid",),
        serial=next((p for p in first.params if re.fullmatch(_SERIAL_PARAM, p, re.I)), ""),
        test_params=tests,
        retraction_params=retractions,
        fields=_param_fields(first),
        skymap_urls=tuple(name for name, value in first.params.items() if _is_map(value)),
        packet_types=tuple(types),
        guessed=frozenset({"messenger", "containment", "systematic_included", "trigger"})
        | _marks(test_params=tests, retraction_params=retractions),
    )


def _trigger_param(packets: Sequence[Packet]) -> str:
    """A Param that names the event in all samples."""
    params = [n for n in packets[0].params if all(_names_event(p.params.get(n)) for p in packets)]
    return next(iter(_by_name(params, _TRIGGER_PARAM)), "")


def _names_event(text: str | None) -> bool:
    try:
        return bool(text) and bool(checked_trigger((text or "").strip()))
    except NoticeError:
        return False


def _param_fields(packet: Packet) -> dict[str, str]:
    """Params in place of what WhereWhen does not say."""
    fields: dict[str, str] = {}
    params = list(packet.params.items())
    if packet.ra_deg is None and not packet.position_note:
        fields = _position(params)
        if "ra_dec_error" in fields:
            fields["error"] = fields.pop("ra_dec_error")
    if packet.isotime is None:
        time = _first(params, _TRIGGER_TIME, lambda v: _time_format(v) == "iso")
        fields |= {"time": time} if time else {}
    return fields


# --- JSON ------------------------------------------------------------------------------------


def _of_json(records: Sequence[Mapping[str, Any]], topic: str) -> Draft:
    record = records[0]
    leaves = list(_leaves(record))
    topics = (topic,) if topic else ()
    if {"superevent_id", "alert_type", "time_created"} <= record.keys():
        return Draft(
            name=feed_name(topic or "igwn alerts"), mission="LVK", instrument="LVK",
            messenger="gw", format="igwn", topics=topics,
        )  # fmt: skip
    schema = record.get("$schema")
    schema = schema if isinstance(schema, str) else ""
    mission = _word(leaves, r"mission|observatory|telescope|survey|facility|producer|author")
    instrument = _word(leaves, r"instrument|detector|camera")
    base = topic or _schema_words(schema) or f"{mission} {instrument}".strip() or "json feed"
    base = re.sub(r"^gcn\.notices\.", "", base)
    fields = _json_fields(leaves)
    error_path = fields.get("ra_dec_error", "")
    stated = _stated_containment(error_path)
    members = " ".join(path for path, _ in leaves[:200])
    marks: dict[str, Any] = {
        "test_params": _flags(leaves, _TEST),
        "retraction_params": _flags(leaves, _RETRACTED),
        "test_when": _modes(leaves, "test"),
        "retraction_when": _modes(leaves, "retraction"),
    }
    return Draft(
        name=feed_name(base),
        mission=mission or _last_words(base),
        instrument=instrument,
        messenger=_messenger_of(f"{base} {schema}", f"{mission} {instrument}", members),
        format="json",
        topics=topics,
        schemas=(_schema_part(schema),) if schema else (),
        members=() if schema else _distinct_members(records, fields),
        prefix=feed_name(mission or _last_words(base)),
        containment=stated or 0.9,
        error_unit=_unit(error_path),
        time_format=_time_format(_found(leaves, fields.get("trigger_time", ""))) or "iso",
        # Members with the names of the unified schema are read strictly, unless named here.
        fields={k: v for k, v in fields.items() if k != v or _loosely(k, _found(leaves, v))},
        **marks,
        guessed=frozenset({"messenger", "systematic_included"})
        | _marks(**marks)
        | (frozenset() if stated else {"containment"}),
    )


def _loosely(name: str, value: Any) -> bool:
    """Whether a value is not of the type that the unified schema asks for."""
    if name in ("ra", "dec", "ra_dec_error"):
        return isinstance(value, str)
    return name in ("trigger_time", "alert_datetime") and not isinstance(value, str)


def _distinct_members(
    records: Sequence[Mapping[str, Any]], fields: Mapping[str, str]
) -> tuple[str, ...]:
    """Members by which the messages are told from those of others, all there in each sample."""
    used = [fields[k] for k in ("id", "trigger_time", "ra") if k in fields]
    own = [path for path in used if path not in FIELDS]
    own = own or [k for k in records[0] if k not in FIELDS and _join("$", k) == k][:3]
    tables = [dict(_leaves(r)) | dict(r) for r in records]
    return tuple(path for path in own if all(path in table for table in tables))


def _json_fields(leaves: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Path of each name of the unified schema, as far as one is found."""
    fields = _position(leaves)
    time = _first(leaves, _TRIGGER_TIME, _time_format)
    if time:
        fields["trigger_time"] = time
        kind = _time_format(_found(leaves, time))
        rest = [(p, v) for p, v in leaves if p != time and _time_format(v) == kind]
        issued = _first(rest, _ISSUED, _time_format)
        fields |= {"alert_datetime": issued} if issued else {}
    others: tuple[tuple[str, Sequence[str], Callable[[Any], object]], ...] = (
        ("id", _ID, lambda v: _names_event(_plain(v))),
        ("record_number", _NUMBER, lambda v: type(v) is int and 0 <= v < 2**53),
        ("healpix_url", (r".*(url|uri|link|map|file|healpix|fits).*",), _is_map),
        ("containment_probability", (_CONTAINMENT,), lambda v: type(v) is float and 0 < v < 1),
    )
    for name, patterns, fits in others:
        found = _first(leaves, patterns, fits)
        fields |= {name: found} if found else {}
    return fields


def _leaves(value: Any, path: str = "$", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Path and value of what is neither object nor list; of lists, the first item."""
    found = 0
    waiting: list[tuple[str, Any, int]] = [(path, value, depth)]
    while waiting and found < _MAX_LEAVES:
        path, value, depth = waiting.pop(0)
        if isinstance(value, Mapping) and depth < 6:
            waiting += [(_join(path, str(k)), v, depth + 1) for k, v in value.items()]
        elif isinstance(value, list) and value and depth < 6:
            if depth == 1:
                # The unified schema itself has lists: ids, [a, b, angle].
                yield path, value
            waiting.append((f"{path}[0]", value[0], depth + 1))
        elif not isinstance(value, Mapping | list):
            found += 1
            yield path, value


def _join(path: str, key: str) -> str:
    if path == "$" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        return key
    path = path if path.startswith("$") else f"$.{path}"
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        return f"{path}.{key}"
    quoted = key.replace("\\", "\\\\").replace("'", "\\'")
    return f"{path}['{quoted}']"


def _found(leaves: Iterable[tuple[str, Any]], path: str) -> Any:
    return next((v for p, v in leaves if p == path), None)


# --- what looks like what --------------------------------------------------------------------


def _position(leaves: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Right ascension, declination and error, if possible members of one object."""
    ra = _first(leaves, _RA, lambda v: _angle(v, hours=True, low=0, high=360))
    if not ra:
        return {}
    near = [(p, v) for p, v in leaves if _parent(p) == _parent(ra)]
    is_dec = lambda v: _angle(v, hours=False, low=-90, high=90)  # noqa: E731
    dec = _first(near, _DEC, is_dec) or _first(leaves, _DEC, is_dec)
    if not dec:
        return {}
    error = _first(near, _ERROR, _is_error) or _first(leaves, _ERROR, _is_error)
    return {"ra": ra, "dec": dec} | ({"ra_dec_error": error} if error else {})


def _parent(path: str) -> str:
    return re.sub(r"(\.[^.\[\]]+|\[[^\]]*\])$", "", path) if path.startswith("$") else ""


def _first(
    leaves: Iterable[tuple[str, Any]], patterns: Sequence[str], fits: Callable[[Any], object]
) -> str:
    """First path whose last step is like one of the patterns and whose value fits."""
    good = [p for p, v in leaves if v is not None and fits(v)]
    return next(iter(_by_name(good, patterns)), "")


def _by_name(paths: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        yield from (p for p in paths if re.fullmatch(pattern, _step(p), re.I))


def _step(path: str) -> str:
    """Last name of a path: ``trigger_time`` of ``$.event['trigger time']``."""
    found = re.findall(r"[A-Za-z0-9_ -]*[A-Za-z_][A-Za-z0-9_ -]*", path)
    return re.sub(r"[ -]+", "_", found[-1]) if found else path


def _angle(value: Any, *, hours: bool, low: float, high: float) -> bool:
    try:
        degrees = angle_from(value, "", hours=hours)
    except NoticeError:
        return False
    return degrees is not None and low <= degrees <= high


def _is_error(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    try:
        numbers = [number_from(v, "") for v in values]
    except NoticeError:
        return False
    return 0 < len(numbers) <= 3 and all(n is not None for n in numbers) and (numbers[0] or 0) > 0


def _time_format(value: Any) -> str:
    """How a time is written; empty when it is none."""
    if isinstance(value, str):
        try:
            return "iso" if time_from(value, "", "iso", "UTC") else ""
        except NoticeError:
            pass
    try:
        number = number_from(value, "")
    except NoticeError:
        return ""
    if number is None or isinstance(value, list):
        return ""
    # The years 2009 to 2064. GPS seconds look like Unix seconds of ten years before: such a
    # time is seen to be wrong when the sample is tried.
    ranges = (
        ("mjd", 54800, 75000), ("jd", 2.4548e6, 2.4750e6), ("unix", 1.23e9, 3e9),
        ("unix_ms", 1.23e12, 3e12),
    )  # fmt: skip
    return next((name for name, low, high in ranges if low <= number < high), "")


def _is_map(value: Any) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"https?://\S+\.(fits|fit)(\.gz|\.fz)?(,\d+)?", value) is not None
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if isinstance(value, bool | float) else str(value)


def _unit(path: str) -> str:
    words = re.sub(r"arc_(min|sec)", r"arc\1", _step(path).lower()).split("_")
    return next((w for w in words if w in ERROR_UNITS and w != "rad"), "deg")


def _stated_containment(path: str) -> float | None:
    """What the name of the error says that it holds: 0.68 of ``err_68``."""
    match = re.search(r"(?<!\d)(50|68|90|95|99)(?!\d)", _step(path))
    return int(match[1]) / 100 if match else None


def _flags(leaves: Iterable[tuple[str, Any]], pattern: str) -> tuple[str, ...]:
    """Members that say yes or no of the message, in any of the words for it."""
    return tuple(
        path
        for path, value in leaves
        if re.fullmatch(pattern, _step(path), re.I)
        and str(value).strip().lower() in ("true", "false", "1", "0", "yes", "no")
    )


def _marks(**found: object) -> frozenset[str]:
    """Names of those keys that hold something: a wrong mark would hide events."""
    return frozenset(key for key, value in found.items() if value)


def _modes(leaves: Iterable[tuple[str, Any]], word: str) -> dict[str, str]:
    """Members such as ``mode`` that may hold ``word``; the unified schema's own need no mark."""
    unified = ("alert_type", "alert_tense")
    return {
        path: f"{word}*"
        for path, value in leaves
        if re.fullmatch(_MODE, _step(path), re.I) and isinstance(value, str) and path not in unified
    }


def _word(leaves: Iterable[tuple[str, Any]], pattern: str) -> str:
    for path, value in leaves:
        fits = isinstance(value, str) and re.fullmatch(r"[\w .+/-]{1,40}", value)
        if fits and re.fullmatch(pattern, _step(path), re.I):
            return str(value)
    return ""


def _schema_words(schema: str) -> str:
    return re.sub(r"(\.schema)?\.json$", "", schema).rpartition("notices/")[2]


def _schema_part(schema: str) -> str:
    """The part of ``$schema`` that a new release of the schema leaves as it is."""
    return "/notices/" + schema.rpartition("/notices/")[2] if "/notices/" in schema else schema


def _last_words(text: str) -> str:
    return " ".join(_WORDS.sub(" ", text).split()[:3]) or text
