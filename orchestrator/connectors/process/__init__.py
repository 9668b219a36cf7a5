"""Commands on this machine as detached jobs: ProcessConnector and ProcessTask.

::

    from orchestrator.connectors import ConnectorRegistry
    from orchestrator.connectors.process import ProcessConnector, ProcessTask

    ConnectorRegistry.register(ProcessConnector())
    count = ProcessTask(
        "count",
        command=["wc", "-l", "--", "{{.inputs.path}}"],
        inputs={"path": str},
    )

**Inputs.** ``{{.inputs.name}}`` in an argument is replaced by the input: a str as it
is, anything else as JSON. The argument stays one argument; no shell reads it. An input
must not choose the program. With ``shell=True`` the command is one string for
``/bin/sh``, and inputs are there as variables: ``"$INPUT_name"``.

**Outputs.** Without a declaration they are ``exit_code`` and ``stdout`` (the end of it,
``stdout_bytes`` long, as UTF-8 with U+FFFD for what is none). A task that declares
``outputs={"rows": int}`` writes one JSON object with these keys to the file that
``$ORCHESTRATOR_OUTPUTS`` names; ``exit_code``, ``stdout`` and ``stderr`` may be
declared beside them and are filled in. JSON has no bytes, dates and durations, so they
are refused as outputs.

**Secrets** become environment variables of the command, named by their keyword. They
are never part of a command line and never written to the job folder by us; what the
command itself prints is its own affair.

**Environment.** The command inherits the orchestrator's variables unless
``inherit_env=False``. Standard input is empty.

The life of a job, and every way to die
---------------------------------------
``create`` makes the folder ``<root>/<token>``, takes its lock, writes ``meta`` and
starts a supervisor, a small program in a session of its own that inherits the lock. The
supervisor forks the command's process, which waits; writes ``started`` by a link that
can succeed only once; then lets the process execute. At the end it writes ``status``.
A ``create`` that finds ``started`` returns the stored handle and starts nothing.

=========================================  =============================================
death (kill -9, also of the whole group)   what the next ``create`` or ``get`` finds
=========================================  =============================================
creator, before the folder                 nothing; the next ``create`` starts the job
creator, after the folder or ``meta``      an unlocked folder without ``started``: same
creator, after the supervisor's start,     the pipe closes early and the supervisor
with half a command sent                   leaves: same
creator, after the whole command was sent  the supervisor goes on; ``create`` finds it
supervisor, before ``started``             the process that waits sees its pipe close
                                           and leaves: the next ``create`` starts it
supervisor, after ``started``              the command runs on as an orphan, or never
                                           ran: RUNNING while it lives, then lost
supervisor, after the command's end and    lost: an outcome that nobody wrote down
before ``status``
machine                                    ended jobs are known, as every record is
                                           synced; the others are lost
=========================================  =============================================

*Lost* is ResourceGoneError: the attempt ends, the task's retry policy decides about a
new one, with a new token. A job is never reported as something that was not seen.

Liveness of the supervisor is asked of the lock, which the kernel frees at its death, so
process ids mean nothing there. Only an orphan is asked for and signalled by its process
id, and only if the start time that was recorded (with the boot) still is its own.

``delete`` writes a byte into a FIFO of the supervisor, which sends TERM to the
command's group and, after ``grace_s``, KILL. What is left of the group when the command
ends, by itself or not, is killed too: a process that must outlive the job needs a
session of its own.
A service manager that kills everything in the orchestrator's control group (systemd:
``KillMode=control-group``) kills the jobs as well; use ``KillMode=process``.

So ``create`` is idempotent (class I) for as long as the folder stays: ``retention``.
"""

from __future__ import annotations

from orchestrator.connectors.process._connector import ProcessConnector
from orchestrator.connectors.process._meta import ProcessMeta
from orchestrator.connectors.process._task import ProcessTask

__all__ = ["ProcessConnector", "ProcessMeta", "ProcessTask"]
