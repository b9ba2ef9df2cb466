"""Sky maps of notices that only give an address: from a folder that the operator fills.

Nothing is downloaded. One rule for the listener (``<listen.folder>/maps``) and for the
batch (``--skymaps``): a map must bear the name of its event, because most events have a
``bayestar.fits.gz``. With ``S190814bv`` and ``https://.../bayestar.fits.gz,1`` the first
of these counts that is a file in the folder:

1. ``S190814bv/bayestar.fits.gz``, ``S190814bv_bayestar.fits.gz``, ``S190814bv-bayestar.fits.gz``;
2. the address's own file name, where it has the event's name in it (``S190814bv_skymap.fits``);
3. ``S190814bv.multiorder.fits``, ``S190814bv.fits``, ``S190814bv.fits.gz``.

The version that LVK appends (``,1``) may stand in the file's name or be left out. A map
that is found stands in place of a circle that the notice may give too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from crossmatch.errors import NoticeError
from crossmatch.model import Notice
from gateway.understand import SkymapFile

MAP_SUFFIXES = (".multiorder.fits", ".fits", ".fits.gz")


def find_map(folder: Path | None, notice: Notice) -> SkymapFile | None:
    """The map in ``folder`` that ``notice`` names by its address; None if it is not there.

    Raises
    ------
    NoticeError
        ``map_not_read`` if the file cannot be read.
    """
    if folder is None or not notice.skymap_url:
        return None
    for name in _names(notice):
        path = folder / name
        try:
            if path.is_file():
                return SkymapFile(path.read_bytes(), "folder")
        except OSError as error:
            raise NoticeError("map_not_read", f"{path}: {error.strerror}") from error
    return None


def _names(notice: Notice) -> Iterator[str]:
    """File names that count, the best first; all of them inside the folder."""
    address = unquote(urlsplit(notice.skymap_url or "").path)
    file = address.rpartition("/")[2]
    # Some names of events hold a slash; none may lead out of the folder.
    event = notice.trigger_id.rpartition("/")[2]
    if not event or event in (".", ".."):
        return
    bases = [base for base in dict.fromkeys((file, file.partition(",")[0])) if base]
    for base in bases:
        yield from (f"{event}{mark}{base}" for mark in ("/", "_", "-"))
        if event in base:
            yield base
    yield from (f"{event}{suffix}" for suffix in MAP_SUFFIXES)
