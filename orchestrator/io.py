"""References to data that lies elsewhere: DataFrame, File and Dir.

A reference is a location and a format, no data: it is what a connector returns for
a table or an object that the service wrote, and what it is given as input. Nothing
here reads or writes the location. On the wire they are Flyte's structured dataset
and blob literals.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DataFrame",
    "Dir",
    "File",
]


@dataclass(frozen=True)
class DataFrame:
    """A table, such as ``bq://project:dataset.table`` or a folder of Parquet files.

    Attributes:
        uri: Where it is.
        format: How it is stored, for example "parquet"; "" for unknown.
    """

    uri: str
    format: str = ""


@dataclass(frozen=True)
class File:
    """One object.

    Attributes:
        uri: Where it is.
        format: How it is stored, for example "csv"; "" for unknown.
    """

    uri: str
    format: str = ""


@dataclass(frozen=True)
class Dir:
    """A set of objects under one prefix.

    Attributes:
        uri: The prefix.
        format: How the objects are stored; "" for unknown.
    """

    uri: str
    format: str = ""
