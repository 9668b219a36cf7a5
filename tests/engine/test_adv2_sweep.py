"""The sweep and a step of the wall clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.engine.kit import KILLED, RUNNING, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]

DAY = 86_400


async def test_a_step_forward_does_not_end_the_sweep_early(
    engine: Start, clock: Clock
) -> None:
    """The clock jumps by two days; the second job is listed ten minutes later."""
    listed = [False]
    script = Script(
        clock=clock,
        create=[ConnectionError("cut"), Meta("again")],
        find=lambda **_: Meta("first") if listed[0] else None,
        get=lambda meta, **_: KILLED if meta.job == "first" else RUNNING,
    )
    orchestrator = await engine(script)
    await orchestrator.submit(a_task())
    while script.number("create") < 2:
        await clock.pass_(10, orchestrator)
    clock.step(2 * DAY)
    await clock.pass_(600, orchestrator)
    listed[0] = True
    await clock.pass_(4 * 3600, orchestrator)
    deleted = [given["meta"].job for call, given in script.calls if call == "delete"]
    assert deleted == ["first"]
