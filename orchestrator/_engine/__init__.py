"""The engine: the life of an execution, its lease, and what a crash leaves behind.

Life of an execution
    ``submit`` commits a row that is QUEUED and due. A tick claims it: the timer row
    gets this node and a higher epoch. The step asks `decide` what to do: the answer
    is CREATING, with the token, committed *before* ``create`` is called. Its answer
    is entered in the ledger and the row becomes RUNNING in one transaction, and the
    claim is released. From then on each due time is one step: claim, ``get``,
    decide, commit, release. The last one writes the terminal row, an outbox entry,
    and removes the timer.

Who may decide
    Whoever holds the claim: node and epoch. Every write of a step carries both, a
    transition also the version. A node that was paused until its lease was broken
    finds its writes refused; what its ``create`` returned still goes to the ledger.

What a crash leaves
    ==========================  ================================================
    killed                      found at the next start
    ==========================  ================================================
    before the intent           QUEUED: nothing happened
    after the intent            CREATING: becomes CREATE_UNKNOWN, is adopted from
                                the ledger, replayed, searched for, or ends
    after create's answer       the same
    while polling               RUNNING: polled again
    in delete                   ABORTING: deleted again, then looked at
    ==========================  ================================================

    The rows of a dead process on the same host are free at once (its lock file can
    be taken), of another host when its lease ends.

Waking
    A local submit or wish wakes the scheduler; another process's commit is seen by
    asking SQLite for its ``data_version`` while idle.
"""

from __future__ import annotations

from orchestrator._engine._caller import Caller
from orchestrator._engine._contexts import limits_of
from orchestrator._engine._engine import Engine
from orchestrator._engine._logs import metrics, pages
from orchestrator._engine._scheduler import Scheduler, TickReport
from orchestrator._engine._text import (
    LINKS_MAX,
    clean,
    describe,
    info_json,
    links_shown,
)
from orchestrator._faults import FAULT_POINTS

__all__ = [
    "FAULT_POINTS",
    "LINKS_MAX",
    "Caller",
    "Engine",
    "Scheduler",
    "TickReport",
    "clean",
    "describe",
    "info_json",
    "limits_of",
    "links_shown",
    "metrics",
    "pages",
]
