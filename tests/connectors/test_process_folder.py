"""Job folders: hostile names, links, pruning, and the pages of the logs."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.process import ProcessConnector, ProcessMeta
from orchestrator.connectors.process._logs import PAGE_BYTES, PAGES_MAX
from orchestrator.errors import (
    ConfigurationError,
    PermanentError,
    ResourceGoneError,
    TransientError,
)
from tests.connectors.process_kit import (
    TOKEN,
    AheadClock,
    Gate,
    create,
    folder_of,
    shell,
    template,
    until_ended,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = timedelta(days=1)


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[ProcessConnector]:
    """A connector with an empty root that remembers for a day."""
    with contextlib.closing(ProcessConnector(tmp_path / "jobs", retention=DAY)) as made:
        yield made


HOSTILE_TOKENS = [
    "",
    ".",
    "..",
    "../" + TOKEN,
    "/" + TOKEN,
    TOKEN + "/..",
    TOKEN + "\0",
    TOKEN + "\n",
    TOKEN.upper(),
    TOKEN[:-1] + "0",
    TOKEN[:-1] + "٣",
    TOKEN + "1" * 100,
    ".pruned-" + TOKEN,
]


@pytest.mark.parametrize("token", HOSTILE_TOKENS)
async def test_a_hostile_token_never_becomes_a_path(
    connector: ProcessConnector, token: str
) -> None:
    """Every verb refuses it, before the disk is touched."""
    meta = ProcessMeta(token)
    with pytest.raises(PermanentError, match="token"):
        await create(connector, template(["true"]), token=token)
    for call in (connector.get, connector.delete):
        with pytest.raises(PermanentError, match="token"):
            await call(meta)
    with pytest.raises(PermanentError, match="token"):
        await connector.find(token)
    with pytest.raises(PermanentError, match="token"):
        await anext(aiter(connector.get_logs(meta)))
    assert not connector.root.exists()


async def test_a_link_in_a_folder_s_place_is_not_followed(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Neither to read nor to write."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    connector.root.mkdir(mode=0o700)
    folder_of(connector).symlink_to(elsewhere)
    for call in (
        create(connector, template(["true"])),
        connector.get(ProcessMeta(TOKEN)),
        connector.delete(ProcessMeta(TOKEN)),
        connector.find(TOKEN),
    ):
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            await call
    assert await connector.prune() == []
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["lock", "meta", "log", "stdout", "status.new"])
async def test_a_link_in_a_file_s_place_is_not_followed(
    connector: ProcessConnector, tmp_path: Path, name: str
) -> None:
    """Whoever planted it, the file behind it stays as it is."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder_of(connector).mkdir(parents=True)
    connector.root.chmod(0o700)
    (folder_of(connector) / name).symlink_to(victim)
    with contextlib.suppress(OSError, TransientError):
        meta = await create(connector, template(["echo", "overwritten"]))
        await until_ended(connector, meta)
    assert victim.read_text() == "precious"


async def test_a_root_in_which_others_write_is_refused(
    connector: ProcessConnector,
) -> None:
    """They could plant a job of theirs."""
    connector.root.mkdir()
    connector.root.chmod(0o770)
    with pytest.raises(PermanentError, match="chmod 700"):
        await create(connector, template(["true"]))


