"""A name in the place of a library that the plugins import and never call here."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def pyspark() -> Iterator[None]:
    """Have a module ``pyspark`` with nothing but ``pyspark.sql.DataFrame``.

    The Databricks plugin imports the Spark plugin, which needs the class for an
    annotation; pyspark itself is 400 MB, and Java.
    """
    package, sql = types.ModuleType("pyspark"), types.ModuleType("pyspark.sql")
    sql.DataFrame = type("DataFrame", (), {})  # type: ignore[attr-defined]
    package.sql = sql  # type: ignore[attr-defined]
    sys.modules.update({"pyspark": package, "pyspark.sql": sql})
    try:
        yield
    finally:
        for name in ("pyspark", "pyspark.sql"):
            del sys.modules[name]
