"""Retries and timeouts as a task declares them, with Flyte's meaning.

How they are kept is the state machine's business; here are only their values, what
is refused, and how they look as protobuf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

if TYPE_CHECKING:
    from flyteidl2.core import tasks_pb2

_ZERO = timedelta(0)
_RETRIES_MAX = 2**32 - 1
"""The protobuf field is an unsigned int of 32 bits."""


@dataclass(frozen=True)
class Backoff:
    """Delay before the n-th retry, from 0: ``min(base * factor**n, cap)``.

    Attributes:
        base: Delay before the first retry, at least 0.
        factor: Multiplier per retry, at least 1.0; 1.0 (default) keeps the delay.
        cap: Longest delay; None (no limit) only with factor 1.0.

    Raises:
        ValueError: A value is out of its range; the field is named.
    """

    base: timedelta
    factor: float = 1.0
    cap: timedelta | None = None

    def __post_init__(self) -> None:
        """Validate."""
        if self.base < _ZERO:
            raise ValueError(f"Backoff.base must be >= 0, got {self.base}")
        if not isinstance(self.factor, (int, float)) or not math.isfinite(self.factor):
            message = f"Backoff.factor must be a finite number, got {self.factor!r}"
            raise ValueError(message)
        if self.factor < 1.0:
            raise ValueError(f"Backoff.factor must be >= 1.0, got {self.factor}")
        if self.cap is not None and self.cap < _ZERO:
            raise ValueError(f"Backoff.cap must be >= 0, got {self.cap}")
        if self.factor > 1.0 and self.cap is None:
            message = (
                "Backoff.cap is required when factor > 1.0 to prevent unbounded growth"
            )
            raise ValueError(message)

    def compute_delay(self, n: int) -> timedelta:
        """Return the delay before the *n*-th retry, counted from 0.

        Raises:
            ValueError: *n* is negative.
        """
        if n < 0:
            raise ValueError(f"Retry index n must be >= 0, got {n}")
        try:
            delay = self.base * (self.factor**n)
        except OverflowError:
            if self.cap is None:
                raise
            return self.cap
        return delay if self.cap is None else min(delay, self.cap)


@dataclass(frozen=True)
class RetryStrategy:
    """How often a failed attempt is followed by another.

    Attributes:
        count: Retries after the first attempt, 0 for none.
        backoff: Delays between attempts, None for none.

    Raises:
        ValueError: The count is no int, or negative.
    """

    count: int
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        """Validate."""
        if not isinstance(self.count, int) or isinstance(self.count, bool):
            message = (
                "RetryStrategy.count must be an int (a retry count),"
                f" got {self.count!r}"
            )
            raise ValueError(message)  # noqa: TRY004 - Flyte raises a ValueError
        if not 0 <= self.count <= _RETRIES_MAX:
            message = (
                "RetryStrategy.count must be greater than or equal to 0"
                f" and fit 32 bits, got {self.count}"
            )
            raise ValueError(message)


@dataclass(frozen=True)
class Timeout:
    """Bounds in wall-clock time; None or 0 is unlimited. An int is seconds.

    Attributes:
        max_runtime: From the first remote RUNNING, per attempt.
        max_queued_time: In our queue and the service's, per attempt.
        deadline: From the submission or the start time, over all attempts.

    Raises:
        ValueError: A bound is negative, or no int and no timedelta.
    """

    max_runtime: timedelta | int | None = None
    max_queued_time: timedelta | int | None = None
    deadline: timedelta | int | None = None

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("max_runtime", "max_queued_time", "deadline"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, (int, timedelta)):
                message = f"Timeout.{name} must be int (s) or timedelta, got {bound!r}"
                raise ValueError(message)  # noqa: TRY004 - as Flyte
            if as_timedelta(bound) < _ZERO:
                raise ValueError(f"Timeout.{name} must be >= 0, got {bound}")


TimeoutType = Timeout | int | timedelta
"""What a task's ``timeout=`` takes; bare values are the ``max_runtime``."""


