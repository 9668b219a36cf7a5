"""What the command shows of logs: its own warnings and others', without secrets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from orchestrator._secrets import Redactor, Use, redacting
from orchestrator.cli import _logging_to_stderr

if TYPE_CHECKING:
    import pytest


def test_no_secret_of_a_call_reaches_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither by our handler nor by logging's last resort; then all is as before."""
    redactor = Redactor()
    use = Use(redactor, ["correct-horse"])
    ours, last = logging.getLogger("orchestrator"), logging.lastResort
    assert last is not None
    before = list(ours.handlers), list(last.filters)

    def say(name: str) -> logging.LogRecord:
        return logging.LogRecord(
            name, logging.WARNING, __file__, 1, "sent %s", ("correct-horse",), None
        )

    with _logging_to_stderr(debug=False), redacting(redactor):
        ours.handle(say("orchestrator"))
        last.handle(say("vendor"))
    assert capsys.readouterr().err == "warning: sent ***\nsent ***\n"
    assert (list(ours.handlers), list(last.filters)) == before
    use.end()
