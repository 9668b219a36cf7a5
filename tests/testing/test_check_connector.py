"""check_connector passes good connectors, and names the one fault of each bad one."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Policy
from orchestrator.connectors import Resource
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.errors import ConfigurationError, PermanentError, ResourceGoneError
from orchestrator.testing import CRASH_POINTS, Outcome, check_connector
from tests.jobserver.connectors import (
    CONNECTORS,
    TOKEN_LABEL,
    JobMeta,
    JobServerI,
    JobServerL,
    JobServerN,
)
from tests.testing.conftest import a_task, failed, spec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from orchestrator.testing import JobServer, Report
    from tests.jobserver.client import JobClient

    Check = Callable[..., Awaitable[Report]]


# Good ones


@pytest.mark.parametrize("kind", CONNECTORS.values())
async def test_a_good_connector_of_every_class_passes(
    check: Check, client: JobClient, server: JobServer, kind: Any
) -> None:
    """Every check that fits its class says ok, and no job is left behind."""
    points = CRASH_POINTS if kind in (JobServerI, JobServerL) else CRASH_POINTS[2:4]
    report = await check(
        kind(client),
        count_jobs=server.count_jobs,
        crash_points=points,
        states=["DONE"],
        map_state={"DONE": TaskExecution.SUCCEEDED}.__getitem__,
    )
    report.assert_ok()
    silent = {c.name for c in report.checks if c.outcome is Outcome.NOT_CHECKED}
    expected = {"secrets"}
    if kind is JobServerL:
        expected |= {"create_is_idempotent"}
    else:
        expected |= {"find", "find_unknown"}
    if kind is JobServerI:
        expected |= {"crash at find.after_call"}
    if kind is JobServerN:
        expected |= {"create_is_idempotent"}
    assert silent == expected, str(report)
    assert len(server.jobs()) > len(points)
    assert {job.state for job in server.jobs()} <= {"SUCCEEDED", "ABORTED"}


async def test_the_process_connector_passes(tmp_path: Path) -> None:
    """Commands of this machine, with a secret that reaches them."""
    task = ProcessTask(
        "t",
        command=["sh", "-c", 'sleep "$1"; echo ${#API_KEY}', "t", "{{.inputs.s}}"],
        inputs={"s": float},
        secrets=["API_KEY"],
    )
    with ExitStack() as made:
        report = await check_connector(
            lambda: made.enter_context(closing(ProcessConnector(tmp_path / "jobs"))),
            task,
            {"s": 0.0},
            long_inputs={"s": 600.0},
            poll_every=timedelta(milliseconds=20),
        )
    report.assert_ok()
    assert report["secrets"].outcome is Outcome.OK
    assert report["create_is_idempotent"].outcome is Outcome.OK


# Tokens, and crashes between a call and its commit


class ForgetsTokens(JobServerN):
    """Promises what its service does not keep."""

    create_is_idempotent = True


class KeyIsToken(ForgetsTokens):
    """So does this one, and its job key does not tell."""

    def job_key(self, resource_meta: JobMeta) -> str:
        return resource_meta.token


class RemembersInMemory(ForgetsTokens):
    """Keeps its promise until the process ends."""

    def __init__(self, client: JobClient) -> None:
        super().__init__(client)
        self._known: dict[str, JobMeta] = {}

    async def create(self, *args: Any, **kwargs: Any) -> JobMeta:
        token = kwargs["task_execution_metadata"].labels[TOKEN_LABEL]
        if token not in self._known:
            self._known[token] = await super().create(*args, **kwargs)
        return self._known[token]


async def test_a_promise_that_the_service_does_not_keep(
    check: Check, client: JobClient
) -> None:
    """Two jobs of one token are seen by their keys, with and without a crash."""
    report = await check(ForgetsTokens(client), crash_points=["create.after_call"])
    assert failed(report) == {"create_is_idempotent", "crash at create.after_call"}


async def test_a_second_job_that_only_the_service_knows(
    check: Check, client: JobClient, server: JobServer
) -> None:
    """Without count_jobs the key hides it: the ablation of that argument."""
    point = ["created.before_commit"]
    report = await check(KeyIsToken(client), crash_points=point)
    assert failed(report) == set()

    async def count(token: str) -> int:
        return server.count_jobs(token)

    report = await check(KeyIsToken(client), crash_points=point, count_jobs=count)
    assert failed(report) == {"create_is_idempotent", f"crash at {point[0]}"}


async def test_a_promise_that_ends_with_the_process(
    check: Check, client: JobClient
) -> None:
    """Only a crash tells, and only a function that makes a new connector."""
    points = ["create.before_call", "create.after_call"]
    one = RemembersInMemory(client)
    assert failed(await check(one, crash_points=points)) == set()
    report = await check(lambda: RemembersInMemory(client), crash_points=points)
    assert failed(report) == {"crash at create.after_call"}


class KeepsJobsInMemory(JobServerI):
    """Cannot look at a job that another process made."""

    def __init__(self, client: JobClient) -> None:
        super().__init__(client)
        self._mine: set[str] = set()

    async def create(self, *args: Any, **kwargs: Any) -> JobMeta:
        meta = await super().create(*args, **kwargs)
        self._mine.add(meta.job_id)
        return meta

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        if resource_meta.job_id not in self._mine:
            raise KeyError(resource_meta.job_id)
        return await super().get(resource_meta, **kwargs)


async def test_what_is_kept_in_memory_is_lost_in_a_crash(
    check: Check, client: JobClient
) -> None:
    """Crashes before the handle is stored are healed by the replay, later ones not."""
    report = await check(
        lambda: KeepsJobsInMemory(client),
        crash_points=["create.after_call", "get.before_call", "delete.after_call"],
        timeout=timedelta(seconds=1),
    )
    assert failed(report) == {"crash at get.before_call", "crash at delete.after_call"}


# Finding


class FindsNothing(JobServerL):
    policy = Policy(find_settle=timedelta(milliseconds=50))

    def __init__(self, client: JobClient) -> None:
        super().__init__(client, policy=FindsNothing.policy)

    async def find(self, token: str, **kwargs: Any) -> JobMeta | None:
        return None


class FindsTheFirst(JobServerL):
    async def find(self, token: str, **kwargs: Any) -> JobMeta | None:
        return await super().find(token) or JobMeta("job-1")


class FindsOrRaises(JobServerL):
    async def find(self, token: str, **kwargs: Any) -> JobMeta | None:
        found = await super().find(token)
        if found is None:
            raise ResourceGoneError("no such token")
        return found


class FindsAnother(JobServerL):
    async def find(self, token: str, **kwargs: Any) -> JobMeta | None:
        return JobMeta("job-1") if await super().find(token) else None


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (FindsNothing, {"find", "crash at create.after_call"}),
        (FindsTheFirst, {"find_unknown"}),
        (FindsOrRaises, {"find_unknown"}),
        (FindsAnother, {"find", "crash at create.after_call"}),
    ],
)
async def test_a_find_that_does_not_tell_the_truth(
    check: Check, client: JobClient, kind: Any, names: set[str]
) -> None:
    """Finding nothing makes a second job; finding anything adopts a stranger's."""
    report = await check(kind(client), crash_points=["create.after_call"])
    assert failed(report) == names


