"""``ls``, ``show``, ``history``, ``logs``: reading, safely, and changing nothing."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from orchestrator.cli._text import cut_ids
from tests.api.project import ROOT
from tests.cli.conftest import QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block

READERS = [
    ["ls"],
    ["show", "0" * 32],
    ["history", "0" * 32],
    ["logs", "0" * 32, "--connectors", QUICK],
    ["doctor"],
    ["db", "current"],
    ["abort", "0" * 32],
    ["resolve", "0" * 32, "--absent"],
    ["retry", "0" * 32, "--connectors", QUICK],
]


@pytest.mark.parametrize("arguments", READERS, ids=lambda a: a[0])
def test_a_database_that_is_not_there_is_not_made(
    cli: Cli, arguments: list[str]
) -> None:
    """Exit code 3, one line that names the file, and no file afterwards."""
    said = cli(*arguments)
    assert (said.code, said.out) == (3, "")
    assert "orchestrator.db: there is no such database" in said.err
    assert said.err.count("\n") == 1
    assert list(cli.folder.iterdir()) == []


@pytest.mark.parametrize("arguments", READERS[:5], ids=lambda a: a[0])
def test_an_old_database_is_not_upgraded_silently(
    cli: Cli, arguments: list[str]
) -> None:
    """An empty file is the oldest database there is."""
    cli.database.touch()
    said = cli(*arguments)
    assert said.code == 3
    assert "run `orchestrator db upgrade`" in said.err
    with closing(sqlite3.connect(cli.database)) as connection:
        query = "SELECT count(*) FROM sqlite_master"
        assert connection.execute(query).fetchone() == (0,)


def test_a_file_that_is_no_database_is_refused(cli: Cli) -> None:
    """Its bytes stay."""
    cli.database.write_text("a letter to a friend, " * 100)
    said = cli("ls")
    assert said.code == 3
    assert "is no database" in said.err
    assert cli.database.read_text() == "a letter to a friend, " * 100


def test_the_database_may_be_named_before_and_after_the_command(
    cli: Cli, tmp_path: Path
) -> None:
    """By path and by URL; the option wins over the variable."""
    path = str(tmp_path / "other.db")
    assert cli("--database", path, "run", f"{QUICK}:task", "-i", "mode=x").code == 0
    assert not cli.database.exists()
    url = f"sqlite+aiosqlite:///{path}"
    assert len(cli("ls", "--database", url, "--json").json) == 1


def test_ls_filters_and_pages(cli: Cli) -> None:
    """Newest first; ``--after`` continues where a page ended."""
    ids = [cli.accepted(f"m{n}", "--label", f"n={n}") for n in range(3)]
    cli.accepted("x", "--label", "team=a")
    listed = [row["id"] for row in cli("ls", "--json").json]
    assert listed[1:] == ids[::-1]
    page = cli("ls", "--limit", "2", "--after", listed[0], "--json")
    assert [row["id"] for row in page.json] == listed[1:3]
    assert [r["id"] for r in cli("ls", "--label", "n=1", "--json").json] == [ids[1]]
    assert cli("ls", "--phase", "running", "--json").json == []
    assert len(cli("ls", "--phase", "queued", "--json").json) == 4
    assert cli("ls", "--name", "other", "--json").json == []
    assert cli("ls", "--task-type", "other", "--json").json == []
    assert cli("ls", "--held", "--json").json == []
    shown = cli("ls", "--limit", "4")
    assert shown.out.splitlines()[0].split() == [
        "ID",
        "PHASE",
        "SUBMITTED",
        "(UTC)",
        "TASK",
        "MESSAGE",
    ]
    assert f"more: --after {ids[0]}" in shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "--limit", "0"], "limit: must be 1 to 1000"),
        (["ls", "--phase", "lost"], "phase: 'LOST' is none of"),
        (["ls", "--label", "x"], "label: 'x' must be NAME=VALUE"),
        (["ls", "--after", "zz"], "id: 'zz' must be 32 hex digits"),
        (["show", "0" * 32], f"no execution '{'0' * 32}'"),
        (["show", "0" * 7], "id: '0000000' must be 32 hex digits"),
        (["history", "0" * 8], "no execution '00000000'"),
        (["show", "0" * 33], "must be 32 hex digits"),
        (["show", "\x1b[31m"], "must be 32 hex digits"),
    ],
)
def test_bad_arguments_name_their_field(
    cli: Cli, arguments: list[str], words: str
) -> None:
    """Exit code 2, one line."""
    cli.accepted("x")
    said = cli(*arguments)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert "\x1b" not in said.err


def test_an_id_may_be_cut_if_what_is_left_is_unique(cli: Cli) -> None:
    """Dashes and capitals are accepted, as other tools print them."""
    execution_id = cli.accepted("x")
    assert cli("show", execution_id[:20], "--json").json["id"] == execution_id
    uuid = f"{execution_id[:8]}-{execution_id[8:12]}-{execution_id[12:]}".upper()
    assert cli("show", uuid, "--json").json["id"] == execution_id
    cli.accepted("y")
    said = cli("show", execution_id[:8])
    assert said.code == 2
    assert said.err.endswith("(quick_task, QUEUED): give more of it\n")
    candidates = re.findall(r"([0-9a-f]+) \(quick_task", said.err)
    assert candidates[1] == execution_id[: len(candidates[1])]
    shown = [line.split()[0] for line in cli("ls").out.splitlines()[1:]]
    assert shown == candidates
    assert len({len(cut) for cut in shown}) == 1
    for _ in range(4):
        cli.accepted("z")
    said = cli("show", execution_id[:8])
    assert said.err.count("quick_task, QUEUED") == 5
    assert said.err.endswith(" and more: give more of it\n")


@pytest.mark.parametrize(
    ("ids", "length"),
    [([], 12), (["a" * 32], 12), (["a" * 32, "a" * 20 + "b" * 12], 21)],
)
def test_ids_are_cut_to_what_tells_them_apart(ids: list[str], length: int) -> None:
    """Those of one millisecond have 12 characters in common."""
    assert cut_ids(ids) == [i[:length] for i in ids]


def test_show_and_history_tell_the_whole_life(cli: Cli) -> None:
    """The record, its jobs, its transitions."""
    execution_id = cli.run("x", "--json").json["id"]
    record = cli("show", execution_id, "--json").json
    assert record["phase"] == "SUCCEEDED"
    assert record["outputs"] == {"said": "x"}
    assert "outputs_proto" not in record
    (job,) = record["jobs"]
    assert (job["attempt"], job["cleanup"], job["meta"]) == (1, "NONE", {"mode": "x"})
    shown = cli("show", execution_id).out
    assert "SUCCEEDED" in shown
    assert "\njobs\n" in shown
    rows = cli("history", execution_id, "--json").json
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["cause"] == "REMOTE_SUCCEEDED"
    assert len(cli("history", execution_id).out.splitlines()) == 5


def test_nothing_that_is_printed_steers_the_terminal(cli: Cli) -> None:
    """Names, labels, inputs and logs are a stranger's text."""
    label = "k\x1b[2J=v\x9b31m\u2028\u202e"
    said = cli.run("x\x1b[31m\u202e", "--label", label, "--json", task="hostile")
    execution_id = said.json["id"]
    assert said.json["labels"] == {"k\x1b[2J": "v\x9b31m\u2028\u202e"}
    assert said.json["inputs"]["mode"] == "x\x1b[31m\u202e"
    printed = [
        said.out,
        cli("ls").out,
        cli("ls", "--json").out,
        cli("show", execution_id).out,
        cli("show", execution_id, "--json").out,
        cli("history", execution_id).out,
        cli("logs", execution_id, "--connectors", QUICK).out,
        cli.run("y\x1b[31m\u202e").out,
        cli("doctor").out,
    ]
    for text in printed:
        for character in ("\x1b", "\x07", "\x9b", "\u202e", "\u2028"):
            assert character not in text
    assert len(cli("ls").out.splitlines()) == 3


