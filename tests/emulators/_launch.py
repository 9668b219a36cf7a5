"""Start a stand-in as a process of its own, script it, and question its witness."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.testing._jobserver._vocabulary import Rule, State
from tests.jobserver.witness import Witness, WitnessedJob
from tests.support.spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Running:
    """A stand-in that runs.

    Attributes:
        url: Where it listens, without a final slash.
        ledger: The file it writes.
        pid: Its process.
    """

    url: str
    ledger: Path
    pid: int

    @property
    def witness(self) -> Witness:
        """What really happened."""
        return Witness(self.ledger)

    def count(self, token: str) -> int:
        """Return how many jobs *token* has made; for ``check_connector``."""
        return len(self.jobs(token))

    def jobs(self, token: str | None = None) -> list[WitnessedJob]:
        """Return the jobs ever made, oldest first; of *token*, or all."""
        return [job for job in self.witness.jobs() if token in (None, job.token)]

    def calls(self, verb: str | None = None) -> dict[str, int]:
        """Return how many calls were executed per token (of one verb, or all)."""
        return self.witness.calls(verb)

    def script(self, *rules: Rule) -> None:
        """Replace the rules; without any, all goes well."""
        self._ask("PUT", "/-/rules", [rule.to_json() for rule in rules])

    def release(self, token: str) -> None:
        """Give the answers that `Fault.WITHHOLD` has kept back of *token*."""
        self._ask("PUT", "/-/release", {"token": token})

    def end(self, token: str, state: State = State.SUCCEEDED) -> None:
        """Let the jobs of *token* end in *state* when they are next looked at."""
        self._ask("POST", "/-/end", {"token": token, "state": state})

    def tell(self, path: str, body: Any) -> None:
        """Set a switch of the stand-in's own, at a path that begins with ``/-/``."""
        self._ask("PUT", path, body)

    def body(self, key: str) -> Any:
        """Return what the stand-in wrote down of the job with the vendor's id *key*."""
        with closing(sqlite3.connect(self.ledger)) as connection:
            query = "SELECT body FROM body WHERE key = ?"
            (text,) = connection.execute(query, (key,)).fetchone()
        return json.loads(text)

    def _ask(self, method: str, path: str, body: Any) -> None:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, json.dumps(body))
            answer = connection.getresponse()
            if answer.status != 200:
                message = f"{method} {path}: {answer.status} {answer.read()!r}"
                raise RuntimeError(message)
        finally:
            connection.close()


@contextmanager
def running(module: str, ledger: Path, *options: str) -> Iterator[Running]:
    """Run a stand-in on a free port until the block ends, or this process dies.

    Args:
        module: ``tests.emulators.bigquery``, or the last part of such a name.
        ledger: Its file; one that exists is gone on with.
        *options: Further options of its command line.
    """
    name = module if "." in module else f"tests.emulators.{module}"
    with spoken(name, "--ledger", str(ledger), *options) as (url, pid):
        yield Running(url, ledger, pid)
