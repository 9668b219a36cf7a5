"""What users and operators do in one simulation, drawn from its seed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator import Backoff, RetryStrategy, TaskTemplate, Timeout
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.simulation.world import Kind


@dataclass
class Wish:
    """One execution that a user wants, and what the user does with it.

    Attributes:
        at_s: When it is submitted, in seconds of the simulation.
        abort_at_s: When its abort is wished, None for never.
        wake_at_s: When it is woken, None for never.
        id: The execution id, once a submit was acknowledged.
        tries: Submits so far; one that crashed is tried again with the same key.
    """

    number: int
    kind: Kind
    task: TaskTemplate
    options: dict[str, Any]
    at_s: float
    abort_at_s: float | None
    wake_at_s: float | None
    id: str | None = None
    tries: int = 0
    done: set[str] = field(default_factory=set)

    @property
    def key(self) -> str:
        """The idempotency key, which makes a second try harmless."""
        return str(self.options["idempotency_key"])


def draw_wishes(rng: Random, kinds: Sequence[Kind], number: int) -> list[Wish]:
    """Return *number* executions to submit, by time."""
    wishes = [_wish(rng, rng.choice(kinds), n) for n in range(number)]
    return sorted(wishes, key=lambda wish: (wish.at_s, wish.number))


def _wish(rng: Random, kind: Kind, number: int) -> Wish:
    at = rng.choice([0.0, rng.uniform(0, 600)])
    abort = None
    if rng.random() < 0.45:
        abort = at + rng.choice([0.0, rng.uniform(1, 60), rng.uniform(60, 3600)])
    options = {
        "idempotency_key": f"wish-{number}",
        "labels": {"number": str(number)},
        "priority": rng.randint(-2, 2),
    }
    return Wish(
        number=number,
        kind=kind,
        task=_task(rng, kind, number),
        options=options,
        at_s=at,
        abort_at_s=abort,
        wake_at_s=at + rng.uniform(0, 600) if rng.random() < 0.2 else None,
    )


def _task(rng: Random, kind: Kind, number: int) -> TaskTemplate:
    backoff = Backoff(
        base=timedelta(seconds=rng.choice([0, 5])), factor=2, cap=timedelta(minutes=5)
    )
    timeouts = [
        None,
        Timeout(max_runtime=timedelta(minutes=rng.choice([1, 30]))),
        Timeout(max_queued_time=timedelta(minutes=rng.choice([1, 10]))),
        Timeout(deadline=timedelta(minutes=rng.choice([2, 60, 600]))),
    ]
    return TaskTemplate(
        name=f"task-{number}",
        interface=NativeInterface(
            inputs={"n": (int, inspect.Parameter.empty)}, outputs={"result": str}
        ),
        task_type=f"sim-{kind.lower()}",
        image=None,
        retries=RetryStrategy(
            count=rng.choice([0, 1, 2]), backoff=rng.choice([None, backoff])
        ),
        timeout=rng.choice([None, None, *timeouts]),
    )
