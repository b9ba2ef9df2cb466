"""Paths to values: Param names, JSONPath (RFC 9535) and XPath, each compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from jsonpath import JSONPathEnvironment, JSONPathError
from lxml import etree

from crossmatch.errors import ConfigError, NoticeError

if TYPE_CHECKING:
    from gateway.feeds.message import Message

TOPIC = "@topic"

# $.a.b[0]['c']: nearly all paths are like this, and need no machinery.
_STEP = r"\.[A-Za-z_][A-Za-z0-9_]*|\[-?[0-9]{1,9}\]|\['[^'\\]*'\]|\[\"[^\"\\]*\"\]"
_PLAIN = re.compile(rf"\$(?:{_STEP})*")
_STEPS = re.compile(_STEP)
# Of a text, what is compared with a mark.
_LONGEST = 1000
# Without the extensions of the library: what a feed file says must mean the same elsewhere.
_ENVIRONMENT = JSONPathEnvironment(strict=True)


def value_at(message: Message, path: str) -> Any:
    """First value at ``path`` in a message, ``None`` where there is none.

    Parameters
    ----------
    path : str
        ``$.a.b[0]``, ``$['a b']``, ``$..a``, ``$.a[?@.b == 'c']``: a JSONPath on a JSON record.
        ``/...`` or ``//...``: an XPath on a VOEvent, by local names; an element stands for its
        text, an attribute is asked for as in ``//Param[@name='a']/@value``.
        ``@topic``: the topic that the message came by.
        Anything else, ``$schema`` too, is the name of a Param (``Group.name`` where
        needed) or of a member of the record.

    Raises
    ------
    NoticeError
        ``path_failed``: the path could not be followed in this message.
    ConfigError
        When ``path`` is none.
    """
    if _is_json(path):
        return None if message.record is None else _json(path)(message.record)
    if path.startswith("/"):
        return None if message.packet is None else _first(_xml(path), message)
    if path == TOPIC:
        return message.topic or None
    if message.packet is not None:
        return message.packet.params.get(path)
    return None if message.record is None else message.record.get(path)


def check_path(path: str) -> None:
    """Refuse what :func:`value_at` could not follow.

    Raises
    ------
    ConfigError
        Naming the path and what is wrong with it.
    """
    if _is_json(path):
        _json(path)
    elif path.startswith("/"):
        _xml(path)
    elif not path.strip() or (path.startswith("$") and not re.fullmatch(r"\$\w+", path)):
        raise ConfigError(f"path {short(path)}: write a name, a JSONPath ($.a) or an XPath (//a)")


def marked(message: Message, marks: Mapping[str, str]) -> bool:
    """Whether any of ``marks`` (path to text) holds; see :func:`is_like`."""
    return any(is_like(value_at(message, path), text) for path, text in marks.items())


def is_like(value: Any, text: str) -> bool:
    """Whether a value reads like ``text``; of a list, whether an item does.

    Capitals and small letters are one; ``*`` stands for any text, and alone for any
    value but null, false, and empty ones. Numbers and booleans are compared as
    they are written: ``1``, ``true``.

    Examples
    --------
    >>> is_like("Gold Track Alert", "gold*"), is_like(True, "true"), is_like([2, 1.0], "1")
    (True, True, True)
    >>> is_like(False, "*"), is_like(None, "null")
    (False, False)
    """
    if value is None:
        return False
    if isinstance(value, list):
        return any(is_like(item, text) for item in value)
    if text == "*":
        return value is not False and value not in ("", {})
    if isinstance(value, Mapping):
        return False
    return _pattern(text).fullmatch(_written(value)) is not None


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)[:_LONGEST].strip()


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in text.strip().split("*"))
    return re.compile(".*".join(parts), re.IGNORECASE | re.DOTALL)


def _is_json(path: str) -> bool:
    return path == "$" or path.startswith(("$.", "$["))


@lru_cache(maxsize=4096)
def _json(path: str) -> Callable[[Any], Any]:
    """Function from a record to the first value at a JSONPath."""
    if _PLAIN.fullmatch(path):
        return _walk(tuple(map(_key, _STEPS.findall(path))))
    try:
        query = _ENVIRONMENT.compile(path)
    except (JSONPathError, RecursionError, ValueError) as error:
        said = str(error.args[0])[:200]
        raise ConfigError(f"path {short(path)}: not a JSONPath: {said}") from error

    def find(record: Any) -> Any:
        try:
            match = query.match(record)
        except (JSONPathError, RecursionError) as error:
            raise NoticeError("path_failed", f"{path[:60]!r}: {error}") from error
        return None if match is None else match.obj

    return find


def _key(step: str) -> str | int:
    if step.startswith("."):
        return step[1:]
    inner = step[1:-1]
    return inner[1:-1] if inner[0] in "'\"" else int(inner)


def _walk(keys: tuple[str | int, ...]) -> Callable[[Any], Any]:
    def find(value: Any) -> Any:
        for key in keys:
            if isinstance(key, str):
                if not isinstance(value, Mapping):
                    return None
                value = value.get(key)
            elif isinstance(value, list) and -len(value) <= key < len(value):
                value = value[key]
            else:
                return None
        return value

    return find


@lru_cache(maxsize=4096)
def _xml(path: str) -> etree.XPath:
    try:
        query = etree.XPath(path)
        # Unknown prefixes and functions show only when the path is followed.
        query(etree.Element("VOEvent"))
    except (etree.XPathError, ValueError) as error:
        hint = "; write names without prefix" if "prefix" in str(error) else ""
        raise ConfigError(f"path {short(path)}: not an XPath: {str(error)[:200]}{hint}") from error
    return query


def _first(query: etree.XPath, message: Message) -> Any:
    try:
        found: Any = query(message.tree)
    except etree.XPathError as error:
        raise NoticeError("path_failed", f"{query.path[:60]!r}: {error}") from error
    if isinstance(found, list):
        if not found:
            return None
        found = found[0]
    if isinstance(found, etree._Element):
        return (found.text or "").strip()
    return str(found) if isinstance(found, str) else found


def alternatives(path: str) -> list[str]:
    """Paths of ``"a or b"``."""
    return [part.strip() for part in path.split(" or ")]
