"""Which jobs a worker submits, what goes wrong with each, and how it may end.

A batch is made of kinds in fixed proportions, so that every named point of the
engine has something to be reached by. Worker and judge build the same plan from the
same numbers; nothing of it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from orchestrator.testing import Fault, JobSpec, Rule, ServiceClass, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CREATE_TIMEOUT_S = 0.3
"""The connector's policy; faults that are to outlast it are measured by it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way for a job to live.

    Attributes:
        spec: Its behaviour at the service.
        ends: Phases in which the execution may end; classes L and N may also end
            as `Plan.allowed` says.
        weight: Its share of a batch.
        abort_at: The stage at which it is aborted, None for never.
        give_up: Whether a user gives it up as soon as it is CREATE_UNKNOWN. Its
            job may then live on, whatever the class: that is what the user said.
        retries: New attempts after the first.
        run_timeout_s: 0 is none.
    """

    spec: JobSpec
    ends: tuple[str, ...] = ("SUCCEEDED",)
    weight: int = 1
    abort_at: str | None = None
    give_up: bool = False
    retries: int = 0
    run_timeout_s: float = 0.0
    services: tuple[ServiceClass, ...] = tuple(ServiceClass)


STAGES = ("submitted", "creating", "created", "polled")
"""When an abort is wished, in the order in which an execution passes them."""

_I = ServiceClass.IDEMPOTENT
_T = ServiceClass.TIMED
_L = ServiceClass.LISTED
_SHORT = JobSpec(run_s=0.03)
_ENDLESS = JobSpec(until_told=True)


def _with(spec: JobSpec, *faults: Rule, **changes: Any) -> JobSpec:
    return replace(spec, faults=faults, **changes)


def _create(do: Fault, times: int = 1, **how: Any) -> Rule:
    return Rule(do=do, verb="create", times=times, **how)


_LATE = CREATE_TIMEOUT_S * 1.7

KINDS: dict[str, Kind] = {
    "plain": Kind(spec=_SHORT, weight=7),
    "polled": Kind(spec=JobSpec(polls=3), weight=3),
    "waits": Kind(spec=JobSpec(queue_s=0.05, run_s=0.05), weight=2),
    "fails": Kind(spec=_with(_SHORT, ends=(State.FAILED,)), ends=("FAILED",)),
    "ends itself": Kind(spec=_with(_SHORT, ends=(State.ABORTED,)), ends=("ABORTED",)),
    "retried": Kind(
        spec=_with(_SHORT, ends=(State.RETRYABLE, State.SUCCEEDED)),
        retries=2,
        weight=3,
    ),
    "retries spent": Kind(
        spec=_with(_SHORT, ends=(State.RETRYABLE,)), ends=("FAILED",), retries=1
    ),
    "reply lost": Kind(spec=_with(_SHORT, _create(Fault.LOSE)), weight=4),
    "request lost": Kind(spec=_with(_SHORT, _create(Fault.CUT)), weight=2),
    "server error": Kind(spec=_with(_SHORT, _create(Fault.REFUSE, status=500))),
    "throttled": Kind(
        spec=_with(_SHORT, _create(Fault.REFUSE, 2, status=429, retry_after=0.05)),
        weight=2,
    ),
    "busy": Kind(spec=_with(_SHORT, _create(Fault.REFUSE, status=503))),
    "unauthorized": Kind(spec=_with(_SHORT, _create(Fault.REFUSE, status=401))),
    "rejected": Kind(
        spec=_with(_SHORT, _create(Fault.REFUSE, 1000, status=422)), ends=("FAILED",)
    ),
    "answer late": Kind(spec=_with(_SHORT, _create(Fault.LATE, delay_s=_LATE))),
    "request late": Kind(spec=_with(_SHORT, _create(Fault.STALL, delay_s=_LATE))),
    "given up": Kind(
        spec=_with(_SHORT, _create(Fault.WITHHOLD, 1000)),
        ends=("FAILED", "SUCCEEDED"),  # class L finds it after a restart
        give_up=True,
        weight=2,
    ),
    "never answered": Kind(spec=_with(_SHORT, _create(Fault.HANG_AFTER))),
    "get fails": Kind(
        spec=_with(
            JobSpec(polls=2),
            Rule(do=Fault.REFUSE, verb="get", times=2, status=500),
            Rule(do=Fault.CUT, verb="get", skip=3, times=1),
        ),
        weight=2,
    ),
    "found late": Kind(
        spec=_with(_SHORT, _create(Fault.LOSE), hidden_s=_LATE), services=(_L,)
    ),
    "abort at once": Kind(
        spec=_ENDLESS, ends=("ABORTED",), abort_at="submitted", weight=2
    ),
    "abort in create": Kind(
        spec=_ENDLESS, ends=("ABORTED",), abort_at="creating", weight=2
    ),
    "abort created": Kind(
        spec=_ENDLESS, ends=("ABORTED",), abort_at="created", weight=2
    ),
    "abort polled": Kind(spec=_ENDLESS, ends=("ABORTED",), abort_at="polled"),
    "abort unknown": Kind(
        spec=_with(_ENDLESS, _create(Fault.LOSE)),
        ends=("ABORTED",),
        abort_at="creating",
        weight=2,
    ),
    "abort late": Kind(
        spec=_with(_ENDLESS, _create(Fault.LATE, 2, delay_s=_LATE)),
        ends=("ABORTED",),
        abort_at="creating",
    ),
    "slow delete": Kind(
        spec=_with(_ENDLESS, delete_s=0.1), ends=("ABORTED",), abort_at="polled"
    ),
    "delete fails": Kind(
        spec=_with(
            _ENDLESS,
            Rule(do=Fault.REFUSE, verb="delete", times=1, status=500),
            Rule(do=Fault.LOSE, verb="delete", skip=1, times=1),
        ),
        ends=("ABORTED",),
        abort_at="polled",
        weight=2,
    ),
    "times out": Kind(spec=_ENDLESS, ends=("TIMED_OUT",), run_timeout_s=0.1),
    "aborted too late": Kind(
        spec=JobSpec(run_s=0.01), ends=("SUCCEEDED", "ABORTED"), abort_at="polled"
    ),
}


@dataclass(frozen=True)
class Plan:
    """One submission of one batch."""

    key: str
    kind_name: str
    service: ServiceClass
    spec: JobSpec = field(repr=False)
    kinds: Mapping[str, Kind] = field(
        default_factory=lambda: KINDS, repr=False, compare=False
    )

    @property
    def kind(self) -> Kind:
        """How it is to live."""
        return self.kinds[self.kind_name]

    @property
    def allowed(self) -> frozenset[str]:
        """The phases it may end in."""
        ends = frozenset(self.kind.ends)
        if self.service in (_I, _L):
            return ends
        # nobody can find out what became of a create: the honest end is FAILED
        return ends | {"FAILED"}


def batch(
    service: ServiceClass,
    number: int,
    jobs: int,
    seed: int,
    without: Collection[str] = (),
    *,
    kinds: Mapping[str, Kind] = KINDS,
) -> list[Plan]:
    """Return the *jobs* submissions of batch *number*, the same for a seed.

    Kinds named in *without* are left out of *kinds*.
    """
    rng = Random(f"{seed}:{service}:{number}")
    names = [
        name
        for name, kind in kinds.items()
        for _ in range(kind.weight)
        if service in kind.services and name not in without
    ]
    if jobs < len(names):
        rng.shuffle(names)
        # Only what is given up can owe a cleanup in every class: never left out.
        names.sort(key=lambda name: not kinds[name].give_up)
    chosen = [names[index % len(names)] for index in range(jobs)]
    rng.shuffle(chosen)
    return [
        Plan(
            key=f"{service}-{seed}-{number}-{index}",
            kind_name=name,
            service=service,
            spec=kinds[name].spec,
            kinds=kinds,
        )
        for index, name in enumerate(chosen)
    ]
