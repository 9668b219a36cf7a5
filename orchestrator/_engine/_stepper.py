"""One step: observe, decide, commit, and again until the claim is released."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from orchestrator._clock import duration_to_us
from orchestrator._engine._text import describe
from orchestrator._machine import decide
from orchestrator._phase import MAY_CREATE, TERMINAL, Cause, Cleanup, Phase
from orchestrator._policies import Policies
from orchestrator._records import (
    Call,
    CallFailed,
    Change,
    Claimed,
    Created,
    Due,
    Failure,
    Found,
    NewJob,
    Poisoned,
    Recorded,
    Unloaded,
)
from orchestrator._secrets import get_logger
from orchestrator.errors import StoreUnavailableError

if TYPE_CHECKING:
    from orchestrator._engine._contexts import Context
    from orchestrator._engine._parts import Parts
    from orchestrator._records import Observation
    from orchestrator._storage import Apply

logger = get_logger(__name__)

_NO_POLICIES = Policies()
_SOON_US = 1_000_000
_WORRYING = (
    Cause.HOLD_SET,
    Cause.ERRORS_BEGAN,
    Cause.CREATE_UNAUTHORIZED,
    Cause.CREATE_ERROR,
    Cause.CREATE_TIMED_OUT,
)
_AT = {field: at for at, field in enumerate(Claimed._fields)}
_INPUTS, _LABELS, _TIMER = _AT["inputs"], _AT["labels"], _AT["timer"]
_VERSION, _PHASE, _ATTEMPT = _AT["version"], _AT["phase"], _AT["attempt"]
_POINTS = {
    Phase.CREATING: "intent",
    Phase.RUNNING: "created",
    Phase.ABORTING: "abort",
}
"""Names of the commits that a crash may precede or follow, by the phase after them."""


class Stepper:
    """Advances claimed rows, one step each."""

    def __init__(self, parts: Parts) -> None:
        """Work with the engine's *parts*."""
        self._store = parts.store
        self._contexts = parts.contexts
        self._calls = parts.calls
        self._lease = parts.lease
        self._clock = parts.clock
        self._belief = parts.belief
        self._rng = parts.rng
        self._reach = parts.faults.reach
        self._released = parts.released
        self._ended = parts.ended

    async def step(self, row: Claimed, node: str) -> None:
        """Advance *row*, claimed by *node*; what breaks holds this row and no other.

        (One coroutine over the whole way, since thousands of steps are at work.)
        """
        observation: Observation = Due()
        try:
            context = self._contexts.cached(
                row.task_type, row.task_version, row.template_hash
            ) or await self._contexts.get(
                row.task_type, row.task_version, row.template_hash
            )
            policies = _NO_POLICIES if context is None else context.policies
            if context is None:
                observation = Unloaded()
            while True:
                now = self._belief.now()
                steps = self._belief.steps
                change = decide(row, observation, now, policies, self._rng, steps=steps)
                if change.writes:
                    self._reach(f"{_point(change)}.before_commit")
                    item, flushed = self._store.apply(row, change, node=node, now=now)
                    await flushed
                    again = self._committed(item)
                    if again is None:
                        again = await self._refused(item, observation)
                        if again is None:
                            return
                        row = again
                        continue
                    row = again
                if change.then is None or context is None:
                    return
                if change.then is Call.GET:
                    observation = await self._calls.make(Call.GET, row, context)
                else:
                    observation = await self._observe(change.then, row, context)
        except StoreUnavailableError as error:
            # A read failed: the claim must not outlive its step.
            logger.warning("step of %s is put off: %s", row.id, error)
            await self._put_off(row, node)
        except Exception as error:
            logger.exception("step of %s broke: the row is held", row.id)
            await self._broke(row, node, observation, error)

    async def _observe(self, call: Call, row: Claimed, context: Context) -> Observation:
        if call in (Call.CREATE, Call.DELETE) and not self._lease.trusted():
            # Nothing was called, and that is surely so.
            what = "the lease of this node is in doubt"
            return CallFailed(call, Failure.TRANSIENT, what)
        if call in (Call.CREATE, Call.FIND) and row.inputs is None:
            # Too large for the claim.
            row = row._replace(inputs=await self._store.inputs_proto(row.id))
        if call is not Call.LOOKUP:
            return await self._calls.make(call, row, context)
        self._reach("lookup.before_read")
        # Asked first: an answer that comes during the read is in the ledger or here.
        in_flight = self._calls.in_flight(row)
        entry = await self._store.adoptable(row.id, row.attempt)
        self._reach("lookup.after_read")
        job = None
        if entry is not None:
            job = NewJob(entry.meta, entry.meta_version, entry.job_key)
        return Recorded(job, in_flight=in_flight)

    def _committed(self, item: Apply) -> Claimed | None:
        """Return the row after *item*, None if a guard refused it.

        Tells who should know of it; raises what kept it from being written.
        """
        if item.error is not None:
            raise item.error
        if not item.result:
            return None
        row, change = item.row, item.change
        self._reach(f"{_point(change)}.after_commit")
        _tell(row, change)
        if change.phase in TERMINAL:
            self._ended(row.id)
            return row
        moved = after(row, change)
        if change.then is None and change.due_at is not None:
            self._store.known.leave(moved)
            self._released(item.now if item.woken else change.due_at)
        return moved

    async def _refused(self, item: Apply, observation: Observation) -> Claimed | None:
        """Return the row as it is now, None if another node holds it.

        Then it is given up, and what was learnt is recorded.
        """
        row = item.row
        again = await self._store.read_again(row, item.node)
        if again is None:
            logger.info("lease of %s was lost: another node decides", row.id)
            await self._record(row, observation)
        elif (again.version, again.abort_requested_at) == (
            row.version,
            row.abort_requested_at,
        ):
            msg = f"{item.change.cause} was refused under a claim that stands"
            raise AssertionError(msg)
        return again

    async def _record(self, row: Claimed, observation: Observation) -> None:
        """Enter the job that *observation* tells of, if it tells of one."""
        job = observation.job if isinstance(observation, (Created, Found)) else None
        if job is not None:
            await self._store.record(row, row.attempt, job, self._clock.now_us())

    async def _put_off(self, row: Claimed, node: str) -> None:
        """Give the row back, to be looked at again soon."""
        try:
            current = await self._store.read_again(row, node)
            if current is None:
                return
            due = self._clock.now_us() + _SOON_US
            phase = Phase(current.phase)
            change = Change(phase, current.attempt, timer=current.timer, due_at=due)
            await self._commit(current, change, node)
        except StoreUnavailableError:
            logger.debug("the store is closed: %s is free with its node", row.id)

    async def _broke(
        self, row: Claimed, node: str, observation: Observation, error: Exception
    ) -> None:
        """Hold a row whose step raised, once what it had learnt is in the ledger."""
        now = self._clock.now_us()
        what = self._calls.say(describe(error))
        try:
            await self._record(row, observation)
            current = await self._store.read_again(row, node)
            if current is None:
                return
            change = decide(current, Poisoned(what), now, _NO_POLICIES, self._rng)
            await self._commit(current, change, node)
        except Exception:
            logger.exception(
                "row %s cannot even be held: only its timer is set", row.id
            )
            due = now + duration_to_us(_NO_POLICIES.policy.hold_delay)
            phase = cast("Phase", row.phase)  # whatever it is: it is not written
            change = Change(phase, row.attempt, timer=row.timer, due_at=due)
            try:
                await self._commit(row, change, node)
            except Exception:
                logger.exception("row %s stays claimed until this node ends", row.id)

    async def _commit(self, row: Claimed, change: Change, node: str) -> None:
        """Write *change*, unless a guard refuses it."""
        now = self._clock.now_us()
        self._reach(f"{_point(change)}.before_commit")
        item, flushed = self._store.apply(row, change, node=node, now=now)
        await flushed
        self._committed(item)


def _tell(row: Claimed, change: Change) -> None:
    """Log what somebody should know, or has to act on."""
    if change.cleanup is Cleanup.ABANDONED:
        what = "job %s of execution %s is ABANDONED: %s"
        logger.error(what, row.job_key, row.id, change.message)
    elif change.cause in _WORRYING:
        logger.warning(
            "execution %s (%s): %s: %s",
            row.id,
            row.name,
            change.sets.get("hold") or change.cause,
            change.message,
        )


def _point(change: Change) -> str:
    if change.phase in TERMINAL:
        return "end"
    if change.cause is None:
        return "poll"
    return _POINTS.get(change.phase, "recover")


def after(row: Claimed, change: Change) -> Claimed:
    """Return *row* as it stands after *change* was committed."""
    values = list(row)
    for column, value in change.sets.items():
        at = _AT.get(column)
        if at is not None:
            values[at] = value
    if change.phase not in MAY_CREATE:
        values[_INPUTS] = values[_LABELS] = None
    if change.timer is not None:
        values[_TIMER] = change.timer
    if change.cause is not None:
        values[_VERSION] = row.version + 1
        values[_PHASE] = str(change.phase)
        values[_ATTEMPT] = change.attempt
    return Claimed._make(values)
