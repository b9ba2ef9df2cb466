"""What a feed file may say of the way its mission writes: words and paths, checked when loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import repr as short
from typing import TYPE_CHECKING

from crossmatch.errors import ConfigError
from gateway.feeds.parsers.readings import ERROR_UNITS, FRAMES, TIME_FORMATS
from gateway.feeds.paths import alternatives, check_path
from gateway.near import did_you_mean
from voevents.times import TIME_SYSTEMS

if TYPE_CHECKING:
    from gateway.feeds.spec import Feed

# What a key of [fields] may be: members of GCN's core schema, and what it lacks.
FIELDS = frozenset(
    {
        "id", "record_number", "trigger_time", "alert_datetime", "alert_type", "alert_tense",
        "ra", "dec", "ra_dec_error", "polygon", "containment_probability", "systematic_included",
        "healpix_url", "healpix_file", "luminosity_distance", "luminosity_distance_error",
        "significant", "far", "p_astro", "classification", "properties", "cites", "retracts",
        "mission", "instrument", "messenger", "source_name",
    }
)  # fmt: skip

# Those of a VOEvent, the short names too, and what only VOEvents need.
VOEVENT_FIELDS = frozenset(
    {
        "id", "trigger", "trigger_time", "time", "alert_datetime", "issued", "ra", "dec",
        "ra_dec_error", "error", "semi_major", "semi_minor", "position_angle",
        "containment_probability", "containment", "healpix_url", "event_class",
    }
)  # fmt: skip


def check_dialect(feed: Feed, source: str) -> None:
    """Refuse words that no parser knows, and paths that cannot be followed.

    Raises
    ------
    ConfigError
        Naming ``source``, the key, and what is expected there.
    """
    for key, value, known in (
        ("error_unit", feed.error_unit, tuple(ERROR_UNITS)),
        ("frame", feed.frame, FRAMES),
        ("time_format", feed.time_format, TIME_FORMATS),
        ("time_system", feed.time_system, TIME_SYSTEMS),
    ):
        if value not in known:
            raise ConfigError(f"{source}: {key}: {short(value)}; one of {', '.join(known)}")
    # A parser of the operator's may ask for fields of its own.
    names = {"json": FIELDS, "voevent": VOEVENT_FIELDS}.get(feed.format)
    if names is not None and not feed.parser:
        for name in feed.fields:
            if name not in names:
                hint = did_you_mean(name[:60], names, "docs/reference/feeds.md lists all")
                raise ConfigError(f"{source}: fields: {name[:60]}: no such field; {hint}")
    for pattern, address in feed.skymap_rules:
        try:
            check_pattern(pattern, address)
        except ConfigError as error:
            raise ConfigError(f"{source}: skymap_rules: {error}") from error
    for key, path in _paths(feed):
        try:
            check_path(path)
        except ConfigError as error:
            raise ConfigError(f"{source}: {key[:80]}: {error}") from error


def check_pattern(pattern: str, template: str = "") -> None:
    """Refuse what is no regular expression, and a template that does not belong to it.

    Raises
    ------
    ConfigError
        Naming what is wrong, and with which of them.

    Examples
    --------
    >>> check_pattern(r"(a)", r"\\1")
    >>> check_pattern("(")
    Traceback (most recent call last):
    crossmatch.errors.ConfigError: '(': missing ), unterminated subpattern at position 0
    """
    try:
        # The template is read before anything is looked for.
        re.compile(pattern).sub(template, "")
    except Exception as error:
        # re raises OverflowError, RecursionError and IndexError besides its own.
        if "group reference" in str(error):
            said = f"{short(template)} has more groups than {short(pattern)}"
        else:
            said = f"{short(pattern)}: {str(error)[:200]}"
        raise ConfigError(said) from error


def _paths(feed: Feed) -> Iterator[tuple[str, str]]:
    for key in ("trigger", "test_params", "retraction_params", "unusable_params", "skymap_urls"):
        for path in getattr(feed, key):
            parts = alternatives(path) if key == "trigger" and path[:1] != "/" else [path]
            yield from ((key, part) for part in parts if part != "@ivoid")
    for key in ("classes", "properties"):
        yield from ((key, path) for path in getattr(feed, key))
    for key in ("kind_field", "instrument_param", "serial", "significant", "far"):
        if getattr(feed, key):
            yield key, getattr(feed, key)
    # An empty path says that the mission has no such thing, whatever its members are called.
    yield from ((f"fields: {ours}", path) for ours, path in feed.fields.items() if path)
    yield from ((f"details: {ours}", path) for ours, path in feed.details.items())
    for key in ("retraction_when", "test_when", "ignore_when"):
        yield from ((key, path) for path in getattr(feed, key))
    for kind in feed.kinds:
        yield from ((f"kinds {kind.name}: when", path) for path in kind.when)
    for path in feed.members:
        yield from (("members", p) for p in alternatives(path))
