"""read: the rows behind a reference, as Arrow, pandas, polars or plain dicts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from orchestrator.connectors._endpoint import checked_endpoint
from orchestrator.connectors._frames import as_polars, require_form
from orchestrator.connectors.snowflake._errors import code_of, of_call
from orchestrator.connectors.snowflake._place import Place
from orchestrator.connectors.snowflake._sessions import (
    Credentials,
    Sessions,
    require_library,
)
from orchestrator.connectors.snowflake._states import NO_DATA
from orchestrator.errors import ConfigurationError, ResourceGoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snowflake.connector import SnowflakeConnection

    from orchestrator.io import DataFrame

_PARTS = ("user", "account", "warehouse", "database", "schema", "query_id")
_URI = re.compile("snowflake://" + "/".join(rf"(?P<{name}>[^/]+)" for name in _PARTS))
_NEEDS = {"arrow": ["pyarrow"], "pandas": ["pandas", "pyarrow"]}
_NEEDS["polars"] = ["polars", "pyarrow"]
_FAILED = range(1, 100_000)
"""Codes of the service about the statement itself."""

Form = Literal["arrow", "pandas", "polars", "rows"]


def read(
    dataframe: DataFrame | str,
    as_: Form = "arrow",
    *,
    connection: Mapping[str, Any] | None = None,
    snowflake_private_key: str | None = None,
    snowflake_private_key_passphrase: str | None = None,
    snowflake_password: str | None = None,
    snowflake_token: str | None = None,
    endpoint: str | None = None,
    timeout: timedelta = timedelta(seconds=60),
) -> Any:
    """Return the rows of a query; blocks, so call it in a thread where that matters.

    Snowflake keeps a result for 24 hours, for the user who ran the query.

    Args:
        dataframe: A reference, or its ``snowflake://...``.
        as_: "arrow" for a ``pyarrow.Table``, "pandas" or "polars" for their
            DataFrame, "rows" for a list of dicts.
        connection: As for the connector, such as ``role``.
        snowflake_private_key: PEM text of a private key.
        snowflake_private_key_passphrase: Of that key, if it is encrypted.
        snowflake_password: A password.
        snowflake_token: An OAuth token.
        endpoint: As for the connector.
        timeout: How long to wait for an answer, at each step.

    Raises:
        ConfigurationError: The reference is none of Snowflake's, or a library is not
            installed; the text says which.
        ResourceGoneError: There is no such result (any more).
        AuthError: The credentials, or their rights, do not suffice.
        TransientError: No answer.
    """
    uri = dataframe if isinstance(dataframe, str) else dataframe.uri
    found = _URI.fullmatch(uri)
    if found is None:
        raise ConfigurationError(
            f"{uri!r} is no snowflake://user/account/warehouse/database/schema/query"
            " reference"
        )
    require_library()
    require_form(as_, _NEEDS)
    named = {name: unquote(text) for name, text in found.groupdict().items()}
    query_id = named.pop("query_id")
    place = Place(**named)  # type: ignore[arg-type]  # options are not in a reference
    try:
        place.check()
    except ValueError as error:
        raise ConfigurationError(f"{uri!r}: {error}") from None
    secrets = Credentials(
        snowflake_private_key=snowflake_private_key,
        snowflake_private_key_passphrase=snowflake_private_key_passphrase,
        snowflake_password=snowflake_password,
        snowflake_token=snowflake_token,
    )
    sessions = Sessions(
        checked_endpoint(endpoint or ""), connection or {}, timeout.total_seconds()
    )
    return _read(sessions, place, secrets, query_id, as_)


def _read(
    sessions: Sessions, place: Place, secrets: Credentials, query_id: str, form: str
) -> Any:
    """Return the rows, and close the session."""
    from snowflake.connector import errors  # noqa: PLC0415 - the extra

    try:
        with sessions.borrow(place, secrets) as session:
            return _formed(session, query_id, form)
    except errors.ProgrammingError as error:
        if code_of(error) in _FAILED:
            raise ResourceGoneError(f"no result of {query_id}: {error}") from error
        raise of_call(error) from error
    except errors.Error as error:
        raise of_call(error) from error
    finally:
        sessions.close()


def _formed(session: SnowflakeConnection, query_id: str, form: str) -> Any:
    """Return all rows in the form that was asked for."""
    from snowflake.connector import errors  # noqa: PLC0415 - the extra

    if session.get_query_status(query_id).name == NO_DATA:
        # The client would wait for it to become known.
        raise ResourceGoneError(f"query {query_id} is not known")
    cursor: Any = session.cursor()
    cursor.get_results_from_sfqid(query_id)
    if form == "rows":
        return _dicts(cursor)
    try:
        table = cursor.fetch_arrow_all(force_return_table=True)
    except errors.NotSupportedError:  # SHOW and its like answer with JSON
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - only when it is asked for

        table = pa.Table.from_pylist(_dicts(cursor))
    if form == "arrow":
        return table
    if form == "pandas":
        return table.to_pandas()
    return as_polars(table)


def _dicts(cursor: Any) -> list[dict[str, Any]]:
    rows = cursor.fetchall()
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in rows]
