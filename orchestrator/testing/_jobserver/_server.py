"""HTTP in front of the job service, and the faults of the wire.

Routes, ``C`` being a service class::

    POST   /C/jobs            {"token", "spec"}   create
    GET    /C/jobs/ID                             get
    GET    /C/jobs?token=T                        find
    DELETE /C/jobs/ID                             delete
    POST   /C/jobs/ID/end     {"state"}           tell a job to end
    PUT    /rules             [rule, ...]         replace the server's rules
    PUT    /release           {"token"}           give the answers withheld so far
    GET    /statistics                            jobs by state

Faults hit create, get, find and delete only. A request is executed even if its
client has gone meanwhile, as on a real network.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.testing._jobserver._ledger import JobCall
from orchestrator.testing._jobserver._service import JobService, Outcome
from orchestrator.testing._jobserver._vocabulary import (
    Fault,
    JobSpec,
    Rule,
    ServiceClass,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator._clock import Clock
    from orchestrator.testing._jobserver._ledger import Ledger

_BODY_MAX = 1 << 20
_NOT_EXECUTED = frozenset({Fault.CUT, Fault.REFUSE, Fault.HANG})
_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 400: "Bad Request"}


@dataclass(frozen=True)
class Request:
    """One parsed HTTP request."""

    method: str
    parts: tuple[str, ...]
    query: dict[str, list[str]]
    body: Any


@dataclass
class CountedRules:
    """The rules in force and how often each has looked at each token."""

    seed: str
    rules: tuple[Rule, ...] = ()
    by_token: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    seen: dict[tuple[str, int, str, str], int] = field(default_factory=dict)

    def choose(self, service: str, verb: str, token: str) -> Rule | None:
        """Return the rule that hits this request; the job's own come first."""
        own = enumerate(self.by_token.get(token, ()))
        hit = self._first("job", own, service, verb, token)
        return hit or self._first("server", enumerate(self.rules), service, verb, token)

    def replace(self, rules: tuple[Rule, ...]) -> None:
        """Put new rules in force."""
        self.rules = rules
        self.seen = {key: n for key, n in self.seen.items() if key[0] != "server"}

    def _first(
        self,
        kind: str,
        rules: Iterable[tuple[int, Rule]],
        service: str,
        verb: str,
        token: str,
    ) -> Rule | None:
        chosen = None
        for index, rule in rules:
            if not rule.matches(service, verb, token):
                continue
            key = (kind, index, verb, token)
            nth = self.seen[key] = self.seen.get(key, 0) + 1
            seed = f"{self.seed}:{kind}:{index}:{verb}:{token}"
            if chosen is None and rule.hits(nth, seed):
                chosen = rule
        return chosen