def as_timedelta(bound: timedelta | int) -> timedelta:
    """Return a bound as a timedelta."""
    return bound if isinstance(bound, timedelta) else timedelta(seconds=bound)


def timeout_from_request(timeout: TimeoutType) -> Timeout:
    """Return what a user gave as a Timeout.

    Raises:
        ValueError: It is neither a Timeout nor an int nor a timedelta.
    """
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, (int, timedelta)) and not isinstance(timeout, bool):
        return Timeout(max_runtime=timeout)
    message = "Timeout must be an instance of Timeout, int, or timedelta."
    raise ValueError(message)


def retries_from_request(retries: int | RetryStrategy) -> RetryStrategy:
    """Return what a user gave as a RetryStrategy.

    Raises:
        ValueError: It is neither an int nor a RetryStrategy.
    """
    if isinstance(retries, RetryStrategy):
        return retries
    if isinstance(retries, int):
        return RetryStrategy(count=retries)
    message = (
        f"retries must be an int (a retry count) or a RetryStrategy, got {retries!r}"
    )
    raise ValueError(message)


def _duration(value: timedelta) -> Duration:
    """Return a timedelta as protobuf, exactly."""
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def _bound(value: timedelta | int | None) -> Duration | None:
    """Return a bound as protobuf, None for unlimited."""
    span = _ZERO if value is None else as_timedelta(value)
    return _duration(span) if span else None


def fill_limits(
    metadata: tasks_pb2.TaskMetadata, strategy: RetryStrategy, timeout: Timeout | None
) -> None:
    """Write retries and timeouts to a template's metadata."""
    metadata.retries.retries = strategy.count
    if strategy.backoff is not None:
        backoff = metadata.retries.backoff
        backoff.base.CopyFrom(_duration(strategy.backoff.base))
        backoff.factor = strategy.backoff.factor
        if strategy.backoff.cap is not None:
            backoff.cap.CopyFrom(_duration(strategy.backoff.cap))
    if timeout is None:
        return
    if (run := _bound(timeout.max_runtime)) is not None:
        metadata.timeout.CopyFrom(run)
    if (queued := _bound(timeout.max_queued_time)) is not None:
        metadata.timeouts.queued_timeout.CopyFrom(queued)
    if (deadline := _bound(timeout.deadline)) is not None:
        metadata.timeouts.deadline.CopyFrom(deadline)


def _span(duration: Duration) -> timedelta | None:
    """Return a Duration as a timedelta, None if it is zero, unset or negative."""
    span = duration.ToTimedelta()
    return span if span > _ZERO else None


def timeout_of(template: tasks_pb2.TaskTemplate) -> Timeout:
    """Return a template's timeouts; None is unlimited."""
    metadata = template.metadata
    return Timeout(
        max_runtime=_span(metadata.timeout),
        max_queued_time=_span(metadata.timeouts.queued_timeout),
        deadline=_span(metadata.timeouts.deadline),
    )


def retries_of(template: tasks_pb2.TaskTemplate) -> RetryStrategy:
    """Return a template's retries; a Backoff that Flyte would refuse is mended.

    A protobuf that another tool wrote may grow without a cap or have no factor; an
    execution must not fail for that, so its delay is then constant.
    """
    stored = template.metadata.retries
    if not stored.HasField("backoff"):
        return RetryStrategy(stored.retries)
    backoff = stored.backoff
    cap = backoff.cap.ToTimedelta() if backoff.HasField("cap") else None
    if cap is not None and cap < _ZERO:
        cap = None
    factor = backoff.factor
    if cap is None or not math.isfinite(factor) or factor < 1.0:
        factor = 1.0
    base = _span(backoff.base) or _ZERO
    return RetryStrategy(stored.retries, Backoff(base=base, factor=factor, cap=cap))
