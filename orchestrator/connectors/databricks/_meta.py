"""DatabricksMeta: all that the database knows of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator._connector import ResourceMeta


@dataclass
class DatabricksMeta(ResourceMeta):
    """The handle of a run.

    Attributes:
        run_id: The service's number of the run.
        host: The workspace that it is in, such as ``https://x.cloud.databricks.com``.
        job_id: The job that ``run-now`` started, 0 for a one-time run.
        outputs: Names of the declared outputs.
        text: Whether the output ``result`` is text, taken as it is.
        output_task: Key of the task whose output counts; "" for the only one.
    """

    run_id: int
    host: str
    job_id: int = 0
    outputs: list[str] = field(default_factory=list)
    text: bool = True
    output_task: str = ""
