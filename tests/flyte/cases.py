"""The golden messages: one case per RPC, phase and refusal, and where they are stored.

``python -m tests.flyte.real --record`` asks Flyte's own service and stores what it
answers; the tests hold our service and our client against what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyteidl2.connector import connector_pb2
from flyteidl2.core import identifier_pb2, security_pb2, tasks_pb2
from google.protobuf import text_format

from orchestrator._codec import interface_to_proto
from orchestrator.flyte._wire import inputs_proto
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

GOLDEN = Path(__file__).with_name("golden")
JOBS, ABOUT = "AsyncConnectorService", "ConnectorMetadataService"
PHASES = (
    *("UNDEFINED", "QUEUED", "INITIALIZING", "WAITING_FOR_RESOURCES", "RUNNING"),
    *("SUCCEEDED", "FAILED", "RETRYABLE_FAILED", "ABORTED"),
)
API_KEY = "golden-key-0123456789"
TASK_TYPE, TASK_VERSION = "phase", 1
_INTERFACE = NativeInterface(
    inputs={"phase": str, "count": int, "ratio": float, "tags": list[str]},
    outputs={"text": str, "whole": int, "real": float, "yes": bool},
)
INPUTS = {"phase": "RUNNING", "count": 1, "ratio": 0.5, "tags": ["a", "b"]}


@dataclass(frozen=True)
class Case:
    """One call: what is sent, and what came back, or with which status it ended."""

    name: str
    service: str
    method: str
    request: Message
    responses: tuple[Message, ...] = ()
    status: str = ""

    @property
    def path(self) -> str:
        """The method's name on the wire."""
        return f"/flyteidl2.connector.{self.service}/{self.method}"


def template(task_type: str = TASK_TYPE) -> tasks_pb2.TaskTemplate:
    """Return the task of every create."""
    found = tasks_pb2.TaskTemplate(
        id=identifier_pb2.Identifier(
            resource_type=identifier_pb2.ResourceType.TASK,
            project="p",
            domain="d",
            org="o",
            name="golden",
            version="v1",
        ),
        type=task_type,
        task_type_version=TASK_VERSION,
        interface=interface_to_proto(_INTERFACE),
        config={"warehouse": "small"},
    )
    found.custom.update({"nested": {"answer": 42}})
    found.sql.statement = "SELECT 1"
    return found


def metadata(run: str = "run-1") -> connector_pb2.TaskExecutionMetadata:
    """Return what a Flyte cluster says of the attempt."""
    execution = identifier_pb2.WorkflowExecutionIdentifier(
        project="p", domain="d", org="o", name=run
    )
    return connector_pb2.TaskExecutionMetadata(
        task_execution_id=identifier_pb2.TaskExecutionIdentifier(
            task_id=template().id,
            node_execution_id=identifier_pb2.NodeExecutionIdentifier(
                node_id="a0", execution_id=execution
            ),
            retry_attempt=1,
        ),
        namespace="p-d",
        labels={"team": "growth"},
        annotations={"note": "kept"},
        k8s_service_account="default",
        max_attempts=3,
    )


def connection() -> security_pb2.Connection:
    """Return a caller's secrets."""
    return security_pb2.Connection(task_type=TASK_TYPE, secrets={"api_key": API_KEY})


def create_request(
    phase: str = "RUNNING", task_type: str = TASK_TYPE, run: str = "run-1"
) -> connector_pb2.CreateTaskRequest:
    """Return a request for a job that will be in *phase*."""
    task = template(task_type)
    return connector_pb2.CreateTaskRequest(
        inputs=inputs_proto(task, {**INPUTS, "phase": phase}),
        template=task,
        output_prefix="s3://bucket/prefix",
        task_execution_metadata=metadata(run),
        connection=connection(),
    )


