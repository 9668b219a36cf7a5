"""The first schema: everything from executions to the outbox.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from orchestrator._storage import _ddl

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _connector() -> None:
    op.create_table(
        "connector",
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("broken_until", sa.BigInteger(), nullable=True),
        sa.Column("errors", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "task_type", "task_version", name=op.f("connector_pkey")
        ),
        sqlite_with_rowid=False,
    )


def _counter() -> None:
    op.create_table(
        "counter",
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("executions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("task_type", "phase", name=op.f("counter_pkey")),
        sqlite_with_rowid=False,
    )


def _node() -> None:
    op.create_table(
        "node",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("lock_path", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("node_pkey")),
        sqlite_with_rowid=False,
    )


def _prune_permit() -> None:
    op.create_table(
        "prune_permit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("closes", sa.Integer(), server_default=sa.text("2"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("prune_permit_pkey")),
        sa.CheckConstraint("id = 1", name=op.f("prune_permit_one_check")),
        sa.CheckConstraint("closes = 2", name=op.f("prune_permit_closes_check")),
        sa.ForeignKeyConstraint(
            ["closes"],
            ["prune_permit.id"],
            name=op.f("prune_permit_closes_fkey"),
            deferrable=True,
            initially="DEFERRED",
        ),
    )


def _quota() -> None:
    op.create_table(
        "quota",
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("live", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_live", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("task_type", "task_version", name=op.f("quota_pkey")),
        sa.CheckConstraint("live >= 0", name=op.f("quota_live_check")),
        sqlite_with_rowid=False,
    )


def _template() -> None:
    op.create_table(
        "template",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("proto", sa.LargeBinary(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("template_pkey")),
    )


def _execution_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("template_hash", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column(
            "priority", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("labels", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("phase_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "queued_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("run_started_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("remote_phase", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("log_links", sa.Text(), nullable=True),
        sa.Column("custom_info", sa.Text(), nullable=True),
        sa.Column("hold", sa.Text(), nullable=True),
        sa.Column("waiting_on", sa.Text(), nullable=True),
        sa.Column("creates", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("create_called_at", sa.BigInteger(), nullable=True),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("meta", sa.LargeBinary(), nullable=True),
        sa.Column("meta_version", sa.Integer(), nullable=True),
        sa.Column("job_key", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("end_message", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("abort_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("abort_reason", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("inputs_json", sa.Text(), nullable=False),
        sa.Column("outputs", sa.LargeBinary(), nullable=True),
        sa.Column("outputs_json", sa.Text(), nullable=True),
        sa.Column("polls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("retry_of", sa.Text(), nullable=True),
    ]


def _execution_constraints() -> list[sa.Constraint]:
    return [
        sa.PrimaryKeyConstraint("id", name=op.f("execution_pkey")),
        sa.CheckConstraint(
            "phase IN ('ABORTED', 'ABORTING', 'CREATE_UNKNOWN', 'CREATING', 'FAILED', 'QUEUED', 'RUNNING', 'SUCCEEDED', 'TIMED_OUT')",
            name=op.f("execution_phase_check"),
        ),
        sa.CheckConstraint(
            "(phase IN ('ABORTED', 'FAILED', 'SUCCEEDED', 'TIMED_OUT')) = (finished_at IS NOT NULL)",
            name=op.f("execution_terminal_is_finished_check"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("execution_version_check")),
        sa.CheckConstraint(
            "attempt BETWEEN 1 AND max_attempts", name=op.f("execution_attempt_check")
        ),
        sa.CheckConstraint(
            "(phase IN ('ABORTED', 'FAILED', 'TIMED_OUT')) = (error_code IS NOT NULL)",
            name=op.f("execution_error_has_code_check"),
        ),
        sa.CheckConstraint(
            "phase NOT IN ('RUNNING', 'ABORTING') OR (meta IS NOT NULL AND job_key IS NOT NULL)",
            name=op.f("execution_job_has_meta_check"),
        ),
        sa.CheckConstraint(
            "phase NOT IN ('CREATING', 'CREATE_UNKNOWN') OR creates >= 1",
            name=op.f("execution_create_has_intent_check"),
        ),
        sa.CheckConstraint(
            "phase <> 'ABORTING' OR end_reason IS NOT NULL",
            name=op.f("execution_reason_check"),
        ),
        sa.CheckConstraint(
            "hold IS NULL OR phase IN ('ABORTING', 'CREATE_UNKNOWN', 'CREATING', 'QUEUED', 'RUNNING')",
            name=op.f("execution_hold_is_live_check"),
        ),
        sa.CheckConstraint("creates >= 0", name=op.f("execution_creates_check")),
        sa.CheckConstraint(
            "meta IS NULL OR meta_version IS NOT NULL",
            name=op.f("execution_meta_version_check"),
        ),
        sa.ForeignKeyConstraint(
            ["template_hash"],
            ["template.hash"],
            name=op.f("execution_template_hash_fkey"),
        ),
    ]


def _execution() -> None:
    op.create_table(
        "execution",
        *_execution_columns(),
        *_execution_constraints(),
    )
    op.create_index(
        "execution_failed",
        "execution",
        ["id"],
        unique=False,
        sqlite_where=sa.text("error_code IS NOT NULL"),
        postgresql_where=sa.text("error_code IS NOT NULL"),
    )


def _external_job() -> None:
    op.create_table(
        "external_job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("job_key", sa.Text(), nullable=False),
        sa.Column("shared_key", sa.Text(), nullable=True),
        sa.Column("meta", sa.LargeBinary(), nullable=False),
        sa.Column("meta_version", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("adopted_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "cleanup", sa.Text(), server_default=sa.text("'NONE'"), nullable=False
        ),
        sa.Column("cleanup_since", sa.BigInteger(), nullable=True),
        sa.Column("cleanup_due_at", sa.BigInteger(), nullable=True),
        sa.Column("cleanup_node", sa.Text(), nullable=True),
        sa.Column(
            "cleanup_epoch", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column(
            "cleanup_tries", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("cleanup_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("external_job_pkey")),
        sa.UniqueConstraint(
            "task_type",
            "task_version",
            "job_key",
            name=op.f("external_job_task_type_task_version_job_key_key"),
        ),
        sa.CheckConstraint(
            "cleanup IN ('ABANDONED', 'DONE', 'DUE', 'NONE')",
            name=op.f("external_job_cleanup_check"),
        ),
        sa.CheckConstraint(
            "(cleanup = 'DUE') = (cleanup_due_at IS NOT NULL)",
            name=op.f("external_job_cleanup_is_due_check"),
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["execution.id"],
            name=op.f("external_job_execution_id_fkey"),
        ),
    )
    op.create_index(
        "external_job_cleanup_due_at",
        "external_job",
        ["cleanup_due_at"],
        unique=False,
        sqlite_where=sa.text("cleanup = 'DUE'"),
        postgresql_where=sa.text("cleanup = 'DUE'"),
    )
    op.create_index(
        "external_job_execution_id", "external_job", ["execution_id"], unique=False
    )


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("from_phase", sa.Text(), nullable=True),
        sa.Column("to_phase", sa.Text(), nullable=False),
        sa.Column("remote_phase", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("execution_id", "version", name=op.f("history_pkey")),
        sa.CheckConstraint("version >= 1", name=op.f("history_version_check")),
        sa.CheckConstraint(
            "(from_phase IS NULL) = (version = 1)", name=op.f("history_first_check")
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("history_execution_id_fkey")
        ),
        sqlite_with_rowid=False,
    )


def _idempotency_key() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("idempotency_key_pkey")),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["execution.id"],
            name=op.f("idempotency_key_execution_id_fkey"),
        ),
        sqlite_with_rowid=False,
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
        sa.UniqueConstraint(
            "execution_id", "version", name=op.f("outbox_execution_id_version_key")
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("outbox_execution_id_fkey")
        ),
    )


def _sweep() -> None:
    op.create_table(
        "sweep",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("sweep_pkey")),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("sweep_execution_id_fkey")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("sweep_due_at", "sweep", ["due_at"], unique=False)


def _timer() -> None:
    op.create_table(
        "timer",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("woken", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("polls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("errors", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("errors_since", sa.BigInteger(), nullable=True),
        sa.Column(
            "budget_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("called_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("timer_pkey")),
        sa.CheckConstraint(
            "errors >= 0 AND step >= 0 AND polls >= 0", name=op.f("timer_counts_check")
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["execution.id"], name=op.f("timer_execution_id_fkey")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "timer_due",
        "timer",
        ["due_at", "execution_id"],
        unique=False,
        sqlite_where=sa.text("node IS NULL"),
        postgresql_where=sa.text("node IS NULL"),
    )
    op.create_index(
        "timer_node",
        "timer",
        ["node"],
        unique=False,
        sqlite_where=sa.text("node IS NOT NULL"),
        postgresql_where=sa.text("node IS NOT NULL"),
    )


def upgrade() -> None:
    """Create the tables, then the triggers and views."""
    _connector()
    _counter()
    _node()
    _prune_permit()
    _quota()
    _template()
    _execution()
    _external_job()
    _history()
    _idempotency_key()
    _outbox()
    _sweep()
    _timer()
    _ddl.create_all(op.execute)


def downgrade() -> None:
    """Drop everything; history goes with it."""
    _ddl.drop_all(op.execute)
    for table in (
        "prune_permit",
        "counter",
        "outbox",
        "connector",
        "quota",
        "idempotency_key",
        "node",
        "sweep",
        "external_job",
        "history",
        "timer",
        "execution",
        "template",
    ):
        op.drop_table(table)
