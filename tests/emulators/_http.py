"""The wire of the stand-ins: routes, requests, answers, and faults of connections."""

from __future__ import annotations

import argparse
import gzip
import json
import re
import signal
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from orchestrator.testing._jobserver._vocabulary import Fault, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from tests.emulators._base import StandIn

_NOT_EXECUTED = frozenset({Fault.CUT, Fault.REFUSE, Fault.HANG})


@dataclass
class Call:
    """One request.

    Attributes:
        params: The variable parts of the path, and what the handler may need later.
        query: The query string; of a repeated name the last value.
        body: The JSON body, else the body as text.
        token: Whose job is meant: set by `StandIn.token_of`.
        job_id: The ledger's id of the job: set by whoever looks at one.
    """

    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    headers: Message[str, str]
    body: Any
    token: str = ""
    job_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a request is answered: JSON, or text if *body* is a str."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusalError(Exception):
    """Raised by a handler: the answer, from wherever it is."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


def route(method: str, path: str, *, verb: str = "") -> Callable[[Any], Any]:
    """Mark a method of a `StandIn` as the handler of *method* and *path*.

    ``{name}`` in the path is any text without a slash. *verb* is what rules and
    ledger call it (create, get, find, delete, or a word of the vendor's); routes
    without one are hit by no fault and not written down.
    """
    pattern = re.compile(
        re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)) + "/?"
    )

    def mark(handler: Any) -> Any:
        handler.routes = [*getattr(handler, "routes", ()), (method, pattern, verb)]
        return handler

    return mark


class _Connection(BaseHTTPRequestHandler):
    """One connection: reads requests, applies the rules, writes answers."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing: the ledger has every call."""

    def _serve(self) -> None:
        stand_in, call = self.server.stand_in, self._read()
        found = stand_in.find_route(call)
        if found is None:
            self._answer(stand_in.refusal(404, f"no route {call.method} {call.path}"))
            return
        verb, handler = found
        rule = stand_in.choose(verb, call) if verb else None
        if rule is not None and rule.do in _NOT_EXECUTED:
            stand_in.deny(verb, call, rule)
            self._deny(rule)
            return
        fault = rule.do if rule else None
        if rule and fault is Fault.STALL:
            threading.Event().wait(rule.delay_s)
        try:
            answer = stand_in.execute(verb, handler, call, fault)
        except Exception as error:
            answer = stand_in.refusal(500, f"the stand-in is at fault: {error!r}")
            self._answer(answer)
            raise
        if rule and fault is Fault.LATE:
            threading.Event().wait(rule.delay_s)
        elif fault is Fault.WITHHOLD:
            stand_in.withheld(call.token).wait()
        if fault is Fault.LOSE:
            self._cut()
        elif fault is Fault.HANG_AFTER:
            self._hang()
        else:
            self._answer(answer)

    do_GET = _serve  # noqa: N815 - the base class's names
    do_POST = _serve  # noqa: N815
    do_PUT = _serve  # noqa: N815
    do_DELETE = _serve  # noqa: N815
    do_PATCH = _serve  # noqa: N815

    def _read(self) -> Call:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        if len(raw) < length:
            raise ConnectionAbortedError("the client died before it had said all")
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        parts = urlsplit(self.path)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode(errors="replace")
        return Call(
            method=self.command,
            path=parts.path,
            params={},
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=self.headers,
            body=body,
        )

    def _deny(self, rule: Rule) -> None:
        if rule.do is Fault.CUT:
            self._cut()
        elif rule.do is Fault.HANG:
            self._hang()
        else:
            refused = self.server.stand_in.refusal(rule.status, "refused by a rule")
            after = rule.retry_after
            headers = {} if after is None else {"Retry-After": f"{after:g}"}
            merged = {**refused.headers, **headers}
            self._answer(Answer(refused.status, refused.body, merged))

    def _answer(self, answer: Answer) -> None:
        text = isinstance(answer.body, str)
        payload = (answer.body if text else json.dumps(answer.body)).encode()
        kind = "text/plain" if text else "application/json"
        self.send_response(answer.status)
        for name, value in {"Content-Type": kind, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _hang(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            while self.connection.recv(4096):
                pass


class _Server(ThreadingHTTPServer):
    """A server whose connections end with it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, stand_in: StandIn) -> None:
        super().__init__((host, port), _Connection)
        self.stand_in = stand_in

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def main(kind: type[StandIn]) -> None:
    """Serve a stand-in as the command line says, until told to stop."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    ends = "file of the ledger; default: one that ends with the stand-in"
    parser.add_argument("--ledger", help=ends)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--seed", default="0", help="decides the rules' chances")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when the process that started this one is gone",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _serve(kind, options.ledger or str(Path(folder, "ledger.db")), options)


def _serve(kind: type[StandIn], ledger: str, options: argparse.Namespace) -> None:
    stand_in = kind(ledger, options.seed)
    server = _Server(options.host, options.port, stand_in)
    stand_in.url = f"http://{options.host}:{server.server_address[1]}"
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    if options.until_stdin_closes:
        threading.Thread(target=_outlive, args=(over,), daemon=True).start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{stand_in.url}\n")
    sys.stdout.flush()
    over.wait()
    server.shutdown()


def _outlive(over: threading.Event) -> None:
    """Set *over* when the process that started this one is gone."""
    sys.stdin.read()
    over.set()
