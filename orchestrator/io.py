"""References to data that lies elsewhere: DataFrame, File and Dir.

A reference is a location and a format, no data: it is what a connector returns for
a table or an object that the service wrote, and what it is given as input. Nothing
here reads or writes the location. On the wire they are Flyte's structured dataset
and blob literals, and they are made as Flyte's are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AliasChoices, Field

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

    @classmethod
    def from_existing_remote(cls, remote_path: str, format: str | None = None) -> Self:  # noqa: A002 - Flyte's name
        """Return the reference to a table that is there."""
        return cls(uri=remote_path, format=format or "")


@dataclass(frozen=True, init=False)
class _Blob:
    """What File and Dir have in common."""

    # Within a dataclass of a user's, a row of old has it as uri.
    path: Annotated[str, Field(validation_alias=AliasChoices("path", "uri"))]
    format: str = ""

    def __init__(
        self,
        path: str | None = None,
        format: str = "",  # noqa: A002 - Flyte's name
        *,
        uri: str | None = None,
    ) -> None:
        """Refer to *path*.

        Args:
            path: Where it is.
            format: How it is stored; "" for unknown.
            uri: Another name of *path*.

        Raises:
            TypeError: Neither or both of *path* and *uri* are given.
        """
        found = uri if path is None else path
        if found is None or (path is not None and uri is not None):
            raise TypeError(f"{type(self).__name__} takes a path, or a uri")
        object.__setattr__(self, "path", found)
        object.__setattr__(self, "format", format)

    @property
    def uri(self) -> str:
        """Return the path."""
        return self.path

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @classmethod
    def from_existing_remote(cls, remote_path: str) -> Self:
        """Return the reference to what is there."""
        return cls(path=remote_path)


class File(_Blob):
    """One object.

    Attributes:
        path: Where it is; also as ``uri``.
        format: How it is stored, for example "csv"; "" for unknown.
    """


class Dir(_Blob):
    """A set of objects under one prefix.

    Attributes:
        path: The prefix; also as ``uri``.
        format: How the objects are stored; "" for unknown.
    """
