"""Ids: UUIDv7 from a clock and a random source, in the order of submission."""

from __future__ import annotations

import uuid
from random import Random

import pytest

from orchestrator._ids import EXECUTION_ID, TOKEN, Ids, create_token
from orchestrator.testing import ManualClock


def _ids(seed: int = 1, clock: ManualClock | None = None) -> Ids:
    return Ids(clock or ManualClock(), Random(seed))


def test_an_execution_id_is_a_uuid_of_version_7_and_its_time() -> None:
    clock = ManualClock()
    text = _ids(clock=clock).execution_id()
    assert EXECUTION_ID.fullmatch(text)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == clock.now_us() // 1000


def test_ids_of_one_millisecond_keep_their_order() -> None:
    ids = _ids()
    made = [ids.execution_id() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_keep_their_order_while_time_goes_on() -> None:
    clock = ManualClock()
    ids, made = _ids(clock=clock), []
    for step in range(1000):
        clock.advance(0.0004 * (step % 3))
        made.append(ids.execution_id())
    assert made == sorted(set(made))


def test_a_clock_that_steps_back_does_not_disturb_the_order() -> None:
    clock = ManualClock()
    ids = _ids(clock=clock)
    before = ids.execution_id()
    clock.step(-3600)
    after = ids.execution_id()
    assert before < after
    assert after[:12] == before[:12], "it stays at the last millisecond"


def test_a_counter_that_is_spent_borrows_the_next_millisecond() -> None:
    """More ids in a millisecond than the counter has: still unique and in order."""
    ids = _ids()
    first = ids.execution_id()
    ids._counter = (1 << 26) - 2
    made = [ids.execution_id() for _ in range(4)]
    assert [first, *made] == sorted({first, *made})
    assert uuid.UUID(made[-1]).version == 7
    assert int(made[-1][:12], 16) == int(first[:12], 16) + 1


def test_the_same_seed_and_clock_give_the_same_ids() -> None:
    assert _ids(7).execution_id() == _ids(7).execution_id()
    assert _ids(7).execution_id() != _ids(8).execution_id()
    assert _ids(7).node_id() == _ids(7).node_id()


def test_two_processes_of_one_moment_do_not_meet() -> None:
    made = {_ids(seed).execution_id() for seed in range(2000)}
    assert len(made) == 2000


def test_a_node_s_identity_is_new_with_each_start() -> None:
    ids = _ids()
    first, second = ids.node_id(), ids.node_id()
    assert first != second
    assert len(first) == len(second) == 32


@pytest.mark.parametrize("attempt", [1, 9, 10, 12345])
def test_a_token_names_the_execution_and_the_attempt(attempt: int) -> None:
    """The same for a replay, another for a retry, legal as label and job id."""
    execution_id = _ids().execution_id()
    token = create_token(execution_id, attempt)
    assert token == f"o{execution_id}-{attempt}"
    assert TOKEN.fullmatch(token)
    assert token == token.lower()
    assert len(token) <= 63


def test_what_is_no_token_does_not_match() -> None:
    execution_id = _ids().execution_id()
    for text in (execution_id, f"o{execution_id}-0", f"O{execution_id}-1", "o-1"):
        assert TOKEN.fullmatch(text) is None
