"""Which call of a Flyte run an action is: told the same in every run of a script.

Flyte names an action after its parent, its task, its inputs and the how manyeth such
call of the parent it is. All of that repeats in the next run but the name of the run
itself, from which the names start. So each action here knows its way from the run.
"""

# flyte is in an environment of its own:
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flyte
from flyte.models import ActionID

if TYPE_CHECKING:
    from collections.abc import Callable

_WAY = "_orchestrator_way"


def traced(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method that replaces *original*, ``ActionID.new_sub_action_from``."""

    def new_sub_action_from(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Return Flyte's action, with its way from the run."""
        made = original(self, *args, **kwargs)
        way = (*getattr(self, _WAY, ()), lambda at: original(at, *args, **kwargs))
        object.__setattr__(made, _WAY, way)  # it is frozen
        return made

    return new_sub_action_from


def key_of_action(key: str | None) -> str | None:
    """Return the idempotency key of the action that runs, by the *key* of its run.

    The key itself for a task that is the run; below a parent, the key and the name
    that Flyte would give the action if all runs had one name.
    """
    context = flyte.ctx()
    way = getattr(context.action, _WAY, ()) if context else ()
    if key is None or len(way) < 2:  # noqa: PLR2004 - the run's own task, and one below it
        return key
    action = ActionID(name="run")
    for step in way:
        action = step(action)
    return f"{key}/{action.name}"
