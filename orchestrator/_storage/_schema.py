"""The tables, as SQLAlchemy knows them. Times are UTC microseconds in integers.

The page that says what each table is for is the package's docstring; triggers and
views are in ``_ddl``. A change here needs a migration, and a test compares both.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from orchestrator._phase import LIVE, TERMINAL, Cleanup, Phase

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _in(column: str, words: object) -> str:
    listed = ", ".join(f"'{word}'" for word in sorted(str(w) for w in words))  # type: ignore[attr-defined]
    return f"{column} IN ({listed})"


TERMINAL_SQL = _in("phase", TERMINAL)

template = Table(
    "template",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("proto", LargeBinary, nullable=False),
    Column("json", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

execution = Table(
    "execution",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("task_version", Integer, nullable=False),
    Column("template_hash", Text, ForeignKey("template.hash"), nullable=False),
    Column("phase", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("labels", Text, nullable=False, server_default=text("'{}'")),
    Column("submitted_at", BigInteger, nullable=False),
    Column("start_at", BigInteger),
    Column("ready_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("phase_at", BigInteger, nullable=False),
    Column("queued_us", BigInteger, nullable=False, server_default=text("0")),
    Column("run_started_at", BigInteger),
    Column("created_at", BigInteger),
    Column("remote_phase", Text),
    Column("message", Text),
    Column("log_links", Text),
    Column("custom_info", Text),
    Column("hold", Text),
    Column("waiting_on", Text),
    Column("creates", Integer, nullable=False, server_default=text("0")),
    Column("create_called_at", BigInteger),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("meta", LargeBinary),
    Column("meta_version", Integer),
    Column("job_key", Text),
    Column("end_reason", Text),
    Column("end_message", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("abort_requested_at", BigInteger),
    Column("abort_reason", Text),
    Column("resolution", Text),
    Column("inputs", LargeBinary, nullable=False),
    Column("inputs_json", Text, nullable=False),
    Column("outputs", LargeBinary),
    Column("outputs_json", Text),
    Column("polls", Integer, nullable=False, server_default=text("0")),
    Column("idempotency_key", Text),
    Column("retry_of", Text),
    CheckConstraint(_in("phase", Phase), name="phase"),
    CheckConstraint(
        f"({TERMINAL_SQL}) = (finished_at IS NOT NULL)", name="terminal_is_finished"
    ),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("attempt BETWEEN 1 AND max_attempts", name="attempt"),
    CheckConstraint(
        f"({_in('phase', TERMINAL - {Phase.SUCCEEDED})}) = (error_code IS NOT NULL)",
        name="error_has_code",
    ),
    CheckConstraint(
        "phase NOT IN ('RUNNING', 'ABORTING') OR"
        " (meta IS NOT NULL AND job_key IS NOT NULL)",
        name="job_has_meta",
    ),
    CheckConstraint(
        "phase NOT IN ('CREATING', 'CREATE_UNKNOWN') OR creates >= 1",
        name="create_has_intent",
    ),
    CheckConstraint("phase <> 'ABORTING' OR end_reason IS NOT NULL", name="reason"),
    CheckConstraint(f"hold IS NULL OR {_in('phase', LIVE)}", name="hold_is_live"),
    CheckConstraint("creates >= 0", name="creates"),
    CheckConstraint("meta IS NULL OR meta_version IS NOT NULL", name="meta_version"),
)
# What failed is looked for; what lives is found through its timer.
Index(
    "execution_failed",
    execution.c.id,
    sqlite_where=text("error_code IS NOT NULL"),
    postgresql_where=text("error_code IS NOT NULL"),
)

timer = Table(
    "timer",
    metadata,
    Column("execution_id", Text, ForeignKey("execution.id"), primary_key=True),
    Column("task_type", Text, nullable=False),
    Column("task_version", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("node", Text),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("woken", Integer, nullable=False, server_default=text("0")),
    Column("polls", Integer, nullable=False, server_default=text("0")),
    Column("step", Integer, nullable=False, server_default=text("0")),
    Column("errors", Integer, nullable=False, server_default=text("0")),
    Column("errors_since", BigInteger),
    Column("budget_us", BigInteger, nullable=False, server_default=text("0")),
    Column("called_at", BigInteger),
    Column("last_error", Text),
    CheckConstraint("errors >= 0 AND step >= 0 AND polls >= 0", name="counts"),
    sqlite_with_rowid=False,
)
Index(
    "timer_due",
    timer.c.due_at,
    timer.c.execution_id,
    sqlite_where=text("node IS NULL"),
    postgresql_where=text("node IS NULL"),
)
Index(
    "timer_node",
    timer.c.node,
    sqlite_where=text("node IS NOT NULL"),
    postgresql_where=text("node IS NOT NULL"),
)

history = Table(
    "history",
    metadata,
    Column("execution_id", Text, ForeignKey("execution.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("from_phase", Text),
    Column("to_phase", Text, nullable=False),
    Column("remote_phase", Text),
    Column("at", BigInteger, nullable=False),
    Column("node", Text),
    Column("epoch", Integer, nullable=False),
    Column("message", Text),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("(from_phase IS NULL) = (version = 1)", name="first"),
    sqlite_with_rowid=False,
)

external_job = Table(
    "external_job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("execution_id", Text, ForeignKey("execution.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("task_version", Integer, nullable=False),
    Column("job_key", Text, nullable=False),
    # The service's name of the job, where another execution's entry has it already.
    Column("shared_key", Text),
    Column("meta", LargeBinary, nullable=False),
    Column("meta_version", Integer, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("adopted_at", BigInteger),
    Column("cleanup", Text, nullable=False, server_default=text("'NONE'")),
    Column("cleanup_since", BigInteger),
    Column("cleanup_due_at", BigInteger),
    Column("cleanup_node", Text),
    Column("cleanup_epoch", Integer, nullable=False, server_default=text("0")),
    Column("cleanup_tries", Integer, nullable=False, server_default=text("0")),
    Column("cleanup_error", Text),
    UniqueConstraint("task_type", "task_version", "job_key"),
    CheckConstraint(_in("cleanup", Cleanup), name="cleanup"),
    CheckConstraint(
        "(cleanup = 'DUE') = (cleanup_due_at IS NOT NULL)", name="cleanup_is_due"
    ),
)
Index(
    "external_job_cleanup_due_at",
    external_job.c.cleanup_due_at,
    sqlite_where=text("cleanup = 'DUE'"),
    postgresql_where=text("cleanup = 'DUE'"),
)
Index("external_job_execution_id", external_job.c.execution_id)

sweep = Table(
    "sweep",
    metadata,
    Column("token", Text, primary_key=True),
    Column("execution_id", Text, ForeignKey("execution.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("task_version", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("sweep_due_at", sweep.c.due_at)

node = Table(
    "node",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lock_path", Text),
    Column("version", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    sqlite_with_rowid=False,
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("key", Text, primary_key=True),
    Column("execution_id", Text, ForeignKey("execution.id"), nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quota = Table(
    "quota",
    metadata,
    Column("task_type", Text, primary_key=True),
    Column("task_version", Integer, primary_key=True),
    Column("live", Integer, nullable=False, server_default=text("0")),
    Column("max_live", Integer),
    CheckConstraint("live >= 0", name="live"),
    sqlite_with_rowid=False,
)

connector = Table(
    "connector",
    metadata,
    Column("task_type", Text, primary_key=True),
    Column("task_version", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("paused_at", BigInteger),
    Column("paused_reason", Text),
    Column("broken_until", BigInteger),
    Column("errors", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    Column("seen_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("execution_id", Text, ForeignKey("execution.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("execution_id", "version"),
)

counter = Table(
    "counter",
    metadata,
    Column("task_type", Text, primary_key=True),
    Column("phase", Text, primary_key=True),
    Column("executions", Integer, nullable=False),
    sqlite_with_rowid=False,
)

prune_permit = Table(
    "prune_permit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    # Refers to a row that cannot be: checked at the commit, it refuses a transaction
    # that leaves its permit behind.
    Column(
        "closes",
        Integer,
        ForeignKey("prune_permit.id", deferrable=True, initially="DEFERRED"),
        nullable=False,
        server_default=text("2"),
    ),
    CheckConstraint("id = 1", name="one"),
    CheckConstraint("closes = 2", name="closes"),
)
