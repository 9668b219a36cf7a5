"""Checks of single calls: tokens, handles, states, and deleting."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._connector import PHASE_NAMES, ResourceMeta, implements
from orchestrator._phase import RemotePhase
from orchestrator.errors import ResourceGoneError
from orchestrator.testing._check._report import FindingError, NotCheckedError
from orchestrator.testing._check._watched import ENDED, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.testing._check._bench import Bench

_PAUSE_S = 0.02


def described(error: BaseException) -> str:
    """Return an error as text."""
    return f"{type(error).__name__}: {error}"


async def tokens(bench: Bench) -> str:
    """Check that ``create`` with the token of a job makes no second one."""
    promised = bench.connector.create_is_idempotent
    if not promised:
        seen = "create_is_idempotent is not declared"
        advice = "if the service takes an idempotency token, declare it: class I"
        finds = implements(bench.connector, "find")
        raise NotCheckedError(seen, "" if finds else advice)
    ended = next(iter(bench.notes.creates))
    token = bench.new_token()
    first = await bench.create(token, long=True)
    second = await bench.create(token, long=True)
    keys = {key_of(bench.connector, meta) for meta in (first, second)}
    await _only_one(bench, token, keys, "create was called twice with one token")
    age = timedelta(seconds=bench.clock.monotonic() - bench.began)
    if promised is True or age < promised:
        again = await bench.create(ended)
        keys = bench.notes.keys[ended] | {key_of(bench.connector, again)}
        what = "create was called with the token of a job that has ended"
        await _only_one(bench, ended, keys, what)
    return "two calls with one token made one job, also after its end"


async def _only_one(bench: Bench, token: str, keys: set[str], what: str) -> None:
    count = await bench.count(token)
    if len(keys) > 1 or (count is not None and count > 1):
        raise FindingError(
            f"{what}: {max(len(keys), count or 0)} jobs",
            "send the token as the service's own idempotency key (or job id), or set"
            " create_is_idempotent = False; a timedelta if it forgets tokens, shorter"
            " than it does",
        )
    if count == 0:
        raise FindingError(
            f"{what}: count_jobs found no job at all",
            "the job must carry the token as it was given, where count_jobs looks",
        )


async def find_known(bench: Bench) -> str:
    """Check that ``find`` finds what ``create`` made."""
    _must_find(bench)
    token = bench.new_token()
    made = await bench.create(token, long=True)
    settle_s = bench.policy.find_settle.total_seconds()
    ends = bench.clock.monotonic() + settle_s
    while (found := await bench.call("find", token=token)) is None:
        if bench.clock.monotonic() >= ends:
            raise FindingError(
                f"find said None {settle_s:g} s after create had made the job",
                "look for the token where create puts it; if the service lists jobs"
                " later than that, raise Policy.find_settle",
            )
        await bench.clock.sleep(_PAUSE_S)
    if key_of(bench.connector, found) != key_of(bench.connector, made):
        raise FindingError(
            "find returned another job than create had made",
            "return the job whose token is the one asked for, with the same job key",
        )
    return "it found the job that create had made"


async def find_unknown(bench: Bench) -> str:
    """Check that ``find`` answers None for a token that nobody used."""
    _must_find(bench)
    advice = (
        "return None if the service has no such job, and only then: the engine creates"
        " it again"
    )
    try:
        found = await bench.call("find", token=bench.new_token())
    except Exception as error:
        seen = f"find raised for an unknown token: {described(error)}"
        raise FindingError(seen, advice) from error
    if found is not None:
        raise FindingError("find found a job for an unknown token", advice)
    return "it said None for an unknown token"


def _must_find(bench: Bench) -> None:
    if not implements(bench.connector, "find"):
        raise NotCheckedError("the connector has no find")


async def metas(bench: Bench) -> str:
    """Check that every handle comes back from its bytes as it was."""
    kind = bench.connector.metadata_type
    version = getattr(kind, "schema_version", 1)
    if type(version) is not int or version < 1:
        seen = f"{kind.__qualname__}.schema_version is {version!r}"
        raise FindingError(seen, "make it an int, from 1, raised with the layout")
    static = (inspect.getattr_static(k, "upcast", None) for k in (kind, ResourceMeta))
    if version > 1 and next(static) is next(static):
        raise FindingError(
            f"{kind.__qualname__}.schema_version is {version}, and upcast is missing",
            "write upcast(data, from_version): rows of the older layout wait for it",
        )
    for meta in bench.notes.metas.values():
        if not isinstance(meta, kind):
            seen = f"create or find returned a {type(meta).__qualname__}"
            raise FindingError(seen, f"return a {kind.__qualname__}: metadata_type")
        data = meta.encode()
        again = kind.decode(data)
        names = [f.name for f in dataclasses.fields(meta)]
        lost = [n for n in names if getattr(again, n, None) != getattr(meta, n)]
        if lost or again.encode() != data:
            raise FindingError(
                f"{kind.__qualname__} comes back changed: {', '.join(lost) or 'bytes'}",
                "give every field a type that JSON can bring back, and let create fill"
                " in what get and delete need: nothing else survives a crash",
            )
        if bench.connector.job_key(again) != bench.connector.job_key(meta):
            raise FindingError(
                "job_key differs for a handle that was stored",
                "make it depend on the fields of the handle only",
            )
    return f"{len(bench.notes.metas)} handles came back as they were"


async def job_keys(bench: Bench) -> str:
    """Check that different jobs have different keys."""
    seen: dict[str, str] = {}
    for token, keys in bench.notes.own_keys.items():
        for key in keys:
            if key is None:
                continue
            if not isinstance(key, str):
                told = f"job_key returned a {type(key).__name__}"
                raise FindingError(told, "return the service's own id as str, or None")
            if seen.setdefault(key, token) != token:
                raise FindingError(
                    "jobs of two tokens have one job key",
                    "return what the service itself tells jobs apart by: equal keys"
                    " are one job, the second would never be deleted",
                )
    if not seen:
        advice = "return the service's own id of the job from job_key(meta)"
        raise NotCheckedError("the connector has no job_key", advice)
    return f"{len(seen)} jobs have {len(seen)} keys"


async def states(
    bench: Bench, given: Iterable[Any], map_state: Callable[[Any], Any] | None
) -> str:
    """Check that what the service says of a job becomes one of Flyte's phases."""
    if bench.notes.odd:
        raise FindingError(f"get answered the phase {bench.notes.odd[0]!r}", _MAP_IT)
    number = 0
    for state in given:
        number += 1
        name = getattr(state, "__name__", None) or repr(state)
        if not callable(state) and map_state is None:
            raise FindingError(
                f"states has {name}, and nothing maps it",
                "give map_state=, or functions that return a Resource",
            )
        try:
            answer = state() if callable(state) else map_state(state)  # type: ignore[misc]
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:
            seen = f"the vendor's state {name} raises {described(error)}"
            raise FindingError(seen, _MAP_IT) from error
        phase: Any = getattr(answer, "phase", answer)
        if PHASE_NAMES.get(phase, RemotePhase.UNDEFINED) == RemotePhase.UNDEFINED:
            seen = f"the vendor's state {name} becomes the phase {phase!r}"
            raise FindingError(seen, _MAP_IT)
    if not number:
        raise NotCheckedError(
            "only the states that the jobs came through were seen",
            "give states= (with map_state=): all that the service's manual names",
        )
    return f"{number} states of the vendor have a phase"