def job(phase: str, task_type: str = TASK_TYPE) -> dict[str, Any]:
    """Return what names a job that is in *phase*."""
    category = connector_pb2.TaskCategory(name=task_type, version=TASK_VERSION)
    meta = f'{{"phase": "{phase}", "owner": ""}}'.encode()
    return {"resource_meta": meta, "task_category": category}


def get_request(phase: str, task_type: str = TASK_TYPE) -> connector_pb2.GetTaskRequest:
    """Return a look at a job that is in *phase*."""
    return connector_pb2.GetTaskRequest(
        **job(phase, task_type),
        output_prefix="s3://bucket/prefix",
        connection=connection(),
    )


def delete_request(
    phase: str, task_type: str = TASK_TYPE
) -> connector_pb2.DeleteTaskRequest:
    """Return the end of a job that is in *phase*."""
    return connector_pb2.DeleteTaskRequest(
        **job(phase, task_type), connection=connection()
    )


def requests() -> Iterator[Case]:
    """Yield every case, not answered yet."""
    yield Case("create", JOBS, "CreateTask", create_request())
    yield Case(
        "create-unknown-type", JOBS, "CreateTask", create_request(task_type="none")
    )
    for phase in PHASES:
        name = phase.lower().replace("_", "-")
        yield Case(f"get-{name}", JOBS, "GetTask", get_request(phase))
    yield Case("get-unknown-type", JOBS, "GetTask", get_request("RUNNING", "none"))
    yield Case("delete", JOBS, "DeleteTask", delete_request("RUNNING"))
    yield Case("delete-refused", JOBS, "DeleteTask", delete_request("UNDEFINED"))
    yield Case(
        "delete-unknown-type", JOBS, "DeleteTask", delete_request("RUNNING", "none")
    )
    metrics = connector_pb2.GetTaskMetricsRequest(**job("RUNNING"))
    yield Case("metrics", JOBS, "GetTaskMetrics", metrics)
    for token in ("", "1"):
        logs = connector_pb2.GetTaskLogsRequest(**job("RUNNING"), token=token)
        yield Case(f"logs-{token or 0}", JOBS, "GetTaskLogs", logs)
    about = connector_pb2.GetConnectorRequest(name="Phase Connector")
    yield Case("get-connector", ABOUT, "GetConnector", about)
    listing = connector_pb2.ListConnectorsRequest()
    yield Case("list-connectors", ABOUT, "ListConnectors", listing)


def response_type(method: str) -> type[Message]:
    """Return the class of what *method* answers."""
    found: type[Message] = getattr(connector_pb2, f"{method}Response")
    return found


def stored() -> list[Case]:
    """Return the cases as they are stored."""
    found = []
    for path in sorted(GOLDEN.glob("*.request.txtpb")):
        name = path.name.partition(".")[0]
        head, _, text = path.read_text().partition("\n")
        service, method = head.removeprefix("# ").split("/")
        request = getattr(connector_pb2, f"{method}Request")()
        text_format.Parse(text, request)
        answers = sorted(GOLDEN.glob(f"{name}.response*.txtpb"))
        kind = response_type(method)
        responses = tuple(text_format.Parse(a.read_text(), kind()) for a in answers)
        status_file = GOLDEN / f"{name}.status.txt"
        status = status_file.read_text() if status_file.exists() else ""
        found.append(Case(name, service, method, request, responses, status))
    return found


def store(case: Case) -> None:
    """Store an answered case."""
    GOLDEN.mkdir(exist_ok=True)
    head = f"# {case.service}/{case.method}\n"
    text = text_format.MessageToString(case.request, as_utf8=True)
    (GOLDEN / f"{case.name}.request.txtpb").write_text(head + text)
    for number, response in enumerate(case.responses):
        suffix = f"-{number}" if len(case.responses) > 1 else ""
        text = text_format.MessageToString(response, as_utf8=True)
        (GOLDEN / f"{case.name}.response{suffix}.txtpb").write_text(text)
    if case.status:
        (GOLDEN / f"{case.name}.status.txt").write_text(case.status)
