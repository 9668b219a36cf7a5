"""BigQueryMeta: all that the database knows of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator._connector import ResourceMeta


@dataclass
class BigQueryMeta(ResourceMeta):
    """The handle of a BigQuery job.

    Attributes:
        job_id: The attempt's token.
        project: The project that runs and pays the job.
        location: Where it runs.
        endpoint: The connector's ``endpoint`` that it was sent to; "" for Google's.
        outputs: Names of the declared outputs.
    """

    job_id: str
    project: str
    location: str
    endpoint: str = ""
    outputs: list[str] = field(default_factory=list)