_MAP_IT = (
    "map every state of the service's manual to a TaskExecution phase; UNDEFINED, for"
    " a state that is new to you, is no news and waits"
)


async def delete_twice(bench: Bench) -> str:
    """Check that ``delete`` may be repeated, for a live job and an ended one."""
    advice = "answer a job that is ended or gone with a return, or ResourceGoneError"
    running = await bench.create(bench.new_token(), long=True)
    ended = [bench.notes.metas[key] for key in sorted(bench.notes.ended)][:1]
    for what, meta in [("a live job", running), *(("an ended job", m) for m in ended)]:
        for time in ("first", "second"):
            try:
                await bench.call("delete", resource_meta=meta)
            except ResourceGoneError:
                continue
            except Exception as error:
                seen = f"the {time} delete of {what} raised {described(error)}"
                raise FindingError(seen, advice) from error
    return "a live job and an ended one were deleted twice"


async def get_after_delete(bench: Bench) -> str:
    """Check that ``get`` tells the end of a deleted job."""
    advice = "let get answer ABORTED, or raise ResourceGoneError, once the job is over"
    meta = await bench.create(bench.new_token(), long=True)
    await bench.call("delete", resource_meta=meta)
    final = bench.connector.delete_is_final
    ends = bench.clock.monotonic() + (0 if final else bench.timeout_s)
    while True:
        try:
            resource = await bench.call("get", resource_meta=meta)
        except ResourceGoneError:
            return "a deleted job is gone"
        except Exception as error:
            seen = f"get raised for a deleted job: {described(error)}"
            raise FindingError(seen, advice) from error
        phase = PHASE_NAMES.get(resource.phase, str(resource.phase))
        if phase == RemotePhase.RETRYABLE_FAILED:
            raise FindingError("a deleted job is RETRYABLE_FAILED", advice)
        if resource.phase in ENDED:
            return f"a deleted job is {phase}"
        if bench.clock.monotonic() >= ends:
            if final:
                seen = f"delete_is_final, and the job is {phase} after delete"
                raise FindingError(seen, "leave delete_is_final out: get confirms then")
            seen = f"a deleted job is still {phase} after {bench.timeout_s:g} s"
            raise FindingError(seen, advice)
        await bench.clock.sleep(bench.poll_every.total_seconds())