class Listener:
    """One server with one ledger, on the running event loop."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        remember_s: float = 1.0,
        seed: str = "0",
        spec: JobSpec | None = None,
    ) -> None:
        """Take up the jobs of *ledger*; chances are decided by *seed*.

        Jobs that come without a spec behave as *spec*.
        """
        self._ledger = ledger
        self._clock = clock
        self._spec = (spec or JobSpec()).to_json()
        self.service = JobService(ledger, clock, remember_s)
        self._faults = CountedRules(seed)
        self._withheld: dict[str, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (a free one for 0)."""
        self._server = await asyncio.start_server(self._accept, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Cut every connection and close the ledger."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._ledger.close()

    def rule(self, rules: Iterable[Rule]) -> None:
        """Replace the server's rules; their counts begin anew."""
        self._faults.replace(tuple(rules))

    def release(self, token: str) -> bool:
        """Give the answers withheld from *token* so far; False for none."""
        released = self._withheld.pop(token, None)
        if released is not None:
            released.set()
        return released is not None

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task of its own")
        self._connections.add(task)
        try:
            while (request := await _read(reader)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away: nothing to tell anybody
        except asyncio.CancelledError:
            writer.transport.abort()  # stop() cut it; the task ends here
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Execute and answer; return whether the connection stays open."""
        try:
            verb, service, token = self._identify(request)
        except (ValueError, KeyError, TypeError) as error:
            _write(writer, Outcome(400, {"error": str(error)}))
            return True
        if verb is None:
            _write(writer, self._control(request))
            return True
        rule = self._faults.choose(service, verb, token)
        if rule is None:
            _write(writer, self._execute(verb, service, token, request, None))
            await writer.drain()
            return True
        if rule.do in _NOT_EXECUTED:
            self._record_refusal(verb, service, token, rule)
            return await _deny(rule, reader, writer)
        if rule.do is Fault.STALL:
            await self._clock.sleep(rule.delay_s)
        outcome = self._execute(verb, service, token, request, rule.do)
        if rule.do in (Fault.LOSE, Fault.HANG_AFTER):
            if rule.do is Fault.HANG_AFTER:
                await _gone(reader)
            writer.transport.abort()
            return False
        if rule.do is Fault.LATE:
            await self._clock.sleep(rule.delay_s)
        elif rule.do is Fault.WITHHOLD:
            await self._withheld.setdefault(token, asyncio.Event()).wait()
        _write(writer, outcome)
        await writer.drain()
        return True

    def _identify(self, request: Request) -> tuple[str | None, str, str]:
        """Return verb (None: control), service class and token of a request."""
        parts = request.parts
        if parts in (("rules",), ("release",), ("statistics",)):
            return None, "", ""
        match request.method, parts:
            case "POST", (service, "jobs"):
                token = str(request.body["token"])
                spec = JobSpec.from_json(request.body.get("spec") or self._spec)
                self._faults.by_token.setdefault(token, spec.faults)
                verb = "create"
            case "GET", (service, "jobs"):
                verb, token = "find", request.query["token"][0]
            case (("GET" | "DELETE"), (service, "jobs", job_id)):
                verb = "get" if request.method == "GET" else "delete"
                token = self._token_of(job_id)
            case "POST", (service, "jobs", job_id, "end"):
                return None, ServiceClass(service).value, self._token_of(job_id)
            case _:
                msg = f"no route {request.method} /{'/'.join(parts)}"
                raise ValueError(msg)
        return verb, ServiceClass(service).value, token

    def _token_of(self, job_id: str) -> str:
        """Return a job's token, and learn its own faults after a restart."""
        token = self.service.token_of(job_id)
        spec = self.service.spec_of(job_id)
        if spec is not None:
            self._faults.by_token.setdefault(token, spec.faults)
        return token

    def _control(self, request: Request) -> Outcome:
        """Answer a request of the test itself: never faulted, never recorded."""
        try:
            match request.parts:
                case ("rules",):
                    rules = tuple(Rule.from_json(raw) for raw in request.body)
                    self.rule(rules)
                    return Outcome(200, {"rules": len(rules)})
                case ("release",):
                    released = self.release(request.body["token"])
                    return Outcome(200, {"released": released})
                case (service, "jobs", job_id, "end"):
                    state = State(request.body.get("state", State.SUCCEEDED))
                    return self.service.end(ServiceClass(service), job_id, state)
                case _:
                    return Outcome(200, dict(self.service.statistics()))
        except (ValueError, KeyError, TypeError) as error:
            return Outcome(400, {"error": str(error)})

    def _execute(
        self, verb: str, service: str, token: str, request: Request, do: Fault | None
    ) -> Outcome:
        kind = ServiceClass(service)
        job_id = request.parts[-1]
        self._ledger.begin()
        try:
            if verb == "create":
                spec = JobSpec.from_json(request.body.get("spec") or self._spec)
                outcome = self.service.create(kind, token, spec)
            elif verb == "find":
                outcome = self.service.find(kind, token)
            elif verb == "get":
                outcome = self.service.get(kind, job_id)
            else:
                outcome = self.service.delete(kind, job_id)
            self._ledger.add_call(
                JobCall(
                    at_us=self._clock.now_us(),
                    service=service,
                    verb=verb,
                    token=token,
                    job_id=outcome.job_id,
                    fault=do,
                    executed=True,
                    status=outcome.status,
                )
            )
        except BaseException:
            self._ledger.rollback()
            raise
        self._ledger.commit()
        return outcome

    def _record_refusal(self, verb: str, service: str, token: str, rule: Rule) -> None:
        self._ledger.begin()
        self._ledger.add_call(
            JobCall(
                at_us=self._clock.now_us(),
                service=service,
                verb=verb,
                token=token,
                job_id=None,
                fault=rule.do,
                executed=False,
                status=rule.status if rule.do is Fault.REFUSE else 0,
            )
        )
        self._ledger.commit()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None when the client has closed between two."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    length = min(int(headers.get("content-length", "0")), _BODY_MAX)
    raw = await reader.readexactly(length) if length else b"{}"
    url = urlsplit(target)
    body: Any = None
    with suppress(ValueError):
        body = json.loads(raw)
    parts = tuple(part for part in url.path.split("/") if part)
    return Request(method, parts, parse_qs(url.query), body)


def _write(
    writer: asyncio.StreamWriter, outcome: Outcome, retry_after: float | None = None
) -> None:
    payload = json.dumps(outcome.body).encode()
    reason = _REASONS.get(outcome.status, "Other")
    head = f"HTTP/1.1 {outcome.status} {reason}\r\nContent-Length: {len(payload)}\r\n"
    if retry_after is not None:
        head += f"Retry-After: {retry_after:g}\r\n"
    writer.write(head.encode() + b"\r\n" + payload)


async def _deny(
    rule: Rule, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Do not execute; return whether the connection stays open."""
    if rule.do is Fault.REFUSE:
        refusal = Outcome(rule.status, {"error": f"refused: {rule.status}"})
        _write(writer, refusal, rule.retry_after)
        return True
    if rule.do is Fault.CUT:
        writer.transport.abort()
    else:
        await _gone(reader)
    return False


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait until the client gives up: an answer never comes."""
    with suppress(ConnectionError):
        while await reader.read(4096):
            pass
