"""Answers of CDS as rows: VOTables, which say where they end and whether that is all."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from crossmatch.errors import CatalogError

Row: TypeAlias = Mapping[str, Any]
"""Values by column: int, float, str, or None where there is none."""


def rows_of(body: bytes, needed: Sequence[str]) -> list[Row]:
    """Rows of a VOTable.

    Raises
    ------
    CatalogError
        ``cds_nonsense`` if it is none, is cut short, or lacks a needed column; ``cds_refused``
        and ``cds_overflow`` when its status says so.
    """
    lower = body[:2000].lower()
    if b"<votable" not in lower:
        raise CatalogError("cds_nonsense", f"no VOTable, but {body[:80]!r}")
    if b"<!doctype" in lower or b"<!entity" in body.lower():
        raise CatalogError("cds_nonsense", "a VOTable with entities of its own")
    from astropy.io import votable

    try:
        with warnings.catch_warnings():
            # Services break the standard in small things; what matters is looked at here.
            warnings.simplefilter("ignore")
            document = votable.parse(io.BytesIO(body), verify="ignore")
            _check_status(document)
            table = document.get_first_table().to_table(use_names_over_ids=True)
    except CatalogError:
        raise
    except Exception as error:
        # The library meets bytes of any kind; what it raises then is not in its manual.
        raise CatalogError("cds_nonsense", f"a broken VOTable: {error}") from error
    missing = [name for name in needed if name not in table.colnames]
    if missing:
        found = ", ".join(table.colnames[:20])
        raise CatalogError("cds_nonsense", f"no column {missing[0]}; there are {found}")
    columns = {name: _plain(table[name]) for name in table.colnames}
    return [{name: values[i] for name, values in columns.items()} for i in range(len(table))]


def _check_status(document: Any) -> None:
    infos = [*document.infos]
    for resource in document.resources:
        infos += resource.infos
        for table in resource.tables:
            infos += table.infos
    for info in infos:
        if str(info.name).upper() != "QUERY_STATUS":
            continue
        status = str(info.value).upper()
        if status == "ERROR":
            raise CatalogError("cds_refused", " ".join(str(info.content or "").split())[:300])
        if status == "OVERFLOW":
            raise CatalogError("cds_overflow", "there is more than the service tells at a time")


def _plain(column: Any) -> list[Any]:
    masked = np.ma.getmaskarray(column) if hasattr(column, "mask") else np.zeros(len(column), bool)
    return [None if hidden else _value(value) for value, hidden in zip(column, masked, strict=True)]


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip() or None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return None
