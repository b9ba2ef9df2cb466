"""The clients of astroquery and pyvo as we use them; they take a second to load: do it late."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import requests

# astroquery prints on loading what else could be installed.
with contextlib.redirect_stdout(io.StringIO()):
    from astroquery.xmatch import XMatchClass
from pyvo.dal import TAPService

_CONE = (
    "CONTAINS(POINT('ICRS', basic.ra, basic.dec),"
    " CIRCLE('ICRS', {ra:.9f}, {dec:.9f}, {radius:.9f})) = 1"
)


class _XMatch(XMatchClass):  # type: ignore[misc]
    """The client without its question which tables there are, before each other question."""

    def _prepare_sending_table(
        self, cat_index: int, payload: dict[str, Any], kwargs: dict[str, Any], cat: Any, *at: Any
    ) -> None:
        if cat_index == 2:
            payload["cat2"] = cat
        else:
            super()._prepare_sending_table(cat_index, payload, kwargs, cat, *at)

    def _request(self, *args: Any, **kwargs: Any) -> requests.Response:
        response: requests.Response = super()._request(*args, **kwargs)
        # What goes wrong is told by us: the client reads errors as VOTables, which few are.
        response.raise_for_status = lambda: None  # type: ignore[method-assign]
        return response


def xmatch(url: str, session: requests.Session) -> Any:
    """astroquery's client of the xMatch service at an address."""
    client = _XMatch()
    client.URL = url
    client._session = session
    return client


def tap(
    url: str, session: requests.Session, adql: str, max_rows: int
) -> Callable[[], requests.Response]:
    """What asks a TAP service, each time it is called."""
    service = TAPService(url, session=session)

    def submit() -> requests.Response:
        response: requests.Response = service.create_query(adql, maxrec=max_rows).submit()
        return response

    return submit


def cones(places_deg: Sequence[tuple[float, float]], radius_deg: float) -> str:
    """ADQL for what Simbad has within a radius of any of some places, ICRS."""
    where = " OR ".join(_CONE.format(ra=ra, dec=dec, radius=radius_deg) for ra, dec in places_deg)
    return (
        "SELECT basic.main_id, basic.ra, basic.dec, otypedef.label AS main_type,"
        " basic.rvz_redshift AS redshift FROM basic"
        f" LEFT JOIN otypedef ON otypedef.otype = basic.otype WHERE {where}"
    )
