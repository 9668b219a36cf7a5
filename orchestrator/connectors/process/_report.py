"""What a job folder's records mean, as the Resource that ``get`` returns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._connector import Resource
from orchestrator._secrets import current_redactor
from orchestrator.connectors.process import _supervisor
from orchestrator.connectors.process._command import OUTPUTS_VARIABLE
from orchestrator.connectors.process._folder import OUTPUTS
from orchestrator.connectors.process._text import last_line, last_words
from orchestrator.connectors.process._view import describe
from orchestrator.errors import ResourceGoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.connectors.process._folder import JobFolder
    from orchestrator.connectors.process._meta import ProcessMeta
    from orchestrator.connectors.process._view import View

OUTPUTS_BYTES_MAX = 8 * 1024 * 1024
OWN_OUTPUTS = ("exit_code", "stdout", "stderr")

_GLIMPSE_BYTES = 4096  # so much of a stream's end is read for a message


def report(folder: JobFolder, meta: ProcessMeta, view: View) -> Resource:
    """Tell how the job of *view* does.

    Raises:
        ResourceGoneError: Nobody knows, and nobody ever will.
    """
    if view.started is None:
        return _before_start(folder, view)
    if view.status is not None:
        return _at_end(folder, meta, view.status)
    if not view.ended:
        return _on_the_way(folder, view)
    if view.abort_us is not None:
        return Resource(TaskExecution.ABORTED, message="ended by delete")
    raise ResourceGoneError(
        f"job {folder.token}: its outcome is lost, as the machine was restarted or"
        " the supervisor was killed"
    )


def _glimpse() -> int:
    """Return how many bytes make a message after secrets were taken out."""
    return _GLIMPSE_BYTES + current_redactor().longest * 4


def _before_start(folder: JobFolder, view: View) -> Resource:
    """Tell of a folder in which nothing was started yet."""
    if view.supervised:
        return Resource(TaskExecution.QUEUED, message="the command is being started")
    raise ResourceGoneError(f"job {folder.token} was never started")


def _details(folder: JobFolder, **more: Any) -> dict[str, Any]:
    """Return the numbers of a job: the progress that every command has."""
    return {
        "stdout_bytes": folder.size(_supervisor.STDOUT),
        "stderr_bytes": folder.size(_supervisor.STDERR),
        **more,
    }


def _on_the_way(folder: JobFolder, view: View) -> Resource:
    """Tell of a command that runs, by the last line it printed."""
    line = last_line(folder.tail(_supervisor.STDOUT, _glimpse()))
    message = line or f"running as process {view.pid}"
    if view.abort_us is not None:
        message = f"asked to end: {message}"
    if view.orphaned:
        message = f"supervisor lost, outcome will be unknown: {message}"
    info = _details(folder, pid=view.pid)
    return Resource(TaskExecution.RUNNING, message=message, custom_info=info)


def _at_end(
    folder: JobFolder, meta: ProcessMeta, status: Mapping[str, Any]
) -> Resource:
    """Tell of a command that ended."""
    info = _details(folder, **{k: v for k, v in status.items() if k != "aborted"})
    said = describe(status)
    if status.get("aborted"):
        message = f"ended by delete: {said}"
        return Resource(TaskExecution.ABORTED, message=message, custom_info=info)
    if status.get("code") != 0:
        words = last_words(folder.tail(_supervisor.STDERR, _glimpse()))
        message = f"{said}: {words}" if words else said
        return Resource(TaskExecution.FAILED, message=message, custom_info=info)
    try:
        outputs = _outputs(folder, meta)
    except ValueError as error:
        message = f"exit status 0, but {error}"
        return Resource(TaskExecution.FAILED, message=message, custom_info=info)
    line = last_line(folder.tail(_supervisor.STDOUT, _glimpse()))
    return Resource(
        TaskExecution.SUCCEEDED, message=line or said, outputs=outputs, custom_info=info
    )


def _outputs(folder: JobFolder, meta: ProcessMeta) -> dict[str, Any] | None:
    """Return the outputs of a command that succeeded, in the interface's order.

    Raises:
        ValueError: A declared output was not written.
    """
    if not meta.outputs:
        return None
    declared = [name for name in meta.outputs if name not in OWN_OUTPUTS]
    values = _written_outputs(folder, declared) if declared else {}
    values["exit_code"] = 0
    for stream in (_supervisor.STDOUT, _supervisor.STDERR):
        if stream in meta.outputs:
            data = folder.tail(stream, meta.stdout_bytes)
            values[stream] = data.decode("utf-8", "replace")
    return {name: values[name] for name in meta.outputs}


def _written_outputs(folder: JobFolder, declared: list[str]) -> dict[str, Any]:
    """Read the JSON object that the command wrote for its declared outputs."""
    file = f"the file that ${OUTPUTS_VARIABLE} names"
    data = folder.read(OUTPUTS, OUTPUTS_BYTES_MAX + 1)
    if data is None:
        raise ValueError(f"it did not write {file}, for its outputs {declared}")
    if len(data) > OUTPUTS_BYTES_MAX:
        raise ValueError(f"{file} is larger than {OUTPUTS_BYTES_MAX} bytes")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds no JSON object")  # noqa: TRY004
    if missing := [name for name in declared if name not in values]:
        raise ValueError(f"{file} lacks the outputs {missing}")
    return values
