"""The database: what each table is for, and the rules of its transactions.

==================  ========================================================
table               what it is for, and who needs it
==================  ========================================================
``execution``       one wide row per submitted task, written at transitions;
                    terminal rows are immutable (trigger)
``timer``           one narrow row per live execution: due time, claim (node,
                    epoch), poll and error counts. A terminal execution has
                    none. Apart from the wide row so that a poll writes little
                    (and stays HOT on PostgreSQL, where it has no index)
``history``         append-only transitions, key (execution, version): audit
``external_job``    the ledger: every job ever created. What nobody adopted
                    owes cleanup, at its own ``cleanup_due_at``
``sweep``           tokens to be searched for again after "not found"
``template``        task templates, once each, by hash
``idempotency_key`` key -> execution and request hash
``node``            one row per start of a process: lease, lock file
``quota``           live jobs per connector, locked by the claim: quotas
``connector``       what nodes have loaded; pauses, circuit breakers
``outbox``          one row with each terminal transition: events, webhooks
``counter``         executions per task type and phase: pages never count
``prune_permit``    the one door through the append-only triggers: retention
==================  ========================================================

Rules
    * One writer per node; its transactions begin IMMEDIATE and never span a
      connector call. Readers use other connections.
    * A transition writes row, history, timer, ledger, outbox and counters in one
      transaction, guarded by version and by the claim's epoch.
    * Facts (ledger entries) are inserted whoever holds the lease; decisions are
      guarded.
    * Every statement is given its time; times are UTC microseconds. The audit views
      (``executions_v1``, ``history_v1``, ``attempts_v1``, ``jobs_v1``,
      ``orphans_v1``, ``polls_v1``, ``connectors_v1``) show ISO-8601.
    * No ON DELETE CASCADE: rows leave through the prune door, children first. The
      door is a ``prune_permit`` row that lives only inside the pruning transaction.
"""

from __future__ import annotations

from orchestrator._storage._apply import Apply
from orchestrator._storage._audit import INVARIANTS, Finding, Invariant
from orchestrator._storage._cleanups import OwedJob
from orchestrator._storage._migrate import HEAD, migrations_dir, upgrade
from orchestrator._storage._nodes import LockFile
from orchestrator._storage._store import Store
from orchestrator._storage._submit import NewExecution, Submitted
from orchestrator._storage._sweeps import Search

__all__ = [
    "HEAD",
    "INVARIANTS",
    "Apply",
    "Finding",
    "Invariant",
    "LockFile",
    "NewExecution",
    "OwedJob",
    "Search",
    "Store",
    "Submitted",
    "migrations_dir",
    "upgrade",
]
