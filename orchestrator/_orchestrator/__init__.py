"""The composition root: public verbs, handles, the default engine.

Importing it installs the engine behind ``task.execute()``.
"""

from __future__ import annotations

from orchestrator._orchestrator._default import close_default, default_orchestrator
from orchestrator._orchestrator._handle import Handle
from orchestrator._orchestrator._verbs import Orchestrator, running_on

__all__ = [
    "Handle",
    "Orchestrator",
    "close_default",
    "default_orchestrator",
    "running_on",
]
