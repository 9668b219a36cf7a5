"""Submit options for ``task.execute()``, and the hook that leads to the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from datetime import datetime  # noqa: TC003 - dataclass fields are resolved at run time
from typing import Any

from orchestrator.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """How a task is submitted by ``task.execute()``.

    Attributes:
        idempotency_key: The same key never makes a second execution. None: none.
        labels: For finding it again.
        priority: Stored with the execution; does not order the queue yet.
        start_at: Not before this time; aware. None: now.
        abort_on_cancel: Whether cancelling ``execute()`` aborts the execution. By
            default it goes on, and its id is logged.
    """

    idempotency_key: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    start_at: datetime | None = None
    abort_on_cancel: bool = False


_NAMES = frozenset(f.name for f in fields(SubmitOptions))
_NOTHING: Mapping[str, Any] = {}
_current: ContextVar[Mapping[str, Any]] = ContextVar("options", default=_NOTHING)


def _merge(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of *inner* over those of *outer*; labels are joined."""
    merged = {**outer, **inner}
    if outer.get("labels") and inner.get("labels"):
        merged["labels"] = {**outer["labels"], **inner["labels"]}
    return merged


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* if every name is an option.

    Raises:
        ConfigurationError: Names the first that is none.
    """
    for name in given:
        if name not in _NAMES:
            known = ", ".join(sorted(_NAMES))
            raise ConfigurationError(f"options: {name!r} is none of {known}")
    return dict(given)


@contextmanager
def options(**given: Any) -> Iterator[None]:
    """Set submit options for every ``task.execute()`` inside the block.

    Blocks nest: the inner one wins, labels are joined. Tasks that are started
    inside (``asyncio.create_task``) inherit the options.

    Args:
        **given: Fields of ``SubmitOptions``.

    Raises:
        ConfigurationError: A name is no option.
    """
    token = _current.set(_merge(_current.get(), check_options(given)))
    try:
        yield
    finally:
        _current.reset(token)


def current_options(own: Mapping[str, Any] | None = None) -> SubmitOptions:
    """Return the options in force for a task.

    Args:
        own: The task's ``options=``; an ``options()`` block wins over it.
    """
    return SubmitOptions(**_merge(own or _NOTHING, _current.get()))


EngineHook = Callable[[Any, dict[str, Any], SubmitOptions], Awaitable[Any]]
"""``async (task, kwargs, options) -> what execute() returns``."""

_hook: EngineHook | None = None


def set_default_engine_hook(hook: EngineHook | None) -> EngineHook | None:
    """Install what ``execute()`` calls; return what was installed before."""
    global _hook
    before, _hook = _hook, hook
    return before


def default_engine_hook() -> EngineHook | None:
    """Return what ``execute()`` calls, None if nothing is installed."""
    return _hook


class AsyncConnectorExecutorMixin:
    """Gives a task ``execute()``, which runs it on the default engine."""

    async def execute(self, **kwargs: Any) -> Any:
        """Submit the task, wait for its end, and return what Flyte returns.

        An Orchestrator that the running loop has open is used, else one is opened on
        ORCHESTRATOR_DATABASE, else ``./orchestrator.db``. Submit
        options come from ``options()`` or the task's ``options=``. Cancelling this
        call leaves the execution running, unless ``abort_on_cancel`` is set.

        Args:
            **kwargs: The task's inputs.

        Returns:
            The connector's outputs as a tuple in the connector's order (of one
            element for one output), None without outputs.

        Raises:
            InvalidInputError: An input does not fit; nothing was submitted.
            ConnectorNotFoundError: No connector is registered for the task type.
            ExecutionFailedError: The execution did not succeed; a RuntimeError.
        """
        if _hook is None:
            message = "no engine is installed: import orchestrator.connectors first"
            raise ConfigurationError(message)
        return await _hook(
            self, kwargs, current_options(getattr(self, "options", None))
        )
