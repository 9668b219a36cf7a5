"""Create and its unknown outcome: intent, assertions, replay, search, adoption."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import Phase
from orchestrator._records import (
    Call,
    Change,
    Created,
    Due,
    Failure,
    Found,
    Observation,
    Recorded,
    Refused,
    Timer,
    Unloaded,
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
WISHED: dict[str, Any] = {
    "abort_requested_at": NOW - SECOND,
    "abort_reason": "superseded",
}
ASSERTIONS = {
    Failure.TRANSIENT,
    Failure.THROTTLED,
    Failure.UNAUTHORIZED,
    Failure.SECRET,
    Failure.META,
    Failure.PERMANENT,
    Failure.NOT_CREATED,
}


def _decide(
    row: Claimed,
    observation: Observation,
    policies: Policies = PLAIN,
    now: int = NOW,
) -> Change:
    return decide(row, observation, now, policies, Random(1))


def _unknown(**changes: Any) -> Claimed:
    return make_claimed(Phase.CREATE_UNKNOWN, **changes)


def test_the_intent_is_committed_before_the_call() -> None:
    """The change that counts the create asks for the call after its commit."""
    change = _decide(make_claimed(waiting_on="START_TIME"), Due())
    assert (change.phase, change.then, change.writes) == (
        Phase.CREATING,
        Call.CREATE,
        True,
    )
    assert change.sets["creates"] == 1
    assert change.sets["create_called_at"] == NOW
    assert change.sets["waiting_on"] is None
    assert change.due_at == NOW, "a row whose caller died is due at once"


def test_a_row_waits_for_its_start_time_and_says_so() -> None:
    row = make_claimed(ready_at=NOW + HOUR)
    change = _decide(row, Due())
    assert (change.cause, change.due_at, change.then) == (None, NOW + HOUR, None)
    assert change.sets == {"waiting_on": "START_TIME"}
    retry = row._replace(waiting_on="RETRY_DELAY")
    assert _decide(retry, Due()).sets == {}


@pytest.mark.parametrize("failure", Failure)
def test_only_an_assertion_means_not_created(failure: Failure) -> None:
    """Everything else is unknown, whatever the connector's class says."""
    generous = make_policies(idempotent_us=None, can_find=True, retries=3)
    row = make_claimed(Phase.CREATING)
    for policies in (PLAIN, generous):
        change = _decide(row, failed(Call.CREATE, failure), policies)
        unknown = change.phase is Phase.CREATE_UNKNOWN
        assert unknown == (failure not in ASSERTIONS)


@pytest.mark.parametrize("failure", Failure)
def test_no_assertion_speaks_for_an_earlier_call_of_the_attempt(
    failure: Failure,
) -> None:
    """An unsure create, then a sure refusal of its replay, is still unsure."""
    row = make_claimed(Phase.CREATING, creates=2)
    change = _decide(row, failed(Call.CREATE, failure), make_policies(retries=3))
    assert change.phase is Phase.CREATE_UNKNOWN
    assert change.attempt == 1


def test_a_permanent_refusal_of_a_replay_rules_out_further_replays() -> None:
    replays = make_policies(idempotent_us=None)
    row = make_claimed(Phase.CREATING, creates=2)
    for failure in (Failure.PERMANENT, Failure.NOT_CREATED):
        change = _decide(row, failed(Call.CREATE, failure), replays)
        assert change.sets["refused"] == Refused.REPLAY
        assert change.due_at == NOW
        ended = _decide(after(row, change), Recorded(None), replays)
        assert ended.cause == "CREATE_OUTCOME_UNKNOWN"
    passing = _decide(row, failed(Call.CREATE, Failure.THROTTLED), replays)
    again = _decide(after(row, passing), Recorded(None), replays)
    assert again.cause == "REPLAYED"


def test_a_refusal_keeps_attempt_and_token_and_forgets_the_call() -> None:
    """The same attempt is tried again later; no retry is burnt."""
    row = make_claimed(Phase.CREATING, creates=1)
    for failure in (Failure.TRANSIENT, Failure.THROTTLED):
        change = _decide(row, failed(Call.CREATE, failure), make_policies(retries=2))
        assert (change.phase, change.attempt) == (Phase.QUEUED, 1)
        assert change.sets["creates"] == 0
        assert change.sets["create_called_at"] is None
        assert change.sets["waiting_on"] == "SERVICE"


