"""A service that quotes credentials: stands before a stand-in and amends its answers.

``python -m tests.emulators.indiscreet --to URL`` prints its own URL. Every request
goes on to *URL*; in every answer each text for people (``message``, ``text``,
``detail``, ...) is followed by what the request had of credentials and body: as it
is, URL-encoded, in JSON, in base64, each in turn, and again until it is long. The
line of the status and a header quote them as well.

Access tokens get a canary's head and tail on their way to the client, and lose them
on the way back, so that a token that a service gave is found like a given secret.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from tests.crash.canaries import HEAD, SPELLINGS, TAIL

_PEOPLE = frozenset(
    {
        "detail",
        "error",
        "errorMessage",
        "error_description",
        "error_message",
        "error_trace",
        "message",
        "said",
        "state_message",
        "text",
    }
)
_TOKENS = frozenset({"access_token", "masterToken", "sessionToken", "token"})
_CREDENTIALS = ("authorization", "cookie", "x-api-key", "x-auth-token")
_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_LONG = 9_000
"""Characters of a quotation: more than any connector shows, so that all cut it."""

_turns = count()


def marked(token: str) -> str:
    """Return *token* as the client gets it."""
    return f"{HEAD}.{token}.{TAIL}"


def unmarked(text: str) -> str:
    """Return *text* as the service wants it."""
    return text.replace(f"{HEAD}.", "").replace(f".{TAIL}", "")


def amended(value: Any, quoted: str) -> Any:
    """Return JSON *value* with *quoted* after every text for people."""
    if isinstance(value, list):
        return [amended(item, quoted) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, item in value.items():
        if isinstance(item, str) and name in _PEOPLE:
            made[name] = f"{item}{quoted}"
        elif isinstance(item, str) and name in _TOKENS:
            made[name] = marked(item)
        else:
            made[name] = amended(item, quoted)
    return made


class _Handler(BaseHTTPRequestHandler):
    """Carries one request at a time of a connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    target: str

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
            del self.headers["Content-Encoding"]
        sent = [self.headers.get(name, "") for name in _CREDENTIALS]
        said = " ".join(filter(None, [*sent, body.decode(errors="replace")]))
        headers = {
            name: unmarked(value)
            for name, value in self.headers.items()
            if name.lower() not in _HOP
        }
        onward = HTTPConnection(urlsplit(self.target).netloc, timeout=10)
        try:
            sent_on = unmarked(body.decode("latin-1")).encode("latin-1")
            onward.request(self.command, self.path, sent_on or None, headers)
            answer = onward.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read(), said)
        finally:
            onward.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _carry  # noqa: N815

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, said: str
    ) -> None:
        way = SPELLINGS[next(_turns) % len(SPELLINGS)]
        once = f" (called with {way(said)})"
        quoted = once * (_LONG // len(once) + 1) if said else ""
        try:
            body = json.dumps(amended(json.loads(body), quoted)).encode()
        except ValueError:
            body += quoted.encode() if status >= 400 and body else b""
        one_line = " ".join(sent for sent in said.split("\n")[:1] if sent.isprintable())
        self.send_response(status, f"Answered {one_line[:200]}")
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("X-Called-With", one_line[:200])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    parser.add_argument("--until-stdin-closes", action="store_true")
    _Handler.target = parser.parse_args().to
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
