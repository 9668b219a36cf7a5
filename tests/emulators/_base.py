"""What the stand-ins have in common: HTTP, jobs with a ledger, scripts and faults.

A stand-in is a subclass of `StandIn` whose methods are marked with `route`::

    class Service(StandIn):
        @route("POST", "/v1/jobs", verb="create")
        def create(self, call: Call) -> Answer:
            job = self.jobs.make(new_id, call.token, script_of(sql), {"sql": sql})
            return Answer(200, {"id": job.key})

        @route("GET", "/v1/jobs/{id}", verb="get")
        def status(self, call: Call) -> Answer: ...

    if __name__ == "__main__":
        main(Service)

Requests are executed one at a time, each as one transaction of the ledger. Faults hit
the routes that have a verb; they are the job server's (`Fault`, `Rule`), and their
refusals wear the vendor's error body. Routes of the stand-in itself::

    PUT  /-/rules     [rule, ...]              replace the rules
    PUT  /-/release   {"token"}                give the answers withheld so far
    POST /-/end       {"token", "state"}       tell the jobs of a token to end
"""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from orchestrator._clock import SystemClock
from orchestrator.testing._jobserver._ledger import JobCall
from orchestrator.testing._jobserver._server import CountedRules
from orchestrator.testing._jobserver._service import Job, JobService
from orchestrator.testing._jobserver._vocabulary import (
    Fault,
    JobSpec,
    Rule,
    ServiceClass,
    State,
    attempt_of,
)
from tests.emulators._http import Answer, Call, RefusalError, main, route
from tests.jobserver.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator._clock import Clock

# The stand-in decides itself what a token does: to the ledger every job is a new one.
_SERVICE = ServiceClass.NEITHER

__all__ = [
    "Answer",
    "Call",
    "Entry",
    "Jobs",
    "RefusalError",
    "Script",
    "StandIn",
    "State",
    "main",
    "packed",
    "packed_in",
    "route",
    "script_of",
]

_SCRIPT = re.compile(r"/\*\s*([a-z_]+=.*?)\s*\*/", re.DOTALL)
_PACKED = re.compile(r"/\* spec=([\w-]+) \*/")
_BODIES = """
CREATE TABLE IF NOT EXISTS body (
  job_id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Script:
    """How a job behaves, as its text says.

    Attributes:
        spec: Times and ends, in the job server's words.
        words: Everything else that the text says.
    """

    spec: JobSpec = field(default_factory=JobSpec)
    words: dict[str, str] = field(default_factory=dict)

    def word_of(self, name: str, token: str) -> str:
        """Return what *name* says for the attempt of *token*; "" for nothing.

        ``fail=backendError,ok`` speaks of the first attempt, then of all later ones.
        """
        said = self.words.get(name, "").split(",")
        return said[min(attempt_of(token) or 1, len(said)) - 1]


def script_of(text: str, values: Mapping[str, Any] | None = None) -> Script:
    """Return the script in the comments of *text*.

    ``/* sleep=5 queue=1 cancel=2 fail=invalidQuery,ok */``: seconds RUNNING, seconds
    QUEUED, seconds from a cancel to the end, and how each attempt ends ("ok", else a
    failure of that name). ``sleep=@name`` takes the value of a query parameter.

    A comment that `packed` made says all that a JobSpec can say; its faults hit the
    requests of this job's token.
    """
    words: dict[str, str] = {}
    for comment in _SCRIPT.findall(text):
        for part in comment.split():
            name, _, value = part.partition("=")
            if value.startswith("@"):
                value = str((values or {}).get(value[1:], ""))
            words[name] = value
    own = packed_in(text)
    if own is not None:
        return Script(own, words)
    fails = words.get("fail", "ok").split(",")
    spec = JobSpec(
        queue_s=float(words.get("queue") or 0),
        run_s=float(words.get("sleep") or 0),
        delete_s=float(words.get("cancel") or 0),
        ends=tuple(
            State.SUCCEEDED if fail in ("", "ok") else State.FAILED for fail in fails
        ),
    )
    return Script(spec, words)


def packed(spec: JobSpec) -> str:
    """Return *spec* as a comment that `script_of` reads."""
    raw = json.dumps(spec.to_json()).encode()
    return f"/* spec={base64.urlsafe_b64encode(raw).decode().rstrip('=')} */"


def packed_in(text: str) -> JobSpec | None:
    """Return the spec that `packed` wrote anywhere into *text*, None for none."""
    found = _PACKED.search(text)
    if found is None:
        return None
    padded = found[1] + "=" * (-len(found[1]) % 4)
    return JobSpec.from_json(json.loads(base64.urlsafe_b64decode(padded)))


class _Ledger(Ledger):
    """The job server's ledger, with what the vendor knows of each job."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._db.executescript(_BODIES)

    def add_body(self, job_id: str, key: str, body: Any) -> None:
        row = (job_id, key, json.dumps(body))
        self._db.execute("INSERT INTO body VALUES (?, ?, ?)", row)

    def bodies(self) -> list[tuple[str, str, Any]]:
        rows = self._db.execute("SELECT job_id, key, body FROM body").fetchall()
        return [(job_id, key, json.loads(body)) for job_id, key, body in rows]


@dataclass(frozen=True)
class Entry:
    """One job: how it does, and what the vendor knows of it.

    Attributes:
        key: The vendor's id, unique among all jobs.
        job: State and times.
        body: What the handler that made it wrote down; JSON.
    """

    key: str
    job: Job
    body: Any

    @property
    def token(self) -> str:
        """What its creator sent."""
        return self.job.token

    @property
    def state(self) -> State:
        """How it does, as of the last look."""
        return self.job.state


