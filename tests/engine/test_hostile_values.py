"""Answers that are too large, or are no text: refused or cut at a limit, or exact."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator import Config
from orchestrator._secrets import Redactor
from orchestrator.connectors import Resource
from orchestrator.errors import InvalidInputError, OrchestratorError
from tests.engine.kit import DONE, RUNNING, Clock, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

FLAT = 16 * 2**20
"""Bytes that refusing may take, whatever is refused; an engine takes most of them."""


def test_too_much_of_anything_is_refused_or_cut_with_flat_memory(
    tmp_path: Path,
) -> None:
    """A gigabyte of outputs, a million links, messages and details without end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.large", str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    report = json.loads(done.stdout)
    assert report["peak"] < FLAT
    assert report["rss"] < 3 * FLAT, "of the whole process, its allocator included"
    ended = report["ended"]
    assert ended["outputs"]["code"] == "OUTPUTS_REJECTED"
    limit = "outputs have more than 10485760 bytes, the limit"
    assert ended["outputs"]["message"] == limit
    assert len(ended["message"]["message"]) == 4000
    assert ended["links"]["links"] == 100
    assert list(ended["info"]["info"]) == ["problem"]
    assert 4000 <= len(ended["error"]["message"]) < 4100
    ok = {name for name, row in ended.items() if row["phase"] == "SUCCEEDED"}
    assert ok == {"message", "links", "info", "good"}


NASTY = {
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "bidi": "a\u202eb\u2066c",
    "ANSI": "a\x1b[31mb\x1b]0;title\x07c\x9b31m",
    "bell and backspace": "a\x07\x08b",
}
HARMFUL = {*"\0\x07\x08\x1b\x9b\u202e\u2066\ud800"}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
async def test_words_are_cleaned_and_data_is_exact_or_refused(
    text: str, engine: Start, clock: Clock
) -> None:
    """Message, links and errors are words; outputs, details and handles are data."""
    is_text = text != NASTY["lone surrogate"]
    answer = Resource(
        phase=TaskExecution.SUCCEEDED,
        message=text,
        log_links=[TaskLog(name=text, uri=f"https://a/{text}")] if is_text else None,
        custom_info={"key": text, text: 1},
        outputs={"result": text},
    )
    key = Meta(text) if is_text else None
    script = Script(create=[key], get=[RUNNING, ValueError(text), answer])
    orchestrator = await engine(script, Script("friend"))
    handle = await orchestrator.submit(a_task(retries=3))
    friend = await orchestrator.submit(a_task(task_type="friend"))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (await clock.until_ended(orchestrator, friend.id)).phase == "SUCCEEDED"
    words = [t.message or "" for t in await handle.history()]
    words += [ended.message or "", ended.error_message or ""]
    words += [part for link in ended.log_links for part in link.values()]
    assert not HARMFUL & {*"".join(words)}
    if is_text:
        assert ended.outputs == {"result": text}
        assert await handle.result() == text
        assert ended.custom_info == {"key": text, text: 1}
        assert ended.job_key == text
    else:
        assert ended.error_code == "OUTPUTS_REJECTED"
        assert ended.attempt == 1
        assert "outputs.result" in (ended.error_message or "")
        assert list(ended.custom_info or ()) == ["problem"]


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def _endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED_INFO = {
    "too deep": _deep(5000),
    "deep enough to be written but not read": _deep(700),
    "endless": {"a": _endless()},
    "huge": {"a": "x" * 70_000},
    "many": dict.fromkeys(map(str, range(50_000))),
    "NaN": {"a": float("nan")},
    "an infinity": {"a": [float("inf")]},
    "an int without end": {"a": 10**5000},
    "a key that is no text": {(1, 2): 3},
}
KEPT_INFO: dict[str, tuple[Any, Any]] = {
    "2**63": ({"a": 2**63, "b": -(2**64)}, {"a": 2**63, "b": -(2**64)}),
    "no JSON": ({"a": {1}, "b": object}, {"a": "{1}", "b": "<class 'object'>"}),
    "deep": (_deep(90), _deep(90)),
}


