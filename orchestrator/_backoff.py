"""Delays, purely: exponential, capped, with jitter from a handed-in random source."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def delay_us(
    step: int, *, first: int, cap: int, factor: float, jitter: float, rng: Random
) -> int:
    """Return microseconds: ``min(first * factor**step, cap)`` less jitter.

    Args:
        step: 0 for the first delay.
        first: Delay of step 0 in microseconds.
        cap: Upper bound before jitter, in microseconds; jitter only shortens.
        factor: Growth per step, at least 1.
        jitter: Share of the delay that chance may take off, 0 to 1.
        rng: Drawn from once iff *jitter* is not 0 and the delay is not 0.
    """
    if not first:
        return 0
    try:
        delay = min(first * factor**step, cap)
    except OverflowError:
        delay = cap
    if jitter and delay:
        delay *= 1 - jitter * rng.random()
    return int(delay)
