"""A handle: one execution, to wait for, read and abort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator._codec import decode_values
from orchestrator._phase import Phase
from orchestrator.errors import (
    CreateOutcomeUnknownError,
    ExecutionAbortedError,
    ExecutionFailedError,
    ExecutionTimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta

    from orchestrator._orchestrator._verbs import Orchestrator
    from orchestrator._records import Execution, Transition
    from orchestrator.models import NativeInterface

_ERRORS: dict[Phase, type[ExecutionFailedError]] = {
    Phase.ABORTED: ExecutionAbortedError,
    Phase.TIMED_OUT: ExecutionTimedOutError,
}


class Handle:
    """One submitted execution. Awaiting it is awaiting its result.

    Attributes:
        id: The execution's id; `Orchestrator.handle` makes a handle of it again,
            in any process.
        existing: Whether an idempotency key led to an execution that was there.
    """

    __slots__ = ("_interface", "_orchestrator", "existing", "id")

    def __init__(
        self,
        orchestrator: Orchestrator,
        execution_id: str,
        *,
        interface: NativeInterface | None = None,
        existing: bool = False,
    ) -> None:
        """Refer to an execution of *orchestrator*'s database."""
        self._orchestrator = orchestrator
        self._interface = interface
        self.id = execution_id
        self.existing = existing

    def __repr__(self) -> str:
        """Show the id."""
        return f"Handle({self.id!r})"

    def __await__(self) -> Generator[Any, None, Any]:
        """Await `result`."""
        return self.result().__await__()

    async def get(self) -> Execution:
        """Return the record as it is now."""
        return await self._orchestrator.get(self.id)

    async def history(self) -> list[Transition]:
        """Return the transitions so far, oldest first."""
        return await self._orchestrator.history(self.id)

    async def abort(self, reason: str = "") -> None:
        """Wish for the end; see `Orchestrator.abort`."""
        await self._orchestrator.abort(self.id, reason=reason)

    async def wait(self, timeout: timedelta | float | None = None) -> Execution:  # noqa: ASYNC109 - asyncio's own name for it
        """Return the terminal record, however it ended.

        Args:
            timeout: Seconds or timedelta, None for no limit.

        Raises:
            WaitTimeoutError: It is not terminal yet; it goes on.
        """
        return await self._orchestrator.wait(self.id, timeout=timeout)

    async def result(self, timeout: timedelta | float | None = None) -> Any:  # noqa: ASYNC109
        """Return the outputs as native values: one value, a tuple of several, or None.

        Several come in the order of the task's interface.

        Raises:
            ExecutionFailedError: It did not succeed; see the subclasses.
            WaitTimeoutError: It is not terminal yet; it goes on.
        """
        execution = await self.wait(timeout)
        values = await self.outputs(execution)
        if len(values) > 1:
            return tuple(values.values())
        return next(iter(values.values()), None)

    async def outputs(
        self, execution: Execution, *, in_connector_order: bool = False
    ) -> dict[str, Any]:
        """Return the native outputs of a terminal record, by name.

        Raises:
            ExecutionFailedError: It did not succeed.
        """
        if execution.phase is not Phase.SUCCEEDED:
            if execution.error_code == "CREATE_OUTCOME_UNKNOWN":
                raise CreateOutcomeUnknownError(execution)
            raise _ERRORS.get(execution.phase, ExecutionFailedError)(execution)
        if execution.outputs_proto is None:
            return {}
        interface = self._interface
        if interface is None:
            interface = await self._orchestrator.interface_of(execution)
        values = decode_values(interface.outputs, execution.outputs_proto)
        told = list(execution.outputs or {})
        declared = [name for name in interface.outputs if name in values]
        order = told if in_connector_order else declared
        return {name: values[name] for name in dict.fromkeys([*order, *values])}
