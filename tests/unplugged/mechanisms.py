"""The table: mechanisms, what each is for, and the tests that are red without it."""

from __future__ import annotations

import asyncio

from orchestrator import _machine
from orchestrator._engine import _belief, _calls, _guard, _lease, _stepper
from orchestrator._machine import _aborting, _creating, _running
from orchestrator._machine._case import Case
from orchestrator._phase import Cause
from orchestrator._policies import Policies
from orchestrator._secrets import Redactor
from orchestrator._storage import (
    Store,
    _apply,
    _claim,
    _cleanups,
    _dialects,
    _nodes,
    _wishes,
)
from orchestrator._storage._items import Batch, Flush
from orchestrator._storage._submit import Submit
from orchestrator._storage._tx import Tx
from orchestrator._storage._writer import Writer
from tests.unplugged import switches as off
from tests.unplugged.mechanism import Mechanism, Promise
from tests.unplugged.switch import Patch, rewritten

_ENGINE, _STORE, _UNIT = "tests/engine/test_", "tests/conformance/test_", "tests/unit/"
_FILE = "[sqlite-file]"


def _one(owner: object, attribute: str, instead: object) -> tuple[Patch, ...]:
    return (Patch(owner, attribute, instead),)


def _engine(*tests: str) -> tuple[str, ...]:
    return tuple(_ENGINE + test.replace("::", ".py::") for test in tests)


def _store(*tests: str) -> tuple[str, ...]:
    return tuple(_STORE + test.replace("::", ".py::") for test in tests)


def _unit(*tests: str) -> tuple[str, ...]:
    return tuple(_UNIT + "test_" + test.replace("::", ".py::") for test in tests)


KILL = {
    "acknowledged after the commit": Mechanism(
        Promise.KILL,
        "a submit returns before its transaction is committed",
        _one(Batch, "add", off.acknowledged_at_once),
        _store("writer::test_nothing_is_acknowledged_before_its_commit" + _FILE),
    ),
    "synchronous=FULL": Mechanism(
        Promise.KILL,
        "connections sync as with synchronous=NORMAL",
        _one(_dialects, "_engine", off.without_full_sync),
        _store("open::test_the_connections_are_durable_and_checked"),
    ),
    "one transaction": Mechanism(
        Promise.KILL,
        "what a failed batch had written before stays",
        _one(Writer, "_roll_back", off.commit_instead),
        _store(
            "writer::test_a_statement_that_fails_rolls_back_every_kind_of_its_batch"
            + _FILE
        ),
    ),
    "a commit of unknown outcome is read back": Mechanism(
        Promise.KILL,
        "a batch whose commit was cut off is simply written again",
        _one(Writer, "_read_back", off.not_read_back),
        _store("commit_unknown::test_a_transition_is_made_once[sqlite-file-after]"),
    ),
    "commits are shielded": Mechanism(
        Promise.KILL,
        "a cancelled caller cancels what the others of its batch await",
        _one(Flush, "cancel", asyncio.Future.cancel),
        _store(
            "writer::test_a_cancelled_caller_does_not_disturb_the_others_of_its_batch"
            + _FILE
        ),
    ),
    "idempotency keys": Mechanism(
        Promise.KILL,
        "a key that is known is taken for a new one",
        _one(Submit, "_holders", staticmethod(off.no_holders)),
        (
            *_store("submit::test_a_key_answers_with_its_holder" + _FILE),
            *_engine("limits::test_the_same_key_pays_once"),
        ),
    ),
    "a lock file proves a death": Mechanism(
        Promise.KILL,
        "the rows of a killed process wait for the end of its lease",
        _one(_nodes, "_proved_dead", off.no),
        _engine(
            "fencing::test_a_dead_process_of_this_host_is_noticed_before_its_lease_ends"
        ),
    ),
    "recovery of what was CREATING": Mechanism(
        Promise.KILL,
        "a row that is found CREATING is left alone",
        _one(_machine, "_in_creating", off.left_alone),
        (
            *_unit(
                "machine_create::test_a_create_whose_caller_died_is_unknown_and_looked"
                "_up_at_once"
            ),
            *_engine(
                "fencing::test_a_dead_process_of_this_host_is_noticed_before_its_lease"
                "_ends"
            ),
        ),
    ),
}

