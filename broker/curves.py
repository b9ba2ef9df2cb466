"""Light curves of packets, read in Spark's JVM: what `broker.history` looks at, and no more.

Java made for whole records (`broker.javarecords`) passes over each of their bytes, and gives a
curve only of a packet that `fastavro` would read to its end as well. Of all others, and those with
a schema that it has no room for, there is none here: then Python decodes the packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql import types as st

from broker import containers, javarecords, layouts, packets
from broker.history import ELASTICC_SIGN, FIELDS
from broker.javacode import read_packets
from broker.javarecords import ADVANCE, Records, call
from broker.layouts import Layout, fields_of
from crossmatch.errors import AlertError

_TEXTS = ("isdiffpos", "band", "filterName")
_OBJECT = "diaObject"
_NUMBERS = ("double", "float", "long", "int")


def history_column(
    survey: str, value: Column, messages: Mapping[int, str], texts: Sequence[str]
) -> Column:
    """Struct shaped like records of a survey, with the `broker.history.FIELDS` alone.

    Parameters
    ----------
    survey : {"ztf", "lsst"}
    value : Column
        Packets, binary.
    messages : mapping
        Schema JSON by registry id, for the Confluent wire format.
    texts : sequence of str
        Texts of writers' schemas in the headers of containers.

    Returns
    -------
    Column
        Null where the JVM does not read the whole packet, or it is broken anywhere.
    """
    by_id = {number: found for number, text in messages.items() if (found := _known(survey, text))}
    by_text = [(text, found) for text in texts if (found := _known(survey, text))]
    known = layouts.distinct((*by_id.values(), *(layout for _, layout in by_text)))
    packet = read_packets(
        value,
        java_methods(survey, known),
        javarecords.whole_description(len(FIELDS[survey]), known, by_id, by_text),
        row_type(survey),
    )
    return sf.when(sf.octet_length(value) <= containers.MAX_PACKET_BYTES, packet)


def java_methods(survey: str, known: Sequence[Layout]) -> str:
    """Methods that read layouts of `layout_of`, as `broker.javarecords.java_methods`.

    Raises
    ------
    AlertError
        ``bad_schema`` if a layout is too long.
    """
    slots: dict[tuple[str, ...], int] = {}
    for i, (array, names) in enumerate(FIELDS[survey].items()):
        slots[array,] = i
        slots |= {(array, name): j for j, name in enumerate(names)}
    return javarecords.reading(known, lambda layout, methods: _Whole(layout, slots, methods))


def layout_of(survey: str, text: str) -> Layout:
    """How to read the light curve from whole records of a writer.

    Raises
    ------
    AlertError
        ``bad_schema`` if it has other types than arrays of records, numbers and text there: of
        those only Python knows what it makes of them; and if it is no alert of the survey.
    """
    schema = containers.checked_schema(text)
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise AlertError("bad_schema", "an alert schema is a record")
    named = layouts.named_types(schema, {})
    if packets.survey_of(_shape(schema, named)) != survey:
        raise AlertError("bad_schema", f"not surely an alert of {survey}")
    wanted = []
    for name, kind in fields_of(schema).items():
        if name not in FIELDS[survey]:
            continue
        if name == _OBJECT:
            if _has_sign(kind, named):
                wanted.append({"name": name, "type": {"type": "record", "fields": []}})
            continue
        items = _array_items(name, kind, named)
        entry = {"type": "record", "fields": _entry(FIELDS[survey][name], items, named)}
        wanted.append({"name": name, "type": {"type": "array", "items": entry}})
    reader = {"type": "record", "name": schema["name"], "fields": wanted}
    return Layout(layouts.plain(schema), reader)


def records(column: pa.StructArray) -> list[dict[str, Any]]:
    """Rows of `history_column` for `broker.history.history`.

    Parameters
    ----------
    column : (n,) StructArray
        Without nulls.

    Returns
    -------
    list of dict
        Entries lack what none of the column has.
    """
    found: list[dict[str, Any]] = [{} for _ in range(len(column))]
    for field, values in zip(column.type, column.flatten(), strict=True):
        valid = values.is_valid().to_pylist()
        if pa.types.is_struct(field.type):
            something = dict.fromkeys(child.name for child in field.type)
            for record, is_there in zip(found, valid, strict=True):
                record[field.name] = something if is_there else None
            continue
        entries = _dicts(values.flatten())
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths).tolist()
        begin = 0
        for record, end, is_there in zip(found, ends, valid, strict=True):
            record[field.name] = entries[begin:end] if is_there else None
            begin = end
    return found


def _dicts(entries: pa.StructArray) -> list[dict[str, Any]]:
    """The same as ``to_pylist``, a column at a time; without columns that have nothing."""
    columns = {
        child.name: _values(values)
        for child, values in zip(entries.type, entries.flatten(), strict=True)
        if values.null_count < len(values)
    }
    if not columns:
        return [{} for _ in range(len(entries))]
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(values: pa.Array) -> list[Any]:
    if pa.types.is_string(values.type):
        # They are few, and the same again and again.
        coded = values.dictionary_encode()
        texts = [*coded.dictionary.to_pylist(), None]
        codes = pc.fill_null(coded.indices, len(texts) - 1).to_numpy(zero_copy_only=False)
        return [texts[code] for code in codes.tolist()]
    found: list[Any] = values.to_numpy(zero_copy_only=False).tolist()
    if values.null_count:
        for i in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist():
            found[i] = None
    return found


def row_type(survey: str) -> st.StructType:
    """What `history_column` is of."""
    row = st.StructType()
    for name, fields in FIELDS[survey].items():
        entry = st.StructType(
            [st.StructField(f, st.StringType() if f in _TEXTS else st.DoubleType()) for f in fields]
        )
        row.add(name, entry if name == _OBJECT else st.ArrayType(entry))
    return row


def _known(survey: str, text: str) -> Layout | None:
    """The layout of a schema whose light curve Java can read."""
    try:
        layout = layout_of(survey, text)
        java_methods(survey, [layout])
    except AlertError:
        return None
    return layout


def _shape(schema: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields, and those of the one record that one of them may be."""
    found: dict[str, Any] = {}
    for name, kind in fields_of(schema).items():
        inner = [branch for branch in _branches(kind, named) if _is(branch, "record")]
        found[name] = dict.fromkeys(fields_of(inner[0])) if len(inner) == 1 else None
    return found


