"""The default engine: what ``task.execute()`` runs on, one per event loop.

An Orchestrator that the loop already runs is used. Without one, the default is
opened on ``ORCHESTRATOR_DATABASE`` or ``./orchestrator.db`` by the first call, and
closed when its loop shuts down: an async generator that was begun is closed by
``loop.shutdown_asyncgens()``, which ``asyncio.run`` calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from orchestrator._orchestrator._verbs import Orchestrator, running_orchestrator
from orchestrator._secrets import get_logger
from orchestrator._tasks import set_default_engine_hook

if TYPE_CHECKING:
    from orchestrator._tasks import SubmitOptions

logger = get_logger(__name__)

_Life = AsyncGenerator[Orchestrator, None]
_lives: WeakKeyDictionary[asyncio.AbstractEventLoop, _Life] = WeakKeyDictionary()
_opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Orchestrator]] = (
    WeakKeyDictionary()
)


async def _live() -> _Life:
    orchestrator = Orchestrator()
    await orchestrator.open()
    try:
        while True:
            yield orchestrator
    finally:
        await orchestrator.close()


async def default_orchestrator() -> Orchestrator:
    """Return the running loop's engine, opened if this is its first use."""
    loop = asyncio.get_running_loop()
    opening = _opening.get(loop)
    if opening is None or (
        opening.done() and (opening.cancelled() or opening.exception() is not None)
    ):
        life = _lives[loop] = _live()
        opening = _opening[loop] = loop.create_task(anext(life))
    return await asyncio.shield(opening)


async def close_default() -> None:
    """Close the running loop's engine, if there is one."""
    loop = asyncio.get_running_loop()
    _opening.pop(loop, None)
    life = _lives.pop(loop, None)
    if life is not None:
        await life.aclose()


async def execute(task: Any, inputs: dict[str, Any], options: SubmitOptions) -> Any:
    """Submit, wait, and answer as Flyte's local run does."""
    orchestrator = running_orchestrator() or await default_orchestrator()
    await orchestrator.check_secrets(task)
    handle = await orchestrator.submit(
        task,
        inputs,
        idempotency_key=options.idempotency_key,
        labels=options.labels,
        priority=options.priority,
        start_at=options.start_at,
    )
    try:
        execution = await handle.wait()
    except asyncio.CancelledError:
        if options.abort_on_cancel:
            await asyncio.shield(handle.abort("the caller was cancelled"))
        else:
            logger.warning("execute() was cancelled; execution %s goes on", handle.id)
        raise
    outputs = await handle.outputs(execution, in_connector_order=True)
    return tuple(outputs.values()) if execution.outputs is not None else None


set_default_engine_hook(execute)
