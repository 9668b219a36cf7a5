"""Mechanisms of calls and of what is decided about their answers."""

from __future__ import annotations

from orchestrator._engine import _arguments, _guard, _late, _stepper
from orchestrator._machine import _aborting, _creating, _running
from orchestrator._machine._case import Case
from orchestrator._machine._steps import Steps
from orchestrator._phase import Cause
from orchestrator._policies import Policies
from orchestrator._storage import (
    Store,
    _apply,
    _cleanups,
    _ledger,
    _wishes,
)
from tests.unplugged import switches as off
from tests.unplugged.mechanism import FILE, Mechanism, Promise, engine, one, store, unit
from tests.unplugged.switch import Patch, rewritten

CREATE = {
    "intent before create": Mechanism(
        Promise.CREATE,
        "CREATING is not in the file when create is called",
        (off.unwritten(Cause.CREATE_INTENT),),
        engine("marks::test_the_intent_is_in_the_file_when_create_is_called"),
    ),
    "one token for all calls of an attempt": Mechanism(
        Promise.CREATE,
        "each call gets a token of its own",
        one(_arguments, "create_token", off.a_token_per_call),
        engine("errors::test_a_create_that_is_throttled_waits_as_asked"),
    ),
    "a new token for a retry": Mechanism(
        Promise.CREATE,
        "the token is that of the execution",
        one(_arguments, "create_token", off.a_token_per_execution),
        engine("limits::test_retries_wait_by_the_tasks_backoff"),
    ),
    "only an assertion means not created": Mechanism(
        Promise.CREATE,
        "every exception of create counts as not created",
        one(_creating, "create_failed", off.believed_not_created),
        engine("create::test_an_unknown_create_is_recovered_as_the_class_allows[find]"),
    ),
    "late answers": Mechanism(
        Promise.CREATE,
        "a create that is late is cancelled, its answer lost",
        one(_late.Late, "detach", off.cut_off),
        engine("create::test_a_late_answer_goes_to_the_ledger_and_is_adopted"),
    ),
    "adoption from the ledger": Mechanism(
        Promise.CREATE,
        "recovery does not ask the ledger",
        one(Store, "adoptable", off.nothing),
        engine(
            "create::test_a_late_answer_goes_to_the_ledger_and_is_adopted",
            "fencing::test_a_zombies_job_is_adopted_if_its_attempt_still_waits",
        ),
    ),
    "replay only while the token is remembered": Mechanism(
        Promise.CREATE,
        "every service is taken for idempotent for ever",
        one(Policies, "remembers", off.yes),
        engine("create::test_an_unknown_create_is_recovered_as_the_class_allows[fail]"),
    ),
    "find before create again": Mechanism(
        Promise.CREATE,
        "a service that can be searched is not",
        one(_creating, "recover", off.never_found),
        engine("create::test_an_unknown_create_is_recovered_as_the_class_allows[find]"),
    ),
    "find_settle": Mechanism(
        Promise.CREATE,
        "the first search that finds nothing is believed",
        one(_creating, "find_absent", off.absent_at_once),
        engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[absent]"
        ),
    ),
    "the sweep": Mechanism(
        Promise.CREATE,
        "what was not found is searched for no more",
        one(_creating, "_swept", off.unswept),
        engine("sweep::test_a_second_job_that_is_listed_late_is_deleted"),
    ),
    "class N is not created again": Mechanism(
        Promise.CREATE,
        "a create of unknown outcome is repeated whatever the connector says",
        one(_creating, "_by_policy", off.create_again),
        engine("create::test_an_unknown_create_is_recovered_as_the_class_allows[fail]"),
    ),
}

GET = {
    "an error of get is not the job's end": Mechanism(
        Promise.GET,
        "the first error of get ends the execution",
        one(_running, "get_failed", off.lost_at_once),
        engine("errors::test_an_error_of_get_is_not_the_jobs_failure[raises]"),
    ),
    "the poll budget is time": Mechanism(
        Promise.GET,
        "many errors spend it, however quick they came",
        one(Case, "failed_timer", off.spent_at_once),
        unit(
            "machine_timeouts::test_the_poll_budget_needs_both_many_errors_and_a_long"
            "_time"
        ),
    ),
    "the poll budget ends": Mechanism(
        Promise.GET,
        "a get that fails is repeated for ever",
        one(_running, "get_failed", off.asked_for_ever),
        unit(
            "machine_timeouts::test_the_poll_budget_needs_both_many_errors_and_a_long"
            "_time"
        ),
    ),
    "errors are shown": Mechanism(
        Promise.GET,
        "the error is kept nowhere",
        one(Case, "failed_timer", off.untold),
        engine("errors::test_an_error_of_get_is_visible_while_it_lasts"),
    ),
    "time limits of calls": Mechanism(
        Promise.GET,
        "a call that hangs is waited for",
        one(_guard.Answer, "expire", off.nothing_now),
        engine("errors::test_a_get_that_hangs_is_cut_off_and_spends_budget"),
    ),
    "the guard around calls": Mechanism(
        Promise.GET,
        "what is no Exception gets through to the step",
        one(_guard, "_guarded", off.guarded_from_exceptions_alone),
        engine(
            "hostile_calls::test_misbehaviour_in_any_call_ends_as_its_row_of_the_table"
            "_says[closes]"
        ),
    ),
}

