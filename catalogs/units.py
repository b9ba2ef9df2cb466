"""Units that files state of their columns, and what to multiply with to have the one we want."""

from __future__ import annotations

import io
import re
import warnings

import pyarrow as pa
from astropy import units as u
from astropy.io import votable
from astropy.table import meta

_ASTROPY = b"table_meta_yaml"
_VOPARQUET = b"IVOA.VOTable-Parquet.content"
_OWN = b"unit"
# No table has this number: fields are read, and no data, which may lie at an address.
_NO_TABLE = -1
_MAGNITUDE = re.compile(
    r"(ab|vega|st)?[ _-]*mag(nitude)?s?[ _-]*(\((ab|vega|st)\)|\[(ab|vega|st)\]|ab|vega|st)?", re.I
)
_NO_UNIT = re.compile(r"[-\s\[\]]*|none", re.I)
_NUMBER = ("1", "dimensionless", "unitless")
_SPELT = {"degrees": "deg", "radians": "rad", "parsecs": "pc"}


def conversion(unit: str, target: str) -> float | None:
    """What to multiply numbers in ``unit`` with to have them in ``target``.

    Parameters
    ----------
    unit : str
        Empty where none is stated: then the numbers are taken to be in ``target``.
    target : str
        ``mag`` is every system of magnitudes, and empty is a number without a unit.

    Returns
    -------
    float or None
        None: it is another kind of quantity, or no unit that is known.
    """
    if unit in ("", target) or _NO_UNIT.fullmatch(unit):
        return 1.0
    if target == "mag" and _MAGNITUDE.fullmatch(unit):
        return 1.0
    if not target and unit.casefold() in _NUMBER:
        return 1.0
    known = _SPELT.get(unit.casefold(), unit)
    try:
        return float(u.Unit(known, parse_strict="raise").to(u.Unit(target)))
    # Errors of conversion are ValueErrors.
    except (ValueError, TypeError):
        return None


def parquet_units(schema: pa.Schema) -> dict[str, str]:
    """Units of columns as a Parquet file states them; those without one are left out.

    They stand in the metadata of each field, or of the schema: as astropy writes them (in the
    YAML of ECSV), or as a VOTable without data (IVOA Note "Parquet in the VO").

    Raises
    ------
    ValueError
        If there is such metadata, and it cannot be read.
    """
    told = schema.metadata or {}
    found: dict[str, str] = {}
    if _VOPARQUET in told:
        found |= _of_votable(told[_VOPARQUET])
    if _ASTROPY in told:
        found |= _of_yaml(told[_ASTROPY].decode("utf-8", "replace"))
    for column in schema:
        for key, value in (column.metadata or {}).items():
            if key.lower() == _OWN:
                found[column.name] = value.decode("utf-8", "replace")
    return {name: unit for name, unit in found.items() if unit and name in schema.names}


def _of_yaml(text: str) -> dict[str, str]:
    try:
        # Astropy's loader is a safe one of PyYAML, which makes values and calls nothing.
        columns = meta.get_header_from_yaml(text.splitlines())["datatype"]
        return {str(c["name"]): str(c["unit"]) for c in columns if c.get("unit") is not None}
    except (meta.YamlParseError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"units in {_ASTROPY.decode()}: {error!r}") from error


def _of_votable(content: bytes) -> dict[str, str]:
    with warnings.catch_warnings():
        # As with VOTables: units and versions are spelt freely.
        warnings.simplefilter("ignore")
        file = votable.parse(io.BytesIO(content), table_number=_NO_TABLE)
    fields = (field for table in file.iter_tables() for field in table.fields)
    return {str(f.name): str(f.unit) for f in fields if f.unit is not None}
