"""Tasks: what a user declares, how it is submitted, and its protobuf.

``_template`` is the declaration, ``_limits`` its retries and timeouts, ``_options``
the way from ``task.execute()`` to the engine, ``_proto`` the stored form, ``_foreign``
the way in for tasks of other libraries.
"""

from __future__ import annotations

from orchestrator._tasks._foreign import add_converter, native, remove_converter
from orchestrator._tasks._limits import (
    Backoff,
    RetryStrategy,
    Timeout,
    TimeoutType,
    retries_of,
    timeout_from_request,
    timeout_of,
)
from orchestrator._tasks._options import (
    AsyncConnectorExecutorMixin,
    EngineHook,
    SubmitOptions,
    current_options,
    default_engine_hook,
    options,
    set_default_engine_hook,
)
from orchestrator._tasks._proto import (
    METADATA_LABEL,
    PREFIX_LABEL,
    TOKEN_LABEL,
    attempt_metadata,
    describe_template,
    execution_metadata,
    links_to_json,
    max_inline_io_bytes_of,
    template_from_bytes,
    template_to_bytes,
    to_template,
)
from orchestrator._tasks._template import TaskTemplate

__all__ = [
    "METADATA_LABEL",
    "PREFIX_LABEL",
    "TOKEN_LABEL",
    "AsyncConnectorExecutorMixin",
    "Backoff",
    "EngineHook",
    "RetryStrategy",
    "SubmitOptions",
    "TaskTemplate",
    "Timeout",
    "TimeoutType",
    "add_converter",
    "attempt_metadata",
    "current_options",
    "default_engine_hook",
    "describe_template",
    "execution_metadata",
    "links_to_json",
    "max_inline_io_bytes_of",
    "native",
    "options",
    "remove_converter",
    "retries_of",
    "set_default_engine_hook",
    "template_from_bytes",
    "template_to_bytes",
    "timeout_from_request",
    "timeout_of",
    "to_template",
]
