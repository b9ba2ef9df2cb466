"""Where the sky map lies when a notice names it, a picture of it, or what lies beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from crossmatch.bounds import ADDRESS_TOO_LONG, LONGEST_ADDRESS, MAP_ADDRESS

# What no mission means as a sky map: pictures, documents and pages for people.
_FOR_PEOPLE = re.compile(r"(?i)\.(?:png|gif|jpe?g|pdf|svg|html?|txt)$")
# These hosts send every request on to https; so nobody in between can answer it.
_SECURE = re.compile(r"^http://(?=(?:[\w-]+\.)*(?:nasa\.gov|ligo\.org|icecube\.wisc\.edu)/)")


def map_address(url: str, rules: Sequence[tuple[str, str]] = ()) -> str:
    """Address of the sky map that belongs to an address in a notice.

    Parameters
    ----------
    url : str
        As the notice has it; blanks around it do not count.
    rules : sequence of (str, str)
        ``skymap_rules`` of a feed: a pattern of addresses, and the address of the map with
        groups as ``\\1``, or nothing when such files are never sky maps. The first that
        matches is taken.

    Returns
    -------
    str
        Empty when there is no map, or what names it is longer than ``LONGEST_ADDRESS``.

    Examples
    --------
    >>> rules = [(r"/picture_(\\d)\\.png$", r"/map_\\1.fits")]
    >>> map_address("https://example.org/a/picture_7.png", rules)
    'https://example.org/a/map_7.fits'
    >>> map_address("https://example.org/a/picture_7.png")
    ''
    >>> map_address("http://gracedb.ligo.org/api/superevents/S1a/files/bayestar.fits.gz,1")
    'https://gracedb.ligo.org/api/superevents/S1a/files/bayestar.fits.gz,1'
    """
    if len(url) > LONGEST_ADDRESS:
        # Rules may backtrack: the time would grow with the square of the length.
        return ""
    url = url.strip()
    for pattern, address in rules:
        found = _compiled(pattern).search(url)
        if found is not None:
            url = url[: found.start()] + found.expand(address) + url[found.end() :]
            if not address:
                return ""
            break
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    is_file = parts.scheme in ("http", "https") and parts.netloc and parts.path.strip("/")
    if not is_file or _FOR_PEOPLE.search(parts.path):
        return ""
    # A rule may make it longer than it was.
    return _SECURE.sub("https://", url) if len(url) < LONGEST_ADDRESS else ""


def first_address(
    texts: Iterable[str], rules: Sequence[tuple[str, str]] = ()
) -> tuple[str | None, dict[str, str]]:
    """Address of the first map that ``texts`` name, and what the details say if there is none."""
    fault: dict[str, str] = {}
    for text in texts:
        if address := map_address(text, rules):
            return address, {}
        if len(text) > LONGEST_ADDRESS:
            fault = {MAP_ADDRESS: ADDRESS_TOO_LONG}
    return None, fault


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