CREATE = {
    "intent before create": Mechanism(
        Promise.CREATE,
        "CREATING is not in the file when create is called",
        (off.unwritten(Cause.CREATE_INTENT),),
        _engine("marks::test_the_intent_is_in_the_file_when_create_is_called"),
    ),
    "one token for all calls of an attempt": Mechanism(
        Promise.CREATE,
        "each call gets a token of its own",
        _one(_calls, "create_token", off.a_token_per_call),
        _engine("errors::test_a_create_that_is_throttled_waits_as_asked"),
    ),
    "a new token for a retry": Mechanism(
        Promise.CREATE,
        "the token is that of the execution",
        _one(_calls, "create_token", off.a_token_per_execution),
        _engine("limits::test_retries_wait_by_the_tasks_backoff"),
    ),
    "only an assertion means not created": Mechanism(
        Promise.CREATE,
        "every exception of create counts as not created",
        _one(_creating, "create_failed", off.believed_not_created),
        _engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[find]"
        ),
    ),
    "late answers": Mechanism(
        Promise.CREATE,
        "a create that is late is cancelled, its answer lost",
        _one(_calls.Calls, "_detach", off.cut_off),
        _engine("create::test_a_late_answer_goes_to_the_ledger_and_is_adopted"),
    ),
    "adoption from the ledger": Mechanism(
        Promise.CREATE,
        "recovery does not ask the ledger",
        _one(Store, "adoptable", off.nothing),
        _engine(
            "create::test_a_late_answer_goes_to_the_ledger_and_is_adopted",
            "fencing::test_a_zombies_job_is_adopted_if_its_attempt_still_waits",
        ),
    ),
    "replay only while the token is remembered": Mechanism(
        Promise.CREATE,
        "every service is taken for idempotent for ever",
        _one(Policies, "remembers", off.yes),
        _engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[fail]"
        ),
    ),
    "find before create again": Mechanism(
        Promise.CREATE,
        "a service that can be searched is not",
        _one(_creating, "recover", off.never_found),
        _engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[find]"
        ),
    ),
    "find_settle": Mechanism(
        Promise.CREATE,
        "the first search that finds nothing is believed",
        _one(_creating, "find_absent", off.absent_at_once),
        _engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[absent]"
        ),
    ),
    "the sweep": Mechanism(
        Promise.CREATE,
        "what was not found is searched for no more",
        _one(_creating, "_swept", off.unswept),
        _engine("sweep::test_a_second_job_that_is_listed_late_is_deleted"),
    ),
    "class N is not created again": Mechanism(
        Promise.CREATE,
        "a create of unknown outcome is repeated whatever the connector says",
        _one(_creating, "_by_policy", off.create_again),
        _engine(
            "create::test_an_unknown_create_is_recovered_as_the_class_allows[fail]"
        ),
    ),
}

