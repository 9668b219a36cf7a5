"""A stand-in for Snowflake's service, as far as its Python connector uses it.

``python -m tests.emulators.snowflake --port 0 --ledger FILE``; the real client takes
host, port and ``protocol="http"``. The token of a job is its ``QUERY_TAG``, else its
query id. Only statements sent for asynchronous execution are jobs.

Scripts in the query's comments are `script_of`'s; ``fail=CODE`` is an error code,
``status=WORD`` what a job that runs is said to be, ``rows=N`` repeats the rows, and
``hide=yes`` keeps a job out of the query history.

Any password, token or signed key is good unless it is ``wrong``. Sessions are this
process's own: after a restart clients must log in again. Routes of its own::

    PUT  /-/sessions   {"end": "token"|"session"}  let the tokens or sessions expire
    PUT  /-/requests   {"remember": bool}          whether a requestId runs once only
"""

from __future__ import annotations

import itertools
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.emulators import _snowflake_values as sql
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

_CANCEL = re.compile(r"SYSTEM\$CANCEL_QUERY\s*\(\s*'([^']*)'", re.IGNORECASE)
_SCAN = re.compile(r"table\(result_scan\('([^']*)'\)\)", re.IGNORECASE)
_BEARER = re.compile(r'Snowflake Token="([^"]*)"')
_TAG = re.compile(r"'(o[0-9a-f]{32}-\d+)'")
_STATUSES = {
    State.QUEUED: "QUEUED",
    State.RUNNING: "RUNNING",
    State.CANCELLING: "ABORTING",
    State.SUCCEEDED: "SUCCESS",
    State.FAILED: "FAILED_WITH_ERROR",
    State.ABORTED: "FAILED_WITH_ERROR",
}
_ENDED = (State.SUCCEEDED, State.FAILED, State.ABORTED)
_CANCELED = ("000604", "SQL execution canceled")
_IN_PROGRESS, _IN_PROGRESS_ASYNC = "333333", "333334"
_TOKEN_EXPIRED, _SESSION_GONE, _WRONG_LOGIN = "390112", "390111", "390100"
_NOT_FOUND, _SYNTAX = "000709", "001003"


