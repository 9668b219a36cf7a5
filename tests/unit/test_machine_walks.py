"""Random walks through the machine: whatever a service answers, the laws hold."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, assert_never

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator._machine import INTENTS, NEXT_ATTEMPT, TRANSITIONS, decide
from orchestrator._phase import LIVE, TERMINAL, Cause, Cleanup, Phase, RemotePhase
from orchestrator._records import (
    Call,
    CallFailed,
    Change,
    Claimed,
    Created,
    Deleted,
    Due,
    Failure,
    Found,
    Got,
    Observation,
    Poisoned,
    Recorded,
    Timer,
    Unloaded,
)
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    after,
    make_claimed,
    make_job,
    make_policies,
    seconds,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies

STEPS_MAX = 60
CALLED_IN = {
    Call.CREATE: {Phase.CREATING},
    Call.GET: {Phase.RUNNING, Phase.ABORTING},
    Call.DELETE: {Phase.ABORTING},
    Call.FIND: {Phase.CREATE_UNKNOWN},
    Call.LOOKUP: {Phase.CREATE_UNKNOWN},
}
JOB_IS_OVER = {
    Cause.REMOTE_FAILED_RETRY,
    Cause.REMOTE_RETRYABLE_FAILED,
    Cause.JOB_LOST_RETRY,
    Cause.NOT_CREATED_RETRY,
}
"""Causes of a new attempt that say themselves that the old job is over."""

policies_given = st.builds(
    make_policies,
    retries=st.integers(0, 2),
    retry_base_us=st.sampled_from([0, 5 * SECOND]),
    run_timeout_us=st.sampled_from([0, MINUTE]),
    queued_timeout_us=st.sampled_from([0, MINUTE]),
    idempotent_us=st.sampled_from([0, MINUTE, None]),
    can_find=st.booleans(),
    on_unknown_create=st.sampled_from(["fail", "hold", "create"]),
    delete_is_final=st.booleans(),
    jitter=st.sampled_from([0.0, 0.5]),
    retry_on_failed=st.booleans(),
    poll_budget_errors=st.just(3),
    poll_budget=st.just(seconds(60)),
    create_budget=st.just(seconds(120)),
    cleanup_deadline=st.just(seconds(600)),
)


def _failures(call: Call) -> st.SearchStrategy[CallFailed]:
    possible = [f for f in Failure if call is Call.CREATE or f != Failure.NOT_CREATED]
    return st.builds(
        CallFailed,
        st.just(call),
        st.sampled_from(possible),
        st.just("no"),
        st.sampled_from([None, HOUR]),
    )


def _answers(call: Call) -> st.SearchStrategy[Observation]:
    match call:
        case Call.CREATE:
            answers: st.SearchStrategy[Any] = st.just(Created(make_job()))
        case Call.GET:
            answers = st.builds(
                Got,
                st.sampled_from(RemotePhase),
                outputs=st.just(b"out"),
                outputs_problem=st.sampled_from([None, None, "does not fit"]),
            )
        case Call.DELETE:
            answers = st.just(Deleted())
        case Call.FIND:
            answers = st.sampled_from([Found(None), Found(make_job())])
        case Call.LOOKUP:
            jobs = st.sampled_from([None, None, make_job()])
            return st.builds(Recorded, jobs, st.booleans())
        case _:
            assert_never(call)
    return st.one_of(answers, _failures(call))


class Walk:
    """One execution's life, as a test draws it, with every law checked on the way."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.policies: Policies = data.draw(policies_given)
        deadline = data.draw(st.sampled_from([None, NOW + 5 * MINUTE]))
        self.row = make_claimed(deadline_at=deadline)
        self.now = NOW
        self.rng = Random(data.draw(st.integers(0, 3)))
        self.call: Call | None = None
        self.gets = 0
        self.finished_at: int | None = None

    def go(self) -> None:
        """Walk until the row is terminal, or for a while."""
        for _ in range(STEPS_MAX):
            self._pass_time()
            self._wish()
            observation = self._observe()
            # What decide may draw is all that it may take from the generator.
            change = decide(self.row, observation, self.now, self.policies, self.rng)
            self._check(self.row, observation, change)
            if change.phase in TERMINAL:
                return
            self.row = after(self.row, change)
            self._check_row(self.row)
            self.call = change.then

    def _pass_time(self) -> None:
        if self.call is not None:
            self.now += self.data.draw(st.sampled_from([0, SECOND, MINUTE]))
            return
        late = self.data.draw(st.sampled_from([0, SECOND, HOUR]))
        early = self.data.draw(st.integers(0, 9)) == 0
        self.now = self.now if early else max(self.now, self.row.due_at) + late

    def _wish(self) -> None:
        """Let a user wish something, now and then, as the store would take it."""
        wish = self.data.draw(st.integers(0, 19))
        if wish == 0 and self.row.abort_requested_at is None:
            self.row = self.row._replace(abort_requested_at=self.now)
        elif self.row.phase == Phase.CREATE_UNKNOWN and wish in (1, 2):
            word = "ABSENT" if wish == 1 else "GIVE_UP"
            self.row = self.row._replace(resolution=word)

    def _observe(self) -> Observation:
        kind = self.data.draw(st.integers(0, 19))
        if kind == 0:
            return Poisoned("broken")
        if kind == 1 and self.call is None:
            return Unloaded()
        if self.call is None or kind == 2:  # 2: the process died in the call
            return Due()
        answer = self.data.draw(_answers(self.call))
        self.gets += self.call is Call.GET
        return answer

    def _check(self, row: Claimed, observation: Observation, change: Change) -> None:
        phase = Phase(row.phase)
        expected = phase if change.cause is None else TRANSITIONS[phase, change.cause]
        assert change.phase is expected, "only the table names a phase"
        assert (change.due_at is None) == (change.phase in TERMINAL)
        if change.then is None and change.due_at is not None:
            assert change.due_at >= self.now, "never planned behind now"
        if change.then is not None:
            assert change.phase in CALLED_IN[change.then]
        if change.then is Call.CREATE:
            assert change.cause in INTENTS, "no call without a committed intent"
            assert row.abort_requested_at is None or phase is Phase.CREATE_UNKNOWN
        self._check_attempt(row, change)
        if change.phase in TERMINAL:
            self._check_end(row, change)

    def _check_attempt(self, row: Claimed, change: Change) -> None:
        assert change.attempt <= self.policies.limits.retries + 1
        begins = change.cause in NEXT_ATTEMPT
        assert change.attempt == row.attempt + begins, "the cause tells of it"
        if change.attempt > row.attempt:
            assert change.phase is Phase.QUEUED
            assert row.abort_requested_at is None
            over = change.cause in JOB_IS_OVER or change.cleanup is Cleanup.DONE
            assert over, "attempt k+1 starts only when job k is over"
            assert change.due_at is not None
            assert row.deadline_at is None or change.due_at < row.deadline_at
        if change.cleanup is not None:
            assert row.phase == Phase.ABORTING

    def _check_end(self, row: Claimed, change: Change) -> None:
        sets = change.sets
        assert sets["finished_at"] == self.now
        assert (sets["error_code"] is None) == (change.phase is Phase.SUCCEEDED)
        assert (sets["hold"], sets["waiting_on"]) == (None, None)
        assert sets["polls"] == self.gets, "every get is counted, over all attempts"
        if row.phase == Phase.ABORTING:
            assert change.cleanup in (Cleanup.DONE, Cleanup.ABANDONED)
        if change.phase is Phase.SUCCEEDED:
            assert sets["outputs"] == b"out"

    def _check_row(self, row: Claimed) -> None:
        """The schema's CHECKs, in the test's own words."""
        if row.phase in (Phase.RUNNING, Phase.ABORTING):
            assert None not in (row.meta, row.meta_version, row.job_key)
        if row.phase in (Phase.CREATING, Phase.CREATE_UNKNOWN):
            assert row.creates >= 1
            assert row.create_called_at is not None
        if row.phase == Phase.ABORTING:
            assert row.end_reason is not None
        if row.phase == Phase.QUEUED:
            assert row.meta is None
            assert row.creates == 0
        assert row.timer.polls == self.gets
        assert row.timer.errors >= 0
        assert 0 <= row.queued_us <= self.now - NOW


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_no_walk_breaks_a_law(data: st.DataObject) -> None:
    """Possible answers never raise, and every change keeps every invariant."""
    Walk(data).go()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    phase=st.sampled_from(LIVE),
    timer=st.builds(
        Timer,
        polls=st.integers(0, 10**9),
        step=st.integers(0, 10**9),
        errors=st.integers(0, 10**9),
        budget_us=st.integers(0, 10**15),
        called_at=st.sampled_from([None, NOW - HOUR, NOW]),
    ),
    data=st.data(),
)
def test_no_count_is_too_large_to_decide(
    phase: Phase, timer: Timer, data: st.DataObject
) -> None:
    """A row that was polled for years backs off to the cap, and overflows nothing."""
    row = make_claimed(phase, timer=timer)
    calls = [call for call, phases in CALLED_IN.items() if phase in phases]
    answers = [_answers(call) for call in calls]
    observation = data.draw(st.one_of(st.just(Due()), *answers))
    change = decide(row, observation, NOW, data.draw(policies_given), Random(1))
    assert change.due_at is None or change.due_at <= NOW + HOUR