class Jobs:
    """All jobs of a stand-in; those in the ledger of an earlier life included."""

    def __init__(self, ledger: _Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self.clock = clock
        self.service = JobService(ledger, clock, 0.0)
        self._entries: dict[str, Entry] = {}
        for job_id, key, body in ledger.bodies():
            job = self.service.job(job_id)
            assert job is not None
            self._entries[key] = Entry(key, job, body)

    def make(self, key: str, token: str, script: Script, body: Any) -> Entry:
        """Make a job with the vendor's id *key*, which must be new."""
        made = self.service.create(_SERVICE, token, script.spec)
        job = self.service.job(made.job_id or "")
        assert job is not None
        self._ledger.add_body(job.id, key, body)
        entry = self._entries[key] = Entry(key, job, body)
        return entry

    def peek(self, key: str) -> Entry | None:
        """Return a job as it was last looked at."""
        return self._entries.get(key)

    def look(self, key: str) -> Entry | None:
        """Return a job as it is now; looking is what lets it move on."""
        entry = self._entries.get(key)
        if entry is not None:
            self.service.get(_SERVICE, entry.job.id)
        return entry

    def cancel(self, key: str) -> Entry | None:
        """Cancel a job; one that has ended stays as it ended."""
        entry = self._entries.get(key)
        if entry is not None:
            self.service.delete(_SERVICE, entry.job.id)
        return entry

    def all(self) -> list[Entry]:
        """Return every job in order of creation, as last looked at."""
        return list(self._entries.values())


class StandIn:
    """A vendor's service. Subclasses have routes and the vendor's error body."""

    name: ClassVar[str] = "stand-in"

    def __init__(self, path: str, seed: str = "0") -> None:
        """Go on with the ledger at *path*; rules' chances are decided by *seed*."""
        self._ledger = _Ledger(path)
        self.clock = SystemClock()
        self.jobs = Jobs(self._ledger, self.clock)
        self.url = ""
        self.rules = CountedRules(seed)
        self.lock = threading.Lock()
        self._withheld: dict[str, threading.Event] = {}
        self._routes = [
            (method, pattern, verb, handler)
            for handler in map(self._member, dir(type(self)))
            for method, pattern, verb in getattr(handler, "routes", ())
        ]

    def _member(self, name: str) -> Any:
        return getattr(self, name) if hasattr(type(self), name) else None

    # What a vendor may say otherwise

    def token_of(self, verb: str, call: Call) -> str:
        """Return the token that *call* is about, for rules and ledger."""
        del verb, call
        return ""

    def refusal(self, status: int, message: str) -> Answer:
        """Return the vendor's answer for an error of that *status*."""
        return Answer(status, {"error": message})

    # Execution

    def find_route(self, call: Call) -> tuple[str, Any] | None:
        """Return verb and handler of *call*, whose path parts are filled in."""
        for method, pattern, verb, handler in self._routes:
            found = pattern.fullmatch(call.path) if method == call.method else None
            if found:
                parts = found.groupdict().items()
                call.params = {name: unquote(part) for name, part in parts}
                return verb, handler
        return None

    def choose(self, verb: str, call: Call) -> Rule | None:
        """Return the rule that hits *call*, None for none."""
        with self.lock:
            call.token = self.token_of(verb, call)
            # The text stands somewhere in the body, whatever the vendor.
            spec = packed_in(json.dumps(call.body)) if verb == "create" else None
            if spec is not None:
                self.rules.by_token.setdefault(call.token, spec.faults)
            return self.rules.choose(_SERVICE, verb, call.token)

    def execute(
        self, verb: str, handler: Any, call: Call, fault: Fault | None = None
    ) -> Answer:
        """Carry *call* out and write it down, as one transaction."""
        with self.lock:
            self._ledger.begin()
            try:
                try:
                    answer: Answer = handler(call)
                except RefusalError as error:
                    answer = error.answer
                self._write(verb, call, fault, answer.status, executed=True)
            except BaseException:
                self._ledger.rollback()
                raise
            self._ledger.commit()
            return answer

    def deny(self, verb: str, call: Call, rule: Rule) -> None:
        """Write down that *call* is not carried out."""
        status = rule.status if rule.do is Fault.REFUSE else 0
        with self.lock:
            self._ledger.begin()
            self._write(verb, call, rule.do, status, executed=False)
            self._ledger.commit()

    def _write(
        self, verb: str, call: Call, fault: Fault | None, status: int, *, executed: bool
    ) -> None:
        if not verb:
            return
        self._ledger.add_call(
            JobCall(
                at_us=self.clock.now_us(),
                service=_SERVICE,
                verb=verb,
                token=call.token,
                job_id=call.job_id,
                fault=fault,
                executed=executed,
                status=status,
            )
        )

    def withheld(self, token: str) -> threading.Event:
        """Return what the answers of *token* wait for."""
        with self.lock:
            return self._withheld.setdefault(token, threading.Event())

    # The stand-in's own routes

    @route("PUT", "/-/rules")
    def _replace_rules(self, call: Call) -> Answer:
        self.rules.replace(tuple(Rule.from_json(rule) for rule in call.body))
        return Answer()

    @route("PUT", "/-/release")
    def _release(self, call: Call) -> Answer:
        self._withheld.pop(call.body["token"], threading.Event()).set()
        return Answer()

    @route("POST", "/-/end")
    def _end(self, call: Call) -> Answer:
        told = [e for e in self.jobs.all() if e.token == call.body["token"]]
        for entry in told:
            entry.job.told = State(call.body["state"])
        return Answer(200 if told else 404, {"jobs": len(told)})
