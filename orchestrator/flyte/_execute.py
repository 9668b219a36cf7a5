"""What ``execute()`` of a Flyte task does while the installation lasts."""

# flyte is in an environment of its own:
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import flyte
from flyte._task import AsyncFunctionTaskTemplate
from flyte.errors import NonRecoverableError

from orchestrator._tasks import current_options, default_engine_hook
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.flyte._actions import key_of_action
from orchestrator.flyte._engines import engine
from orchestrator.flyte._tasks import FlyteTask
from orchestrator.flyte._values import value_to_flyte

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable


def durable(
    original: Callable[..., Awaitable[Any]], database: str | os.PathLike[str] | None
) -> Callable[..., Awaitable[Any]]:
    """Return the method that replaces *original*."""

    async def execute(self: Any, **kwargs: Any) -> Any:
        """Run the task on a durable engine; as Flyte's own otherwise.

        A Python function is left to Flyte, which bundles its code; so is a task
        inside a pod, whose disk does not outlive it.
        """
        context = flyte.ctx()
        in_a_pod = context is not None and context.mode == "remote"
        if in_a_pod or isinstance(self, AsyncFunctionTaskTemplate):
            return await original(self, **kwargs)
        try:
            return await _run(self, kwargs, database)
        except OrchestratorError as error:
            raise _not_to_be_retried(error) from error

    return execute


def _not_to_be_retried(error: OrchestratorError) -> Exception:
    """Return *error*, of its own class and of one that Flyte does not retry after.

    The engine has made the task's retries; Flyte's local run would make them once
    more for each, as new jobs. Whether this is such a run cannot be told: Flyte
    leaves a run's context behind.
    """
    kind = type(error)
    both: Any = type(kind.__name__, (NonRecoverableError, kind), {})
    # Without its constructor, since each class calls the next one with its own words.
    made: Exception = both.__new__(both)
    made.args = error.args
    theirs = vars(NonRecoverableError(str(error), kind.__name__))
    vars(made).update({**theirs, **vars(error)})
    return made


async def _run(
    theirs: Any, kwargs: dict[str, Any], database: str | os.PathLike[str] | None
) -> Any:
    hook = default_engine_hook()
    if hook is None:
        raise ConfigurationError("no engine is installed: import orchestrator first")
    task = FlyteTask(theirs)
    options = current_options(task.options)
    key = key_of_action(options.idempotency_key)
    options = replace(options, idempotency_key=key)
    async with engine(database):
        values = await hook(task, kwargs, options)
    return None if values is None else tuple(value_to_flyte(value) for value in values)
