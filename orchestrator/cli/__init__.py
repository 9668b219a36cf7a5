"""The command ``orchestrator``: run, look at and steer executions of one database.

Exit codes: 0 fine, 1 the execution did not succeed (or, for ``doctor``, something
needs a person), 2 bad usage or refused input, 3 the database is missing, unavailable
or of another version, 130 interrupted. Errors are one line on standard error; with
``ORCHESTRATOR_DEBUG`` set they are tracebacks.

Only what a command needs is imported, and only when it runs.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator.cli._parser import build_parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The arguments after the program's name; None for the process's own.
    """
    parser = build_parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said what was to be said
        return int(stop.code or 0)
    debug = bool(os.environ.get("ORCHESTRATOR_DEBUG"))
    with _logging_to_stderr(debug=debug):
        try:
            return _dispatch(options)
        except KeyboardInterrupt:
            print("interrupted: what was accepted goes on", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # The reader has seen enough; nothing more may be flushed at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if debug:
                raise
            from orchestrator.cli._errors import report  # noqa: PLC0415 - rarely

            return report(error)


def _dispatch(options: Namespace) -> int:
    """Import the command's module, and call it."""
    module, _, function = options.command_function.partition(":")
    command = getattr(import_module(f"orchestrator.cli.{module}"), function)
    code: int = command(options)
    sys.stdout.flush()
    return code


class _OneLine(logging.Formatter):
    """Log records without tracebacks and without control sequences."""

    def format(self, record: logging.LogRecord) -> str:
        from orchestrator.cli._text import one_line  # noqa: PLC0415 - rarely needed

        return one_line(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _logging_to_stderr(*, debug: bool) -> Iterator[None]:
    """Show the library's warnings as lines; with *debug* as they are.

    Warnings of others come as logging's last resort shows them; no secret of a call in
    either.
    """
    from orchestrator._secrets import RedactingFilter  # noqa: PLC0415 - quick start

    logger = logging.getLogger("orchestrator")
    handler = logging.StreamHandler()
    if not debug:
        handler.setFormatter(_OneLine())
    logger.addHandler(handler)
    redacting = RedactingFilter()
    shown = [handler, *([logging.lastResort] if logging.lastResort else [])]
    for each in shown:
        each.addFilter(redacting)
    try:
        yield
    finally:
        for each in shown:
            each.removeFilter(redacting)
        logger.removeHandler(handler)