GET = {
    "an error of get is not the job's end": Mechanism(
        Promise.GET,
        "the first error of get ends the execution",
        _one(_running, "get_failed", off.lost_at_once),
        _engine("errors::test_an_error_of_get_is_not_the_jobs_failure"),
    ),
    "the poll budget is time": Mechanism(
        Promise.GET,
        "many errors spend it, however quick they came",
        _one(Case, "failed_timer", off.spent_at_once),
        _unit(
            "machine_timeouts::test_the_poll_budget_needs_both_many_errors_and_a_long"
            "_time"
        ),
    ),
    "the poll budget ends": Mechanism(
        Promise.GET,
        "a get that fails is repeated for ever",
        _one(_running, "get_failed", off.asked_for_ever),
        _unit(
            "machine_timeouts::test_the_poll_budget_needs_both_many_errors_and_a_long"
            "_time"
        ),
    ),
    "errors are shown": Mechanism(
        Promise.GET,
        "the error is kept nowhere",
        _one(Case, "failed_timer", off.untold),
        _engine("errors::test_an_error_of_get_is_visible_while_it_lasts"),
    ),
    "time limits of calls": Mechanism(
        Promise.GET,
        "a call that hangs is waited for",
        _one(_guard.Answer, "expire", off.nothing_now),
        _engine("errors::test_a_get_that_hangs_is_cut_off_and_spends_budget"),
    ),
    "the guard around calls": Mechanism(
        Promise.GET,
        "what is no Exception gets through to the step",
        _one(_guard, "_guarded", off.guarded_from_exceptions_alone),
        _engine(
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
        _engine(
            "marks::test_the_decision_to_abort_is_in_the_file_when_delete_is_called"
        ),
    ),
    "only debts are deleted": Mechanism(
        Promise.ABORT,
        "the cleaner takes entries of the ledger that are not DUE",
        _one(
            _cleanups,
            "_SELECT",
            _cleanups._SELECT.replace(
                "cleanup = 'DUE' AND cleanup_due_at <= ?", "? IS NOT NULL"
            ),
        ),
        _store(
            "ledger::test_an_adopted_job_becomes_due_only_by_a_decision"
            "[sqlite-file-False]"
        ),
    ),
    "a get confirms the delete": Mechanism(
        Promise.ABORT,
        "a delete that returned counts as the job's end",
        _one(_aborting, "deleted", off.ended_by_a_returned_delete),
        _unit("machine_abort::test_an_aborting_step_deletes_then_looks"),
    ),
    "what nobody adopts is owed": Mechanism(
        Promise.ABORT,
        "nobody owes a cleanup",
        _one(_apply, "owe_cleanup", off.nothing),
        (
            *_store(
                "ledger::test_an_answer_that_came_too_late_to_be_adopted_owes_cleanup"
                "[sqlite-file-given up by a user]"
            ),
            *_engine(
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
                _apply,
                "KEEP_FIRST",
                _apply.KEEP_FIRST.replace(" WHERE external_job.cleanup = 'NONE'", ""),
            ),
        ),
        _store("ledger::test_a_debt_stands_whoever_names_its_job_again" + _FILE),
    ),
    "wishes, not phases": Mechanism(
        Promise.ABORT,
        "an abort writes the phase itself",
        _one(
            _wishes,
            "_ABORT",
            _wishes._ABORT.replace(
                "abort_reason = ?",
                "abort_reason = ?, phase = 'ABORTING', version = version + 1",
            ),
        ),
        _store("wishes::test_an_abort_is_a_wish_and_no_phase[sqlite-file-RUNNING]"),
    ),
    "a wish is not slept through": Mechanism(
        Promise.ABORT,
        "a wish that comes while a step is at work is seen at the next poll",
        rewritten("timer.woken > 0", "timer.woken < 0"),
        _store(
            "wishes::test_a_wish_that_comes_while_the_row_is_at_work_is_kept"
            "[sqlite-file-abort]"
        ),
    ),
    "a wish before the intent": Mechanism(
        Promise.ABORT,
        "a step that read its row before the abort begins the attempt",
        _one(_apply, "_NOT_ABORTED", ""),
        _engine("wishes_win::test_an_abort_between_claim_and_intent_means_no_create"),
    ),
    "an abort beats a retry": Mechanism(
        Promise.ABORT,
        "a retry begins although the user gave up",
        _one(Case, "can_retry", off.retried_in_spite_of_the_user),
        _unit("machine_abort::test_a_wish_forbids_the_retry_of_a_timeout"),
    ),
    "an attempt waits for the job before it": Mechanism(
        Promise.ABORT,
        "a timeout begins the next attempt while the job still runs",
        _one(_running, "_abort", off.next_attempt_at_once),
        _engine("limits::test_the_run_timeout_counts_from_the_remote_start"),
    ),
    "durable time limits": Mechanism(
        Promise.ABORT,
        "no time limit presses",
        _one(Case, "pressing", off.only_users_press),
        _unit("machine_timeouts::test_the_deadline_ends_every_live_phase"),
    ),
    "steps of the clock": Mechanism(
        Promise.ABORT,
        "the wall clock is believed whatever it shows",
        _one(_belief.Belief, "error", off.no_time),
        _engine("clock_steps::test_no_time_limit_fires_early_after_a_step_forward"),
    ),
    "the alert": Mechanism(
        Promise.ABORT,
        "nobody is told that a job was given up",
        _one(_stepper, "_tell", off.nothing_now),
        _engine(
            "cleanup::test_an_abort_that_is_never_confirmed_is_abandoned_with_an_alert"
        ),
    ),
}

TWO = {
    "one claim per row": Mechanism(
        Promise.TWO,
        "a claim takes what another node holds",
        tuple(
            Patch(_claim, name, getattr(_claim, name).replace("node IS NULL", "true"))
            for name in ("_SELECT", "_TAKE")
        ),
        _store(
            "claim::test_a_claimed_row_is_not_claimed_again_until_it_is_released"
            + _FILE,
        ),
    ),
    "the fence": Mechanism(
        Promise.TWO,
        "decisions are not guarded by node and epoch",
        _one(_apply, "_FENCE", "? IS NOT NULL"),
        _store(
            "apply::test_another_node_is_refused[sqlite-file-_moved]",
            "apply::test_an_epoch_that_is_over_is_refused[sqlite-file-_ended]",
        ),
    ),
    "the version": Mechanism(
        Promise.TWO,
        "transitions are not guarded by the row's version",
        rewritten(" AND execution.version = j.version_", ""),
        _store(
            "apply::test_a_version_that_is_over_is_refused_under_the_same_claim"
            "[sqlite-file-1-_moved]"
        ),
    ),
    "a broken lease bumps the epoch": Mechanism(
        Promise.TWO,
        "a row that was freed keeps its epoch",
        _one(_nodes, "_BREAK", _nodes._BREAK.replace("epoch = epoch + 1, ", "")),
        _store(
            "nodes::test_breaking_a_lease_frees_its_rows_and_bumps_their_epochs" + _FILE
        ),
    ),
    "the fence of debts": Mechanism(
        Promise.TWO,
        "what became of a debt is not guarded by node and epoch",
        _one(
            _cleanups,
            "_FINISH",
            _cleanups._FINISH.replace(
                "cleanup_node = ? AND cleanup_epoch = ?",
                "? IS NOT NULL AND ? IS NOT NULL",
            ),
        ),
        _store("ledger::test_a_debt_is_finished_only_under_its_claim" + _FILE),
    ),
    "facts are unfenced": Mechanism(
        Promise.TWO,
        "what a node without its lease learnt is forgotten",
        _one(Store, "record", off.nothing),
        _engine(
            "fencing::test_a_zombies_create_is_refused_and_its_job_cleaned_up",
            "fencing::test_a_zombies_job_is_adopted_if_its_attempt_still_waits",
        ),
    ),
    "a lease in doubt": Mechanism(
        Promise.TWO,
        "a node always believes in its lease",
        _one(_lease.Lease, "trusted", off.yes),
        _engine("fencing::test_a_lease_in_doubt_makes_no_call_that_cannot_be_undone"),
    ),
}

AWAY = {
    "patience": Mechanism(
        Promise.AWAY,
        "the engine's writes fail at once while the database is away",
        _one(Writer, "_away", off.impatient),
        _store(
            "away::test_of_one_batch_users_fail_and_the_engine_s_part_is_written"
            + _FILE
        ),
    ),
    "a step is put off": Mechanism(
        Promise.AWAY,
        "a row whose step met a failing database stays claimed",
        _one(_stepper.Stepper, "_put_off", off.nothing),
        _engine("hostile::test_a_read_that_fails_once_does_not_keep_the_row"),
        heavy=True,
    ),
    "no row is blamed for the disk": Mechanism(
        Promise.AWAY,
        "a transaction that SQLite has undone goes on",
        _one(Tx, "blame_row", off.nothing_now),
        _store("undone::test_what_was_written_beside_a_claim_is_not_lost"),
    ),
}

TERMINAL = {
    "the trigger of terminal rows": Mechanism(
        Promise.TERMINAL,
        "any program can write to a terminal row",
        (off.without_triggers("execution_terminal"),),
        _store(
            "immutable::test_a_terminal_row_never_changes_again[sqlite-file-FAILED]"
        ),
    ),
    "the triggers of history": Mechanism(
        Promise.TERMINAL,
        "any program can change or delete history",
        (off.without_triggers("history_no_update", "history_no_delete"),),
        _store("immutable::test_history_is_append_only" + _FILE),
    ),
    "a terminal row takes no wish": Mechanism(
        Promise.TERMINAL,
        "an abort does not look whether the row has ended",
        _one(
            _wishes,
            "_ABORT",
            _wishes._ABORT.replace(" AND finished_at IS NULL", ""),
        ),
        _store("immutable::test_a_terminal_row_takes_no_wish" + _FILE),
    ),
}

ROW = {
    "a bad row is cut out of its batch": Mechanism(
        Promise.ROW,
        "a batch fails whole",
        _one(Writer, "_commit", off.uncut),
        _store("writer::test_one_bad_row_of_300_fails_alone[sqlite-file-137]"),
    ),
    "an unreadable row is cut out of its claim": Mechanism(
        Promise.ROW,
        "all due rows are taken, or none",
        _one(Tx, "take", off.all_together),
        (
            *_store(
                "claim::test_a_row_that_cannot_be_read_is_held_and_the_others_are"
                "_claimed[sqlite-file-bytes in the wide row]",
                "ledger::test_a_debt_that_cannot_be_read_is_put_off_and_the_others_are"
                "_claimed" + _FILE,
            ),
            *_engine("sweep::test_a_search_that_cannot_be_read_stops_nothing"),
        ),
    ),
    "a poison row is held": Mechanism(
        Promise.ROW,
        "a row whose step breaks is left as it is",
        _one(_stepper.Stepper, "_broke", off.nothing),
        _engine("errors::test_a_poison_row_is_held_and_the_others_run"),
    ),
    "hold instead of fail": Mechanism(
        Promise.ROW,
        "a missing connector, an unreadable meta or a refused credential fails a row",
        _one(Case, "hold", off.failed_instead),
        (
            *_engine(
                "errors::test_a_running_job_whose_connector_left_is_held_then_goes_on",
                "errors::test_a_refused_credential_holds_and_burns_nothing",
            ),
        ),
    ),
    "limits of outputs": Mechanism(
        Promise.ROW,
        "outputs of any size are stored",
        _one(_calls.Calls, "_outputs", off.outputs_of_any_size),
        _engine("limits::test_outputs_that_do_not_fit_end_without_a_retry[4]"),
    ),
}

SECRET = {
    "redaction": Mechanism(
        Promise.SECRET,
        "texts are stored and logged as services write them",
        tuple(
            Patch(Redactor, name, off.unchanged) for name in ("redact", "redact_start")
        ),
        _engine(
            "secrets_in_calls::test_what_quotes_a_secret_is_redacted_everywhere",
            "secrets_in_calls::test_a_step_that_breaks_logs_no_secret",
        ),
    ),
}

MECHANISMS = KILL | CREATE | GET | ABORT | TWO | AWAY | TERMINAL | ROW | SECRET