class Snowflake(StandIn):
    """Snowflake: login, sessions, statements, monitoring, results, query history."""

    name = "snowflake"

    def __init__(self, path: str, seed: str = "0") -> None:
        super().__init__(path, seed)
        self._sessions: dict[str, dict[str, Any]] = {}
        self._remember = True
        # What a query tells that has ended; a history of a thousand is asked for often.
        self._ended: dict[str, tuple[Any, ...]] = {}
        self._requests = {entry.body["request"]: entry.key for entry in self.jobs.all()}

    # What all stand-ins have

    def find_route(self, call: Call) -> tuple[str, Any] | None:
        """Tell apart what is sent to the one route for statements."""
        call.path = call.path.replace("//", "/")
        found = super().find_route(call)
        if found is None or found[0] != "statement":
            return found
        text = call.body.get("sqlText", "")
        if call.body.get("asyncExec"):
            return "create", found[1]
        if _CANCEL.search(text):
            return "delete", found[1]
        return "find" if sql.HISTORY.search(text) else "query", found[1]

    def token_of(self, verb: str, call: Call) -> str:
        """Return the query tag of the job that is meant, else its query id."""
        if verb == "create":
            return str((call.body.get("parameters") or {}).get("QUERY_TAG") or "")
        text = call.body.get("sqlText", "") if isinstance(call.body, dict) else ""
        cancelled = _CANCEL.search(text)
        named = cancelled[1] if cancelled else call.params.get("id", "")
        known = self.jobs.peek(named)
        if known is not None:
            return known.token
        tag = _TAG.search(text)
        return tag[1] if tag else named

    def refusal(self, status: int, message: str) -> Answer:
        """Return an error as the service's gateway writes it; with 200, a login's."""
        if status == 200:
            return _refused(_WRONG_LOGIN, message).answer
        return Answer(status, {"success": False, "code": None, "message": message})

    # Sessions

    @route("POST", "/session/v1/login-request", verb="login")
    def login(self, call: Call) -> Answer:
        """Open a session."""
        said = call.body["data"]
        kind = said.get("AUTHENTICATOR") or "SNOWFLAKE"
        proof = said.get("TOKEN") or said.get("PASSWORD")
        user = said.get("LOGIN_NAME")
        if not proof or proof == "wrong":
            raise _refused(_WRONG_LOGIN, "Incorrect username or password was specified")
        token = uuid.uuid4().hex
        session = {"user": user, "kind": kind, "parameters": said}
        self._sessions[token] = session | {"master": f"master-{token}", "state": "ok"}
        data = {
            **_tokens(token),
            "token": token,
            "sessionId": len(self._sessions),
            "displayUserName": user,
            "serverVersion": "9.0.0",
            "firstLogin": False,
            "remMeToken": None,
            "remMeValidityInSeconds": 0,
            "healthCheckInterval": 45,
            "newClientForUpgrade": None,
            "idToken": None,
            "idTokenValidityInSeconds": 0,
            "mfaToken": None,
            "mfaTokenValidityInSeconds": 0,
            "parameters": [{"name": "AUTOCOMMIT", "value": True}],
            "sessionInfo": {
                "databaseName": call.query.get("databaseName"),
                "schemaName": call.query.get("schemaName"),
                "warehouseName": call.query.get("warehouse"),
                "roleName": call.query.get("roleName"),
            },
        }
        return _good(data)

    @route("POST", "/session/token-request", verb="renew")
    def renew(self, call: Call) -> Answer:
        """Give a new session token for a master token."""
        bearer = _bearer(call)
        known = [
            (token, session)
            for token, session in self._sessions.items()
            if session["master"] == bearer and session["state"] != "gone"
        ]
        if not known:
            raise _refused("390114", "Authentication token has expired.")
        (old, session) = known[0]
        token = uuid.uuid4().hex
        self._sessions.pop(old)
        self._sessions[token] = {**session, "master": f"master-{token}", "state": "ok"}
        return _good({**_tokens(token), "sessionToken": token, "sessionId": 1})

    @route("POST", "/session/heartbeat", verb="heartbeat")
    def heartbeat(self, call: Call) -> Answer:
        """Say that the session is there."""
        self._session(call)
        return _good(None)

    @route("POST", "/session", verb="logout")
    def logout(self, call: Call) -> Answer:
        """End a session, and with it the queries that run in it."""
        self._session(call)
        token = _bearer(call)
        self._sessions.pop(token)
        for entry in self.jobs.all():
            if entry.body["session"] == token and entry.state not in _ENDED:
                self.jobs.cancel(entry.key)
        return _good(None)

    @route("POST", "/telemetry/send")
    def telemetry(self, call: Call) -> Answer:
        """Listen politely."""
        del call
        return _good("Log Received")

    @route("PUT", "/-/sessions")
    def _end_sessions(self, call: Call) -> Answer:
        state = "expired" if call.body["end"] == "token" else "gone"
        for session in self._sessions.values():
            session["state"] = state
        return Answer()

    @route("PUT", "/-/requests")
    def _set_requests(self, call: Call) -> Answer:
        self._remember = call.body["remember"]
        return Answer()

    def _session(self, call: Call) -> dict[str, Any]:
        """Return the session of *call*."""
        session = self._sessions.get(_bearer(call))
        if session is None or session["state"] == "gone":
            raise _refused(
                _SESSION_GONE, "Session no longer exists. New login required"
            )
        if session["state"] == "expired":
            raise _refused(_TOKEN_EXPIRED, "Session token has expired.")
        return session

    # Statements

    @route("POST", "/queries/v1/query-request", verb="statement")
    def statement(self, call: Call) -> Answer:
        """Run a statement; one that is sent for asynchronous execution is a job."""
        session = self._session(call)
        text = call.body["sqlText"]
        if call.body.get("asyncExec"):
            entry = self._submit(call, session, text)
            call.job_id = entry.job.id
            if entry.body["wrong"]:
                raise _refused(_SYNTAX, entry.body["wrong"], "42000", entry.key)
            return _progress(entry.key, _IN_PROGRESS_ASYNC)
        if cancelled := _CANCEL.search(text):
            return self._cancelled(call, cancelled[1])
        if scanned := _SCAN.search(text):
            call.params["id"] = scanned[1]
            scan: Answer = self.result(call)
            return scan
        history = self._history(session["user"]) if sql.HISTORY.search(text) else []
        try:
            return _good(_rows(str(uuid.uuid4()), sql.run(text, history)))
        except sql.QueryError as error:
            raise _refused(
                _SYNTAX, f"SQL compilation error: {error}", "42000"
            ) from None

    @route("POST", "/queries/v1/abort-request", verb="abort")
    def abort(self, call: Call) -> Answer:
        """Cancel the query of a request."""
        self._session(call)
        key = self._requests.get(call.body["requestId"])
        if key is not None:
            self.jobs.cancel(key)
        return _good(None)

    @route("GET", "/monitoring/queries/{id}", verb="get")
    def status(self, call: Call) -> Answer:
        """Tell how a query does; of a query that nobody knows nothing."""
        self._session(call)
        entry = self.jobs.look(call.params["id"])
        if entry is None:
            return _good({"queries": []})
        call.job_id = entry.job.id
        code, message = self._error(entry)
        told: dict[str, Any] = {
            "id": entry.key,
            "status": self._status(entry),
            "state": "SUCCEEDED" if entry.state is State.SUCCEEDED else "FILE_SET_INIT",
            "sqlText": entry.body["text"],
            "startTime": entry.job.created_us // 1000,
            "endTime": 0,
            "totalDuration": 1,
            "sessionId": 1,
            "warehouseId": 1,
            "warehouseName": "WH",
            "warehouseExternalSize": "X-Small",
            "warehouseServerType": "STANDARD",
            "errorCode": code,
            "errorMessage": message,
        }
        if code is None:
            del told["errorCode"], told["errorMessage"]
        return _good({"queries": [told]})

    @route("GET", "/queries/{id}/result", verb="results")
    def result(self, call: Call) -> Answer:
        """Return a query's rows, or that it runs."""
        self._session(call)
        entry = self.jobs.look(call.params["id"])
        if entry is None:
            raise _refused(_NOT_FOUND, f"Statement {call.params['id']} not found")
        call.job_id = entry.job.id
        if entry.state not in _ENDED:
            return _progress(entry.key, _IN_PROGRESS)
        code, message = self._error(entry)
        if code is not None:
            raise _refused(code, message or "", "57014", entry.key)
        result = sql.run(entry.body["text"])
        words = script_of(entry.body["text"]).words
        times = int(words.get("rows", len(result.rows)))
        rows = [*itertools.islice(itertools.cycle(result.rows), times)]
        return _good(_rows(entry.key, sql.Result(result.types, rows)))

    def _submit(self, call: Call, session: dict[str, Any], text: str) -> Entry:
        """Make a job, unless a request of this id has made one."""
        request = call.query.get("requestId", "")
        known = self._requests.get(request)
        if known is not None and self._remember:
            entry = self.jobs.look(known)
            assert entry is not None
            return entry
        key = str(uuid.uuid4())
        wrong = _wrong(text)
        # What cannot be compiled is known by its id all the same: it has failed.
        script = script_of(f"/* fail={_SYNTAX} */" if wrong else text)
        body = {
            "text": text,
            "user": session["user"],
            "session": _bearer(call),
            "request": request,
            "parameters": call.body.get("parameters") or {},
            "wrong": wrong,
        }
        self._requests[request] = key
        entry = self.jobs.make(key, call.token or key, script, body)
        if not (script.spec.run_s or script.spec.queue_s):
            self.jobs.look(key)
        return entry

    def _cancelled(self, call: Call, key: str) -> Answer:
        """Cancel a query, and say so in a row as the system function does."""
        entry = self.jobs.look(key)
        if entry is None:
            raise _refused(_NOT_FOUND, f"Statement {key} not found", "02000")
        call.job_id = entry.job.id
        said = "Identified SQL statement is not currently executing."
        if entry.state not in _ENDED:
            self.jobs.cancel(key)
            said = f"query [{key}] terminated."
        return _good(_rows(str(uuid.uuid4()), sql.run(f"SELECT '{said}' AS CANCELLED")))

    # What is told of a job

    def _status(self, entry: Entry) -> str:
        words = script_of(entry.body["text"]).words
        if entry.state is State.RUNNING and "status" in words:
            return words["status"]
        return _STATUSES[entry.state]

    def _error(self, entry: Entry) -> tuple[str | None, str | None]:
        if entry.state is State.ABORTED:
            return _CANCELED
        if entry.body["wrong"]:
            return _SYNTAX, entry.body["wrong"]
        if entry.state is State.FAILED:
            code = script_of(entry.body["text"]).word_of("fail", entry.token)
            return (code if code not in ("", "ok") else "100038"), "failed as scripted"
        return None, None

    def _history(self, user: str) -> list[tuple[Any, ...]]:
        """Return the rows of the table function, newest first."""
        rows = []
        for entry in reversed(self.jobs.all()):
            if entry.body["user"] != user:
                continue
            row = self._ended.get(entry.key)
            if row is None:
                if "hide" in script_of(entry.body["text"]).words:
                    continue
                row = self._row(entry)
                if entry.state in _ENDED:
                    self._ended[entry.key] = row
            rows.append(row)
        return rows

    def _row(self, entry: Entry) -> tuple[Any, ...]:
        """Return what the table function has of one query."""
        self.jobs.look(entry.key)
        code, message = self._error(entry)
        ended = entry.state in _ENDED
        start, end = entry.job.created_us, entry.job.state_us
        spent = (end - start) // 1000 if ended else 0
        return (
            entry.key,
            entry.body["parameters"].get("QUERY_TAG", ""),
            self._status(entry),
            code,
            message,
            "WH",
            "X-Small",
            _moment(start),
            _moment(end) if ended else None,
            spent,
            0,
            spent,
            0,
            0,
            0,
            len(entry.body["text"]) * 1000,
            0 if entry.body["wrong"] else len(sql.run(entry.body["text"]).rows),
            0.000031,
        )


