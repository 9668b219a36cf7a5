"""Delays: exponential, capped, shortened by chance, never negative."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator._backoff import delay_us
from tests.support.factories import MINUTE, SECOND, make_policies, seconds

FIVE_MINUTES = 300 * SECOND


def _delay(step: int, *, jitter: float = 0.0, seed: int = 1, **changes: float) -> int:
    terms = {"first": SECOND, "cap": FIVE_MINUTES, "factor": 2.0} | changes
    return delay_us(
        step,
        first=int(terms["first"]),
        cap=int(terms["cap"]),
        factor=terms["factor"],
        jitter=jitter,
        rng=Random(seed),
    )


def test_delays_grow_by_the_factor_up_to_the_cap() -> None:
    assert [_delay(step) // SECOND for step in range(11)] == [
        *(1, 2, 4, 8, 16, 32, 64, 128, 256),
        *(300, 300),
    ]


def test_a_factor_of_one_is_a_constant_delay() -> None:
    assert {_delay(step, factor=1.0) for step in (0, 1, 10**9)} == {SECOND}


def test_a_step_beyond_every_float_is_the_cap() -> None:
    assert _delay(10**9) == FIVE_MINUTES


def test_no_first_delay_is_no_delay_however_often() -> None:
    """Zero times anything is zero, also where the power overflows."""
    assert [_delay(step, first=0) for step in (0, 1, 10, 10**9)] == [0, 0, 0, 0]


def test_chance_is_drawn_once_and_only_where_it_matters() -> None:
    for jitter, first, draws in ((0.0, SECOND, 0), (0.5, 0, 0), (0.5, SECOND, 1)):
        rng, expected = Random(3), Random(3)
        for _ in range(draws):
            expected.random()
        delay_us(4, first=first, cap=MINUTE, factor=2.0, jitter=jitter, rng=rng)
        assert rng.getstate() == expected.getstate()


def test_the_same_seed_gives_the_same_delays() -> None:
    def delays(seed: int) -> list[int]:
        return [_delay(step, jitter=0.3, seed=seed + step) for step in range(20)]

    assert delays(5) == delays(5)
    assert delays(5) != delays(500)


@given(
    step=st.integers(0, 10**6),
    first=st.integers(0, 10**12),
    cap=st.integers(0, 10**12),
    factor=st.floats(1, 100),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_jitter_only_shortens_and_by_at_most_its_share(  # noqa: PLR0917 - a formula's
    step: int, first: int, cap: int, factor: float, jitter: float, seed: int
) -> None:
    def delay(share: float) -> int:
        return delay_us(
            step, first=first, cap=cap, factor=factor, jitter=share, rng=Random(seed)
        )

    full = delay(0.0)
    assert 0 <= full <= cap
    assert full * (1 - jitter) - 1 <= delay(jitter) <= full


@given(step=st.integers(0, 200))
def test_delays_never_shrink_as_the_step_grows(step: int) -> None:
    assert _delay(step) <= _delay(step + 1)


def test_the_error_delay_counts_errors_from_one() -> None:
    policies = make_policies(
        error_delay_min=seconds(2),
        error_delay_max=seconds(7),
        poll_delay_min=seconds(5),
    )
    rng = Random(1)
    assert [policies.error_delay(n, rng) // SECOND for n in (0, 1, 2, 3)] == [
        2,
        2,
        4,
        7,
    ]
    assert [policies.poll_delay(n, rng) / SECOND for n in (0, 1, 2)] == [5, 6.0, 7.2]
