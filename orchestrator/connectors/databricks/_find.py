"""The search for the run of a token, through the list of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator._clock import Clock
    from orchestrator.connectors.databricks._body import RunConfig
    from orchestrator.connectors.databricks._clients import Workspace

PAGE_RUNS = 24
PAGES_MAX = 2000
SECONDS_MAX = 240.0
"""Below the policy's ``find_timeout``: the thread does not outlive the call by much."""

CLOCKS_APART_MS = 3_600_000
"""So far the service's clock may be behind ours."""

_BY_ITSELF = frozenset(
    {
        "CONTINUOUS",
        "CONTINUOUS_RESTART",
        "FILE_ARRIVAL",
        "PERIODIC",
        "RETRY",
        "RUN_JOB_TASK",
        "TABLE",
    }
)
"""Triggers of runs that nobody's ``run-now`` started."""


def since_ms(token: str) -> int | None:
    """Return the time before which no run of *token* began, None for no such time.

    The token holds the execution's id, a UUIDv7, which begins with a time.
    """
    execution = token[1:33]
    if execution[12:13] != "7":
        return None
    return max(int(execution[:12], 16) - CLOCKS_APART_MS, 0)


def find_run(
    workspace: Workspace, token: str, config: RunConfig | None, clock: Clock
) -> dict[str, Any] | None:
    """Return the newest run of *token*, None if there is none.

    Args:
        workspace: Where to look.
        token: The attempt's.
        config: What the task asks for; None for "not known".
        clock: Tells when the search has taken too long.

    Raises:
        PermanentError: A run of the job is there that may be ours or not.
        TransientError: There are too many runs to look at.
    """
    job_id = config.job_id if config else 0
    query: dict[str, Any] = {"limit": PAGE_RUNS}
    if (since := since_ms(token)) is not None:
        query["start_time_from"] = since
    if job_id:
        query["job_id"] = job_id
    elif config:
        query["run_type"] = "SUBMIT_RUN"
    nameless = bool(job_id) and not (config and config.token_parameter)
    for run in _runs(workspace, query, clock):
        if nameless and run.get("trigger") not in _BY_ITSELF:
            raise PermanentError(
                f"run {run.get('run_id')} of job {job_id} may be ours or somebody"
                " else's: name a token_parameter to tell"
            )
        if _holds(run, token):
            return run
    return None


def _runs(
    workspace: Workspace, query: dict[str, Any], clock: Clock
) -> Iterator[dict[str, Any]]:
    """Yield runs, newest first."""
    ends = clock.monotonic() + SECONDS_MAX
    for _ in range(PAGES_MAX):
        if clock.monotonic() >= ends:
            break
        page = workspace.ask("GET", "/runs/list", query=query)
        yield from page.get("runs") or ()
        following = page.get("next_page_token")
        if not following:
            return
        query = {**query, "page_token": following}
    raise TransientError("the list of the runs since the submission has no end")


def _holds(run: Mapping[str, Any], token: str) -> bool:
    """Tell whether a run's name or one of its parameters is that of *token*."""
    if str(run.get("run_name", "")).endswith(f"[{token}]"):
        return True
    values = [p.get("value") for p in run.get("job_parameters") or ()]
    for given in (run.get("overriding_parameters") or {}).values():
        values += given.values() if isinstance(given, dict) else ()
    return token in values
