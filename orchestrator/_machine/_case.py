"""One decision's givens, and the only constructors of a `Change`.

Rules build their answers with `Case.move` (a transition by a cause), `Case.end`
(one that is terminal), `Case.retry` (a new attempt), `Case.note` (bookkeeping
without history), `Case.later` and `Case.hold` (a failed call), `Case.go_on` (a
call with nothing to write), so that fields which belong together change together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._clock import duration_to_us
from orchestrator._machine._transitions import successor
from orchestrator._phase import TERMINAL, AbortReason, Cause, Phase
from orchestrator._records import Change, Timer

if TYPE_CHECKING:
    from random import Random

    from orchestrator._machine._steps import Steps
    from orchestrator._phase import Cleanup, Hold
    from orchestrator._policies import Policies
    from orchestrator._records import Call, CallFailed, Claimed, NewJob

_PHASES = {str(phase): phase for phase in Phase}

_POLLING_SLACK_US = 60_000_000
"""A poll later than planned by more than this means that no engine was polling."""

_UNSUBMITTED = {
    AbortReason.USER: Cause.ABORTED_UNSUBMITTED,
    AbortReason.DEADLINE: Cause.DEADLINE_UNSUBMITTED,
    AbortReason.QUEUED_TIMEOUT: Cause.QUEUED_TIMEOUT_UNSUBMITTED,
}

CODES = {
    AbortReason.USER: "ABORTED",
    AbortReason.DEADLINE: "DEADLINE_EXCEEDED",
    AbortReason.RUN_TIMEOUT: "RUN_TIMEOUT",
    AbortReason.QUEUED_TIMEOUT: "QUEUED_TIMEOUT",
    AbortReason.POLL_BUDGET: "POLL_BUDGET_SPENT",
    AbortReason.REJECTED: "GET_REJECTED",
}
"""The ``error_code`` of an execution that ended for each reason."""


class Case(NamedTuple):
    """The givens of one decision: row, time, policies, chance."""

    row: Claimed
    now: int
    steps: Steps
    policies: Policies
    rng: Random
    timer: Timer
    """The row's, or what this decision has made of it so far."""

    def believed(self, since: int) -> int:
        """Return the time by which limits of what is from *since* fire: never early."""
        return self.now - max(self.steps.error(since)[1], 0)

    def age_of(self, since: int) -> int:
        """Return how long ago *since* may have been, at most."""
        return self.now - since - min(self.steps.error(since)[0], 0)

    @property
    def phase(self) -> Phase:
        """Return the row's phase."""
        return _PHASES[self.row.phase]

    @property
    def _at_the_earliest(self) -> int:
        """Return the time by which the deadline counts, from the submission."""
        return self.believed(self.row.submitted_at)

    # What presses

    def queued_us(self) -> int:
        """Return how long this attempt has waited, here and remotely."""
        row = self.row
        if row.phase == Phase.QUEUED:
            since: int | None = max(row.phase_at, row.ready_at)
        else:
            since = row.created_at if row.run_started_at is None else None
        return row.queued_us + (max(self.believed(since) - since, 0) if since else 0)

    def pressing(self) -> AbortReason | None:
        """Return the strongest reason to end this attempt now, None without one."""
        row, limits = self.row, self.policies.limits
        if row.abort_requested_at is not None:
            return AbortReason.USER
        if row.deadline_at is not None and self._at_the_earliest >= row.deadline_at:
            return AbortReason.DEADLINE
        started = row.run_started_at
        if row.phase == Phase.RUNNING and started is not None:
            ran = self.believed(started) - started
            if limits.run_timeout_us and ran >= limits.run_timeout_us:
                return AbortReason.RUN_TIMEOUT
        elif row.phase in (Phase.RUNNING, Phase.QUEUED):
            limit = limits.queued_timeout_us
            if limit and self.queued_us() >= limit:
                return AbortReason.QUEUED_TIMEOUT
        return None

    def reason_text(self, reason: AbortReason) -> str:
        """Return words for people about *reason*."""
        limits = self.policies.limits
        match reason:
            case AbortReason.USER:
                return self.row.abort_reason or "aborted by request"
            case AbortReason.DEADLINE:
                return "the deadline over all attempts has passed"
            case AbortReason.RUN_TIMEOUT:
                return f"ran longer than {limits.run_timeout_us / 1e6:g} s"
            case AbortReason.QUEUED_TIMEOUT:
                return f"waited longer than {limits.queued_timeout_us / 1e6:g} s"
            case AbortReason.POLL_BUDGET | AbortReason.REJECTED:
                return self.row.end_message or str(reason)

    def end_unsubmitted(self) -> Change | None:
        """Return the end that presses on an attempt without a job, None without."""
        reason = self.pressing()
        if reason is None:
            return None
        return self.end(
            _UNSUBMITTED[reason], code=CODES[reason], message=self.reason_text(reason)
        )

    def _next_timeout(self, phase: Phase, sets: dict[str, Any]) -> int | None:
        """Return when a time limit next fires if the row becomes *phase*."""
        row, limits = self.row, self.policies.limits
        moments = []
        if row.deadline_at is not None and phase is not Phase.ABORTING:
            moments.append(row.deadline_at)
        started = sets.get("run_started_at", row.run_started_at)
        if phase is Phase.RUNNING and started is not None:
            if limits.run_timeout_us:
                moments.append(started + limits.run_timeout_us)
        elif limits.queued_timeout_us and phase in (Phase.RUNNING, Phase.QUEUED):
            since = max(self.now, sets.get("ready_at", row.ready_at))
            spent = sets.get("queued_us", row.queued_us)
            if phase == row.phase:
                spent = self.queued_us()
            moments.append(since + limits.queued_timeout_us - spent)
        return min(moments, default=None)

    # Constructors of a change

    def move(
        self,
        cause: Cause,
        *,
        sets: dict[str, Any] | None = None,
        due: int | None = None,
        then: Call | None = None,
        timer: Timer | None = None,
        message: str | None = None,
        job: NewJob | None = None,
        cleanup: Cleanup | None = None,
    ) -> Change:
        """Return the transition that *cause* makes, to be looked at again at *due*."""
        row = self.row
        phase = successor(self.phase, cause)
        sets = sets if sets is not None else {}
        if phase != row.phase:
            sets["phase_at"] = self.now
        return Change(
            phase=phase,
            attempt=sets.pop("attempt", row.attempt),
            cause=cause,
            sets=sets,
            timer=timer,
            due_at=None if phase in TERMINAL else self._due(phase, due, sets),
            then=then,
            message=message,
            job=job,
            cleanup=cleanup,
        )

    def end(
        self,
        cause: Cause,
        *,
        code: str | None = None,
        message: str | None = None,
        sets: dict[str, Any] | None = None,
        cleanup: Cleanup | None = None,
    ) -> Change:
        """Return a terminal transition; *code* is None only for success."""
        final = {
            "finished_at": self.now,
            "error_code": code,
            "error_message": message if code else None,
            "hold": None,
            "waiting_on": None,
            "polls": self.timer.polls,
            **(sets or {}),
        }
        return self.move(cause, sets=final, message=message, cleanup=cleanup)

    def can_retry(self) -> bool:
        """Whether another attempt may begin: budget, no wish, time enough."""
        row, limits = self.row, self.policies.limits
        if row.attempt > limits.retries or row.abort_requested_at is not None:
            return False
        starts = self._at_the_earliest + limits.retry_delay_us(row.attempt - 1)
        return row.deadline_at is None or starts < row.deadline_at

    def retry(
        self, cause: Cause, message: str | None, cleanup: Cleanup | None
    ) -> Change:
        """Return the transition to the next attempt's QUEUED."""
        row = self.row
        delay = self.policies.limits.retry_delay_us(row.attempt - 1)
        ready = self.now + delay
        sets = {
            "attempt": row.attempt + 1,
            "ready_at": ready,
            "queued_us": 0,
            "run_started_at": None,
            "created_at": None,
            "remote_phase": None,
            "meta": None,
            "meta_version": None,
            "job_key": None,
            "creates": 0,
            "create_called_at": None,
            "refused": 0,
            "resolution": None,
            "end_reason": None,
            "end_message": None,
            "hold": None,
            "waiting_on": "RETRY_DELAY" if delay else None,
        }
        timer = Timer(polls=self.timer.polls)
        return self.move(
            cause, sets=sets, due=ready, timer=timer, message=message, cleanup=cleanup
        )

    def note(
        self,
        *,
        due: int,
        sets: dict[str, Any] | None = None,
        timer: Timer | None = None,
    ) -> Change:
        """Return bookkeeping without history; unchanged columns are left out."""
        row = self.row
        news = {k: v for k, v in (sets or {}).items() if getattr(row, k) != v}
        return Change(
            phase=self.phase,
            attempt=row.attempt,
            sets=news,
            timer=timer,
            due_at=self._due(self.phase, due, news),
        )

    def go_on(self, call: Call) -> Change:
        """Return a change that writes nothing and makes *call*."""
        row = self.row
        return Change(
            phase=self.phase, attempt=row.attempt, due_at=row.due_at, then=call
        )

    def later(
        self, failed: CallFailed, *, sets: dict[str, Any] | None = None
    ) -> Change:
        """Return the same phase, the call's error noted, with error backoff."""
        timer = self.failed_timer(failed)
        due = self.now + self.error_delay(failed, timer.errors)
        if timer.errors > 1:
            return self.note(due=due, sets=sets, timer=timer)
        return self.move(
            Cause.ERRORS_BEGAN, sets=sets, due=due, timer=timer, message=failed.message
        )

    def hold(self, hold: Hold, message: str, *, timer: Timer | None = None) -> Change:
        """Return the same phase with a mark that says what the row waits for."""
        row = self.row
        delay = self.policies.policy.hold_delay
        due = self.now + round(delay.total_seconds() * 1e6)
        timer = timer or self.timer._replace(called_at=self.now, last_error=message)
        if row.hold == hold:
            return self.note(due=due, timer=timer)
        sets = {"hold": str(hold)}
        return self.move(
            Cause.HOLD_SET, sets=sets, due=due, timer=timer, message=message
        )

    # Bookkeeping of calls

    def listed(self) -> bool:
        """Whether the job is old enough for a ``get`` that says "gone" to be true."""
        row = self.row
        created = row.created_at if row.created_at is not None else row.phase_at
        grace = duration_to_us(self.policies.policy.gone_grace)
        return self.believed(created) >= created + grace

    def polled(self) -> Case:
        """Return the case with one more ``get`` counted."""
        return self._replace(timer=self.timer._replace(polls=self.timer.polls + 1))

    def failed_timer(self, failed: CallFailed) -> Timer:
        """Return the timer after one more failed call in a row."""
        row = self.row
        timer = self.timer
        spent = 0
        if timer.errors and timer.called_at is not None:
            planned = max(row.due_at - timer.called_at, 0)
            spent = min(max(self.now - timer.called_at, 0), planned + _POLLING_SLACK_US)
        return timer._replace(
            errors=timer.errors + 1,
            errors_since=timer.errors_since or self.now,
            budget_us=timer.budget_us + spent,
            called_at=self.now,
            last_error=failed.message,
        )

    def error_delay(self, failed: CallFailed, errors: int) -> int:
        """Return microseconds to wait: the backoff, or longer if the service asks."""
        delay = self.policies.error_delay(errors, self.rng)
        return max(delay, failed.retry_after_us or 0)

    def _due(self, phase: Phase, due: int | None, sets: dict[str, Any]) -> int:
        due = self.now if due is None else due
        timeout = self._next_timeout(phase, sets)
        # A limit that has fired already is handled by the step that comes; never
        # plan behind now, or a row on hold would be looked at without a pause.
        if timeout is not None and self.now < timeout < due:
            return timeout
        return due
