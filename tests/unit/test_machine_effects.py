"""What an answer means: the table of failed calls, line by line, call by call."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import TERMINAL, Cleanup, Phase, RemotePhase
from orchestrator._records import Call, Change, Failure, Got, Timer
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    failed,
    make_claimed,
    make_policies,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies

RETRIES = make_policies(retries=3)
OLD_JOB: dict[str, Any] = {"created_at": NOW - HOUR}

# failure, phase after, cause, hold: with retries to spare, for a job an hour old.
CREATE = """
TRANSIENT    QUEUED         CREATE_TRANSIENT    -
THROTTLED    QUEUED         CREATE_THROTTLED    -
UNAUTHORIZED QUEUED         CREATE_UNAUTHORIZED UNAUTHORIZED
SECRET       QUEUED         CREATE_UNAUTHORIZED SECRET_UNRESOLVED
GONE         CREATE_UNKNOWN CREATE_ERROR        -
PERMANENT    FAILED         CREATE_REJECTED     -
NOT_CREATED  QUEUED         NOT_CREATED_RETRY   -
TIMEOUT      CREATE_UNKNOWN CREATE_TIMED_OUT    -
ERROR        CREATE_UNKNOWN CREATE_ERROR        -
META         QUEUED         CREATE_UNPREPARED   POISON
"""
GET = """
TRANSIENT    RUNNING        ERRORS_BEGAN        -
THROTTLED    RUNNING        ERRORS_BEGAN        -
UNAUTHORIZED RUNNING        HOLD_SET            UNAUTHORIZED
SECRET       RUNNING        HOLD_SET            SECRET_UNRESOLVED
META         RUNNING        HOLD_SET            META_UNREADABLE
GONE         QUEUED         JOB_LOST_RETRY      -
PERMANENT    ABORTING       GET_REJECTED        -
TIMEOUT      RUNNING        ERRORS_BEGAN        -
ERROR        RUNNING        ERRORS_BEGAN        -
"""
DELETE = """
TRANSIENT    ABORTING       ERRORS_BEGAN        -
THROTTLED    ABORTING       ERRORS_BEGAN        -
UNAUTHORIZED ABORTING       HOLD_SET            UNAUTHORIZED
SECRET       ABORTING       HOLD_SET            SECRET_UNRESOLVED
META         ABORTING       HOLD_SET            META_UNREADABLE
GONE         ABORTED        ABORT_CONFIRMED     -
PERMANENT    ABORTING       ERRORS_BEGAN        -
TIMEOUT      ABORTING       ERRORS_BEGAN        -
ERROR        ABORTING       ERRORS_BEGAN        -
"""
FIND = """
TRANSIENT    CREATE_UNKNOWN ERRORS_BEGAN        -
THROTTLED    CREATE_UNKNOWN ERRORS_BEGAN        -
UNAUTHORIZED CREATE_UNKNOWN HOLD_SET            UNAUTHORIZED
SECRET       CREATE_UNKNOWN HOLD_SET            SECRET_UNRESOLVED
META         CREATE_UNKNOWN HOLD_SET            META_UNREADABLE
GONE         CREATE_UNKNOWN ERRORS_BEGAN        -
PERMANENT    CREATE_UNKNOWN -                   -
TIMEOUT      CREATE_UNKNOWN ERRORS_BEGAN        -
ERROR        CREATE_UNKNOWN ERRORS_BEGAN        -
"""
PHASES = {
    Call.CREATE: Phase.CREATING,
    Call.GET: Phase.RUNNING,
    Call.DELETE: Phase.ABORTING,
    Call.FIND: Phase.CREATE_UNKNOWN,
}
TABLES = {
    Call.CREATE: CREATE,
    Call.GET: GET,
    Call.DELETE: DELETE,
    Call.FIND: FIND,
}
LINES = [
    (call, *line.split())
    for call, table in TABLES.items()
    for line in table.strip().splitlines()
]


def _decide(
    call: Call,
    failure: str,
    policies: Policies = RETRIES,
    after_s: float | None = None,
    **row: Any,
) -> Change:
    claimed = make_claimed(PHASES[call], **row)
    observation = failed(call, Failure(failure), "the error", after_s=after_s)
    return decide(claimed, observation, NOW, policies, Random(1))


@pytest.mark.parametrize(
    ("call", "failure", "phase", "cause", "hold"),
    LINES,
    ids=[f"{call}-{failure}" for call, failure, *_ in LINES],
)
def test_a_failed_call_means_what_the_table_says(
    call: Call, failure: str, phase: str, cause: str, hold: str
) -> None:
    change = _decide(call, failure, **OLD_JOB)
    assert (change.phase, str(change.cause or "-")) == (phase, cause)
    assert str(change.sets.get("hold") or "-") == hold


SPENDS = """
TRANSIENT    budget budget budget budget
THROTTLED    budget budget budget budget
UNAUTHORIZED -      -      -      -
SECRET       -      -      -      -
META         -      -      -      -
GONE         budget retry  -      budget
PERMANENT    -      budget budget budget
NOT_CREATED  retry  -      -      -
TIMEOUT      budget budget budget budget
ERROR        budget budget budget budget
"""
"""What one more failed call costs, by call as in `TABLES`: of a streak of errors."""


@pytest.mark.parametrize("line", SPENDS.strip().splitlines())
def test_a_failed_call_spends_a_retry_or_its_budget_or_nothing(line: str) -> None:
    """A retry is the next attempt; the budget is the streak and the time it took."""
    failure, *spends = line.split()
    timer = Timer(
        errors=1, errors_since=NOW - HOUR, budget_us=7, called_at=NOW - SECOND
    )
    for call, spent in zip(TABLES, spends, strict=True):
        if failure == "NOT_CREATED" and call is not Call.CREATE:
            continue
        change = _decide(call, failure, timer=timer, **OLD_JOB)
        assert change.attempt == (2 if spent == "retry" else 1), call
        counted = change.timer and (change.timer.errors, change.timer.budget_us)
        if spent == "budget":
            assert counted == (2, 7 + SECOND), call
        elif spent == "retry":
            assert counted == (0, 0), call
        else:
            assert counted in ((1, 7), None), call
            assert (counted is None) == (change.phase in TERMINAL), call


def test_every_call_has_a_line_for_every_failure() -> None:
    """NOT_CREATED is asserted by a create alone."""
    for call in PHASES:
        told = {failure for c, failure, *_ in LINES if c is call}
        assert told | {"NOT_CREATED"} == set(Failure)
    assert {line.split()[0] for line in SPENDS.strip().splitlines()} == set(Failure)


@pytest.mark.parametrize("call", PHASES)
@pytest.mark.parametrize("failure", ["TRANSIENT", "THROTTLED"])
def test_retry_after_is_the_least_delay(call: Call, failure: str) -> None:
    """What the service asks for counts where it is longer than the backoff."""
    change = _decide(call, failure, after_s=120, **OLD_JOB)
    assert change.due_at == NOW + 2 * MINUTE
    assert change.timer is not None
    backoff = _decide(call, failure, after_s=0.01, **OLD_JOB)
    assert backoff.due_at == NOW + SECOND


@pytest.mark.parametrize("call", PHASES)
def test_credentials_burn_no_attempt_and_no_budget(call: Call) -> None:
    """A hold keeps the streak, the budget and the attempt as they were."""
    timer = Timer(errors=3, errors_since=1, budget_us=7, step=4, called_at=5)
    for failure in ("UNAUTHORIZED", "SECRET"):
        change = _decide(call, failure, timer=timer, **OLD_JOB)
        assert change.attempt == 1
        assert change.timer is not None
        assert change.timer[1:5] == timer[1:5]
        assert change.timer.last_error == "the error"
        assert change.due_at == NOW + MINUTE, "hold_delay"


@pytest.mark.parametrize("call", [Call.GET, Call.DELETE, Call.FIND])
def test_a_hold_that_stands_writes_no_second_history_row(call: Call) -> None:
    change = _decide(call, "UNAUTHORIZED", hold="UNAUTHORIZED", **OLD_JOB)
    assert (change.cause, change.sets) == (None, {})


@pytest.mark.parametrize("call", [Call.GET, Call.DELETE, Call.FIND])
def test_the_streak_grows_with_backoff_and_only_its_start_is_history(
    call: Call,
) -> None:
    """1, 2, 4 s and so on up to error_delay_max; one ERRORS_BEGAN."""
    timer = Timer()
    delays, causes = [], []
    for _ in range(11):
        change = _decide(call, "TRANSIENT", timer=timer, **OLD_JOB)
        assert change.timer is not None
        assert change.due_at is not None
        timer = change.timer
        delays.append((change.due_at - NOW) // SECOND)
        causes.append(change.cause)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert causes == ["ERRORS_BEGAN", *[None] * 10]
    assert (timer.errors, timer.errors_since) == (11, NOW)


def test_gone_within_the_grace_is_not_believed() -> None:
    """Services list new jobs late: 60 s after create the answer counts."""
    young = _decide(Call.GET, "GONE", created_at=NOW - 60 * SECOND + 1)
    assert (young.phase, young.cause) == (Phase.RUNNING, "ERRORS_BEGAN")
    old = _decide(Call.GET, "GONE", created_at=NOW - 60 * SECOND)
    assert (old.phase, old.cause) == (Phase.QUEUED, "JOB_LOST_RETRY")


def test_a_lost_job_ends_the_attempt_and_the_retry_policy_decides() -> None:
    lost = _decide(Call.GET, "GONE", make_policies(), **OLD_JOB)
    assert (lost.phase, lost.sets["error_code"]) == (Phase.FAILED, "LOST")
    wished = _decide(Call.GET, "GONE", abort_requested_at=NOW, **OLD_JOB)
    assert (wished.phase, wished.cause) == (Phase.ABORTED, "ENDED_BEFORE_ABORT")


def test_a_permanent_error_of_get_deletes_the_job_before_it_fails() -> None:
    change = _decide(Call.GET, "PERMANENT")
    assert (change.phase, change.then) == (Phase.ABORTING, Call.DELETE)
    assert change.sets["end_reason"] == "REJECTED"
    assert change.sets["end_message"] == "the error"


@pytest.mark.parametrize("failure", ["TRANSIENT", "PERMANENT", "TIMEOUT", "ERROR"])
def test_a_failed_delete_asks_the_job_itself(failure: str) -> None:
    """Some services refuse to delete what has ended."""
    assert _decide(Call.DELETE, failure).then is Call.GET


def test_a_refused_search_is_not_repeated() -> None:
    change = _decide(Call.FIND, "PERMANENT", make_policies(can_find=True))
    assert (change.phase, change.due_at) == (Phase.CREATE_UNKNOWN, NOW)
    assert change.sets == {"refused": 2}


REMOTE = """
UNDEFINED             RUNNING   -
QUEUED                RUNNING   REMOTE_PHASE_CHANGED
WAITING_FOR_RESOURCES RUNNING   REMOTE_PHASE_CHANGED
INITIALIZING          RUNNING   REMOTE_PHASE_CHANGED
RUNNING               RUNNING   REMOTE_PHASE_CHANGED
SUCCEEDED             SUCCEEDED REMOTE_SUCCEEDED
FAILED                FAILED    REMOTE_FAILED
RETRYABLE_FAILED      QUEUED    REMOTE_RETRYABLE_FAILED
ABORTED               ABORTED   REMOTE_ABORTED
"""


@pytest.mark.parametrize("line", REMOTE.strip().splitlines())
def test_a_remote_phase_means_what_the_table_says(line: str) -> None:
    """Remote FAILED and ABORTED spend no retry, RETRYABLE_FAILED does."""
    remote, phase, cause = line.split()
    row = make_claimed(Phase.RUNNING)
    answer = Got(RemotePhase(remote), message="told")
    change = decide(row, answer, NOW, RETRIES, Random(1))
    assert (change.phase, change.cause or "-") == (phase, cause)
    assert change.attempt == (2 if phase == "QUEUED" else 1)
    assert (change.message or change.sets["message"]) == "told"
    assert change.cleanup is None, "what ended by itself owes nothing"


def test_every_remote_phase_has_a_line() -> None:
    assert {line.split()[0] for line in REMOTE.strip().splitlines()} == set(RemotePhase)


def test_a_remote_failure_spends_a_retry_only_where_the_policy_says_so() -> None:
    row, answer = make_claimed(Phase.RUNNING), Got(RemotePhase.FAILED, message="oom")
    policies = make_policies(retries=1, retry_on_failed=True)
    assert decide(row, answer, NOW, policies, Random(1)).phase is Phase.QUEUED
    last = row._replace(attempt=2)
    change = decide(last, answer, NOW, policies, Random(1))
    assert (change.phase, change.sets["error_code"]) == (Phase.FAILED, "REMOTE_FAILED")
    assert change.sets["error_message"] == "oom"


def test_outputs_that_do_not_fit_are_never_retried() -> None:
    """A second attempt would be paid for, and its outputs would not fit either."""
    answer = Got(RemotePhase.SUCCEEDED, outputs_problem="result: not a str")
    policies = make_policies(retries=5, retry_on_failed=True)
    change = decide(make_claimed(Phase.RUNNING), answer, NOW, policies, Random(1))
    assert (change.phase, change.cause) == (Phase.FAILED, "OUTPUTS_REJECTED")
    assert change.sets["error_message"] == "result: not a str"
    timed_out = make_claimed(Phase.ABORTING, end_reason="RUN_TIMEOUT")
    change = decide(timed_out, answer, NOW, policies, Random(1))
    assert (change.phase, change.cleanup) == (Phase.TIMED_OUT, Cleanup.DONE)


@pytest.mark.parametrize(
    "remote", [RemotePhase.QUEUED, RemotePhase.UNDEFINED, RemotePhase.INITIALIZING]
)
def test_a_job_that_seems_to_go_back_is_news_without_effect(
    remote: RemotePhase,
) -> None:
    """The run clock goes on, and nothing is aborted, retried or failed."""
    row = make_claimed(
        Phase.RUNNING, remote_phase="RUNNING", run_started_at=NOW - HOUR, queued_us=9
    )
    change = decide(row, Got(remote), NOW, make_policies(), Random(1))
    assert (change.phase, change.attempt, change.then) == (Phase.RUNNING, 1, None)
    told = {} if remote is RemotePhase.UNDEFINED else {"remote_phase": str(remote)}
    assert change.sets == told
    assert change.timer is not None
    assert change.timer.step == row.timer.step + 1, "polls do not come near again"


def test_an_undefined_phase_does_not_start_the_run_clock() -> None:
    row = make_claimed(Phase.RUNNING)
    for remote in (RemotePhase.UNDEFINED, RemotePhase.QUEUED):
        change = decide(row, Got(remote), NOW, make_policies(), Random(1))
        assert "run_started_at" not in change.sets
    change = decide(row, Got(RemotePhase.RUNNING), NOW, make_policies(), Random(1))
    assert change.sets["run_started_at"] == NOW


@pytest.mark.parametrize("remote", RemotePhase)
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.ABORTING])
def test_every_get_is_counted_whatever_it_answers(
    phase: Phase, remote: RemotePhase
) -> None:
    row = make_claimed(phase, timer=Timer(polls=4))
    change = decide(row, Got(remote), NOW, make_policies(retries=1), Random(1))
    assert change.timer is not None or "polls" in change.sets
    polls = change.timer.polls if change.timer is not None else change.sets["polls"]
    assert polls == 5


@pytest.mark.parametrize("failure", [f for f in Failure if f != "NOT_CREATED"])
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.ABORTING])
def test_every_get_is_counted_even_if_it_fails(phase: Phase, failure: Failure) -> None:
    row = make_claimed(phase, timer=Timer(polls=4), **OLD_JOB)
    for policies in (make_policies(), RETRIES):
        change = decide(row, failed(Call.GET, failure), NOW, policies, Random(1))
        polls = change.timer.polls if change.timer else change.sets["polls"]
        assert polls == 5
