"""A stand-in for BigQuery's REST API, as far as jobs and their results go.

``python -m tests.emulators.bigquery --port 0 --ledger FILE``; the real client takes
its URL as ``client_options={"api_endpoint": URL}``. The token of a job is its label
``orchestrator-token``, else its id.

Scripts in the query's comments are `script_of`'s; ``fail=REASON`` is an error reason of
BigQuery, which also decides the HTTP status where the client waits for the query;
``rows=N`` repeats the first row, ``insert=400`` refuses the request.

A job is known by project, location and id: another location is a 404. Without an
``Authorization`` header all is allowed; with one the bearer must be a token that
``POST /token`` gave to a service account, and owns the jobs that it makes.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from tests.emulators import _bigquery_values as sql
from tests.emulators._base import (
    Answer,
    Call,
    Entry,
    RefusalError,
    StandIn,
    State,
    main,
    route,
    script_of,
)

_JOBS = "/bigquery/v2/projects/{project}/jobs"
_QUERIES = "/bigquery/v2/projects/{project}/queries"
_TABLE = "/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}"
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_LABELS_MAX = 64
_PAGE_MAX = 10_000
_ANONYMOUS = "_anonymous"
_STATES = {State.QUEUED: "PENDING", State.RUNNING: "RUNNING"}
_STAGES = 4
_REASONS = {
    400: "invalid",
    401: "authError",
    403: "accessDenied",
    404: "notFound",
    409: "duplicate",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


class BigQuery(StandIn):
    """BigQuery: jobs.insert, get, list, cancel, query, getQueryResults; tables."""

    name = "bigquery"

    def token_of(self, verb: str, call: Call) -> str:
        """Return the label of the job, else its id.

        So that a client which lets the service choose the id is found out, too.
        """
        if verb == "create":
            return _token(call.body or {})
        named = call.params.get("job", "")
        location = call.query.get("location") or "US"
        project = call.params["project"] if named else ""
        known = self.jobs.peek(f"{project}:{location}.{named}")
        return known.token if known else named

    def refusal(self, status: int, message: str, reason: str = "") -> Answer:
        """Return an error as Google's APIs write it."""
        reason = reason or _REASONS.get(status, "backendError")
        detail = {"message": message, "domain": "global", "reason": reason}
        body = {"code": status, "message": message, "errors": [detail]}
        return Answer(status, {"error": {**body, "status": reason.upper()}})

    def refuse(self, status: int, message: str, reason: str = "") -> RefusalError:
        """Return the exception for `refusal`."""
        return RefusalError(self.refusal(status, message, reason))

    # Jobs

    @route("POST", _JOBS, verb="create")
    def insert(self, call: Call) -> Answer:
        """Make a job; a second one with its id is a duplicate."""
        return Answer(200, self._resource(self._insert(call, call.body)))

    @route("GET", _JOBS + "/{job}", verb="get")
    def get(self, call: Call) -> Answer:
        """Look at a job."""
        self._user(call)
        return Answer(200, self._resource(self._entry(call)))

    @route("POST", _JOBS + "/{job}/cancel", verb="delete")
    def cancel(self, call: Call) -> Answer:
        """Ask a job to end; it is answered at once, whenever the job ends."""
        self._user(call)
        entry = self._entry(call)
        self.jobs.cancel(entry.key)
        resource = self._resource(entry)
        return Answer(200, {"kind": "bigquery#jobCancelResponse", "job": resource})

    @route("GET", _JOBS, verb="find")
    def list_jobs(self, call: Call) -> Answer:
        """List jobs, newest first, by state and time of creation."""
        self._user(call)
        wanted = {state.upper() for state in call.query.get("stateFilter", "").split()}
        after_us = int(call.query.get("minCreationTime", 0)) * 1000
        jobs = []
        for entry in reversed(self.jobs.all()):
            if entry.body["reference"]["projectId"] != call.params["project"]:
                continue
            self.jobs.look(entry.key)
            resource = self._resource(entry)
            state = resource["status"]["state"]
            if entry.job.created_us >= after_us and (not wanted or state in wanted):
                jobs.append({**resource, "state": state})
        start = int(call.query.get("pageToken") or 0)
        size = int(call.query.get("maxResults") or 50)
        page: dict[str, Any] = {"kind": "bigquery#jobList"}
        page["jobs"] = jobs[start : start + size]
        if start + size < len(jobs):
            page["nextPageToken"] = str(start + size)
        return Answer(200, page)

    def _insert(self, call: Call, body: dict[str, Any]) -> Entry:
        """Check a job and make it."""
        project, user = call.params["project"], self._user(call)
        given = body.get("jobReference", {})
        configuration = body.get("configuration", {})
        query = configuration.get("query", {})
        text = query.get("query", "")
        reference = {
            "projectId": project,
            "jobId": given.get("jobId") or f"job_{self.clock.now_us()}",
            "location": given.get("location") or "US",
        }
        if not _JOB_ID.fullmatch(reference["jobId"]):
            raise self.refuse(400, "Invalid job ID")
        if given.get("projectId", project) != project:
            raise self.refuse(400, "The project of the reference is another one")
        key = _key(reference)
        if (known := self.jobs.look(key)) is not None:
            call.job_id = known.job.id
            raise self.refuse(409, f"Already Exists: Job {key}")
        self._check(configuration)
        values = sql.values_of(query)
        script = script_of(text, values)
        if "insert" in script.words:
            raise self.refuse(int(script.words["insert"]), "refused as scripted")
        destination = query.get("destinationTable") or {
            "projectId": project,
            "datasetId": _ANONYMOUS,
            "tableId": f"anon_{reference['location']}_{reference['jobId']}",
        }
        kept = {
            "reference": reference,
            "configuration": configuration,
            "destination": destination,
            "user": user,
        }
        if configuration.get("dryRun"):
            raise RefusalError(Answer(200, self._dry(kept)))
        token = _token(body) or reference["jobId"]
        entry = self.jobs.make(key, token, script, kept)
        call.job_id = entry.job.id
        if not (script.spec.run_s or script.spec.queue_s):
            self.jobs.look(key)
        return entry

    def _check(self, configuration: dict[str, Any]) -> None:
        """Refuse what the service refuses before there is a job."""
        query = configuration.get("query", {})
        if not query.get("query"):
            raise self.refuse(400, "Required parameter is missing: query")
        if query.get("queryParameters") and query.get("useLegacySql", True):
            raise self.refuse(400, "Query parameters need standard SQL", "invalidQuery")
        labels = configuration.get("labels", {})
        for name, value in labels.items():
            if not _LABEL_KEY.fullmatch(name) or not _LABEL.fullmatch(value):
                raise self.refuse(400, f"Label {name!r}: {value!r} is not valid")
        if len(labels) > _LABELS_MAX:
            raise self.refuse(400, "More than 64 labels")
        try:
            sql.check_parameters(query)
        except (sql.InvalidError, KeyError) as error:
            raise self.refuse(400, str(error)) from None

    def _entry(self, call: Call) -> Entry:
        """Return the job of *call* as it is now."""
        reference = {
            "projectId": call.params["project"],
            "location": call.query.get("location") or "US",
            "jobId": call.params["job"],
        }
        entry = self.jobs.look(_key(reference))
        if entry is None:
            raise self.refuse(404, f"Not found: Job {_key(reference)}")
        call.job_id = entry.job.id
        return entry

    # What is told of a job

    def _resource(self, entry: Entry) -> dict[str, Any]:
        """Return a Job resource."""
        known, reference = entry.body, entry.body["reference"]
        status: dict[str, Any] = {"state": _STATES.get(entry.state, "DONE")}
        if entry.state is State.CANCELLING:
            status["state"] = "RUNNING"
        error = self._error(entry)
        if error is not None:
            status |= {"errorResult": error, "errors": [error]}
        query = {
            "useLegacySql": True,
            "priority": "INTERACTIVE",
            **known["configuration"]["query"],
            "destinationTable": known["destination"],
        }
        return {
            "kind": "bigquery#job",
            "id": entry.key,
            "selfLink": f"{self.url}{_JOBS}/{reference['jobId']}",
            "jobReference": reference,
            "configuration": {
                "jobType": "QUERY",
                **known["configuration"],
                "query": query,
            },
            "status": status,
            "statistics": self._statistics(entry, done=status["state"] == "DONE"),
            "user_email": known["user"],
        }

    def _error(self, entry: Entry) -> dict[str, str] | None:
        """Return why a job failed, None if it did not."""
        if entry.state is State.ABORTED:
            message = "Job execution was cancelled: User requested cancellation"
            return {"reason": "stopped", "message": message}
        query = entry.body["configuration"]["query"]
        if entry.state is State.FAILED:
            reason = script_of(query["query"]).word_of("fail", entry.token)
            return {"reason": reason or "invalidQuery", "message": "as scripted"}
        if entry.state is State.SUCCEEDED:
            try:
                sql.run(query)
            except sql.QueryError as error:
                return {
                    "reason": error.reason,
                    "message": str(error),
                    "location": "query",
                }
        return None

    def _statistics(self, entry: Entry, *, done: bool) -> dict[str, Any]:
        """Return bytes, slots and stages, which grow with the job's age."""
        job = entry.job
        now = job.state_us if done else self.clock.now_us()
        age_ms = max((now - job.created_us) // 1000, 0)
        ran_ms = max(int(job.spec.run_s * 1000), 1)
        ready = _STAGES if done else min(age_ms * _STAGES // ran_ms, _STAGES - 1)
        begun = done or job.state in (State.RUNNING, State.CANCELLING)
        statistics: dict[str, Any] = {"creationTime": str(job.created_us // 1000)}
        if not begun:
            return statistics
        statistics["startTime"] = str(job.created_us // 1000)
        scanned = str(len(entry.body["configuration"]["query"]["query"]) * 1000)
        slots = str(age_ms * 2 + 1)
        plan = [
            {
                "name": f"S{n:02}",
                "id": str(n),
                "status": "COMPLETE" if n < ready else "RUNNING",
                "parallelInputs": "10",
                "completedParallelInputs": "10" if n < ready else "1",
            }
            for n in range(min(ready + 1, _STAGES))
        ]
        units = {
            "elapsedMs": str(age_ms),
            "totalSlotMs": slots,
            "completedUnits": str(ready * 10),
            "pendingUnits": str((_STAGES - ready) * 10),
            "activeUnits": "0" if done else "1",
        }
        query: dict[str, Any] = {"statementType": "SELECT", "queryPlan": plan}
        query["timeline"] = [units]
        statistics["query"] = query
        if done:
            statistics |= {
                "endTime": str(job.state_us // 1000),
                "totalBytesProcessed": scanned,
                "totalSlotMs": slots,
            }
            query |= {
                "totalBytesProcessed": scanned,
                "totalBytesBilled": "10485760",
                "totalSlotMs": slots,
                "cacheHit": False,
            }
        return statistics

    def _dry(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return what a dry run is answered: DONE, and no job anywhere."""
        scanned = str(len(kept["configuration"]["query"]["query"]) * 1000)
        return {
            "kind": "bigquery#job",
            "jobReference": kept["reference"],
            "configuration": kept["configuration"],
            "status": {"state": "DONE"},
            "statistics": {
                "totalBytesProcessed": scanned,
                "query": {"statementType": "SELECT", "totalBytesProcessed": scanned},
            },
        }

    # Results

    @route("POST", _QUERIES, verb="create")
    def query(self, call: Call) -> Answer:
        """Make a job with an id of the service's own, and tell how it does."""
        body = call.body
        names = ("query", "useLegacySql", "queryParameters", "parameterMode")
        query = {name: body[name] for name in names if name in body}
        configuration = {
            "query": query,
            "labels": body.get("labels", {}),
            "dryRun": body.get("dryRun", False),
        }
        reference = {"location": body.get("location")}
        entry = self._insert(
            call, {"jobReference": reference, "configuration": configuration}
        )
        return Answer(200, self._page(entry, call.query, body.get("maxResults")))

    @route("GET", _QUERIES + "/{job}", verb="results")
    def results(self, call: Call) -> Answer:
        """Return a page of a query's rows, none while it runs."""
        self._user(call)
        page = self._page(self._entry(call), call.query, call.query.get("maxResults"))
        return Answer(200, page)

    @route("GET", _TABLE, verb="table")
    def table(self, call: Call) -> Answer:
        """Return a table that some job wrote."""
        self._user(call)
        entry = self._writer(call)
        result = self._rows(entry)
        reference = entry.body["destination"]
        table = {
            "kind": "bigquery#table",
            "id": f"{reference['projectId']}:{reference['datasetId']}",
            "tableReference": reference,
            "type": "TABLE",
            "schema": {"fields": result.fields},
            "numRows": str(len(result.rows)),
        }
        return Answer(200, table)

    @route("GET", _TABLE + "/data", verb="rows")
    def data(self, call: Call) -> Answer:
        """Return a page of a table's rows."""
        self._user(call)
        rows = self._rows(self._writer(call)).rows
        page = _cut(rows, call.query, call.query.get("maxResults"))
        return Answer(200, {"totalRows": str(len(rows)), **page})

    def _writer(self, call: Call) -> Entry:
        """Return the last job that wrote the table of *call*."""
        for entry in reversed(self.jobs.all()):
            there = entry.body["destination"]
            asked = call.params
            if (
                entry.state is State.SUCCEEDED
                and there["projectId"] == asked["project"]
                and there["datasetId"] == asked["dataset"]
                and there["tableId"] == asked["table"]
            ):
                return entry
        raise self.refuse(404, f"Not found: Table {call.path}")

    def _page(self, entry: Entry, query: dict[str, str], size: Any) -> dict[str, Any]:
        """Return the answer to who asks for results."""
        page: dict[str, Any] = {"jobReference": entry.body["reference"]}
        if entry.state not in (State.SUCCEEDED, State.FAILED, State.ABORTED):
            return {**page, "jobComplete": False}
        error = self._error(entry)
        if error is not None:
            status = next((s for s, r in _REASONS.items() if r == error["reason"]), 400)
            raise self.refuse(status, error["message"], error["reason"])
        result = self._rows(entry)
        page |= {
            "jobComplete": True,
            "schema": {"fields": result.fields},
            "totalRows": str(len(result.rows)),
            "cacheHit": False,
        }
        return {**page, **_cut(result.rows, query, size)}

    def _rows(self, entry: Entry) -> sql.Result:
        """Return a job's rows."""
        query = entry.body["configuration"]["query"]
        result = sql.run(query)
        words = script_of(query["query"]).words
        if "rows" not in words:
            return result
        times = int(words["rows"])
        repeated = itertools.islice(itertools.cycle(result.rows), times)
        return sql.Result(result.fields, [*repeated])

    # Who calls

    @route("POST", "/token", verb="token")
    def issue(self, call: Call) -> Answer:
        """Give a token to a service account; its signature is not looked at."""
        (assertion,) = parse_qs(call.body).get("assertion", [""])
        claims = assertion.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        moment = datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC)
        token = f"ya29/{said['iss']}/{moment.isoformat()}"
        return Answer(
            200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        )

    def _user(self, call: Call) -> str:
        """Return who calls; refuse a bearer that was never given."""
        header = call.headers.get("Authorization")
        if header is None:
            return "anonymous"
        kind, _, user = header.partition("/")
        if kind != "Bearer ya29":
            raise self.refuse(401, "Request had invalid authentication credentials")
        return user.partition("/")[0]


def _key(reference: dict[str, str]) -> str:
    """Return a job's id as the service writes it, unique among all."""
    return "{projectId}:{location}.{jobId}".format_map(reference)


def _token(body: dict[str, Any]) -> str:
    """Return what a request to make a job calls it."""
    labels = body.get("configuration", body).get("labels", {})
    own = body.get("jobReference", {}).get("jobId", "")
    return str(labels.get("orchestrator-token", own))


def _cut(
    rows: list[dict[str, Any]], query: dict[str, str], size: Any
) -> dict[str, Any]:
    """Return a page of *rows*, and where the next one begins."""
    start = int(query.get("pageToken") or query.get("startIndex") or 0)
    stop = start + min(_PAGE_MAX if size is None else int(size), _PAGE_MAX)
    page: dict[str, Any] = {"rows": rows[start:stop]}
    if stop < len(rows):
        page["pageToken"] = str(stop)
    return page


if __name__ == "__main__":
    main(BigQuery)
