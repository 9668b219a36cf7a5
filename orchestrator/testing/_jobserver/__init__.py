"""A job server for tests: HTTP on the loopback interface, in a thread of its own.

It stands for somebody else's service. Its jobs live as long as the server, whatever
happens to the engine that made them, and it has a ledger of every call.

Routes, ``C`` being a service class (see `ServiceClass`)::

    POST   /C/jobs            {"token", "spec"}   create
    GET    /C/jobs/ID                             get
    GET    /C/jobs?token=T                        find
    DELETE /C/jobs/ID                             delete
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

from orchestrator._clock import SystemClock
from orchestrator.testing._jobserver._ledger import MemoryLedger
from orchestrator.testing._jobserver._server import Listener
from orchestrator.testing._jobserver._vocabulary import JobSpec, ServiceClass, State

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator.testing._jobserver._ledger import JobCall
    from orchestrator.testing._jobserver._service import Job
    from orchestrator.testing._jobserver._vocabulary import Rule


class JobServer:
    """A scriptable job service; a context manager, also for ``async with``.

    It serves from a thread, so that a client that blocks the event loop under test
    still gets its answers. What the attributes and methods tell is of the moment.

    Args:
        spec: How a job behaves that is created without a ``spec`` of its own: how
            long it is queued and runs, how it ends, how late ``find`` lists it.
        rules: What goes wrong with which requests, for example ``Rule(do=Fault.LOSE,
            verb="create", times=1)``: the first job of each token is made, and the
            answer lost. See `Fault`.
        remember_s: Seconds for which class T remembers a token.
        seed: Decides the rules' chances.
        clock: What durations are measured with; None for the system's.

    Attributes:
        url: Where it listens, ``http://127.0.0.1:PORT``, without a final slash.
    """

    def __init__(
        self,
        spec: JobSpec | None = None,
        rules: tuple[Rule, ...] = (),
        *,
        remember_s: float = 3600.0,
        seed: str = "0",
        clock: Clock | None = None,
    ) -> None:
        self.url = ""
        self._ledger = MemoryLedger()
        self._listener = Listener(
            self._ledger,
            clock or SystemClock(),
            remember_s=remember_s,
            seed=seed,
            spec=spec,
        )
        self._listener.rule(rules)
        self._began = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="orchestrator-job-server", daemon=True
        )

    # Life

    def __enter__(self) -> Self:
        """Listen on a free port; returns when it does."""
        self._thread.start()
        self._began.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        """Cut every connection and end the thread; the ledger stays readable."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def __aenter__(self) -> Self:
        """Listen on a free port; returns when it does."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        """Cut every connection and end the thread; the ledger stays readable."""
        await asyncio.to_thread(self.__exit__)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to who waits
            self._failed = error
        finally:
            self._began.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        port = await self._listener.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        self._began.set()
        await self._over.wait()
        await self._listener.stop()

    # What the test says

    def script(self, *rules: Rule) -> None:
        """Replace the rules; without any, all goes well."""
        self._loop.call_soon_threadsafe(self._listener.rule, rules)

    def end(self, job_id: str, state: State = State.SUCCEEDED) -> None:
        """Let a job end in *state* when it is next looked at."""
        job = self._listener.service.job(job_id)
        if job is None:
            raise LookupError(f"there is no job {job_id!r}")
        job.told = state

    def release(self, token: str) -> None:
        """Give the answers that `Fault.WITHHOLD` has kept back of *token*."""
        self._loop.call_soon_threadsafe(self._listener.release, token)

    # What the test asks

    def jobs(self, token: str | None = None) -> list[Job]:
        """Return the jobs that were made, oldest first; of *token*, or all."""
        jobs = self._listener.service.jobs()
        return [job for job in jobs if token in (None, job.token)]

    def count_jobs(self, token: str) -> int:
        """Return how many jobs *token* made; for ``check_connector``."""
        return len(self.jobs(token))

    def calls(self, verb: str | None = None) -> list[JobCall]:
        """Return the calls so far in order; of one *verb*, or all."""
        return [call for call in list(self._ledger.calls) if verb in (None, call.verb)]


__all__ = ["JobServer", "JobSpec", "ServiceClass", "State"]
