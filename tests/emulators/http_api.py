"""A batch API of odd shapes, for the HTTP connector: ``python -m`` this module.

It prints ``PORT n`` and serves on 127.0.0.1 until its standard input closes.

========================  ==========================================================
``POST /v2/batches``      form ``query``, ``behave`` (succeed, fail, wait); a repeated
                          ``Idempotency-Key`` gives the first job. 202 without a
                          body, ``Location`` names the job
``GET /v2/batches/ID``    ``{"job": {"status": {"lifecycle", "result"}, ...}}``; each
                          look lets it move on
``GET /v2/batches``       ``{"page": {"entries": [...]}}``, by ``label`` or all
``GET .../ID/result``     ``{"data": {...}}`` of a job that succeeded
``POST .../ID/cancel``    202; 409 for one that has ended
``POST /oauth/token``     client credentials ``me`` and ``s3cret+/=``; every token is
                          new
``GET /_requests``        all requests with their headers and bodies, oldest first
``POST /_script``         ``{"match", "status", "headers", "body", "times"}``: answers
                          to requests whose "METHOD /path" begins with ``match``
``POST /_require``        ``{"authorization": [...]}``: others get 401; "oauth" for
                          tokens that were given and not revoked
``POST /_revoke``         no token that was given is good any more
``POST /_expires``        ``{"seconds"}``: the life of tokens from now on
``POST /_reset``          forget everything
========================  ==========================================================
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

CLIENT_ID, CLIENT_SECRET = "me", "s3cret+/="
_NEXT = {"PENDING": "ACTIVE", "ACTIVE": "TERMINATED", "TERMINATED": "TERMINATED"}
_RESULTS = {"succeed": "OK", "fail": "ERROR"}


@dataclass
class Job:
    """One batch."""

    id: str
    key: str
    query: str
    behave: str
    lifecycle: str = "PENDING"
    result: str | None = None

    def look(self) -> dict[str, Any]:
        """Move on, and tell."""
        if self.behave != "wait" or self.lifecycle == "PENDING":
            self.lifecycle = _NEXT[self.lifecycle]
        if self.lifecycle == "TERMINATED" and self.result is None:
            self.result = _RESULTS[self.behave]
        status: dict[str, Any] = {"lifecycle": self.lifecycle, "result": self.result}
        if self.result == "ERROR":
            status["problem"] = {"detail": f"no table {self.query}"}
        return {"id": self.id, "label": self.key, "status": status, "percent": 50}


@dataclass
class Service:
    """All that the service remembers; one lock for everything."""

    jobs: dict[str, Job] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    script: list[dict[str, Any]] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    revoked: int = 0
    expires_in: int = 3600
    lock: threading.Lock = field(default_factory=threading.Lock)


Answered = tuple[int, dict[str, str], Any]


def answer(service: Service, request: dict[str, Any]) -> Answered:
    """Answer one request, under the lock."""
    path = urlsplit(request["path"]).path
    if path.startswith("/_"):
        return _control(service, path, request)
    service.requests.append(request)
    line = f"{request['method']} {path}"
    for rule in service.script:
        if rule["times"] and line.startswith(rule["match"]):
            rule["times"] -= 1
            return rule["status"], rule["headers"], rule["body"]
    if path == "/oauth/token":
        return _token(service, request)
    given = request["headers"].get("authorization", "")
    good = set(service.required)
    if "oauth" in good:
        good |= {f"Bearer {token}" for token in service.tokens[service.revoked :]}
    if service.required and given not in good:
        return 401, {}, {"error": {"text": f"who is {given!r}?"}}
    return _batches(service, line, request)


def _control(service: Service, path: str, request: dict[str, Any]) -> Answered:
    body = json.loads(request["body"] or "{}")
    if path == "/_requests":
        return 200, {}, list(service.requests)
    if path == "/_reset":
        lock = service.lock
        vars(service).update(vars(Service()) | {"lock": lock})
    if path == "/_script":
        plain = {"status": 200, "headers": {}, "body": None, "times": 1}
        service.script.append({**plain, **body})
    elif path == "/_require":
        service.required = body["authorization"]
    elif path == "/_revoke":
        service.revoked = len(service.tokens)
    elif path == "/_expires":
        service.expires_in = body["seconds"]
    return 200, {}, {}


def _token(service: Service, request: dict[str, Any]) -> Answered:
    form = dict(parse_qsl(request["body"]))
    given = request["headers"].get("authorization", "")
    if given.startswith("Basic "):
        pair = base64.b64decode(given[6:]).decode().split(":")
        pair = [unquote_plus(part) for part in pair]
    else:
        pair = [form.get("client_id", ""), form.get("client_secret", "")]
    if pair != [CLIENT_ID, CLIENT_SECRET]:
        return 401, {}, {"error": "invalid_client", "said": given or request["body"]}
    if form.get("grant_type") != "client_credentials":
        return 400, {}, {"error": "unsupported_grant_type"}
    token = f"access-token-{len(service.tokens) + 1}-of-this-service"
    service.tokens.append(token)
    return 200, {}, {"access_token": token, "expires_in": service.expires_in}


def _batches(service: Service, line: str, request: dict[str, Any]) -> Answered:
    if line == "POST /v2/batches":
        return _submit(service, request)
    if line == "GET /v2/batches":
        wanted = parse_qs(urlsplit(request["path"]).query).get("label", [None])[0]
        entries = [
            {"ref": {"id": job.id}, "label": job.key}
            for job in service.jobs.values()
            if wanted in (None, job.key)
        ]
        return 200, {}, {"page": {"entries": entries}}
    parts = line.split("/")
    job = service.jobs.get(parts[3]) if len(parts) > 3 else None
    if job is None:
        return 404, {}, {"error": {"text": "no such batch"}}
    return _one_batch(job, f"{parts[0].strip()} {'/'.join(parts[4:])}")


def _one_batch(job: Job, verb: str) -> Answered:
    if verb == "GET ":
        return 200, {}, {"job": job.look()}
    if verb == "GET result":
        ran = {"rows": len(job.query), "at": "2026-01-02T03:04:05Z"}
        return 200, {}, {"data": {**ran, "table": f"db://{job.query}"}}
    if verb == "POST cancel":
        return _cancel(job)
    return 405, {}, {"error": {"text": "no such verb"}}


def _submit(service: Service, request: dict[str, Any]) -> Answered:
    form = dict(parse_qsl(request["body"]))
    key = request["headers"].get("idempotency-key", "")
    known = [job for job in service.jobs.values() if key and job.key == key]
    if not known:
        number = f"b-{len(service.jobs) + 1}"
        job = Job(number, key, form.get("query", ""), form.get("behave", "succeed"))
        service.jobs[number] = job
        known = [job]
    return 202, {"Location": f"/v2/batches/{known[0].id}"}, None


def _cancel(job: Job) -> Answered:
    if job.lifecycle == "TERMINATED":
        return 409, {}, {"error": {"text": "has ended"}}
    job.lifecycle, job.result = "TERMINATED", "CANCELLED"
    return 202, {}, {}


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1, keeps connections, and logs nothing."""

    protocol_version = "HTTP/1.1"
    service: Service

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = {
            "method": self.command,
            "path": self.path,
            "headers": {k.lower(): v for k, v in self.headers.items()},
            "body": self.rfile.read(length).decode(),
        }
        with self.service.lock:
            status, headers, body = answer(self.service, request)
        if status == 0:  # scripted: the connection is cut
            self.close_connection = True
            return
        data = b"" if body is None else body.encode() if isinstance(body, str) else None
        data = json.dumps(body).encode() if data is None else data
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until standard input closes."""
    Handler.service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"PORT {server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