def test_refusals_have_a_window_of_their_own() -> None:
    """create_budget counts the time of the streak, not the number of refusals."""
    policies = make_policies(create_budget=seconds(100), retries=3)
    row, now = make_claimed(Phase.CREATING), NOW
    answer = failed(Call.CREATE, Failure.TRANSIENT)
    change = _decide(row, answer, policies, now)
    while change.due_at is not None:
        now = change.due_at
        row = after(row, change)
        row = after(row, _decide(row, Due(), policies, now))
        change = _decide(row, answer, policies, now)
    assert change.cause == "CREATE_BUDGET_SPENT"
    assert 100 <= (now - NOW) / SECOND < 300
    assert change.sets["error_code"] == "CREATE_BUDGET_SPENT"


def test_an_asserted_end_spends_a_retry_and_a_permanent_one_does_not() -> None:
    row, policies = make_claimed(Phase.CREATING), make_policies(retries=1)
    retried = _decide(row, failed(Call.CREATE, Failure.NOT_CREATED), policies)
    assert (retried.phase, retried.attempt) == (Phase.QUEUED, 2)
    ended = _decide(row, failed(Call.CREATE, Failure.PERMANENT), policies)
    assert (ended.phase, ended.attempt) == (Phase.FAILED, 1)


def test_a_create_whose_caller_died_is_unknown_and_looked_up_at_once() -> None:
    change = _decide(make_claimed(Phase.CREATING), Due())
    assert (change.phase, change.then) == (Phase.CREATE_UNKNOWN, Call.LOOKUP)
    assert change.due_at == NOW


def test_recovery_looks_in_the_ledger_first() -> None:
    everything = make_policies(
        idempotent_us=None, can_find=True, on_unknown_create="create"
    )
    look = _decide(_unknown(), Due(), everything)
    assert (look.writes, look.then) == (False, Call.LOOKUP)
    adopted = _decide(_unknown(), Recorded(make_job()), everything)
    assert (adopted.phase, adopted.cause) == (Phase.RUNNING, "ADOPTED")
    assert adopted.job == make_job()
    assert adopted.sets["meta"] == b"meta-1"
    assert adopted.sets["created_at"] == NOW


def test_a_replay_comes_before_a_search_and_a_search_before_the_policy() -> None:
    policies = make_policies(
        idempotent_us=MINUTE, can_find=True, on_unknown_create="create"
    )
    young = _unknown(create_called_at=NOW - MINUTE + 1)
    change = _decide(young, Recorded(None), policies)
    assert (change.cause, change.then) == ("REPLAYED", Call.CREATE)
    old = _unknown(create_called_at=NOW - MINUTE)
    assert _decide(old, Recorded(None), policies).then is Call.FIND
    refused = old._replace(refused=Refused.FIND)
    assert _decide(refused, Recorded(None), policies).cause == "CREATE_AGAIN"


def test_the_age_of_a_token_counts_from_its_first_call() -> None:
    """A replay does not make the token younger."""
    policies = make_policies(idempotent_us=MINUTE)
    row = _unknown(create_called_at=NOW)
    now = NOW
    change = _decide(row, Recorded(None), policies, now)
    while change.cause == "REPLAYED":
        assert change.sets["creates"] == row.creates + 1
        row = after(row, change)
        failure = failed(Call.CREATE, Failure.TIMEOUT)
        row = after(row, _decide(row, failure, policies, now))
        now += 10 * SECOND
        change = _decide(row, Recorded(None), policies, now)
    assert change.cause == "CREATE_OUTCOME_UNKNOWN"
    assert now == NOW + MINUTE


def test_never_and_for_ever_are_windows_too() -> None:
    assert not make_policies(idempotent_us=0).remembers(0)
    assert not make_policies(idempotent_us=0).remembers(-1)
    assert not make_policies(idempotent_us=MINUTE).remembers(-HOUR)
    assert make_policies(idempotent_us=None).remembers(10**18)


def test_an_empty_search_counts_only_after_the_settling() -> None:
    """From when the last call was known to be over: until then it may take effect."""
    policies = make_policies(can_find=True, find_settle=seconds(30))
    young = _unknown(create_called_at=0, phase_at=NOW - 30 * SECOND + 1)
    wait = _decide(young, Found(None), policies)
    assert (wait.cause, wait.due_at) == (None, NOW + 1)
    old = _unknown(phase_at=NOW - 30 * SECOND)
    change = _decide(old, Found(None), policies)
    assert (change.cause, change.then) == ("KNOWN_ABSENT", Call.CREATE)
    assert change.sets["creates"] == 1, "what was known absent is no earlier call"
    assert change.sets["create_called_at"] == NOW
    assert change.sets["refused"] == Refused.SEARCHED
    assert change.sweep is None, "jobs without names cannot be told apart"


