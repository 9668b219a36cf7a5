"""A stand-in for Databricks' Jobs API, as far as runs and their outputs go.

``python -m tests.emulators.databricks --port 0 --ledger FILE``; the real SDK takes its
URL as ``host``. API 2.1 and 2.2. The token of a run is its ``idempotency_token``, else
what stands in brackets at the end of its name, or in a parameter.

Scripts are parameters of tasks (or of the job), ``sleep=5`` as a text or as name and
value: see `script_of`. ``code`` is a termination code, ``output`` what a notebook
gives, ``logs`` what a program prints, ``hidden`` so many seconds a new run is not
listed, ``submit=400`` refuses the request.

A token makes one run. ``PUT /-/forget {"ended": true}`` lets it be forgotten when that
run has ended, as one of Databricks' documents may be read. ``POST /oidc/v1/token``
gives access tokens to any client whose secret begins with ``dose``; personal ones
begin with ``dapi``.
"""

from __future__ import annotations

import base64
import itertools
import re
from typing import Any
from urllib.parse import parse_qs

from tests.emulators import _databricks_runs as runs
from tests.emulators._base import (
    Answer,
    Call,
    Entry,
    RefusalError,
    StandIn,
    State,
    main,
    route,
)

_JOBS = "/api/{api}/jobs"
_TOKEN_MAX = 64
_NAME_MAX = 4096
_LIST_MAX = 25
_TASKS_PAGE = 100
_WORKSPACE = "4711"
_NAMED = re.compile(r"\[(\S+)\]$")
_STEP = 1_000_000
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "ABORTED",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
_ENDED = (State.SUCCEEDED, State.FAILED, State.RETRYABLE, State.ABORTED)


