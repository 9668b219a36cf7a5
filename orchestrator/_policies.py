"""What `decide` needs to know of a connector and a template, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._backoff import delay_us
from orchestrator._clock import duration_to_us
from orchestrator._config import Policy

if TYPE_CHECKING:
    from random import Random

    from orchestrator._connector import AsyncConnector


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """What the task's template says of retries and time. Zero is unlimited.

    Attributes:
        retries: New attempts after the first, at most.
        retry_base_us: Delay before the first retry.
        retry_factor: Growth per retry.
        retry_cap_us: Longest retry delay, None for no cap.
        run_timeout_us: Time in which an attempt's job may run.
        queued_timeout_us: Time that an attempt may wait, here and remotely.
        deadline_us: Time from max(submit, start time) over all attempts.
    """

    retries: int = 0
    retry_base_us: int = 0
    retry_factor: float = 1.0
    retry_cap_us: int | None = None
    run_timeout_us: int = 0
    queued_timeout_us: int = 0
    deadline_us: int = 0

    def retry_delay_us(self, retry: int) -> int:
        """Return the delay before retry number *retry*, counted from 0 (Flyte's)."""
        cap = 10**15 if self.retry_cap_us is None else self.retry_cap_us
        return int(min(self.retry_base_us * self.retry_factor ** min(retry, 64), cap))


_POLICY, _LIMITS = Policy(), TaskLimits()


def policy_of(connector: AsyncConnector[Any]) -> Policy:
    """Return a connector's own policy, else the default one."""
    return connector.policy or _POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """One connector's policy and abilities, and one template's limits.

    Attributes:
        idempotent_us: How long a token is surely remembered: 0 never, None for ever.
        can_find: Whether the connector has ``find``.
        names_jobs: Whether it has ``job_key``, which tells two jobs apart.
        on_unknown_create: "fail", "hold" or "create".
        delete_is_final: Whether a returned ``delete`` confirms the end.
    """

    policy: Policy = _POLICY
    limits: TaskLimits = _LIMITS
    idempotent_us: int | None = 0
    can_find: bool = False
    names_jobs: bool = False
    on_unknown_create: str = "fail"
    delete_is_final: bool = False

    def poll_delay(self, step: int, rng: Random) -> int:
        """Return microseconds until the next poll after *step* polls without news."""
        policy = self.policy
        return delay_us(
            step,
            first=duration_to_us(policy.poll_delay_min),
            cap=duration_to_us(policy.poll_delay_max),
            factor=policy.poll_factor,
            jitter=policy.jitter,
            rng=rng,
        )

    def error_delay(self, errors: int, rng: Random) -> int:
        """Return microseconds until the next call after *errors* failures in a row."""
        policy = self.policy
        return delay_us(
            max(errors - 1, 0),
            first=duration_to_us(policy.error_delay_min),
            cap=duration_to_us(policy.error_delay_max),
            factor=2.0,
            jitter=policy.jitter,
            rng=rng,
        )

    def remembers(self, age_us: int) -> bool:
        """Whether a token first used *age_us* ago is surely still known.

        A token from the future, which a wall clock that was set back shows, may be
        of any age.
        """
        return self.idempotent_us is None or 0 <= age_us < self.idempotent_us
