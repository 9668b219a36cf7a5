"""What users extend, under Flyte's name: ``orchestrator.extend.TaskTemplate``."""

from __future__ import annotations

from orchestrator._tasks import TaskTemplate

__all__ = ["TaskTemplate"]
