"""``PacketReader.java`` in Spark: compiled by the compiler that Spark has, sent to its workers."""

from __future__ import annotations

import hashlib
import json
import zipfile
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pyspark import SparkContext, SparkFiles
from pyspark.sql import Column
from pyspark.sql.types import StructType

from crossmatch.errors import ServiceError

_NAME = "PacketReader"
_METHODS = "/* The methods that read records of the layouts. */"
# Of both surveys, and of the schemas that they had before.
_READERS = 16


def read_packets(value: Column, methods: str, description: bytes, row: StructType) -> Column:
    """Struct of what a packet has, null where it is broken.

    Parameters
    ----------
    value : Column
        Packets, binary.
    methods, description : str, bytes
        From `broker.javarecords`.
    row : StructType
        Its columns, ``route`` and ``schema_id``.

    Raises
    ------
    ServiceError
        If this process has no Spark of its own.
    """
    from pyspark.sql.classic.column import Column as JavaColumn

    context = _context()
    jvm = context._jvm
    reader = _prototype(context.applicationId, methods).of(description)
    kind = jvm.org.apache.spark.sql.types.DataType.fromJson(json.dumps(row.jsonValue()))
    arguments = context._gateway.new_array(jvm.org.apache.spark.sql.Column, 1)
    arguments[0] = value._jc
    made = made_of_java(context).invoke(None, _objects(context, reader, kind))
    return JavaColumn(made.apply(arguments))


def made_of_java(context: Any) -> Any:
    """Spark's method that makes a function of one in Java.

    Another of the same name takes any object. Which of the two a call by name from Python finds
    depends on the order in which a Java machine tells its methods: one start in ten it is the
    wrong one.
    """
    forname = context._jvm.java.lang.Class.forName
    kinds = context._gateway.new_array(context._jvm.java.lang.Class, 2)
    kinds[0] = forname("org.apache.spark.sql.api.java.UDF1")
    kinds[1] = forname("org.apache.spark.sql.types.DataType")
    return forname("org.apache.spark.sql.functions").getMethod("udf", kinds)


def java_source(methods: str) -> tuple[str, str]:
    """Name and source of the class with these methods; other methods make another name."""
    name = f"{_NAME}{hashlib.sha256(methods.encode()).hexdigest()[:16]}"
    source = resources.files("broker").joinpath(f"{_NAME}.java").read_text("utf-8")
    return name, source.replace(_METHODS, methods).replace(_NAME, name)


@lru_cache(maxsize=_READERS)
def _prototype(application_id: str, methods: str) -> Any:
    """A reader of nothing, whose class the workers of this application have too."""
    context = _context()
    jvm, gateway = context._jvm, context._gateway
    name, source = java_source(methods)
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(jvm.java.lang.Thread.currentThread().getContextClassLoader())
    compiler.cook(source)
    folder = Path(SparkFiles.getRootDirectory()) / f"readers-{application_id}"
    folder.mkdir(parents=True, exist_ok=True)
    jar = folder / f"{name}.jar"
    with zipfile.ZipFile(jar, "w") as file:
        for found, code in dict(compiler.getBytecodes()).items():
            file.writestr(found.replace(".", "/") + ".class", bytes(code))
    context._jsc.addJar(str(jar))
    loaded = compiler.getClassLoader().loadClass(f"mmgateway.{name}")
    constructor = loaded.getDeclaredConstructor(gateway.new_array(jvm.java.lang.Class, 0))
    return constructor.newInstance(_objects(context))


def _objects(context: Any, *objects: Any) -> Any:
    array = context._gateway.new_array(context._jvm.java.lang.Object, len(objects))
    for i, one in enumerate(objects):
        array[i] = one
    return array


def _context() -> Any:
    context = SparkContext._active_spark_context
    if context is None:
        raise ServiceError("packets are read by a Spark of this process; there is none")
    return context
