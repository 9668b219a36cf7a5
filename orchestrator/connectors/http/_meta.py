"""HttpMeta: all that the database knows of a job at an HTTP service."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator._connector import ResourceMeta


@dataclass
class HttpMeta(ResourceMeta):
    """The handle of a job at an HTTP service.

    Attributes:
        job_id: The service's own id of the job.
        host: Host of the base URL that it was submitted to, with a port that is not
            the scheme's own. A definition that names another host by now does not
            poll it there.
        status_url: Where the service said that the job can be looked at; empty if the
            definition has a path for that.
        token: The attempt's token, for requests that name it.
    """

    job_id: str
    host: str
    status_url: str = ""
    token: str = ""
