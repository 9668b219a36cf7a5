"""A connector's own thread: an event loop in it, and the calls that run there.

What is called there is awaited here, by the engine's loop. A call has begun when its
first line may have run; until then it can be withdrawn, and was surely not made. Both
sides tell by a ticket: a list of one, and whoever pops it has it.

A thread whose loop does not turn for a whole time limit is stuck, be it in a call or
in what a call has left there, a callback or a task: then a call that has not begun is
the proof. It is left to itself (nothing can end it), and the calls that wait for it
begin in a new thread. When all that may be stuck are, calls are refused until one
returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator._engine._outcomes import Raised
from orchestrator._engine._turns import Turns, timed
from orchestrator._faults import Crash
from orchestrator._secrets import get_logger
from orchestrator.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from orchestrator._clock import Clock
    from orchestrator._engine._lanes import Lane
    from orchestrator._engine._turns import Method

    class Receiver(Protocol):
        """Who awaits a call's outcome."""

        def give(self, outcome: Any) -> None:
            """Take the outcome."""

        def break_off(self, error: BaseException) -> None:
            """End as this process does."""


logger = get_logger(__name__)

STUCK_MAX = 3
"""So many threads of one connector may be stuck beside the one that its calls use."""

_SLACK_S = 0.05
"""A turn begins this much later than its call, at most."""
_LAST_WAIT_S = 1.0


class ThreadCall(asyncio.Future[Any]):
    """A call in a thread, as a future of the engine's loop: the value, or `Raised`.

    As with a task, `cancel` asks; a call that has begun may not listen.
    """

    def __init__(
        self,
        threads: Threads,
        method: Method,
        kwargs: dict[str, Any],
        limit_s: float,
        receiver: Receiver | None,
    ) -> None:
        """Be withdrawn if it has not begun after *limit_s*."""
        super().__init__()
        self.method, self.kwargs, self.limit_s = method, kwargs, limit_s
        self.threads = threads
        self.thread: OwnThread | None = None
        self.ticket: list[ThreadCall] = []
        self.queued_at = 0.0
        self.began_at: float | None = None
        self.running: asyncio.Task[None] | None = None
        self.said: list[Any] = []
        self._receiver = receiver

    def __repr__(self) -> str:
        """Name the connector and the method."""
        return f"<call of {self.threads.lane.says(self.method)} in a thread>"

    def withdraw(self) -> bool:
        """Whether it had not begun, and never will."""
        try:
            self.ticket.pop()
        except IndexError:
            return False
        return True

    def cancel(self, msg: Any | None = None) -> bool:
        """Withdraw it, or ask it to end."""
        if self.done():
            return False
        if self.withdraw():
            self.threads.forget(self)
            return super().cancel(msg)
        if self.thread is not None:
            self.thread.tell(self._cancel_there)
        return True

    def _cancel_there(self) -> None:
        if self.running is not None:
            self.running.cancel()

    def settle(self) -> None:
        """Take what the thread has said, if it has."""
        if not self.said or self.done():
            return
        outcome = self.said[0]
        self.set_result(outcome)
        self.threads.forget(self)
        if self._receiver is None:
            return
        if isinstance(outcome, Raised) and isinstance(outcome.error, Crash):
            self._receiver.break_off(outcome.error)
        else:
            self._receiver.give(outcome)

    def refuse(self, why: str) -> None:
        """Fail a call that was withdrawn: it was surely not made."""
        what = f"{self.threads.lane.says(self.method)} was not called: {why}"
        self.said.append(Raised(TransientError(what)))
        self.settle()

    def expire(self, now: float) -> float | None:
        """Return its next deadline, None if its time is over (and it is told so)."""
        self.settle()
        if self.done():
            return None
        deadline = self._deadline()
        if deadline > now:
            return deadline
        self.threads.look(now, self)
        deadline = self._deadline()  # it may have been moved
        if deadline > now or self.began_at is not None:
            return deadline if deadline > now else None
        if self.withdraw():
            self.refuse(f"its thread was busy for {self.limit_s:g} s")
            return None
        return None if self.done() else now + self.limit_s  # it begins right now

    def _deadline(self) -> float:
        began = self.began_at
        return (self.queued_at if began is None else began) + self.limit_s