async def test_prune_removes_what_ended_long_ago_and_nothing_else(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """A running job stays, however old; strange entries too."""
    gate = Gate(tmp_path)
    ended = await create(connector, template(["true"]))
    await until_ended(connector, ended)
    running = TOKEN[:-1] + "2"
    meta = await create(connector, shell(gate.WAIT, env=gate.env), token=running)
    await gate.reached()
    (connector.root / "notes").mkdir()
    (connector.root / (TOKEN[:-1] + "3")).write_text("a file")
    assert await connector.prune() == []
    connector._clock = AheadClock(2 * DAY)
    assert await connector.prune() == [TOKEN]
    with pytest.raises(ResourceGoneError):
        await connector.get(ended)
    left = sorted(path.name for path in connector.root.iterdir())
    assert left == ["notes", running, TOKEN[:-1] + "3"]
    await gate.open()
    await until_ended(connector, meta)


async def test_prune_spends_the_token_of_a_folder_that_was_never_started(
    connector: ProcessConnector,
) -> None:
    """Whoever made it and fell asleep cannot start anything in it any more."""
    folder_of(connector).mkdir(parents=True)
    connector._clock = AheadClock(2 * DAY)
    assert await connector.prune() == [TOKEN]


async def test_prune_finishes_what_a_prune_that_died_began(
    connector: ProcessConnector,
) -> None:
    """The half-removed folder has no token any more."""
    (connector.root / f".pruned-{TOKEN}" / "deep").mkdir(parents=True)
    assert await connector.prune() == []
    assert list(connector.root.iterdir()) == []


async def test_prune_keeps_what_the_retention_promises(
    connector: ProcessConnector,
) -> None:
    """A younger token may be replayed; without a root there is nothing to do."""
    with pytest.raises(ConfigurationError, match="below the retention"):
        await connector.prune(DAY / 2)
    assert await connector.prune(2 * DAY) == []
    assert connector.create_is_idempotent == DAY


async def pages(
    connector: ProcessConnector, meta: ProcessMeta, token: str = ""
) -> tuple[list[str], str, int]:
    """Return the lines of one call, the token for the next, and its pages."""
    lines: list[str] = []
    count = 0
    async for response in connector.get_logs(meta, token=token):
        if response.WhichOneof("part") == "body":
            count += 1
            lines += [
                line.short_pod_name + line.message for line in response.body.lines
            ]
        else:
            token = response.header.token
    return lines, token, count


async def test_logs_are_read_on_from_where_they_were_left(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """A line without an end waits; at the job's end it comes as it is."""
    gate = Gate(tmp_path)
    text = f"echo one; echo bad >&2; printf tw; {gate.WAIT}; echo o; printf three"
    meta = await create(connector, shell(text, env=gate.env))
    await gate.reached()
    lines, after, _ = await pages(connector, meta)
    assert (lines, after) == (["one", "stderrbad"], "4:4")
    assert await pages(connector, meta, after) == ([], after, 0)
    await gate.open()
    await until_ended(connector, meta)
    lines, after, _ = await pages(connector, meta, after)
    assert (lines, after) == (["two", "three"], "13:4")
    assert await pages(connector, meta, after) == ([], after, 0)


async def test_a_page_and_a_call_are_bounded(connector: ProcessConnector) -> None:
    """A gigabyte of logs is read in pieces, and no byte is lost or told twice."""
    size = PAGE_BYTES * (PAGES_MAX + 4)
    what = shell(f"yes 0123456789abcde | head -c {size}")
    meta = await create(connector, what)
    await until_ended(connector, meta)
    first, after, count = await pages(connector, meta)
    assert count == PAGES_MAX
    assert after == f"{PAGE_BYTES * PAGES_MAX}:0"
    rest, after, count = await pages(connector, meta, after)
    assert count == 4
    assert len(first) + len(rest) == size // 16
    assert set(first + rest) == {"0123456789abcde"}


async def test_a_line_longer_than_a_page_is_cut(connector: ProcessConnector) -> None:
    """It does not stop the reader."""
    meta = await create(connector, shell("head -c 100000 /dev/zero | tr '\\0' x"))
    await until_ended(connector, meta)
    lines, after, _ = await pages(connector, meta)
    assert [len(line) for line in lines] == [PAGE_BYTES, 100000 - PAGE_BYTES]
    assert after == "100000:0"


async def test_log_lines_are_clean(connector: ProcessConnector) -> None:
    """No line commands a terminal or pretends to be another one."""
    text = r"printf 'a\033[2Jb\000\007c\342\200\256d\377\n'"
    meta = await create(connector, shell(text))
    await until_ended(connector, meta)
    assert (await pages(connector, meta))[0] == ["abcd�"]


@pytest.mark.parametrize("token", ["x", "1", "1:", "-1:0", "1:2:3", "9" * 20 + ":0"])
async def test_a_log_token_that_is_none_is_refused(
    connector: ProcessConnector, token: str
) -> None:
    """It names no position."""
    with pytest.raises(PermanentError, match="log token"):
        await anext(aiter(connector.get_logs(ProcessMeta(TOKEN), token=token)))


async def test_a_position_behind_the_end_is_an_empty_page(
    connector: ProcessConnector,
) -> None:
    """Such as one of a file that was replaced."""
    meta = await create(connector, template(["echo", "x"]))
    await until_ended(connector, meta)
    assert await pages(connector, meta, "999:999") == ([], "999:999", 0)


def test_the_root_may_be_a_link_of_the_user_s(tmp_path: Path) -> None:
    """Below it links are refused; the root itself is the user's choice."""
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "jobs").symlink_to(tmp_path / "disk")
    connector = ProcessConnector(tmp_path / "jobs")
    meta = asyncio.run(create(connector, template(["true"])))
    assert (tmp_path / "disk" / meta.token).is_dir()