def _wrong(text: str) -> str:
    """Return why *text* cannot be compiled, "" if it can."""
    try:
        sql.run(text)
    except sql.QueryError as error:
        return f"SQL compilation error: {error}"
    return ""


def _tokens(token: str) -> dict[str, Any]:
    return {
        "masterToken": f"master-{token}",
        "validityInSeconds": 3600,
        "validityInSecondsST": 3600,
        "validityInSecondsMT": 14400,
        "masterValidityInSeconds": 14400,
    }


def _bearer(call: Call) -> str:
    found = _BEARER.fullmatch(call.headers.get("Authorization") or "")
    return found[1] if found else ""


def _good(data: Any) -> Answer:
    return Answer(200, {"data": data, "code": None, "message": None, "success": True})


def _progress(key: str, code: str) -> Answer:
    data = {
        "queryId": key,
        "getResultUrl": f"/queries/{key}/result",
        "queryAbortsAfterSecs": 300,
        "progressDesc": None,
    }
    message = "Query execution in progress."
    return Answer(
        200, {"data": data, "code": code, "message": message, "success": True}
    )


def _refused(
    code: str, message: str, state: str = "08001", key: str = ""
) -> RefusalError:
    """Return the exception for an error that the service itself reports."""
    data: dict[str, Any] = {"sqlState": state, "errorCode": code}
    if key:
        data["queryId"] = key
    body = {"data": data, "code": code, "message": message, "success": False}
    return RefusalError(Answer(200, body))


def _rows(key: str, result: sql.Result) -> dict[str, Any]:
    """Return the data of an answer with rows."""
    return {
        "parameters": [],
        "rowtype": result.types,
        "rowset": result.rows,
        "total": len(result.rows),
        "returned": len(result.rows),
        "queryId": key,
        "queryResultFormat": "json",
        "databaseProvider": None,
        "finalDatabaseName": None,
        "finalSchemaName": None,
        "finalWarehouseName": None,
        "finalRoleName": None,
        "numberOfBinds": 0,
        "arrayBindSupported": False,
        "statementTypeId": 4096,
        "version": 1,
        "sqlState": "00000",
    }


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


if __name__ == "__main__":
    main(Snowflake)