class OwnThread:
    """One daemon thread with an event loop, which survives what is raised in it."""

    def __init__(self, name: str, clock: Clock) -> None:
        """Start it.

        Raises:
            RuntimeError: The machine has no more threads.
            OSError: The process has no more files.
        """
        self.turns = Turns(clock.monotonic)
        self.stuck_at = -1
        self.silent = False
        """Whether its loop has not run what it was told when it was found stuck."""
        self._ending = False
        self._engine = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._engine.create_future()
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._main, name=name, daemon=True)
        try:
            thread.start()
        except BaseException:
            self._loop.close()
            raise

    def tell(self, what: Callable[..., object], *args: Any) -> None:
        """Do *what* in the thread's loop; nothing if that has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *args)

    def begin(self, call: ThreadCall, now: float) -> None:
        """Let *call* begin as soon as the loop turns."""
        call.thread, call.queued_at = self, now
        call.ticket = [call]
        self.tell(self._begin, call.ticket)

    def is_stuck(self) -> bool:
        """Whether it is still where it was found stuck."""
        turns = self.turns
        in_call = turns.method is not None and turns.number == self.stuck_at
        return self.silent or in_call

    def ask(self, returned: Callable[[], object]) -> None:
        """Be silent until the loop turns; then let *returned* be called."""
        self.silent = True
        self.tell(self._speak, returned)

    def end(self) -> None:
        """Let it end; sets `ended`."""
        self._ending = True
        self.tell(self._loop.stop)

    # In the thread

    def _speak(self, returned: Callable[[], object]) -> None:
        self.silent = False
        self._report(returned)

    def _begin(self, ticket: list[ThreadCall]) -> None:
        if ticket:
            task = self._loop.create_task(self._run(ticket))
            with contextlib.suppress(IndexError):  # it was withdrawn just now
                ticket[0].running = task

    async def _run(self, ticket: list[ThreadCall]) -> None:
        try:
            call = ticket.pop()
        except IndexError:
            return
        call.began_at = self.turns.monotonic()
        outcome: Any
        try:
            outcome = await timed(
                call.threads.lane, call.method, call.kwargs, self.turns
            )
        except BaseException as error:  # noqa: BLE001 - whatever a call raises
            outcome = Raised(error)
        call.said.append(outcome)
        self._report(call.settle)

    def _report(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the engine's loop is closed
            self._engine.call_soon_threadsafe(what)

    def _main(self) -> None:
        while not self._ending:
            try:
                self._loop.run_forever()
            except BaseException:
                logger.exception("a task that a connector left in its thread broke")
        try:
            self._loop.run_until_complete(self._last())
        except BaseException:
            logger.exception("the end of a connector's thread broke")
        try:
            self._loop.close()
        finally:
            self._report(self._has_ended)

    async def _last(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WAIT_S)
        await self._loop.shutdown_asyncgens()

    def _has_ended(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Threads:
    """The thread that one connector's calls use, and those that are stuck."""

    def __init__(self, lane: Lane, clock: Clock) -> None:
        """Start with none: the first call starts one."""
        self.lane = lane
        self._clock = clock
        self._now: OwnThread | None = None
        self._stuck: list[OwnThread] = []
        self._calls: dict[ThreadCall, None] = {}

    def call(
        self,
        method: Method,
        kwargs: dict[str, Any],
        limit_s: float,
        receiver: Receiver | None = None,
    ) -> ThreadCall:
        """Start a call in the thread; its outcome is given to *receiver* too."""
        call = ThreadCall(self, method, kwargs, limit_s, receiver)
        self._calls[call] = None
        self._place(call)
        return call

    def _place(self, call: ThreadCall) -> None:
        try:
            thread = self._usable()
        except (RuntimeError, OSError) as error:
            call.refuse(f"there is no thread for it: {error}")
            return
        if thread is None:
            call.refuse(f"all {STUCK_MAX + 1} of its threads are stuck")
        else:
            thread.begin(call, self._clock.monotonic())

    def _usable(self) -> OwnThread | None:
        """Return a thread that turns, as far as is known, None without one."""
        now = self._now
        if now is not None and not now.is_stuck():
            return now
        if now is not None:
            if len(self._stuck) >= STUCK_MAX:
                return None
            self._stuck.append(now)
            self._now = None
        self._now = OwnThread(f"orchestrator-{self.lane.name}", self._clock)
        return self._now

    def look(self, now: float, call: ThreadCall) -> None:
        """Leave the thread to itself if it has not turned for the limit of *call*."""
        thread = self._now
        if thread is None or thread.is_stuck():
            return
        here = [each for each in self._calls if each.thread is thread]
        number, since = thread.turns.number, thread.turns.blocked_since()
        if since is None:
            # No call has had the thread all the time, and yet this one did not begin.
            limit_s, method = call.limit_s, None
            free_at = max(call.queued_at, thread.turns.over_at)
            if call.thread is not thread or free_at + limit_s - _SLACK_S > now:
                return
            if not call.withdraw():
                return
            thread.ask(partial(self._returned, thread))
        else:
            # Whoever has the thread may keep it for as long as its own limit says.
            limits = [each.limit_s for each in here if each.began_at is not None]
            limit_s = max([call.limit_s, *limits])
            if since + limit_s - _SLACK_S > now:
                return
            thread.stuck_at = number
            method = thread.turns.method
        logger.error(
            "%s blocks its thread for more than %g s and cannot be ended: %s",
            f"a callback or a task of {self.lane.name}"
            if method is None
            else self.lane.says(method),
            limit_s,
            "no more threads are started for it"
            if len(self._stuck) >= STUCK_MAX
            else "its other calls get a new thread",
        )
        for each in here:
            if each.withdraw() or (method is None and each is call):
                self._place(each)

    def _returned(self, thread: OwnThread) -> None:
        """Let a thread that was silent end, if others are used by now."""
        if thread in self._stuck and not any(c.thread is thread for c in self._calls):
            self._stuck.remove(thread)
            thread.end()

    def forget(self, call: ThreadCall) -> None:
        """Note that *call* is over; a stuck thread that has returned may end."""
        self._calls.pop(call, None)
        if call.thread is not None and not call.thread.is_stuck():
            self._returned(call.thread)

    async def stop(self) -> None:
        """End the threads; name those that do not end."""
        threads = [*self._stuck, *([self._now] if self._now else [])]
        for thread in threads:
            thread.end()
        if threads:
            ends = [thread.ended for thread in threads]
            await asyncio.wait(ends, timeout=2 * _LAST_WAIT_S)
        for thread in threads:
            method = thread.turns.method
            if not thread.ended.done():
                logger.error(
                    "a thread of %s does not end, it is left behind: it is in %s",
                    self.lane.name,
                    "no call" if method is None else self.lane.says(method),
                )
        for call in list(self._calls):
            if call.withdraw():
                call.refuse("the engine was closed")
            elif not call.said:
                closed = RuntimeError(f"{call!r} did not end before the engine did")
                call.said.append(Raised(closed))
            call.settle()
