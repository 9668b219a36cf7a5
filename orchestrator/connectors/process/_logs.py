"""Pages of a job's output, in the shape of Flyte's GetTaskLogs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskLogsResponseHeader,
)
from flyteidl2.logs.dataplane.payload_pb2 import LogLine, LogLineOriginator

from orchestrator.connectors.process._supervisor import STDERR, STDOUT
from orchestrator.connectors.process._text import clean
from orchestrator.errors import PermanentError

if TYPE_CHECKING:
    from orchestrator.connectors.process._folder import JobFolder

PAGE_BYTES = 64 * 1024
PAGES_MAX = 16

_POSITION = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")


class Position(NamedTuple):
    """How many bytes of each stream were read."""

    stdout: int = 0
    stderr: int = 0

    def __str__(self) -> str:
        """Return the token that stands for this position."""
        return f"{self.stdout}:{self.stderr}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        body: The lines, None if there are none yet.
        header: Tells the token of the next page.
        position: The position that the token stands for.
    """

    body: GetTaskLogsResponse | None
    header: GetTaskLogsResponse
    position: Position


def parse_position(token: str) -> Position:
    """Return the position of *token*, the beginning if it is empty.

    Raises:
        PermanentError: It is no token of a page.
    """
    if not token:
        return Position()
    match = _POSITION.fullmatch(token)
    if match is None:
        raise PermanentError(f"{token[:80]!r} is no log token (STDOUT:STDERR offsets)")
    return Position(int(match.group(1)), int(match.group(2)))


def read_page(folder: JobFolder, position: Position, *, complete: bool) -> Page:
    """Read the page at *position*.

    *complete* says that the job has ended: a last line without an end will never
    get one.
    """
    out, out_end = _lines(folder, STDOUT, position.stdout, complete=complete)
    err, err_end = _lines(folder, STDERR, position.stderr, complete=complete)
    after = Position(out_end, err_end)
    header = GetTaskLogsResponse(header=GetTaskLogsResponseHeader(token=str(after)))
    lines = [_line(text, "") for text in out] + [_line(text, STDERR) for text in err]
    if not lines:
        return Page(None, header, after)
    body = GetTaskLogsResponse(body=GetTaskLogsResponseBody(lines=lines))
    return Page(body, header, after)


def _line(text: str, source: str) -> LogLine:
    """Return one line; the stream stands where Flyte names the pod."""
    return LogLine(
        message=text, originator=LogLineOriginator.USER, short_pod_name=source
    )


def _lines(
    folder: JobFolder, stream: str, offset: int, *, complete: bool
) -> tuple[list[str], int]:
    """Return the clean lines of a page, and the offset of the next one."""
    data = folder.read_at(stream, offset, PAGE_BYTES) or b""
    end = data.rfind(b"\n") + 1
    if not end and (complete or len(data) == PAGE_BYTES):
        end = len(data)  # a line longer than a page, or the last one
    elif complete and len(data) < PAGE_BYTES:
        end = len(data)
    if not end:
        return [], offset
    text = data[:end].removesuffix(b"\n").decode("utf-8", "replace")
    return [clean(line) for line in text.split("\n")], offset + end
