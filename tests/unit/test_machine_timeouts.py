"""Timeouts, deadlines, retries and the poll budget, each with its own clock."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import Step, Steps, decide
from orchestrator._phase import Phase, RemotePhase
from orchestrator._policies import TaskLimits
from orchestrator._records import (
    Call,
    Change,
    Created,
    Due,
    Failure,
    Got,
    Observation,
    Timer,
)
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    after,
    failed,
    make_claimed,
    make_job,
    make_policies,
    seconds,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies
    from orchestrator._records import Claimed

PLAIN = make_policies()
ERROR = failed(Call.GET, Failure.TIMEOUT)


def _decide(
    row: Claimed,
    observation: Observation,
    policies: Policies = PLAIN,
    now: int = NOW,
) -> Change:
    return decide(row, observation, now, policies, Random(1))


# Run timeout


def test_run_starts_when_the_job_first_leaves_the_waiting_phases() -> None:
    policies = make_policies(run_timeout_us=10 * SECOND)
    row, now = make_claimed(Phase.RUNNING), NOW
    for remote in ("QUEUED", "WAITING_FOR_RESOURCES", "INITIALIZING"):
        now += HOUR
        assert _decide(row, Due(), policies, now).then is Call.GET
        row = after(row, _decide(row, Got(RemotePhase(remote)), policies, now))
        assert row.run_started_at is None
    row = after(row, _decide(row, Got(RemotePhase.RUNNING), policies, now))
    assert row.run_started_at == now
    assert _decide(row, Due(), policies, now + 10 * SECOND - 1).then is Call.GET
    change = _decide(row, Due(), policies, now + 10 * SECOND)
    assert (change.cause, change.sets["end_reason"]) == ("RUN_TIMEOUT", "RUN_TIMEOUT")


def test_a_timeout_is_due_when_it_fires_and_not_a_poll_later() -> None:
    policies = make_policies(run_timeout_us=SECOND // 2)
    change = _decide(make_claimed(Phase.RUNNING), Got(RemotePhase.RUNNING), policies)
    assert change.due_at == NOW + SECOND // 2


def test_the_run_clock_begins_anew_with_each_attempt() -> None:
    row = make_claimed(Phase.RUNNING, run_started_at=NOW - HOUR, queued_us=HOUR)
    answer = Got(RemotePhase.RETRYABLE_FAILED)
    retried = after(row, _decide(row, answer, make_policies(retries=1)))
    assert (retried.run_started_at, retried.queued_us) == (None, 0)


# Queued timeout


def test_queued_counts_our_queue_and_the_service_s_but_not_the_calls() -> None:
    """3 s QUEUED here, 5 s in create, 4 s remotely: 7 of the 8 s are spent."""
    policies = make_policies(queued_timeout_us=8 * SECOND)
    now = NOW + 3 * SECOND
    row = make_claimed()
    row = after(row, _decide(row, Due(), policies, now))
    assert row.queued_us == 3 * SECOND
    now += 5 * SECOND
    row = after(row, _decide(row, Created(make_job()), policies, now))
    now += 4 * SECOND
    row = after(row, _decide(row, Got(RemotePhase.QUEUED), policies, now))
    assert _decide(row, Due(), policies, now).then is Call.GET
    assert _decide(row, Due(), policies, now + SECOND).cause == "QUEUED_TIMEOUT"


def test_queued_does_not_count_the_time_before_the_start() -> None:
    policies = make_policies(queued_timeout_us=10 * SECOND)
    row = make_claimed(ready_at=NOW + HOUR)
    wait = _decide(row, Due(), policies)
    assert (wait.cause, wait.due_at) == (None, NOW + HOUR)
    assert _decide(row, Due(), policies, NOW + HOUR).cause == "CREATE_INTENT"
    late = NOW + HOUR + 10 * SECOND
    assert _decide(row, Due(), policies, late).phase is Phase.TIMED_OUT


def test_queued_ends_when_the_job_runs() -> None:
    policies = make_policies(queued_timeout_us=SECOND)
    row = make_claimed(Phase.RUNNING)
    row = after(row, _decide(row, Got(RemotePhase.RUNNING), policies))
    assert _decide(row, Due(), policies, NOW + HOUR).then is Call.GET


def test_refusals_of_create_spend_the_queued_time_over_all_their_rounds() -> None:
    """What was waited before a refusal counts; the row is due when the limit is."""
    policies = make_policies(queued_timeout_us=10 * SECOND)
    now = NOW + 8 * SECOND
    row = make_claimed()
    row = after(row, _decide(row, Due(), policies, now))
    refused = failed(Call.CREATE, Failure.THROTTLED, after_s=3600)
    change = _decide(row, refused, policies, now)
    assert change.due_at == now + 2 * SECOND
    row = after(row, change)
    ended = _decide(row, Due(), policies, now + 2 * SECOND)
    assert (ended.phase, ended.sets["error_code"]) == (
        Phase.TIMED_OUT,
        "QUEUED_TIMEOUT",
    )


def test_the_first_poll_knows_what_was_waited_before_the_create() -> None:
    policies = make_policies(queued_timeout_us=10 * SECOND)
    row = make_claimed(Phase.CREATING, queued_us=10 * SECOND - 5)
    assert _decide(row, Created(make_job()), policies).due_at == NOW + 5


# Deadline


def test_the_deadline_ends_every_live_phase() -> None:
    """Without a job at once, with one through ABORTING, unknown after a look."""
    late: dict[str, Any] = {"deadline_at": NOW}
    assert _decide(make_claimed(**late), Due()).phase is Phase.TIMED_OUT
    running = _decide(make_claimed(Phase.RUNNING, **late), Due())
    assert running.sets["end_reason"] == "DEADLINE"
    creating = _decide(make_claimed(Phase.CREATING, **late), Created(make_job()))
    assert creating.phase is Phase.ABORTING
    unknown = _decide(make_claimed(Phase.CREATE_UNKNOWN, **late), Due())
    assert unknown.then is Call.LOOKUP


def test_no_limit_fires_early_after_a_step_forward() -> None:
    """The engine hands in by how much the wall clock stepped."""
    row = make_claimed(Phase.RUNNING, deadline_at=NOW + HOUR)
    stepped, policies = NOW + 2 * HOUR, make_policies(run_timeout_us=HOUR)
    steps = Steps((Step(NOW, 2 * HOUR),))
    change = decide(row, Due(), stepped, policies, Random(1), steps=steps)
    assert change.then is Call.GET
    ran = row._replace(run_started_at=NOW - MINUTE)
    change = decide(ran, Due(), stepped, policies, Random(1), steps=steps)
    assert change.then is Call.GET


def test_no_limit_fires_early_after_a_step_back_that_was_undone() -> None:
    """What began while the clock was slow is older by the clock than it is."""
    slow = NOW - HOUR
    row = make_claimed(
        Phase.RUNNING, created_at=slow, run_started_at=slow + SECOND, phase_at=slow
    )
    steps = Steps((Step(NOW, -HOUR), Step(slow + MINUTE, HOUR)))
    policies = make_policies(run_timeout_us=30 * MINUTE)
    now = NOW + MINUTE
    change = decide(row, Due(), now, policies, Random(1), steps=steps)
    assert change.then is Call.GET
    gone = failed(Call.GET, Failure.GONE)
    grace = decide(row, gone, now - 30 * SECOND, policies, Random(1), steps=steps)
    assert grace.phase is Phase.RUNNING


def test_a_step_forward_takes_no_retry_away() -> None:
    """Whether there is time for one is asked by the time that has gone by."""
    row = make_claimed(Phase.RUNNING, deadline_at=NOW + HOUR)
    policies = make_policies(retries=1)
    answer = Got(phase=RemotePhase.RETRYABLE_FAILED)
    now = NOW + 2 * HOUR
    assert decide(row, answer, now, policies, Random(1)).phase is Phase.FAILED
    steps = Steps((Step(NOW, 2 * HOUR),))
    again = decide(row, answer, now, policies, Random(1), steps=steps)
    assert (again.phase, again.attempt) == (Phase.QUEUED, 2)


@pytest.mark.parametrize("hold", [None, "UNAUTHORIZED"])
def test_holds_and_waits_do_not_stop_the_clocks(hold: str | None) -> None:
    """A row on hold is due at its deadline, and ends there."""
    row = make_claimed(Phase.RUNNING, deadline_at=NOW + 5 * SECOND, hold=hold)
    change = _decide(row, failed(Call.GET, Failure.UNAUTHORIZED))
    assert change.due_at == NOW + 5 * SECOND
    assert _decide(row, Due(), now=NOW + 5 * SECOND).cause == "DEADLINE_EXCEEDED"


def test_a_limit_that_has_fired_does_not_make_a_held_row_spin() -> None:
    """The connector is missing and the deadline long past: looked at once a minute."""
    policies = make_policies()
    row = make_claimed(Phase.ABORTING, deadline_at=NOW - HOUR, end_reason="DEADLINE")
    change = _decide(row, failed(Call.DELETE, Failure.UNAUTHORIZED), policies)
    assert change.due_at == NOW + MINUTE


def test_zero_and_absent_are_unlimited() -> None:
    assert TaskLimits() == TaskLimits(
        run_timeout_us=0, queued_timeout_us=0, deadline_us=0
    )
    row = make_claimed(Phase.RUNNING, run_started_at=NOW - 10**15)
    assert _decide(row, Due()).then is Call.GET


# Retries


def test_a_retry_is_a_new_attempt_with_nothing_of_the_old_job() -> None:
    row = make_claimed(
        Phase.RUNNING,
        remote_phase="RUNNING",
        run_started_at=NOW,
        refused=7,
        hold="UNAUTHORIZED",
        timer=Timer(polls=4, step=3, errors=2, errors_since=NOW, budget_us=9),
    )
    policies = make_policies(retries=2, retry_base_us=5 * SECOND)
    retried = after(row, _decide(row, Got(RemotePhase.RETRYABLE_FAILED), policies))
    assert (retried.phase, retried.attempt) == (Phase.QUEUED, 2)
    assert retried.ready_at == retried.due_at == NOW + 5 * SECOND
    assert retried.waiting_on == "RETRY_DELAY"
    assert (retried.meta, retried.meta_version, retried.job_key) == (None, None, None)
    assert (retried.creates, retried.create_called_at, retried.refused) == (0, None, 0)
    assert (retried.hold, retried.end_reason, retried.remote_phase) == (None,) * 3
    assert retried.timer == Timer(polls=5), "only the count of polls goes on"
    assert _decide(retried, Due(), policies, NOW + 5 * SECOND - 1).cause is None
    intent = _decide(retried, Due(), policies, NOW + 5 * SECOND)
    assert intent.cause == "CREATE_INTENT"


def test_retry_delays_grow_by_the_factor_up_to_the_cap() -> None:
    limits = TaskLimits(retry_base_us=2, retry_factor=3.0, retry_cap_us=50)
    assert [limits.retry_delay_us(n) for n in range(5)] == [2, 6, 18, 50, 50]
    assert TaskLimits(retry_base_us=7).retry_delay_us(100) == 7
    endless = TaskLimits(retry_base_us=1, retry_factor=2.0)
    assert endless.retry_delay_us(10_000) <= 10**15


def test_retries_are_counted_and_end_with_a_name() -> None:
    row, policies = make_claimed(Phase.RUNNING), make_policies(retries=2)
    answer = Got(RemotePhase.RETRYABLE_FAILED, message="preempted")
    for attempt in (1, 2):
        assert _decide(row._replace(attempt=attempt), answer, policies).attempt == (
            attempt + 1
        )
    last = _decide(row._replace(attempt=3), answer, policies)
    assert (last.cause, last.attempt) == ("RETRIES_EXHAUSTED", 3)
    assert last.sets["error_message"] == "preempted"


def test_a_retry_whose_delay_would_pass_the_deadline_ends_at_once() -> None:
    policies = make_policies(retries=5, retry_base_us=MINUTE)
    answer = Got(RemotePhase.RETRYABLE_FAILED)
    fits = make_claimed(Phase.RUNNING, deadline_at=NOW + MINUTE + 1)
    assert _decide(fits, answer, policies).phase is Phase.QUEUED
    too_late = make_claimed(Phase.RUNNING, deadline_at=NOW + MINUTE)
    assert _decide(too_late, answer, policies).phase is Phase.FAILED


# Poll backoff and poll budget


def test_polls_without_news_back_off_and_news_begins_anew() -> None:
    row, delays = make_claimed(Phase.RUNNING), []
    for remote in ("QUEUED", "QUEUED", "QUEUED", "RUNNING", "RUNNING"):
        change = _decide(row, Got(RemotePhase(remote)))
        assert change.due_at is not None
        delays.append((change.due_at - NOW) / SECOND)
        row = after(row, change)
    assert delays == [1, 1.2, 1.44, 1, 1.2]


def test_a_poll_without_news_writes_no_history() -> None:
    row = make_claimed(Phase.RUNNING, remote_phase="RUNNING", run_started_at=NOW)
    change = _decide(row, Got(RemotePhase.RUNNING))
    assert (change.cause, change.sets) == (None, {})
    assert change.timer is not None


def _fail(
    row: Claimed, policies: Policies, times: int, *, pause_us: int = 0
) -> tuple[Claimed, Change]:
    """Fail *times* polls, each when it is due or *pause_us* later."""
    now = row.due_at
    change = _decide(row, ERROR, policies, now)
    for _ in range(times):
        change = _decide(row, ERROR, policies, now)
        row = after(row, change)
        if change.phase is not Phase.RUNNING:
            break
        assert change.due_at is not None
        now = change.due_at + pause_us
    return row, change


def test_the_poll_budget_needs_both_many_errors_and_a_long_time() -> None:
    policies = make_policies(poll_budget_errors=10, poll_budget=seconds(300))
    row = make_claimed(Phase.RUNNING, created_at=NOW - HOUR)
    quick = make_policies(
        poll_budget_errors=10, poll_budget=seconds(300), error_delay_max=seconds(1)
    )
    early, _ = _fail(row, quick, 20)
    assert early.phase == Phase.RUNNING, "20 errors in 20 s"
    slow, change = _fail(row, policies, 9)
    assert slow.timer.budget_us < 300 * SECOND
    ended, change = _fail(row, policies, 50)
    assert (ended.phase, ended.end_reason) == (Phase.ABORTING, "POLL_BUDGET")
    assert ended.timer.errors == 10
    assert change.then is Call.DELETE, "the job is deleted before the row fails"


def test_the_budget_counts_only_time_in_which_this_engine_polled() -> None:
    """The engine was down for a week: of each gap a minute at most is counted."""
    policies = make_policies(
        poll_budget_errors=2, poll_budget=seconds(3600), error_delay_max=seconds(10)
    )
    row = make_claimed(Phase.RUNNING, created_at=NOW - HOUR)
    row, change = _fail(row, policies, 10, pause_us=7 * 24 * HOUR)
    assert change.phase is Phase.RUNNING
    assert row.timer.errors == 10
    assert row.timer.budget_us <= 10 * 70 * SECOND


def test_any_success_resets_the_streak_and_says_so() -> None:
    policies = make_policies(poll_budget_errors=2, poll_budget=seconds(3600))
    row, _ = _fail(make_claimed(Phase.RUNNING), policies, 5)
    assert (row.timer.errors, row.timer.last_error) == (5, "no")
    change = _decide(row, Got(RemotePhase.RUNNING), policies, row.due_at)
    assert change.cause == "ERRORS_ENDED"
    assert change.timer is not None
    assert change.timer[2:5] == (0, None, 0)
    assert change.timer.last_error is None


def test_a_hold_interrupts_the_budget_s_clock() -> None:
    """Hours without credentials are not hours of failing polls."""
    policies = make_policies(poll_budget_errors=2, poll_budget=seconds(3600))
    row, _ = _fail(make_claimed(Phase.RUNNING), policies, 3)
    now, spent = row.due_at, row.timer.budget_us
    for _ in range(200):
        change = _decide(row, failed(Call.GET, Failure.UNAUTHORIZED), policies, now)
        row = after(row, change)
        now = row.due_at
    assert (row.timer.errors, row.timer.budget_us) == (3, spent)
    change = _decide(row, ERROR, policies, now)
    assert change.phase is Phase.RUNNING
    assert change.timer is not None
    assert change.timer.budget_us - spent <= 2 * MINUTE