async def test_a_service_that_lists_later_than_find_settle(
    check: Check, client: JobClient, server: JobServer
) -> None:
    """The policy is what is wrong, and a longer settle time mends it."""
    options = {
        "inputs": spec(hidden_s=0.4),
        "long_inputs": spec(hidden_s=0.4, until_told=True),
        "crash_points": ["create.after_call"],
        "count_jobs": server.count_jobs,
    }
    short, enough = (Policy(find_settle=timedelta(seconds=s)) for s in (0.02, 0.8))
    report = await check(JobServerL(client, policy=short), **options)
    assert failed(report) == {"find", "crash at create.after_call"}
    report = await check(JobServerL(client, policy=enough), **options)
    assert failed(report) == set()


# Deleting and aborting


class DeletesOnce(JobServerI):
    def __init__(self, client: JobClient) -> None:
        super().__init__(client)
        self._deleted: set[str] = set()

    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        if resource_meta.job_id in self._deleted:
            raise PermanentError("409: it is being deleted")
        self._deleted.add(resource_meta.job_id)
        await super().delete(resource_meta)


class DeletesForGood(JobServerI):
    """Its service forgets a job that is deleted; deleting nothing is no error."""

    def __init__(self, client: JobClient) -> None:
        super().__init__(client, policy=Policy(gone_grace=timedelta(seconds=3)))
        self._forgotten: set[str] = set()

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        if resource_meta.job_id in self._forgotten:
            raise ResourceGoneError("no such job")
        return await super().get(resource_meta)

    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        if resource_meta.job_id not in self._forgotten:
            await super().delete(resource_meta)
            self._forgotten.add(resource_meta.job_id)


async def test_gone_grace_is_waited_for_and_told(
    check: Check, client: JobClient
) -> None:
    """A life may last longer by it; what is under way is told as it begins."""
    told: list[str] = []
    timeout = timedelta(seconds=2)
    report = await check(DeletesForGood(client), timeout=timeout, progress=told.append)
    report.assert_ok()
    assert told[0].startswith("a life of the task may take 2 s; in it the policy's")
    names = [line.removesuffix(" ...") for line in told if line.endswith(" ...")]
    assert names == [check.name for check in report.checks]
    assert [line.partition(" after ")[0] for line in told[2::2]] == [
        f"{check.name}: {check.outcome}" for check in report.checks
    ]


