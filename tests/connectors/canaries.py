"""Every built-in connector before a service that quotes credentials: one case each.

A new connector is one more entry of ``CASES``: a context manager that starts what it
needs below a folder, and yields a `Bench`. What speaks HTTP stands behind
``tests.emulators.indiscreet``, which makes any stand-in quote what it was sent.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc

from orchestrator import Policy, Secret, TaskTemplate
from orchestrator.connectors.bigquery import BigQueryConnector
from orchestrator.connectors.databricks import DatabricksConnector
from orchestrator.connectors.http import HttpConnector, HttpTask
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.connectors.snowflake import SnowflakeConnector
from orchestrator.flyte import RemoteConnector
from orchestrator.models import NativeInterface
from tests.connectors.bigquery import kit
from tests.connectors.bigquery.accounts import service_account
from tests.connectors.databricks import kit as databricks_kit
from tests.connectors.http.api import batches, running_api
from tests.connectors.snowflake import kit as snowflake_kit
from tests.connectors.snowflake.kit import pem
from tests.crash.canaries import canary
from tests.emulators import Fault, Rule, running
from tests.emulators.http_api import CLIENT_ID, CLIENT_SECRET
from tests.emulators.indiscreet import marked
from tests.support.spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.connectors import AsyncConnector

# gRPC's own thread starts before the tests: see tests/flyte/conftest.py.
grpc.aio.init_grpc_aio()  # type: ignore[attr-defined, unused-ignore]

QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=20),
    poll_delay_max=timedelta(milliseconds=50),
    error_delay_min=timedelta(milliseconds=20),
    error_delay_max=timedelta(milliseconds=50),
    hold_delay=timedelta(milliseconds=50),
)


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Round:
    """One execution: what to run, how it ends, and what is arranged before."""

    task: Any
    ends: str
    inputs: dict[str, Any] = field(default_factory=dict)
    arrange: Callable[[], object] = nothing


@dataclass(frozen=True)
class Bench:
    """A connector that is ready, and what to do with it.

    Attributes:
        environ: Variables that hold the secrets while it runs.
        folders: What else it wrote on this machine, searched by file.
        allowed: Names of such files that are the job's own, not ours.
    """

    connector: AsyncConnector[Any]
    rounds: list[Round]
    environ: dict[str, str]
    folders: list[Path] = field(default_factory=list)
    allowed: frozenset[str] = frozenset()


@contextmanager
def process(folder: Path) -> Iterator[Bench]:
    """Commands that print their secret, at length, in several spellings."""
    variable = "PROCESS_CANARY"
    secret = [Secret(key="API_KEY", as_env_var=variable)]
    # One line, then many: what is shown of either begins in the middle of a secret.
    babble = (
        "import base64, os, sys\n"
        "from urllib.parse import quote\n"
        "key = os.environ['API_KEY']\n"
        "b64 = base64.b64encode(key.encode()).decode()\n"
        "code = int(sys.argv[1])\n"
        "out = sys.stderr if code else sys.stdout\n"
        "for spelled in (key, quote(key), b64):\n"
        "    print(spelled * 500, file=out)\n"
        "    print('x' * 7 + ' ' + spelled * 40, file=out)\n"
        "sys.exit(code)\n"
    )

    def command(code: int) -> ProcessTask:
        return ProcessTask(
            f"exits_{code}",
            ["python3", "-c", babble, str(code)],
            outputs={"exit_code": int} if not code else {},
            secrets=secret,
        )

    root = folder / "process"
    connector = ProcessConnector(root=root)
    yield Bench(
        connector,
        [Round(command(0), "SUCCEEDED"), Round(command(3), "FAILED")],
        {variable: canary("process")},
        folders=[root],
        allowed=frozenset({"stdout", "stderr"}),
    )
    connector.close()


def _http(
    auth: dict[str, Any], value: str
) -> Callable[[Path], AbstractContextManager[Bench]]:
    """Return the case of a declared API with credentials of one kind."""

    @contextmanager
    def case(folder: Path) -> Iterator[Bench]:
        del folder
        with running_api() as api, _indiscreet(api.url) as url:
            more = {"token_url": f"{url}/oauth/token"} if "client_id" in auth else {}
            definition = batches(url, auth={**auth, **more}, results=None, outputs=None)

            def refuse(*lines: str, status: int = 401) -> Callable[[], None]:
                def script() -> None:
                    for line in lines:
                        body = {"error": {"text": "who are you?"}}
                        api.script(line, status, body=body, times=2)

                return script

            def task() -> HttpTask:
                return HttpTask("quoted", definition)

            begin = refuse("POST /oauth", "POST /v2", "GET /v2")
            never = refuse("POST /v2", status=400)
            good, bad = {"query": "q"}, {"query": "q", "behave": "fail"}
            rounds = [
                Round(task(), "SUCCEEDED", good, arrange=begin),
                Round(task(), "FAILED", bad),
                Round(task(), "FAILED", good, arrange=never),
            ]
            yield Bench(HttpConnector(definition), rounds, {HTTP_VARIABLE: value})

    return case


@contextmanager
def bigquery(folder: Path) -> Iterator[Bench]:
    """Access tokens that the service gave; the key itself is never sent."""
    with (
        running("bigquery", folder / "ledger.db") as service,
        _indiscreet(service.url) as url,
    ):
        key = json.loads(service_account(url))
        key["private_key_id"] = canary("bigquery")
        variable = "BIGQUERY_CANARY"

        def task(query: str) -> Any:
            return kit.task(
                query,
                secrets=[
                    Secret(key="google_application_credentials", as_env_var=variable)
                ],
            )

        def refuse() -> None:
            rules = [
                Rule(do=Fault.REFUSE, verb=verb, status=401, times=2)
                for verb in ("token", "create", "get")
            ]
            service.script(*rules)

        def invalid() -> None:
            service.script(Rule(do=Fault.REFUSE, verb="create", status=400))

        connector = BigQueryConnector(endpoint=url)
        yield Bench(
            connector,
            [
                Round(task("SELECT 1 AS one"), "SUCCEEDED", arrange=refuse),
                Round(task("SELECT 1 /* fail=invalidQuery */"), "FAILED"),
                Round(task("SELECT 1 AS one"), "FAILED", arrange=invalid),
            ],
            {variable: json.dumps(key)},
        )
        connector.close()


def _databricks(
    **values: str,
) -> Callable[[Path], AbstractContextManager[Bench]]:
    """Return the case of a workspace with credentials of one kind."""

    @contextmanager
    def case(folder: Path) -> Iterator[Bench]:
        keywords = {f"databricks_{name}": value for name, value in values.items()}
        environ = {f"CANARY_{name.upper()}": value for name, value in keywords.items()}
        with (
            running("databricks", folder / "ledger.db") as service,
            _indiscreet(service.url) as url,
        ):

            def task(**script: str) -> Any:
                return databricks_kit.task(databricks_kit.notebook(**script))

            def refuse() -> None:
                rules = [
                    Rule(do=Fault.REFUSE, verb=verb, status=401, times=2)
                    for verb in ("token", "create", "get")
                ]
                service.script(*rules)

            connector = DatabricksConnector(
                host=url, secrets=dict(zip(keywords, environ, strict=True))
            )
            yield Bench(
                connector,
                [
                    Round(task(), "SUCCEEDED", arrange=refuse),
                    Round(task(result="FAILED"), "FAILED"),
                    Round(task(submit="400"), "FAILED"),
                ],
                environ,
            )
            connector.close()

    return case


def _snowflake(
    keyword: str, value: str
) -> Callable[[Path], AbstractContextManager[Bench]]:
    """Return the case of credentials of one kind, and the tokens got for them."""

    @contextmanager
    def case(folder: Path) -> Iterator[Bench]:
        variable = "SNOWFLAKE_CANARY"
        with (
            running("snowflake", folder / "ledger.db") as service,
            _indiscreet(service.url) as url,
        ):

            def task(query: str) -> Any:
                secret: dict[str, Any] = {keyword: variable}
                return snowflake_kit.task(query, **secret)

            def refuse() -> None:
                refused = [("get", 403, 2), ("login", 403, 2), ("login", 200, 8)]
                service.script(
                    *(
                        Rule(do=Fault.REFUSE, verb=verb, status=status, times=times)
                        for verb, status, times in refused
                    )
                )

            connector = SnowflakeConnector(endpoint=url)
            yield Bench(
                connector,
                [
                    Round(task("SELECT 1 AS one"), "SUCCEEDED", arrange=refuse),
                    Round(task("SELECT 1 /* fail=100038 */"), "FAILED"),
                    Round(task("SELEC 1"), "FAILED"),
                ],
                # Else the client asks which cloud this machine is in.
                {variable: value, "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true"},
            )
            connector.close()

    return case


@contextmanager
def remote(folder: Path) -> Iterator[Bench]:
    """A Flyte connector service: its token, and the secrets of the Connection."""
    del folder
    token = canary("token")
    with spoken("tests.flyte.indiscreet", "--token", token) as (endpoint, _):

        def task(fate: str) -> TaskTemplate:
            return TaskTemplate(
                name=fate,
                interface=NativeInterface(inputs={}, outputs={}),
                task_type="quoted",
                secrets=[Secret(key="api_key", as_env_var="REMOTE_CANARY")],
            )

        connector = RemoteConnector(endpoint, "quoted", token="REMOTE_TOKEN")  # noqa: S106
        yield Bench(
            connector,
            [
                Round(task("ok"), "SUCCEEDED"),
                Round(task("fail"), "FAILED"),
                Round(task("refused"), "FAILED"),
            ],
            {"REMOTE_TOKEN": token, "REMOTE_CANARY": canary("remote")},
        )


@contextmanager
def _indiscreet(url: str) -> Iterator[str]:
    with spoken("tests.emulators.indiscreet", "--to", url) as (listens, _):
        yield listens


HTTP_VARIABLE = "HTTP_CANARY"
_REFERENCE = {"secret": HTTP_VARIABLE}
_KINDS: dict[str, dict[str, Any]] = {
    "bearer": {"type": "bearer", "token": _REFERENCE},
    "basic": {"type": "basic", "username": "me", "password": _REFERENCE},
    "header": {"type": "header", "header": "X-Api-Key", "key": _REFERENCE},
}
_OAUTH2 = {
    "type": "oauth2",
    "client_id": CLIENT_ID,
    "client_secret": _REFERENCE,
    "client_auth": "form",
}
CASES: dict[str, Callable[[Path], AbstractContextManager[Bench]]] = {
    "process": process,
    **{f"http_{kind}": _http(auth, canary(kind)) for kind, auth in _KINDS.items()},
    "http_oauth2": _http(_OAUTH2, marked(CLIENT_SECRET)),
    "bigquery": bigquery,
    # The stand-in knows a secret's kind by its first letters.
    "databricks_pat": _databricks(token=f"dapi{canary('pat')}"),
    "databricks_oauth": _databricks(
        client_id="robot", client_secret=f"dose{canary('principal')}"
    ),
    "snowflake_password": _snowflake("snowflake_password", canary("snowflake")),
    "snowflake_key": _snowflake("snowflake_private_key", pem()),
    "remote": remote,
}