class Databricks(StandIn):
    """Databricks: submit, run-now, get, list, get-output, cancel, repair, delete."""

    name = "databricks"

    def __init__(self, path: str, seed: str = "0") -> None:
        """Go on with the ledger; jobs, deletions and tokens are of this process."""
        super().__init__(path, seed)
        self._defined: dict[int, dict[str, Any]] = {}
        self._deleted: set[int] = set()
        self._bearers: set[str] = set()
        self._forgets = False
        self._numbers = itertools.count(1)

    def token_of(self, verb: str, call: Call) -> str:
        """Return the token of the run that is meant."""
        body = call.body if isinstance(call.body, dict) else {}
        if verb == "create":
            return _token(body)
        run_id = str(body.get("run_id") or call.query.get("run_id") or "")
        known = self.jobs.peek(_key(int(run_id))) if run_id.isdecimal() else None
        return known.token if known else ""

    def refusal(self, status: int, message: str) -> Answer:
        """Return an error as Databricks writes it."""
        code = _CODES.get(status, "INTERNAL_ERROR")
        return Answer(status, {"error_code": code, "message": message})

    def refuse(self, status: int, message: str) -> RefusalError:
        """Return the exception for `refusal`."""
        return RefusalError(self.refusal(status, message))

    # Runs

    @route("POST", _JOBS + "/runs/submit", verb="create")
    def submit(self, call: Call) -> Answer:
        """Make a one-time run, unless the token has one."""
        self._check_caller(call)
        if (known := self._known(call)) is not None:
            return Answer(200, {"run_id": known})
        body = call.body
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not tasks:
            raise self.refuse(400, "One of job_id or tasks must be specified")
        for task in tasks:
            kinds = [name for name in task if name.endswith("_task")]
            if len(kinds) != 1 or not task.get("task_key"):
                raise self.refuse(400, f"A task needs a key and one kind, got {kinds}")
        if len(body.get("run_name", "").encode()) > _NAME_MAX:
            raise self.refuse(400, "run_name is too long")
        return self._make(call, tasks, {"run_type": "SUBMIT_RUN"})

    @route("POST", _JOBS + "/run-now", verb="create")
    def run_now(self, call: Call) -> Answer:
        """Start a job, unless the token has a run."""
        self._check_caller(call)
        job = self._defined.get(int(call.body.get("job_id", 0)))
        if job is None:
            raise self.refuse(404, f"Job {call.body.get('job_id')} does not exist.")
        if (known := self._known(call)) is not None:
            return Answer(200, {"run_id": known})
        declared = {p["name"]: p.get("default", "") for p in job.get("parameters", ())}
        given = call.body.get("job_parameters", {})
        if set(given) - set(declared):
            raise self.refuse(400, f"Unknown job parameters {sorted(given)}")
        values = [
            {"name": n, "default": d, "value": given.get(n, d)}
            for n, d in declared.items()
        ]
        told = {
            "run_type": "JOB_RUN",
            "run_name": job.get("name", "Untitled"),
            "job_id": int(call.body["job_id"]),
            "job_parameters": values,
            "overriding_parameters": {
                name: value
                for name, value in call.body.items()
                if name.endswith("_params")
            },
        }
        return self._make(call, job["tasks"], told)

    @route("GET", _JOBS + "/runs/get", verb="get")
    def get(self, call: Call) -> Answer:
        """Look at a run; of its tasks a hundred at a time."""
        self._check_caller(call)
        number, entry = self._entry(call, call.query)
        told = self._told(number, entry)
        tasks = runs.tasks_of(
            number, entry, self._repairs(number), self.url, self.clock.now_us()
        )
        start = int(call.query.get("page_token") or 0)
        told["tasks"] = tasks[start : start + _TASKS_PAGE]
        if start + _TASKS_PAGE < len(tasks):
            told["next_page_token"] = str(start + _TASKS_PAGE)
        if call.query.get("include_history") == "true":
            history = runs.history_of(
                number, entry, self._repairs(number), self.clock.now_us()
            )
            told["repair_history"] = history
        return Answer(200, told)

    @route("GET", _JOBS + "/runs/get-output", verb="output")
    def output(self, call: Call) -> Answer:
        """Tell what the run of one task gave."""
        self._check_caller(call)
        wanted = int(call.query["run_id"])
        number = wanted // _STEP * _STEP
        entry = self.jobs.look(_key(number))
        if entry is None or wanted == number or number in self._deleted:
            raise self.refuse(400, f"Run {wanted} has no single output")
        repairs = self._repairs(number)
        now_us = self.clock.now_us()
        for task in runs.tasks_of(number, entry, repairs, self.url, now_us):
            if task["run_id"] == wanted:
                told = runs.output_of(task, entry.body["words"], self.url)
                return Answer(200, told)
        raise self.refuse(400, f"Run {wanted} does not exist.")

    @route("GET", _JOBS + "/runs/list", verb="find")
    def list_runs(self, call: Call) -> Answer:
        """List runs, newest first, by time, kind and job."""
        self._check_caller(call)
        query, now_us = call.query, self.clock.now_us()
        limit = int(query.get("limit") or 20)
        if not 0 < limit <= _LIST_MAX:
            raise self.refuse(400, f"limit must be at most {_LIST_MAX}")
        found = []
        for entry in reversed(self.jobs.all()):
            number, run = entry.body["number"], entry.body["told"]
            age_s = (now_us - entry.job.created_us) / 1e6
            hidden = age_s < float(entry.body["words"].get("hidden", 0))
            if number is None or number in self._deleted or hidden:
                continue
            if (
                query.get("run_type") in (None, run["run_type"])
                and query.get("job_id") in (None, str(run["job_id"]))
                and int(query.get("start_time_from") or 0)
                <= entry.job.created_us // 1000
            ):
                found.append((number, entry))
        start = int(query.get("page_token") or 0)
        # Only these are told: a search reads hundreds of runs, page by page.
        told = [self._told(*one) for one in found[start : start + limit]]
        page: dict[str, Any] = {"runs": told, "has_more": False}
        if start + limit < len(found):
            page |= {"has_more": True, "next_page_token": str(start + limit)}
        return Answer(200, page)

    @route("POST", _JOBS + "/runs/cancel", verb="delete")
    def cancel(self, call: Call) -> Answer:
        """Ask a run to end; it is answered at once, whenever the run ends."""
        self._check_caller(call)
        number, _ = self._entry(call, call.body)
        self.jobs.cancel(_key(number))
        for index, _ in enumerate(self._repairs(number), 1):
            self.jobs.cancel(_key(number, index))
        return Answer(200, {})

    @route("POST", _JOBS + "/runs/repair", verb="repair")
    def repair(self, call: Call) -> Answer:
        """Run the tasks of an ended run again."""
        self._check_caller(call)
        number, entry = self._entry(call, call.body)
        index = len(self._repairs(number)) + 1
        words = entry.body["words"]
        body = {**entry.body, "number": None}
        body["words"] = words | {"result": words.get("repair", "SUCCESS")}
        script = runs.script_of({"parameters": words}, body["words"]["result"])
        self.jobs.make(_key(number, index), f"repair of {entry.token}", script, body)
        return Answer(200, {"repair_id": number + index})

    @route("POST", _JOBS + "/runs/delete", verb="forget")
    def delete_run(self, call: Call) -> Answer:
        """Delete a run that has ended."""
        self._check_caller(call)
        number, entry = self._entry(call, call.body)
        if entry.state not in _ENDED:
            raise self.refuse(400, "The run is active")
        self._deleted.add(number)
        return Answer(200, {})

    @route("POST", _JOBS + "/create", verb="define")
    def define(self, call: Call) -> Answer:
        """Define a job that ``run-now`` can start."""
        self._check_caller(call)
        job_id = next(self._numbers) + 900_000_000_000_000
        self._defined[job_id] = call.body
        return Answer(200, {"job_id": job_id})

    @route("PUT", "/-/forget")
    def forget(self, call: Call) -> Answer:
        """Forget tokens when their runs have ended, or do not."""
        self._forgets = bool(call.body["ended"])
        return Answer()

    def _known(self, call: Call) -> int | None:
        """Return the run that has the token of a request, None for a new one."""
        token = call.body.get("idempotency_token")
        if token is None:
            return None
        if len(token) > _TOKEN_MAX:
            raise self.refuse(400, "idempotency_token has more than 64 characters")
        for entry in self.jobs.all():
            number = entry.body["number"]
            if number is None or entry.body["idempotency_token"] != token:
                continue
            self.jobs.look(entry.key)
            if self._forgets and entry.state in _ENDED:
                continue
            if number in self._deleted:
                raise self.refuse(400, f"Run {number} of this token was deleted")
            call.job_id = entry.job.id
            return int(number)
        return None

    def _make(
        self, call: Call, tasks: list[dict[str, Any]], told: dict[str, Any]
    ) -> Answer:
        script = runs.script_of({"tasks": tasks, **call.body})
        if "submit" in script.words:
            raise self.refuse(int(script.words["submit"]), "refused as scripted")
        number = (len(self.jobs.all()) + 1) * _STEP
        body = {
            "number": number,
            "idempotency_token": call.body.get("idempotency_token"),
            "tasks": tasks,
            "words": script.words,
            "request": call.body,
            "told": {
                "job_id": number + 7,
                "run_name": call.body.get("run_name", "Untitled"),
                "trigger": "ONE_TIME",
                **told,
            },
        }
        entry = self.jobs.make(_key(number), _token(call.body), script, body)
        call.job_id = entry.job.id
        return Answer(200, {"run_id": number, "number_in_job": number})

    def _entry(self, call: Call, given: dict[str, Any]) -> tuple[int, Entry]:
        """Return the run that a request names, as it is now."""
        number = int(given["run_id"])
        entry = self.jobs.look(_key(number))
        if entry is None or number in self._deleted:
            raise self.refuse(400, f"Run {number} does not exist.")
        call.job_id = entry.job.id
        return number, entry

    def _repairs(self, number: int) -> list[Entry]:
        """Return the repairs of a run, as they are now."""
        found = []
        for index in itertools.count(1):
            entry = self.jobs.look(_key(number, index))
            if entry is None:
                break
            found.append(entry)
        return found

    def _told(self, number: int, entry: Entry) -> dict[str, Any]:
        """Return a run without its tasks."""
        last = ([entry, *self._repairs(number)])[-1]
        return {
            **entry.body["told"],
            "run_id": number,
            "original_attempt_run_id": number,
            "number_in_job": number,
            "creator_user_name": "robot@example.org",
            "run_page_url": f"{self.url}/?o={_WORKSPACE}#job/{number + 7}/run/{number}",
            **runs.times_of(last, self.clock.now_us()),
            **runs.state_of(last),
        }

    # Who calls

    @route("GET", "/.well-known/databricks-config")
    def about(self, call: Call) -> Answer:
        """Tell newer SDKs what host this is."""
        del call
        return Answer(
            200, {"workspace_id": _WORKSPACE, "oidc_endpoint": f"{self.url}/oidc"}
        )

    @route("POST", "/oidc/v1/token", verb="token")
    def issue(self, call: Call) -> Answer:
        """Give an access token to a service principal."""
        kind, _, pair = call.headers.get("Authorization", "").partition(" ")
        client, _, secret = base64.b64decode(pair).decode().partition(":")
        form = parse_qs(call.body)
        if kind != "Basic" or not secret.startswith("dose"):
            return Answer(401, {"error": "invalid_client"})
        if form != {"grant_type": ["client_credentials"], "scope": ["all-apis"]}:
            return Answer(400, {"error": "invalid_request"})
        bearer = f"{client}-{next(self._numbers)}"
        self._bearers.add(bearer)
        return Answer(
            200, {"access_token": bearer, "expires_in": 3600, "token_type": "Bearer"}
        )

    @route("PUT", "/-/revoke")
    def revoke(self, call: Call) -> Answer:
        """Take back all access tokens that were given."""
        del call
        self._bearers.clear()
        return Answer()

    def _check_caller(self, call: Call) -> None:
        """Refuse a bearer that nobody gave, and versions that nobody has."""
        kind, _, bearer = call.headers.get("Authorization", "").partition(" ")
        good = bearer.startswith("dapi") or bearer in self._bearers
        if kind != "Bearer" or not good:
            raise self.refuse(
                401, "Credential was not sent or is of an unsupported type"
            )
        if call.params.get("api") not in ("2.1", "2.2"):
            raise self.refuse(404, f"No API found for {call.path}")


def _key(number: int, repair: int = 0) -> str:
    return f"{number}/{repair}" if repair else str(number)


def _token(body: dict[str, Any]) -> str:
    """Return what a request to make a run calls it."""
    named = _NAMED.search(str(body.get("run_name", "")))
    return str(body.get("idempotency_token") or (named[1] if named else ""))


if __name__ == "__main__":
    main(Databricks)
