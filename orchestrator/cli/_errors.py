"""What an error means for the exit code, and how it is told."""

from __future__ import annotations

import sys

from orchestrator.cli._text import one_line
from orchestrator.errors import (
    ConnectorError,
    ExecutionError,
    OrchestratorError,
    StoreError,
    WaitTimeoutError,
)

OK = 0
DID_NOT_SUCCEED = 1
REFUSED = 2
NO_DATABASE = 3


def exit_code(error: Exception) -> int:
    """Return what the command ends with after *error*."""
    if isinstance(error, StoreError):
        return NO_DATABASE
    if isinstance(error, (ExecutionError, WaitTimeoutError, ConnectorError)):
        return DID_NOT_SUCCEED
    return REFUSED if isinstance(error, OrchestratorError) else DID_NOT_SUCCEED


def report(error: Exception) -> int:
    """Tell *error* in one line on standard error; return the exit code."""
    text = str(error)
    if not isinstance(error, OrchestratorError):
        hint = "set ORCHESTRATOR_DEBUG=1 for the traceback"
        text = f"{type(error).__name__}: {text} ({hint})"
    print(f"orchestrator: error: {one_line(text)}", file=sys.stderr)
    return exit_code(error)
