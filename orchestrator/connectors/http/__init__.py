"""Any REST batch API by declaration: HttpConnector, HttpTask and HttpDefinition.

::

    from orchestrator.connectors import ConnectorRegistry
    from orchestrator.connectors.http import HttpConnector, HttpTask

    ConnectorRegistry.register(HttpConnector.load("batch.yaml"))
    nightly = HttpTask("nightly", "batch.yaml")

A definition (YAML, TOML, a dict or an ``HttpDefinition``) says how to submit a job,
where its id, state, message, outputs and error stand in the answers, how to cancel it
and how to search it. ``orchestrator connectors check batch.yaml`` tells what is wrong
with one, and ``orchestrator connectors schema`` prints its JSON schema, for editors.
``docs/connectors/http.md`` explains every field.

**Promise.** With ``idempotency`` the service remembers the token, and a ``create``
whose outcome is unknown is repeated (class I, as long as it remembers). Else with
``find`` the job is searched by its token (class L). Else nobody can know (class N), and
``on_unknown_create`` decides.

**What proves that there is no job.** That no connection could be made, and a status
that ``submit.not_created`` lists. A timeout, a cut connection, a 5xx, a redirect or an
answer without a job id proves nothing.

**Secrets** are environment variables that the definition names, and never stand in it.
They are sent to the host of ``base_url`` and to ``allowed_hosts`` (OAuth2's client
secret to ``token_url`` alone); redirects and URLs that the service gives are followed
only there. Neither an input nor a job id can choose the host or leave its place in a
path.

The extra ``http`` brings what is needed: ``pip install '/path/to/checkout[http]'``.
"""

from __future__ import annotations

from orchestrator.connectors.http._connector import HttpConnector
from orchestrator.connectors.http._definition import HttpDefinition
from orchestrator.connectors.http._meta import HttpMeta
from orchestrator.connectors.http._task import HttpTask

__all__ = ["HttpConnector", "HttpDefinition", "HttpMeta", "HttpTask"]