@pytest.mark.parametrize("wish", [None, NOW])
def test_a_search_that_is_believed_goes_on(wish: int | None) -> None:
    """The service may list the job later: after the next create, and after an end."""
    policies = make_policies(
        can_find=True, names_jobs=True, find_settle=seconds(30), sweep_for=seconds(600)
    )
    row = _unknown(phase_at=NOW - 30 * SECOND, abort_requested_at=wish)
    change = _decide(row, Found(None), policies)
    assert change.cause == ("KNOWN_ABSENT" if wish is None else "ABORTED_UNSUBMITTED")
    assert change.sweep == (NOW + 30 * SECOND, NOW + 600 * SECOND)
    never = make_policies(can_find=True, names_jobs=True, sweep_for=seconds(0))
    assert _decide(row, Found(None), never).sweep is None


def test_a_search_that_finds_adopts() -> None:
    change = _decide(_unknown(), Found(make_job(5)), make_policies(can_find=True))
    assert (change.cause, change.job) == ("ADOPTED", make_job(5))
    assert change.sets["job_key"] == "job-5"


def test_a_search_that_fails_for_a_whole_budget_is_given_up() -> None:
    """It leaves the choice to on_unknown_create instead of searching for ever."""
    policies = make_policies(
        can_find=True, poll_budget_errors=3, poll_budget=seconds(60)
    )
    row, now = _unknown(), NOW
    while not row.refused:
        now = row.due_at
        change = _decide(row, failed(Call.FIND, Failure.TIMEOUT), policies, now)
        row = after(row, change)
    assert row.refused == Refused.FIND
    assert row.timer.errors >= 3
    assert now >= NOW + MINUTE
    assert row.due_at == now
    ended = _decide(row, Recorded(None), policies, now)
    assert ended.cause == "CREATE_OUTCOME_UNKNOWN"


def test_nobody_knows_ends_in_failure_by_default_and_is_not_retried() -> None:
    row = _unknown(timer=Timer(last_error="connection reset"))
    change = _decide(row, Recorded(None), make_policies(retries=5))
    assert (change.phase, change.attempt) == (Phase.FAILED, 1)
    assert change.sets["error_code"] == "CREATE_OUTCOME_UNKNOWN"
    assert "connection reset" in change.sets["error_message"]


def test_nobody_knows_waits_for_a_user_where_the_connector_says_hold() -> None:
    policies = make_policies(on_unknown_create="hold")
    change = _decide(_unknown(), Recorded(None), policies)
    assert (change.phase, change.cause) == (Phase.CREATE_UNKNOWN, "HOLD_SET")
    assert change.sets == {"hold": "OUTCOME_UNKNOWN"}
    held = after(_unknown(), change)
    again = _decide(held, Recorded(None), policies)
    assert (again.cause, again.due_at) == (None, NOW + MINUTE)


def test_nobody_knows_creates_again_where_the_connector_says_create() -> None:
    """At least once, as Flyte; but never for an execution that is to end."""
    policies = make_policies(on_unknown_create="create")
    change = _decide(_unknown(), Recorded(None), policies)
    assert (change.cause, change.then) == ("CREATE_AGAIN", Call.CREATE)
    assert change.sets["creates"] == 2
    for pressing in (WISHED, {"deadline_at": NOW}):
        change = _decide(_unknown(**pressing), Recorded(None), policies)
        assert change.cause == "CREATE_OUTCOME_UNKNOWN"


def test_a_detached_create_is_waited_for() -> None:
    """Its answer goes to the ledger; where the token is remembered none is needed."""
    policies = make_policies(idempotent_us=0, can_find=True)
    change = _decide(_unknown(), Recorded(None, in_flight=True), policies)
    assert (change.cause, change.then, change.due_at) == (None, None, NOW + SECOND)
    remembering = make_policies(idempotent_us=None, can_find=True)
    change = _decide(_unknown(), Recorded(None, in_flight=True), remembering)
    assert (change.cause, change.then) == ("REPLAYED", Call.CREATE)


@pytest.mark.parametrize("observation", [Recorded(make_job()), Found(make_job())])
def test_an_abort_while_unknown_adopts_first_then_deletes(
    observation: Observation,
) -> None:
    change = _decide(_unknown(**WISHED), observation)
    assert (change.phase, change.then) == (Phase.ABORTING, Call.DELETE)
    assert change.job == make_job(), "the job is adopted by the same transition"
    assert change.sets["meta"] == b"meta-1"
    assert change.sets["end_reason"] == "USER"
    assert change.sets["end_message"] == "superseded"


def test_an_abort_while_unknown_does_not_end_what_may_have_a_job() -> None:
    """It looks first: the job may exist, and would be an orphan."""
    look = _decide(_unknown(**WISHED), Due())
    assert (look.phase, look.then) == (Phase.CREATE_UNKNOWN, Call.LOOKUP)
    replay = _decide(
        _unknown(**WISHED), Recorded(None), make_policies(idempotent_us=None)
    )
    assert replay.cause == "REPLAYED"
    search = _decide(_unknown(**WISHED), Recorded(None), make_policies(can_find=True))
    assert search.then is Call.FIND


