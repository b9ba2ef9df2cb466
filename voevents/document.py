"""XML of strangers to a tree: bounded in size and depth, without DTD, entities or network."""

from __future__ import annotations

import re

from lxml import etree
from lxml.etree import _Element as Element

from crossmatch.errors import NoticeError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_ELEMENTS = 100_000

# Encodings in which the bytes "<!DOCTYPE" mean just that; VTP asks for ASCII or UTF-8 (section 2).
_ENCODINGS = ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252")
_DECLARED = re.compile(rb"""^<\?xml[^>]{0,200}?encoding\s*=\s*["']([^"']{1,40})["']""")
_SPACE = re.compile(rb"[ \t\r\n]*")
# Evaluated by libxml2, which takes a tenth of the time of a walk in Python.
_COUNT = etree.XPath("count(//*)")
_TOO_DEEP = etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)})")

# How UTF-16 and UTF-32 begin, with a mark of their own or at once.
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0<", b"<\0", b"\0\0\0<", b"\0\0\xfe\xff")


def safe_root(data: bytes) -> Element:
    """Root element of a document, read without DTD, entities or network, its size bounded.

    Raises
    ------
    NoticeError
        ``too_large``, ``empty``, ``unknown_format``, ``too_deep``, ``xml_encoding``,
        ``xml_dtd``, ``xml_broken``.
    """
    if len(data) > MAX_BYTES:
        raise NoticeError("too_large", f"{len(data)} bytes; a VOEvent may have {MAX_BYTES}")
    document = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    declared = _DECLARED.match(document)
    if declared and declared[1].decode("latin-1").lower() not in _ENCODINGS:
        raise NoticeError("xml_encoding", f"encoding {declared[1]!r}; expected UTF-8 or ASCII")
    if data.startswith(_WIDE):
        raise NoticeError("xml_encoding", "UTF-16 or UTF-32; expected UTF-8 or ASCII")
    if not document:
        raise NoticeError("empty", "no bytes")
    if not document.startswith(b"<"):
        raise NoticeError("unknown_format", f"starts with {data[:12]!r}; expected XML")
    if _has_doctype(document):
        # Refused before libxml2 sees it: entity definitions never get parsed.
        raise NoticeError("xml_dtd", "a document type declaration is not accepted")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False,
        attribute_defaults=False, huge_tree=False, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        # libxml2 itself stops at 256 levels, and says so.
        if "depth" in str(error).lower():
            raise NoticeError("too_deep", f"more than {MAX_DEPTH} levels") from error
        raise NoticeError("xml_broken", str(error)) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise NoticeError("xml_dtd", "a document type declaration is not accepted")
    _check_bounds(root)
    return root


def _has_doctype(document: bytes) -> bool:
    """Whether a DOCTYPE stands in the prolog; a mention in a comment or CDATA is harmless."""
    position = 0
    while True:
        position = _SPACE.match(document, position).end()  # type: ignore[union-attr]
        for opening, closing in ((b"<?", b"?>"), (b"<!--", b"-->")):
            if document.startswith(opening, position):
                end = document.find(closing, position + len(opening))
                if end < 0:
                    return False
                position = end + len(closing)
                break
        else:
            return document[position : position + 9].upper() == b"<!DOCTYPE"


def _check_bounds(root: Element) -> None:
    if _COUNT(root) > MAX_ELEMENTS:
        raise NoticeError("too_large", f"more than {MAX_ELEMENTS} elements")
    if _TOO_DEEP(root):
        raise NoticeError("too_deep", f"more than {MAX_DEPTH} levels")