def test_logs_are_printed_as_the_connector_gives_them(cli: Cli) -> None:
    """Indentation and tabs stay; as JSON they are a list."""
    execution_id = cli.run("x", "--json").json["id"]
    said = cli("logs", execution_id, "--connectors", QUICK)
    assert said.code == 0
    assert said.out.splitlines()[:2] == ["first\tline", "  x"]
    listed = cli("logs", execution_id, "--connectors", QUICK, "--json")
    assert listed.json[:2] == ["first\tline", "  x"]


def test_logs_need_a_job_and_its_connector(cli: Cli) -> None:
    """Both are said, with the field or the task type named."""
    execution_id = cli.accepted("x")
    said = cli("logs", execution_id, "--connectors", QUICK)
    assert said.code == 2
    assert "has no job yet" in said.err


def test_reading_runs_no_scheduler(cli: Cli) -> None:
    """A row that is due stays as it is, and no node appears."""
    execution_id = cli.accepted("x")
    for arguments in (["ls"], ["show", execution_id], ["history", execution_id]):
        assert cli(*arguments).code == 0
    report = cli("doctor", "--json").json
    assert report["nodes"] == []
    assert report["executions"] == {"QUEUED": 1}
    with closing(sqlite3.connect(cli.database)) as connection:
        assert connection.execute("SELECT count(*) FROM node").fetchone() == (0,)


def test_a_reader_that_leaves_is_no_error(cli: Cli) -> None:
    """``orchestrator ls | true`` ends quietly."""
    cli.accepted("x")
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "ls"],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