ABORT = {
    "the mark before the delete": Mechanism(
        Promise.ABORT,
        "ABORTING is not in the file when delete is called",
        (off.unwritten(Cause.ABORT_REQUESTED),),
        engine(
            "marks::test_the_decision_to_abort_is_in_the_file_when_delete_is_called"
        ),
    ),
    "only debts are deleted": Mechanism(
        Promise.ABORT,
        "the cleaner takes entries of the ledger that are not DUE",
        one(
            _cleanups,
            "_SELECT",
            _cleanups._SELECT.replace(
                "cleanup = 'DUE' AND cleanup_due_at <= ?", "? IS NOT NULL"
            ),
        ),
        store(
            "ledger::test_an_adopted_job_becomes_due_only_by_a_decision"
            "[sqlite-file-False]"
        ),
    ),
    "a get confirms the delete": Mechanism(
        Promise.ABORT,
        "a delete that returned counts as the job's end",
        one(_aborting, "deleted", off.ended_by_a_returned_delete),
        unit("machine_abort::test_an_aborting_step_deletes_then_looks"),
    ),
    "what nobody adopts is owed": Mechanism(
        Promise.ABORT,
        "nobody owes a cleanup",
        one(_ledger, "owe_cleanup", off.nothing),
        (
            *store(
                "ledger::test_an_answer_that_came_too_late_to_be_adopted_owes_cleanup"
                "[sqlite-file-given up by a user]"
            ),
            *engine(
                "fencing::test_a_zombies_create_is_refused_and_its_job_cleaned_up",
                "marks::test_a_debt_is_in_the_file_when_its_job_is_deleted",
            ),
        ),
    ),
    "a debt is for ever": Mechanism(
        Promise.ABORT,
        "an entry that is DUE may be adopted",
        (
            off.without_triggers("external_job_cleanup"),
            Patch(
                _ledger,
                "KEEP_FIRST",
                _ledger.KEEP_FIRST.replace(" WHERE external_job.cleanup = 'NONE'", ""),
            ),
        ),
        store("ledger::test_a_debt_stands_whoever_names_its_job_again" + FILE),
    ),
    "wishes, not phases": Mechanism(
        Promise.ABORT,
        "an abort writes the phase itself",
        one(
            _wishes,
            "_ABORT",
            _wishes._ABORT.replace(
                "abort_reason = ?",
                "abort_reason = ?, phase = 'ABORTING', version = version + 1",
            ),
        ),
        store("wishes::test_an_abort_is_a_wish_and_no_phase[sqlite-file-RUNNING]"),
    ),
    "a wish is not slept through": Mechanism(
        Promise.ABORT,
        "a wish that comes while a step is at work is seen at the next poll",
        rewritten("timer.woken > 0", "timer.woken < 0"),
        store(
            "wishes::test_a_wish_that_comes_while_the_row_is_at_work_is_kept"
            "[sqlite-file-abort]"
        ),
    ),
    "a wish before the intent": Mechanism(
        Promise.ABORT,
        "a step that read its row before the abort begins the attempt",
        one(_apply, "_NOT_ABORTED", ""),
        engine("wishes_win::test_an_abort_between_claim_and_intent_means_no_create"),
    ),
    "an abort beats a retry": Mechanism(
        Promise.ABORT,
        "a retry begins although the user gave up",
        one(Case, "can_retry", off.retried_in_spite_of_the_user),
        unit("machine_abort::test_a_wish_forbids_the_retry_of_a_timeout"),
    ),
    "an attempt waits for the job before it": Mechanism(
        Promise.ABORT,
        "a timeout begins the next attempt while the job still runs",
        one(_running, "_abort", off.next_attempt_at_once),
        engine("limits::test_the_run_timeout_counts_from_the_remote_start"),
    ),
    "durable time limits": Mechanism(
        Promise.ABORT,
        "no time limit presses",
        one(Case, "pressing", off.only_users_press),
        unit("machine_timeouts::test_the_deadline_ends_every_live_phase"),
    ),
    "steps of the clock": Mechanism(
        Promise.ABORT,
        "the wall clock is believed whatever it shows",
        one(Steps, "error", off.no_steps),
        engine("clock_steps::test_no_time_limit_fires_early_after_a_step_forward"),
    ),
    "the alert": Mechanism(
        Promise.ABORT,
        "nobody is told that a job was given up",
        one(_stepper, "_tell", off.nothing_now),
        engine(
            "cleanup::test_an_abort_that_is_never_confirmed_is_abandoned_with_an_alert"
        ),
    ),
}
