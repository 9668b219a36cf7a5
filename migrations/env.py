"""Alembic's entry: migrates the connection that the library hands in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context
from sqlalchemy import engine_from_config

from orchestrator._storage._migrate import VERSION_TABLE
from orchestrator._storage._schema import metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection


def migrate(connection: Connection) -> None:
    """Run the migrations inside the connection's transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=False,
        transactional_ddl=True,
    )
    context.run_migrations()


handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    migrate(handed_in)
else:  # the alembic command line, for developers
    engine = engine_from_config(context.config.get_section("alembic", {}) or {})
    with engine.begin() as connection:
        migrate(connection)