def test_an_abort_while_unknown_is_history_once() -> None:
    wish = _decide(_unknown(**WISHED), Due())
    assert (wish.cause, wish.message) == ("WISH_RECORDED", "superseded")
    recorded = after(_unknown(**WISHED), wish)
    again = _decide(recorded, Due())
    assert (again.writes, again.then) == (False, Call.LOOKUP)
    resolved = _decide(recorded._replace(resolution="ABSENT"), Due())
    assert resolved.phase is Phase.QUEUED, "and there it ends, without a job"


def test_an_abort_of_what_is_known_absent_ends_without_a_job() -> None:
    row = _unknown(phase_at=NOW - HOUR, **WISHED)
    change = _decide(row, Found(None), make_policies(can_find=True))
    assert (change.phase, change.cause) == (Phase.ABORTED, "ABORTED_UNSUBMITTED")
    assert change.sets["error_message"] == "superseded"


def test_an_abort_during_create_deletes_the_job_that_came() -> None:
    change = _decide(make_claimed(Phase.CREATING, **WISHED), Created(make_job()))
    assert (change.phase, change.then) == (Phase.ABORTING, Call.DELETE)
    assert change.job == make_job()


def test_a_user_who_knows_that_there_is_no_job_queues_the_attempt_again() -> None:
    row = _unknown(resolution="ABSENT", hold="OUTCOME_UNKNOWN", refused=3, creates=4)
    change = _decide(row, Due())
    assert (change.phase, change.attempt) == (Phase.QUEUED, 1)
    cleared = after(row, change)
    assert (cleared.hold, cleared.creates) == (None, 0)
    assert cleared.refused == Refused.SEARCHED, "the user may err: a job may show up"
    assert cleared.resolution is None, "said once, it holds for one unknown create"


def test_a_user_can_give_up_a_row_that_waits() -> None:
    unknown = _decide(_unknown(resolution="GIVE_UP"), Due())
    assert (unknown.phase, unknown.cause) == (Phase.FAILED, "GIVEN_UP")
    queued = _decide(make_claimed(resolution="GIVE_UP"), Due())
    assert (queued.phase, queued.cause) == (Phase.FAILED, "OPERATOR_FAILED")


@pytest.mark.parametrize(
    ("phase", "cause"),
    [(Phase.QUEUED, "OPERATOR_FAILED"), (Phase.CREATE_UNKNOWN, "GIVEN_UP")],
)
def test_giving_up_needs_no_connector(phase: Phase, cause: str) -> None:
    """The operator's word is enough, also for a task type that nobody has loaded."""
    row = make_claimed(phase, resolution="GIVE_UP", hold="CONNECTOR_MISSING")
    change = _decide(row, Unloaded())
    assert (change.phase, change.cause) == (Phase.FAILED, cause)


@pytest.mark.parametrize(
    ("observation", "policies"),
    [
        (Recorded(make_job()), PLAIN),
        (Recorded(None), make_policies(idempotent_us=None)),
        (Recorded(None), make_policies(on_unknown_create="create")),
        (Found(None), make_policies(can_find=True)),
    ],
)
def test_a_resolution_does_not_outlive_the_unknown_create_it_is_about(
    observation: Observation, policies: Policies
) -> None:
    """Else a later attempt's unknown create would be taken for absent."""
    row = _unknown(create_called_at=NOW - HOUR, phase_at=NOW - HOUR)
    change = _decide(row, observation, policies)
    assert change.phase is not Phase.CREATE_UNKNOWN
    assert change.sets.get("resolution", "kept") is None


def test_a_first_poll_comes_after_the_shortest_delay() -> None:
    change = _decide(make_claimed(Phase.CREATING), Created(make_job()))
    assert (change.due_at, change.then) == (NOW + SECOND, None)


def test_a_hold_ends_with_the_create_that_works() -> None:
    held = {"hold": "UNAUTHORIZED"}
    intent = _decide(make_claimed(**held), Due())
    row = after(make_claimed(**held), intent)
    assert _decide(row, Created(make_job())).sets["hold"] is None


@pytest.mark.parametrize("failure", [Failure.TRANSIENT, Failure.TIMEOUT])
def test_a_hold_does_not_outlive_its_reason(failure: Failure) -> None:
    """The credentials are accepted again, the service is busy: no hold remains."""
    row = make_claimed(hold="UNAUTHORIZED")
    row = after(row, _decide(row, Due()))
    row = after(row, _decide(row, failed(Call.CREATE, failure)))
    assert row.hold is None