def _branches(kind: Any, named: Mapping[str, Any]) -> Iterator[Any]:
    """Types that a value may have, other than null."""
    for branch in kind if isinstance(kind, list) else [kind]:
        if isinstance(branch, str) and branch in named:
            branch = named[branch]
        if branch != "null":
            yield branch


def _is(kind: Any, name: str) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(kind, Mapping) and kind["type"] == name


def _has_sign(kind: Any, named: Mapping[str, Any]) -> bool:
    """Whether the record that is not null has the field that tells the fluxes' zero point."""
    branches = list(_branches(kind, named))
    if not all(_is(branch, "record") for branch in branches):
        raise AlertError("bad_schema", f"{_OBJECT} is no record")
    found = {ELASTICC_SIGN in fields_of(branch) for branch in branches}
    if len(found) > 1:
        raise AlertError("bad_schema", f"{_OBJECT} is of two kinds")
    return found == {True}


def _array_items(name: str, kind: Any, named: Mapping[str, Any]) -> list[Any]:
    """Records that an array has, or several arrays in a union."""
    arrays = list(_branches(kind, named))
    items = [item for a in arrays if _is(a, "array") for item in _branches(a["items"], named)]
    if not all(_is(a, "array") for a in arrays) or not all(_is(i, "record") for i in items):
        raise AlertError("bad_schema", f"{name} is no array of records")
    return items


def _entry(
    names: Sequence[str], items: Sequence[Any], named: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Fields that entries have."""
    found = {}
    for fields in map(fields_of, items):
        for name in names:
            kinds = ("string",) if name in _TEXTS else _NUMBERS
            if name in fields:
                found[name] = "string" if name in _TEXTS else "double"
            if not all(kind in kinds for kind in _branches(fields.get(name, "null"), named)):
                raise AlertError("bad_schema", f"{name} is neither {' nor '.join(kinds)}")
    return [{"name": name, "type": kind} for name, kind in found.items()]


class _Whole(Records):
    """Statements that read light curves, and believe nothing else of a record without a look.

    What is passed over is what `fastavro` would read: text is text, and blocks of both kinds
    are read item by item.
    """

    _PASS_TEXT = "p = afterText(b, p, end);"
    _COUNT = "everyItem(b, p, end)"
    _SIZED_BLOCK = f"if (n < 0) {{ n = -n; {ADVANCE} }}"

    def _read(self, written: Any, wanted: Any, place: tuple[str, ...]) -> list[str]:
        resolved = None if isinstance(written, list) else self._resolved(written)
        if len(place) == 1 and _is(resolved, "array"):
            return [self._array(resolved["items"], wanted["items"], place)]
        if len(place) == 1 and place[0] == _OBJECT and _is(resolved, "record"):
            # That there is one is all that is asked.
            there = f"read[{self._slots[place]}] = RowFactory.create(new Object[1]);"
            return [there, *self._skip(resolved)]
        return super()._read(written, wanted, place)

    def _array(self, items: Any, wanted: Any, place: tuple[str, ...]) -> str:
        """An item that is null becomes a row of nulls: neither is an entry of a light curve."""
        read = self._method(self._read(items, wanted, place))
        cells = sum(len(slot) == 2 and slot[0] == place[0] for slot in self._slots)
        entry = (
            f"Object[] entry = new Object[{cells}]; p = {read}(b, p, end, entry);"
            " entries.add(RowFactory.create(entry));"
        )
        code = [
            "ArrayList entries = new ArrayList();",
            self._blocks("entries(b, p, end, entries.size())", entry),
            f"read[{self._slots[place]}] = entries.toArray();",
        ]
        return call(self._method(code))

    def _leaf(self, written: str, wanted: str, slot: str) -> list[str]:
        if wanted == "string":
            return [f"{slot} = soundString(b, p, end);", "p = afterBytes(b, p, end);"]
        return super()._leaf(written, wanted, slot)

    def _pass_enum(self, written: Mapping[str, Any]) -> list[str]:
        return [f"branch(b, p, {len(written['symbols'])});", ADVANCE]
