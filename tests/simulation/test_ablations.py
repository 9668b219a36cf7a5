"""Without a mechanism, the simulation finds what it was there for: red when off."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from orchestrator._engine import _arguments, _calls
from orchestrator._machine import Steps, _aborting, _creating, _running
from orchestrator._machine._case import Case
from orchestrator._phase import Cause, Cleanup
from orchestrator._records import Call, Deleted
from orchestrator._storage import Store, _apply, _claim, _ledger, _store
from tests.simulation.connectors import FAULTS
from tests.simulation.run import simulate
from tests.simulation.world import Kind

if TYPE_CHECKING:
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block

SEEDS_MAX = 60


async def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing, where something had to be done."""


_make = _calls.Calls.make


async def _make_no_delete(
    calls: _calls.Calls, call: Call, row: Any, context: Any
) -> Any:
    if call is Call.DELETE:
        return Deleted()
    return await _make(calls, call, row, context)


_calls_made = count(1)


def _count_calls(execution_id: str, attempt: int) -> str:
    return f"o{execution_id}-{attempt + next(_calls_made) % 7}"


def _end_at_once(case: Case) -> Any:
    return _aborting._end(case, Cleanup.DONE)


def _fail_at_once(case: Case, _: Any) -> Any:
    return case.end(Cause.JOB_LOST, code="LOST", message="get failed")


def _create_again(case: Case) -> Any:
    creates = case.row.creates + 1
    return _creating._create_again(case, Cause.CREATE_AGAIN, creates=creates)


def _believe_at_once(case: Case) -> Any:
    return _creating._create_again(case, Cause.KNOWN_ABSENT, creates=1)


def _no_error(_: Steps, __: int) -> tuple[int, int]:
    return 0, 0


_timer_text = _apply._timer_text


def _any_timer(size: int, *, release: bool) -> str:
    text = _timer_text(size, release=release)
    return text.replace("timer.epoch = j.epoch_ AND timer.node = ?", _WHOEVER)


_WHOEVER = "? IS NOT NULL"
_UNFENCED = (
    (_apply, "_timer_text", _any_timer),
    (
        _store,
        "READ_AGAIN",
        _claim.READ_AGAIN.replace(
            "t.epoch = ? AND t.node = ?", f"{_WHOEVER} AND {_WHOEVER}"
        ),
    ),
)


class Ablation(NamedTuple):
    """A mechanism, how it is switched off, and what has to be found then.

    Attributes:
        seed: The first that finds it, today; later ones are tried after it.
        more: What else belongs to the mechanism.
        zombies: How often a process pauses in a get, of about a hundred calls; None
            for as often as always.
    """

    where: Any
    attribute: str
    instead: Any
    finding: tuple[str, ...]
    seed: int
    kinds: tuple[Kind, ...] = tuple(Kind)
    more: tuple[tuple[Any, str, Any], ...] = ()
    zombies: float | None = None


ABLATIONS = {
    "a new token for each call": Ablation(
        _arguments, "create_token", _count_calls, ("Q6",), 0
    ),
    "delete is never called": Ablation(
        _calls.Calls, "make", _make_no_delete, ("P10",), 3
    ),
    "a returned delete is the end": Ablation(
        _aborting, "deleted", _end_at_once, ("P3",), 7
    ),
    "an error of get is the job's end": Ablation(
        _running, "get_failed", _fail_at_once, ("P3",), 3
    ),
    "an unlisted job is gone at once": Ablation(
        Case, "listed", lambda _: True, ("P3", "Q12"), 29
    ),
    "an unfound job is absent at once": Ablation(
        _creating, "find_absent", _believe_at_once, ("P2",), 36, (Kind.LISTED,)
    ),
    "an unknown create is repeated": Ablation(
        _creating, "_by_policy", _create_again, ("P2",), 0, (Kind.NEITHER,)
    ),
    "what a zombie or a late answer knows is forgotten": Ablation(
        Store, "record", _nothing, ("P3",), 1
    ),
    "whoever lost its lease may write": Ablation(
        # What a zombie learnt of attempt 1 is decided about attempt 2: only where it
        # pauses in the one get that tells of the end. Versions stop the rest.
        _apply,
        "_FENCE",
        _WHOEVER,
        ("P3", "Q12", "broken: Q12"),
        73,
        (Kind.IDEMPOTENT,),
        more=_UNFENCED,
        zombies=40,
    ),
    "whatever the wall clock shows is believed": Ablation(
        Steps, "error", _no_error, ("early",), 154
    ),
    "nobody owes a cleanup": Ablation(
        _ledger, "owe_cleanup", _nothing, ("broken: Q8",), 1
    ),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ABLATIONS)
async def test_without_this_mechanism_a_seed_fails(
    name: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first seeds pass with the mechanism (see test_seeds), and one fails here."""
    off = ABLATIONS[name]
    if off.zombies is not None:
        monkeypatch.setitem(FAULTS["get"], "zombie", off.zombies)
        whole = await simulate(off.seed, empty, kinds=off.kinds)
        assert not whole.problems
    for where, attribute, instead in (
        (off.where, off.attribute, off.instead),
        *off.more,
    ):
        monkeypatch.setattr(where, attribute, instead)
    for seed in range(off.seed, off.seed + SEEDS_MAX):
        result = await simulate(seed, empty, kinds=off.kinds)
        if any(problem.startswith(off.finding) for problem in result.problems):
            return
    pytest.fail(f"{SEEDS_MAX} seeds pass: nothing here needs that")
