"""ProcessMeta: all that the database knows of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator._connector import ResourceMeta
from orchestrator.connectors.process._command import GRACE_S, STDOUT_BYTES


@dataclass
class ProcessMeta(ResourceMeta):
    """The handle of a command on this machine.

    Attributes:
        token: The attempt's token, which names the job folder.
        host: Name of the machine that runs the job.
        root: Absolute path of the job folder root there.
        outputs: Names of the outputs, in the interface's order.
        stdout_bytes: So much of the end of a stream is an output.
        grace_s: Seconds between TERM and KILL.
    """

    token: str
    host: str = ""
    root: str = ""
    outputs: list[str] = field(default_factory=list)
    stdout_bytes: int = STDOUT_BYTES
    grace_s: float = GRACE_S
