"""The service's wish not to be asked for a while, kept in memory per job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._connector import Resource
    from orchestrator.connectors.http._meta import HttpMeta

_KEPT = 100_000


class Hints:
    """The last answer of jobs whose service said Retry-After with it.

    A poll before that time gets the last answer again, without a request. Nothing is
    lost with it: whoever does not know of it asks.
    """

    def __init__(self, clock: Clock) -> None:
        """Tell the time by *clock*."""
        self._clock = clock
        self._told: dict[tuple[str, ...], tuple[float, Resource]] = {}

    def keep(self, meta: HttpMeta, resource: Resource, seconds: float | None) -> None:
        """Answer with *resource* for so long, if for any time."""
        if not seconds:
            return
        if len(self._told) >= _KEPT:
            self._told.clear()
        self._told[_job(meta)] = (self._clock.monotonic() + seconds, resource)

    def recall(self, meta: HttpMeta) -> Resource | None:
        """Return the last answer, None once the service may be asked again."""
        told = self._told.get(_job(meta))
        if told is None:
            return None
        if self._clock.monotonic() < told[0]:
            return told[1]
        del self._told[_job(meta)]
        return None

    def forget(self, meta: HttpMeta) -> None:
        """Ask the service next time: something has changed."""
        self._told.pop(_job(meta), None)


def _job(meta: HttpMeta) -> tuple[str, ...]:
    """Return what tells jobs apart: two hosts may give theirs the same id."""
    return meta.host, meta.status_url, meta.job_id
