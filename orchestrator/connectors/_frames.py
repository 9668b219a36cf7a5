"""Results of queries as tables: a reference as the output, its rows in many forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.connectors._extras import is_installed
from orchestrator.errors import ConfigurationError
from orchestrator.io import DataFrame
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def query_interface(
    task: str, inputs: Mapping[str, Any] | None, output: type[DataFrame] | None
) -> NativeInterface:
    """Return the interface of a query: one output, ``results``, or none.

    Raises:
        ConfigurationError: *output* is another type.
    """
    if output not in (None, DataFrame):
        raise ConfigurationError(
            f"task {task}: output_dataframe_type must be orchestrator.io.DataFrame,"
            " a reference; read() makes pandas, polars or Arrow of it"
        )
    return NativeInterface(
        inputs=dict(inputs or {}), outputs={"results": DataFrame} if output else {}
    )


def require_form(form: str, needs: Mapping[str, Sequence[str]]) -> None:
    """See that the modules that a form of rows *needs* are installed.

    Raises:
        ConfigurationError: They are not, or there is no such form.
    """
    if form not in (*needs, "rows"):
        raise ConfigurationError(
            f"as_: {form!r} is none of arrow, pandas, polars, rows"
        )
    missing = [name for name in needs.get(form, ()) if not is_installed(name)]
    if missing:
        names = " ".join(missing).replace("_", "-")
        raise ConfigurationError(f"as_={form!r} needs: pip install {names}")


def as_polars(table: Any) -> Any:
    """Return an Arrow table as polars' DataFrame."""
    import polars as pl  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - only when it is asked for

    return pl.from_arrow(table)
