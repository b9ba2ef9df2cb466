"""Tables of active regions as a folder of arrays that many processes map into their memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmatch.intervals import Intervals
from crossmatch.model import (
    Circle,
    Ellipse,
    Localization,
    MultiOrderMap,
    Polygon,
    Region,
    SystematicTerm,
)
from crossmatch.shapes import shape_of
from crossmatch.tables import Cells, Columns, Tables

# Raised whenever the files are laid out or read in another way.
_LAYOUT = 2
_ABOUT = "tables.json"
# Files below it are read: mapping costs a page each, and an empty array cannot be mapped.
_SMALL_BYTES = 1 << 16


def save(tables: Tables, others: Mapping[int, Region], folder: Path) -> None:
    """Write ``tables`` to ``folder``; ``others`` are the regions of the rows of kind OTHER.

    The description is written last: a folder that has one is whole, and stays as it is.

    Raises
    ------
    FileExistsError
        If tables were saved there: others may have mapped them.
    """
    if (folder / _ABOUT).exists():
        raise FileExistsError(f"{folder} has tables already")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("key", "values"):
        np.save(folder / f"cells-{name}.npy", getattr(tables.cells, name))
    for field in fields(Columns):
        np.save(folder / f"rows-{field.name}.npy", getattr(tables.columns, field.name))
    for i, layer in enumerate(tables.layers):
        for name in ("edges", "first", "rows"):
            np.save(folder / f"layer{i}-{name}.npy", getattr(layer, name))
    about = {
        "layout": _LAYOUT,
        "layers": len(tables.layers),
        "others": [_written(row, r.localization, folder) for row, r in others.items()],
    }
    part = folder / f"{_ABOUT}.part"
    part.write_text(json.dumps(about), "utf-8")
    part.replace(folder / _ABOUT)


def load(folder: Path, mmap: bool) -> Tables:
    """Tables of a folder; with ``mmap`` large arrays are mapped, not read."""
    about = json.loads((folder / _ABOUT).read_text("utf-8"))
    if about.get("layout") != _LAYOUT:
        raise ValueError(f"{folder} was written by another version of this program")

    def array(name: str) -> NDArray[Any]:
        path = folder / f"{name}.npy"
        if not mmap or path.stat().st_size < _SMALL_BYTES:
            return np.asarray(np.load(path, allow_pickle=False))
        # A plain array over the mapped pages: memmap's own indexing is slower.
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))

    layers = [
        Intervals(*(array(f"layer{i}-{name}") for name in ("edges", "first", "rows")))
        for i in range(about["layers"])
    ]
    cells = Cells(*(array(f"cells-{name}") for name in ("key", "values")))
    columns = Columns(*(array(f"rows-{field.name}") for field in fields(Columns)))
    others = {one["row"]: shape_of(_read(one, folder)) for one in about["others"]}
    return Tables(layers, cells, columns, others, again=(load, (folder, mmap)))


def _written(row: int, place: Localization, folder: Path) -> dict[str, Any]:
    """A localisation as JSON; the cells of a map go to files of their own."""
    if isinstance(place, MultiOrderMap):
        for name in ("start", "end", "density"):
            np.save(folder / f"map{row}-{name}.npy", getattr(place, name))
        return {"row": row, "kind": "map"}
    return {"row": row, "kind": type(place).__name__.lower(), "place": asdict(place)}


def _read(one: dict[str, Any], folder: Path) -> Localization:
    if one["kind"] == "map":
        names = ("start", "end", "density")
        return MultiOrderMap(*(np.load(folder / f"map{one['row']}-{n}.npy") for n in names))
    place = one["place"]
    if one["kind"] == "circle":
        terms = tuple(SystematicTerm(**term) for term in place.pop("systematic"))
        return Circle(**place, systematic=terms)
    if one["kind"] == "ellipse":
        return Ellipse(**place)
    vertices = tuple((ra, dec) for ra, dec in place["vertices_deg"])
    return Polygon(vertices, place["containment"])
