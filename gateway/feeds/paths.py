"""Paths to values: Param names, JSONPath (RFC 9535) and XPath, each compiled once."""

from __future__ import annotations

from typing import Any

from gateway.feeds.spec import Message


def value_at(message: Message, path: str) -> Any:
    """First value at ``path`` in a message, ``None`` where there is none.

    Parameters
    ----------
    path : str
        ``$...``: a JSONPath; ``/...`` or ``//...``: an XPath on local names; else the name
        of a Param (``Group.name`` where needed) or of a member.
    """
    raise NotImplementedError
