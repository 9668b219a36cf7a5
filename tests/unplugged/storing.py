"""Mechanisms of the store: what is kept, by whom, and whatever happens to it."""

from __future__ import annotations

import asyncio

from orchestrator import _machine
from orchestrator._engine import _answers, _lease, _stepper
from orchestrator._machine._case import Case
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
from orchestrator._storage._submit import Submit, _Holder
from orchestrator._storage._tx import Tx
from orchestrator._storage._writer import Writer
from tests.unplugged import switches as off
from tests.unplugged.mechanism import FILE, Mechanism, Promise, engine, one, store, unit
from tests.unplugged.switch import Patch, rewritten

KILL = {
    "acknowledged after the commit": Mechanism(
        Promise.KILL,
        "a submit returns before its transaction is committed",
        one(Batch, "add", off.acknowledged_at_once),
        store("writer::test_nothing_is_acknowledged_before_its_commit" + FILE),
    ),
    "synchronous=FULL": Mechanism(
        Promise.KILL,
        "connections sync as with synchronous=NORMAL",
        one(_dialects, "_engine", off.without_full_sync),
        store("open::test_the_connections_are_durable_and_checked"),
    ),
    "one transaction": Mechanism(
        Promise.KILL,
        "what a failed batch had written before stays",
        one(Writer, "_roll_back", off.commit_instead),
        store(
            "writer::test_a_statement_that_fails_rolls_back_every_kind_of_its_batch"
            + FILE
        ),
    ),
    "a commit of unknown outcome is read back": Mechanism(
        Promise.KILL,
        "a batch whose commit was cut off is simply written again",
        one(Writer, "_read_back", off.not_read_back),
        store("commit_unknown::test_a_transition_is_made_once[sqlite-file-after]"),
    ),
    "commits are shielded": Mechanism(
        Promise.KILL,
        "a cancelled caller cancels what the others of its batch await",
        one(Flush, "cancel", asyncio.Future.cancel),
        store(
            "writer::test_a_cancelled_caller_does_not_disturb_the_others_of_its_batch"
            + FILE
        ),
    ),
    "a lock file proves a death": Mechanism(
        Promise.KILL,
        "the rows of a killed process wait for the end of its lease",
        one(_nodes, "_proved_dead", off.no),
        engine(
            "fencing::test_a_dead_process_of_this_host_is_noticed_before_its_lease_ends"
        ),
    ),
    "recovery of what was CREATING": Mechanism(
        Promise.KILL,
        "a row that is found CREATING is left alone",
        one(_machine, "_in_creating", off.left_alone),
        (
            *unit(
                "machine_create::test_a_create_whose_caller_died_is_unknown_and_looked"
                "_up_at_once"
            ),
            *engine(
                "fencing::test_a_dead_process_of_this_host_is_noticed_before_its_lease"
                "_ends"
            ),
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
        store(
            "claim::test_a_claimed_row_is_not_claimed_again_until_it_is_released"
            + FILE,
        ),
    ),
    "the fence": Mechanism(
        Promise.TWO,
        "decisions are not guarded by node and epoch",
        one(_apply, "_FENCE", "? IS NOT NULL"),
        store(
            "apply::test_another_node_is_refused[sqlite-file-_moved]",
            "apply::test_an_epoch_that_is_over_is_refused[sqlite-file-_ended]",
        ),
    ),
    "the version": Mechanism(
        Promise.TWO,
        "transitions are not guarded by the row's version",
        rewritten(" AND execution.version = j.version_", ""),
        store(
            "apply::test_a_version_that_is_over_is_refused_under_the_same_claim"
            "[sqlite-file-1-_moved]"
        ),
    ),
    "a broken lease bumps the epoch": Mechanism(
        Promise.TWO,
        "a row that was freed keeps its epoch",
        one(_nodes, "_BREAK", _nodes._BREAK.replace("epoch = epoch + 1, ", "")),
        store(
            "nodes::test_breaking_a_lease_frees_its_rows_and_bumps_their_epochs" + FILE
        ),
    ),
    "the fence of debts": Mechanism(
        Promise.TWO,
        "what became of a debt is not guarded by node and epoch",
        one(
            _cleanups,
            "_FINISH",
            _cleanups._FINISH.replace(
                "cleanup_node = ? AND cleanup_epoch = ?",
                "? IS NOT NULL AND ? IS NOT NULL",
            ),
        ),
        store("ledger::test_a_debt_is_finished_only_under_its_claim" + FILE),
    ),
    "facts are unfenced": Mechanism(
        Promise.TWO,
        "what a node without its lease learnt is forgotten",
        one(Store, "record", off.nothing),
        engine(
            "fencing::test_a_zombies_create_is_refused_and_its_job_cleaned_up",
            "fencing::test_a_zombies_job_is_adopted_if_its_attempt_still_waits",
        ),
    ),
    "a lease in doubt": Mechanism(
        Promise.TWO,
        "a node always believes in its lease",
        one(_lease.Lease, "trusted", off.yes),
        engine("fencing::test_a_lease_in_doubt_makes_no_call_that_cannot_be_undone"),
    ),
}

AWAY = {
    "patience": Mechanism(
        Promise.AWAY,
        "the engine's writes fail at once while the database is away",
        one(Writer, "_away", off.impatient),
        store(
            "away::test_of_one_batch_users_fail_and_the_engine_s_part_is_written" + FILE
        ),
        heavy=True,
    ),
    "a step is put off": Mechanism(
        Promise.AWAY,
        "a row whose step met a failing database stays claimed",
        one(_stepper.Stepper, "_put_off", off.nothing),
        engine("hostile::test_a_read_that_fails_once_does_not_keep_the_row"),
        heavy=True,
    ),
    "no row is blamed for the disk": Mechanism(
        Promise.AWAY,
        "a transaction that SQLite has undone goes on",
        one(Tx, "blame_row", off.nothing_now),
        store(
            "undone::test_what_was_written_beside_a_claim_is_not_lost"
            "[sqlite-file-taking0]"
        ),
    ),
}

TERMINAL = {
    "the trigger of terminal rows": Mechanism(
        Promise.TERMINAL,
        "any program can write to a terminal row",
        (off.without_triggers("execution_terminal"),),
        store("immutable::test_a_terminal_row_never_changes_again[sqlite-file-FAILED]"),
    ),
    "the triggers of history": Mechanism(
        Promise.TERMINAL,
        "any program can change or delete history",
        (off.without_triggers("history_no_update", "history_no_delete"),),
        store("immutable::test_history_is_append_only" + FILE),
    ),
    "a terminal row takes no wish": Mechanism(
        Promise.TERMINAL,
        "an abort does not look whether the row has ended",
        one(
            _wishes,
            "_ABORT",
            _wishes._ABORT.replace(" AND finished_at IS NULL", ""),
        ),
        store("immutable::test_a_terminal_row_takes_no_wish" + FILE),
    ),
}

KEY = {
    "idempotency keys": Mechanism(
        Promise.KEY,
        "a key that is known is taken for a new one",
        one(Submit, "_holders", staticmethod(off.no_holders)),
        (
            *store("submit::test_a_key_answers_with_its_holder" + FILE),
            *engine("limits::test_the_same_key_pays_once"),
        ),
    ),
    "requests are compared": Mechanism(
        Promise.KEY,
        "a key leads to its holder, whatever is asked for",
        one(_Holder, "same", off.yes),
        (
            *store("submit::test_a_key_of_another_request_is_a_conflict" + FILE),
            *engine(
                "limits::test_a_key_of_another_request_is_refused_and_stores_nothing"
            ),
        ),
    ),
}

ROW = {
    "a bad row is cut out of its batch": Mechanism(
        Promise.ROW,
        "a batch fails whole",
        one(Writer, "_commit", off.uncut),
        store("writer::test_one_bad_row_of_300_fails_alone[sqlite-file-137]"),
    ),
    "an unreadable row is cut out of its claim": Mechanism(
        Promise.ROW,
        "all due rows are taken, or none",
        one(Tx, "take", off.all_together),
        (
            *store(
                "claim::test_a_row_that_cannot_be_read_is_held_and_the_others_are"
                "_claimed[sqlite-file-bytes in the wide row]",
                "ledger::test_a_debt_that_cannot_be_read_is_put_off_and_the_others_are"
                "_claimed" + FILE,
            ),
            *engine("sweep::test_a_search_that_cannot_be_read_stops_nothing"),
        ),
    ),
    "a poison row is held": Mechanism(
        Promise.ROW,
        "a row whose step breaks is left as it is",
        one(_stepper.Stepper, "_broke", off.nothing),
        engine("errors::test_a_poison_row_is_held_and_the_others_run"),
    ),
    "hold instead of fail": Mechanism(
        Promise.ROW,
        "a missing connector, an unreadable meta or a refused credential fails a row",
        one(Case, "hold", off.failed_instead),
        (
            *engine(
                "errors::test_a_running_job_whose_connector_left_is_held_then_goes_on",
                "errors::test_a_refused_credential_holds_and_burns_nothing",
            ),
        ),
    ),
    "limits of outputs": Mechanism(
        Promise.ROW,
        "outputs of any size are stored",
        one(_answers.Answers, "_outputs", off.outputs_of_any_size),
        engine("limits::test_outputs_that_do_not_fit_end_without_a_retry[4]"),
    ),
}

SECRET = {
    "redaction": Mechanism(
        Promise.SECRET,
        "texts are stored and logged as services write them",
        tuple(
            Patch(Redactor, name, off.unchanged) for name in ("redact", "redact_start")
        ),
        engine(
            "secrets_in_calls::test_what_quotes_a_secret_is_redacted_everywhere",
            "secrets_in_calls::test_a_step_that_breaks_logs_no_secret",
        ),
    ),
}
