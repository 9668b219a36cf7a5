"""The protocol's variants and its ablations, and what each of them breaks."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator._phase import RemotePhase
from tests.model import ablations
from tests.model.check import Explorer, Finding, Report
from tests.model.rules import Givens, Kind
from tests.model.world import Left, World

_F = Finding
_SUCCESS = (RemotePhase.SUCCEEDED,)
_ENDS = (
    RemotePhase.SUCCEEDED,
    RemotePhase.FAILED,
    RemotePhase.RETRYABLE_FAILED,
)


class Variant(NamedTuple):
    """A world and what it breaks.

    Attributes:
        world: What is explored in seconds, with few faults at a time.
        breaks: What is found. For the protocol exactly this, over all states; an
            ablation is caught once all of this is found.
        full: The same with more faults at a time, for the command; None for the same.
    """

    world: World
    breaks: frozenset[Finding] = frozenset()
    full: World | None = None
    ablation: bool = False

    def chosen(self, *, full: bool = False) -> World:
        """Return the world to explore."""
        return self.full if full and self.full is not None else self.world

    def explore(self, *, full: bool = False) -> Report:
        """Visit the states: all, or as many as it takes to catch an ablation."""
        world = self.chosen(full=full)
        until = self.breaks if self.ablation else frozenset[Finding]()
        return Explorer(world).run(until=until)

    def problem(self, report: Report, *, full: bool = False) -> str | None:
        """Return what differs from what is expected, None if nothing does."""
        missing = self.breaks - report.findings
        if missing:
            return f"not found: {', '.join(sorted(missing))}"
        if self.ablation:
            return None
        if report.findings - self.breaks:
            return f"broken: {', '.join(sorted(report.findings - self.breaks))}"
        world = self.chosen(full=full)
        # Of what nobody can look up, and of deletes that fail beyond the time limit.
        listed = world.givens.kind is Kind.NEITHER or world.faults.limits > 0
        if report.listed != listed:
            return f"possible orphans: {report.listed}"
        return None


_I, _L, _N = (Givens(kind) for kind in (Kind.IDEMPOTENT, Kind.LISTED, Kind.NEITHER))
_I_RETRY = Givens(attempts=2)
_L_RETRY = Givens(Kind.LISTED, attempts=2)
_HOLD = Givens(Kind.NEITHER, "hold")
_AGAIN = Givens(Kind.NEITHER, "create")
_FORGETFUL = Givens(Kind.FORGETFUL)
_MOMENT = frozenset({_F.SECOND_LIVE})
"""Where a service lists late, until the sweep has ended it."""
_EVERY = Left(refusals=1, limits=1)

PROTOCOL = {
    "class I: killed, a zombie, a lost or late create": Variant(
        World(givens=_I, faults=Left(gets=0, deletes=0), ends=_SUCCESS),
        full=World(givens=_I, faults=_EVERY),
    ),
    "class I: killed, a zombie, get and delete fail": Variant(
        World(givens=_I, faults=Left(timeouts=0)),
        full=World(givens=_I, faults=Left(zombies=2, gets=2, deletes=2)),
    ),
    "class I: killed, a lost or late create, a refusal": Variant(
        World(
            givens=_I,
            faults=Left(zombies=0, refusals=1, gets=0, deletes=0),
            ends=_SUCCESS,
        ),
        full=World(
            givens=_I, faults=Left(kills=2, zombies=2, refusals=1), ends=_SUCCESS
        ),
    ),
    "class I: two attempts": Variant(
        World(givens=_I_RETRY, faults=Left(zombies=0, limits=1, aborts=0)),
        full=World(givens=_I_RETRY, faults=Left(limits=1, deletes=0)),
    ),
    "class L: killed, and a zombie": Variant(
        World(
            givens=_L,
            faults=Left(timeouts=0, gets=0, deletes=0, aborts=0),
            ends=_SUCCESS,
        ),
        breaks=_MOMENT,
        full=World(givens=_L, faults=Left(timeouts=0)),
    ),
    "class L: a lost or late create, and a zombie": Variant(
        World(
            givens=_L,
            faults=Left(kills=0, gets=0, deletes=0, aborts=0),
            ends=_SUCCESS,
        ),
        breaks=_MOMENT,
        full=World(givens=_L, faults=Left(kills=0)),
    ),
    "class L: killed, and a lost or late create": Variant(
        World(givens=_L, faults=Left(zombies=0, gets=0, deletes=0), ends=_SUCCESS),
        breaks=_MOMENT,
        full=World(givens=_L, faults=Left(gets=0, deletes=0, aborts=0), ends=_SUCCESS),
    ),
    "class L: two attempts": Variant(
        World(
            givens=_L_RETRY,
            faults=Left(kills=0, zombies=0, gets=0, deletes=0, aborts=0),
        ),
        breaks=_MOMENT | {_F.TWO_ATTEMPTS},
        full=World(givens=_L_RETRY, faults=Left(kills=0, gets=0, deletes=0, aborts=0)),
    ),
    "class N: fail": Variant(
        World(givens=_N, ends=_SUCCESS),
        full=World(givens=_N, faults=_EVERY, ends=_ENDS),
    ),
    "class N: hold, until a person says": Variant(
        World(givens=_HOLD, faults=Left(gets=0, deletes=0), ends=_SUCCESS),
        full=World(givens=_HOLD, faults=_EVERY, ends=_ENDS),
    ),
}


def _off(world: World, *breaks: Finding, full: World | None = None) -> Variant:
    return Variant(world, frozenset(breaks), full=full, ablation=True)


ABLATIONS = {
    "no intent row": _off(World(decide=ablations.no_intent), _F.ORPHAN),
    "a new token for each call": _off(
        World(one_token=False), _F.SECOND_LIVE, _F.SECOND_EVER, _F.ORPHAN
    ),
    "no fencing": _off(World(fenced=False), _F.TERMINAL_CHANGED, _F.ORPHAN),
    "the API writes ABORTED itself": _off(World(wishing=False), _F.ORPHAN),
    "a delete error is only logged": _off(
        World(decide=ablations.delete_error_logged), _F.ORPHAN
    ),
    "get errors end in FAILED without delete": _off(
        World(decide=ablations.get_errors_fail), _F.ORPHAN
    ),
    "abort of an unknown create without adopting": _off(
        World(decide=ablations.abort_unadopted), _F.ORPHAN
    ),
    "class N with create again": _off(
        World(givens=_AGAIN), _F.SECOND_LIVE, _F.ORPHAN, _F.SILENT
    ),
    "a service that forgets the token when the run ends": _off(
        World(givens=_FORGETFUL), _F.SECOND_EVER, _F.ORPHAN
    ),
    "the ledger has an entry for each answer": _off(
        World(one_entry=False), _F.WANTED_DELETED, _F.WRONG_END
    ),
    "delete without the irreversible mark": _off(
        World(decide=ablations.no_mark), _F.WANTED_DELETED, _F.WRONG_END
    ),
    "class L without the sweep": _off(
        World(givens=_L, sweeping=False), _F.ORPHAN, _F.SILENT
    ),
    "nobody owes a clean-up": _off(World(givens=_L, owing=False), _F.ORPHAN),
    "a refused replay is believed": _off(
        World(faults=Left(refusals=1), decide=ablations.refusal_believed), _F.ORPHAN
    ),
    "a retry that does not wait for the delete": _off(
        World(givens=_I_RETRY, faults=Left(limits=1), decide=ablations.retry_at_once),
        _F.TWO_ATTEMPTS,
        _F.ORPHAN,
    ),
}

VARIANTS = PROTOCOL | ABLATIONS
