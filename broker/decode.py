"""Alert packets to native columns in Spark's JVM, reading only the prefix that matching needs.

Which layout the body of a packet has is told by the schema in a container's header
(`broker.layouts`) or by a message's schema id; a reader in Java, written for the layouts
(`broker.javarecords`), looks at no byte behind the last one needed. A packet with a schema that is
not known here, with a codec, or with several records takes the way through Python.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import types as st

from broker import containers, javarecords, layouts
from broker.javacode import read_packets
from broker.layouts import Layout
from crossmatch.errors import AlertError

JVM, PYTHON = "jvm", "python"
_SPARK = {
    pa.string(): st.StringType(),
    pa.int64(): st.LongType(),
    pa.int32(): st.IntegerType(),
    pa.float64(): st.DoubleType(),
    pa.bool_(): st.BooleanType(),
}


def ztf_packet(value: Column, schemas: Sequence[str] = ()) -> Column:
    """Struct of the native leaves of ZTF packets, ``route`` and ``schema_id``.

    Parameters
    ----------
    value : Column
        Packets, binary: Avro object containers.
    schemas : sequence of str
        Texts of writers' schemas, exactly as in the packets' header (`writer_schema`): ZTF
        has sent three different ones that all call themselves 3.3.

    Returns
    -------
    Column
        Fields named and typed as `broker.surveys.NATIVE_SCHEMAS`, without the address. ``route``
        is ``jvm``, or ``python`` for a packet that is to be fetched and read there; then all
        leaves are null. A broken packet has route ``jvm`` and nulls. ``schema_id`` is null.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves`` if one of ``schemas`` is no alert schema of the survey.
    """
    return _packet("ztf", value, {}, _layouts("ztf", schemas))


def lsst_packet(
    value: Column, schemas: Mapping[int, str], container_schemas: Sequence[str] = ()
) -> Column:
    """Struct of the native leaves of LSST packets, ``route`` and ``schema_id``, as `ztf_packet`.

    Parameters
    ----------
    value : Column
        Packets, binary: Confluent wire format or Avro object containers.
    schemas : mapping
        Self-contained schema JSON by registry id, for the Confluent wire format.
    container_schemas : sequence of str
        Texts of schemas in the headers of containers to be read in the JVM.

    Notes
    -----
    ``schema_id`` is the number of a message's schema where the JVM does not read it.

    The wire format has no length. A message must have as many bytes behind the last field
    needed as what is left of a record takes at least; one that was cut further behind, in a light
    curve or cut-out, is read as a good one. Only reading all of it would tell, which costs many
    times what the needed part does; Kafka's own checksums cover what happens on the way.
    """
    messages = {number: layouts.layout_of("lsst", text) for number, text in schemas.items()}
    return _packet("lsst", value, messages, _layouts("lsst", container_schemas))


def check_schema(survey: str, text: str) -> None:
    """Raise unless packets with this schema can be read in the JVM.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves``.
    """
    javarecords.java_methods(survey, [layouts.layout_of(survey, text)])


def writer_schema(value: bytes) -> str | None:
    """Text of the schema in a container's header; None if ``value`` is not a container.

    Give it to `ztf_packet` so that later packets of this writer are read in the JVM.
    """
    try:
        text = containers.header(io.BytesIO(value)).get("avro.schema")
    except AlertError:
        # Whoever reads the packet says what is wrong with it.
        return None
    return None if text is None else text.decode("utf-8", "replace")


def _layouts(survey: str, texts: Sequence[str]) -> list[tuple[str, Layout]]:
    return [(text, layouts.layout_of(survey, text)) for text in texts]


def _packet(
    survey: str,
    value: Column,
    messages: Mapping[int, Layout],
    texts: Sequence[tuple[str, Layout]],
) -> Column:
    """Struct of leaves, ``route`` and ``schema_id``."""
    known = layouts.distinct((*messages.values(), *(layout for _, layout in texts)))
    row = st.StructType(
        [st.StructField(f.name, _SPARK[f.type]) for f in layouts.native_fields(survey)]
    )
    row.add("route", st.StringType()).add("schema_id", st.LongType())
    return read_packets(
        value,
        javarecords.java_methods(survey, known),
        javarecords.description(survey, known, messages, texts),
        row,
    )
