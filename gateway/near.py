"""Names that a person may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The names that are nearly ``name`` as a question; ``otherwise`` when there is none.

    Examples
    --------
    >>> did_you_mean("topcs", ["topics", "name", "title"])
    'did you mean topics?'
    >>> did_you_mean("xyz", ["topics"], "'mmgateway feeds list' shows all")
    "'mmgateway feeds list' shows all"
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if len(name) > 2:
        near = near or [n for n in names if name in n or n in name][:3]
    return f"did you mean {' or '.join(near)}?" if near else otherwise