async def test_details_are_kept_or_say_why_not(engine: Start, clock: Clock) -> None:
    """Each case is a row of its own, in one engine; all of them succeed."""
    cases = {name: (info, None) for name, info in REFUSED_INFO.items()} | KEPT_INFO
    scripts = [
        Script(name, get=[Resource(**vars(DONE) | {"custom_info": info})])
        for name, (info, _) in cases.items()
    ]
    orchestrator = await engine(*scripts)
    handles = {
        name: await orchestrator.submit(a_task(task_type=name)) for name in cases
    }
    for name, handle in handles.items():
        ended = await clock.until_ended(orchestrator, handle.id)
        assert ended.phase == "SUCCEEDED", name
        _, wanted = cases[name]
        if wanted is None:
            assert list(ended.custom_info or ()) == ["problem"], name
        else:
            assert ended.custom_info == wanted, name
    assert len(await orchestrator.list()) == len(cases)


async def test_a_secret_that_is_a_number_leaves_details_readable(
    engine: Start, clock: Clock
) -> None:
    """Stars in the place of a JSON number would spoil the row for every reader."""
    answer = Resource(**vars(DONE) | {"custom_info": {"account": 12345678}})
    orchestrator = await engine(Script(get=[answer]))
    redactor: Redactor = orchestrator._engine.redactor
    redactor.register({"account": "12345678"})
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.custom_info == {"problem": "custom_info holds a secret"}


async def test_a_secret_inside_json_inside_a_detail_is_redacted(
    engine: Start, clock: Clock
) -> None:
    """The body of a request as a text: what is escaped in it is escaped again."""
    secret = 'hun"ter\\2/hunter2'  # noqa: S105 - a test's
    info = {"request": json.dumps({"key": secret})}
    answer = Resource(**vars(DONE) | {"custom_info": info})
    orchestrator = await engine(Script(get=[answer]))
    orchestrator._engine.redactor.register({"key": secret})
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.custom_info == {"request": '{"key": "***"}'}


@pytest.mark.parametrize("length", range(1985, 2003))
def test_no_part_of_a_secret_is_left_where_a_link_is_cut(length: int) -> None:
    """A link is redacted before it is cut, and the cut before it spares no half."""
    redactor = Redactor()
    redactor.register({"key": "hunter2-hunter2"})
    text = "/" * (length - 15) + "hunter2-hunter2" * 3
    assert "hunter2" not in redactor.redact_start(text, length)[:2000]


REFUSED_SUBMITS: dict[str, tuple[str, dict[str, Any]]] = {
    "a label with a lone surrogate": ("labels", {"labels": {"a": "\ud800"}}),
    "a label with NUL": ("labels", {"labels": {"a\0": "b"}}),
    "a key with a lone surrogate": ("idempotency_key", {"idempotency_key": "\ud800"}),
    "a key with NUL": ("idempotency_key", {"idempotency_key": "a\0"}),
    "a priority beyond 64 bits": ("priority", {"priority": 2**63}),
    "an input with a lone surrogate": ("text", {"inputs": {"text": "\ud800"}}),
    "inputs of a gigabyte": ("inputs", {"inputs": {"text": "x" * 2**20}}),
}


@pytest.mark.parametrize("name", REFUSED_SUBMITS)
async def test_what_cannot_be_stored_exactly_is_refused_with_its_field(
    name: str, engine: Start
) -> None:
    field, given = REFUSED_SUBMITS[name]
    config = Config(input_bytes_max=2**16)
    orchestrator = await engine(Script(), start=False, config=config)
    given = {"inputs": {"text": "a"}} | given
    with pytest.raises(InvalidInputError) as refused:
        await orchestrator.submit(a_task(inputs={"text": str}), **given)
    assert refused.value.field == field
    assert await orchestrator.list() == []


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
async def test_a_task_whose_name_is_no_text_is_refused(
    name: str, engine: Start
) -> None:
    orchestrator = await engine(Script(), start=False)
    with pytest.raises(OrchestratorError, match="name"):
        await orchestrator.submit(a_task(name))


async def test_text_for_people_to_steer_a_terminal_with_is_kept_in_names_and_labels(
    engine: Start,
) -> None:
    """They are data: exact; who shows them makes them harmless."""
    orchestrator = await engine(Script(), start=False)
    text = "a\u202e\x1b[31mb"
    handle = await orchestrator.submit(a_task(text), labels={text.strip(): text})
    execution = await handle.get()
    assert (execution.name, execution.labels) == (text, {text: text})
    assert [e.id for e in await orchestrator.list(labels={text: text})] == [handle.id]