class NeverGets(JobServerI):
    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        raise KeyError("deleted")


async def test_a_life_that_came_to_no_end_is_told_with_its_error_at_once(
    check: Check, client: JobClient
) -> None:
    """Nobody has to wait for the report, or to guess what the engine saw."""
    told: list[str] = []
    timeout = timedelta(seconds=1)
    report = await check(NeverGets(client), timeout=timeout, progress=told.append)
    assert "KeyError: 'deleted'" in report["run"].seen
    assert not any(made.name == "abort" for made in report.checks)
    run = next(line for line in told if line.startswith("run: failed after "))
    assert run.endswith(f" s: {report['run'].seen}")


class DeletesTheLiving(JobServerI):
    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        if (await self.get(resource_meta)).phase == TaskExecution.SUCCEEDED:
            raise RuntimeError("409: it has ended")
        await super().delete(resource_meta)


class DeletesNothing(JobServerI):
    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        """Log, and hope."""


class LooksAway(JobServerI):
    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        resource = await super().get(resource_meta)
        if resource.phase == TaskExecution.ABORTED:
            raise RuntimeError("500: deleted")
        return resource


class CallsItBadLuck(JobServerI):
    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        resource = await super().get(resource_meta)
        if resource.phase == TaskExecution.ABORTED:
            resource.phase = TaskExecution.RETRYABLE_FAILED
        return resource


class SaysItIsFinal(JobServerI):
    delete_is_final = True


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (DeletesOnce, {"delete"}),
        (DeletesTheLiving, {"delete"}),
        (DeletesNothing, {"get_after_delete", "abort"}),
        (LooksAway, {"get_after_delete", "abort"}),
        (CallsItBadLuck, {"get_after_delete"}),
        (SaysItIsFinal, {"get_after_delete"}),
    ],
)
async def test_a_delete_that_is_not_one(
    check: Check, client: JobClient, kind: Any, names: set[str]
) -> None:
    """Repeated, of what has ended, without effect, or with an end that nobody sees."""
    report = await check(
        kind(client),
        long_inputs=spec(until_told=True, delete_s=0.6 * (kind is SaysItIsFinal)),
        timeout=timedelta(seconds=1),
    )
    assert failed(report) == names


async def test_a_job_that_is_too_short_to_abort_says_nothing(
    check: Check, client: JobClient
) -> None:
    """What had ended before its delete is no proof, and the way to one is told."""
    report = await check(JobServerI(client), long_inputs=spec(ends=("SUCCEEDED",)))
    report.assert_ok()
    assert report["abort"].outcome is Outcome.NOT_CHECKED
    assert "long_inputs" in report["abort"].advice


# What stops the rest


class SaysYes(JobServerI):
    create_is_idempotent = "yes"  # type: ignore[assignment] # the fault


class Fails(JobServerI):
    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        return Resource(TaskExecution.FAILED, message="out of quota")


async def test_what_cannot_be_registered_is_not_driven(
    check: Check, client: JobClient
) -> None:
    """A wrong member, or a task of another type."""
    report = await check(SaysYes(client), a_task("jobserver_i"))
    assert failed(report) == {"registration"}
    assert "create_is_idempotent" in report["registration"].seen
    assert failed(await check(JobServerI(client), a_task("other"))) == {"registration"}


async def test_a_task_that_does_not_succeed_is_not_crashed(
    check: Check, client: JobClient
) -> None:
    """Its single calls are checked all the same."""
    report = await check(Fails(client), crash_points=CRASH_POINTS)
    assert failed(report) == {"run"}
    names = {made.name for made in report.checks}
    assert "delete" in names
    # Lives of their own, each of which might wait for its whole timeout again.
    assert not any(name.startswith(("abort", "crash")) for name in names)


async def test_assert_ok_tells_every_failed_check(
    check: Check, client: JobClient
) -> None:
    """With what to do; a report without one that failed asserts nothing."""
    report = await check(ForgetsTokens(client), crash_points=["create.after_call"])
    with pytest.raises(AssertionError) as caught:
        report.assert_ok()
    told = str(caught.value)
    assert "ForgetsTokens fails 2 checks" in told
    assert "crash at create.after_call" in told
    assert report["create_is_idempotent"].advice in told
    assert not report.ok
    with pytest.raises(KeyError):
        report["nothing"]


async def test_an_unknown_crash_point_is_refused(
    check: Check, client: JobClient
) -> None:
    """With those that there are."""
    with pytest.raises(ConfigurationError, match=r"get\.before_call"):
        await check(JobServerI(client), crash_points=["get.sometimes"])
