"""Ablations that have a home of their own, listed beside the table's."""

from __future__ import annotations

from typing import NamedTuple

from tests.unplugged.mechanism import Promise

_P = Promise


class Home(NamedTuple):
    """Where such ablations are, and what they serve by their names there."""

    file: str
    test: str
    command: str
    serves: dict[str, Promise]


HOMES = {
    "tests.model.variants.ABLATIONS": Home(
        "tests/model/test_variants.py",
        "test_without_the_mechanism_the_model_finds_what_it_is_for",
        "python -m tests.model",
        {
            "no intent row": _P.CREATE,
            "a new token for each call": _P.CREATE,
            "no fencing": _P.TWO,
            "the API writes ABORTED itself": _P.ABORT,
            "a delete error is only logged": _P.ABORT,
            "get errors end in FAILED without delete": _P.GET,
            "abort of an unknown create without adopting": _P.ABORT,
            "class N with create again": _P.CREATE,
            "a service that forgets the token when the run ends": _P.CREATE,
            "the ledger has an entry for each answer": _P.CREATE,
            "delete without the irreversible mark": _P.ABORT,
            "class L without the sweep": _P.CREATE,
            "nobody owes a clean-up": _P.ABORT,
            "a refused replay is believed": _P.CREATE,
            "a retry that does not wait for the delete": _P.ABORT,
        },
    ),
    "tests.simulation.test_ablations.ABLATIONS": Home(
        "tests/simulation/test_ablations.py",
        "test_without_this_mechanism_a_seed_fails",
        "python -m pytest tests/simulation/test_ablations.py",
        {
            "a new token for each call": _P.CREATE,
            "delete is never called": _P.ABORT,
            "a returned delete is the end": _P.ABORT,
            "an error of get is the job's end": _P.GET,
            "an unlisted job is gone at once": _P.ABORT,
            "an unfound job is absent at once": _P.CREATE,
            "an unknown create is repeated": _P.CREATE,
            "what a zombie or a late answer knows is forgotten": _P.TWO,
            "nobody owes a cleanup": _P.ABORT,
            "whatever the wall clock shows is believed": _P.ABORT,
            "whoever lost its lease may write": _P.TWO,
        },
    ),
}
"""By the name of the table that the tests there go through."""

ALONE = {
    (_P.TWO, "the fence, between real processes, one of them stopped"): (
        "tests/crash/test_crew.py",
        "test_without_the_fence_the_zombies_writes_are_accepted",
        "python -m pytest tests/crash/test_crew.py",
    ),
    (_P.KILL, "a sync before each acknowledgement, in images of a power cut"): (
        "tests/disk/test_checker.py",
        "test_a_commit_that_is_acknowledged_without_a_sync_is_found_lost",
        "python -m tests.disk.power_loss --synchronous NORMAL",
    ),
    (_P.TERMINAL, "each invariant of the audit, by a history that breaks it"): (
        "tests/conformance/test_audit.py",
        "test_a_broken_history_is_named_and_nothing_else",
        "python -m pytest tests/conformance/test_audit.py",
    ),
    (_P.TWO, "a claim that takes what it reads, against a dict"): (
        "tests/conformance/test_store_model.py",
        "test_a_claim_that_takes_nothing_is_noticed",
        "python -m pytest tests/conformance/test_store_model.py",
    ),
}
"""Single tests: promise and mechanism to file, test and command."""
