"""``abort``, ``retry`` and ``resolve``: wishes that outlive the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import QUICK, TRIES

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block

HERE = ("--connectors", QUICK)
NOBODY = (
    "a process that loads the connector of '{}' (start one: none is at work on this"
    " database)"
)


def test_abort_is_a_wish_that_the_next_process_carries_out(cli: Cli) -> None:
    """Durable at once, done by whoever runs the execution."""
    execution_id = cli.going_on("never", task="deleting")
    said = cli("abort", execution_id, "--reason", "not\x1b[31m needed")
    assert (said.code, said.err) == (0, "")
    assert (
        said.out == f"{execution_id} will be aborted by {NOBODY.format('deleting')}\n"
    )
    record = cli("show", execution_id, "--json").json
    assert record["abort_reason"] == "not needed"
    assert record["phase"] == "RUNNING"
    done = cli("abort", execution_id, "--wait", *HERE, "--timeout", "10")
    assert done.code == 0
    told = f"{execution_id} will be aborted by this process; waiting until its job is"
    assert done.err.startswith(told)
    assert cli("show", execution_id, "--json").json["phase"] == "ABORTED"


def test_abort_of_what_is_terminal_is_no_error(cli: Cli) -> None:
    """Nothing changes."""
    execution_id = cli.run("x", "--json").json["id"]
    said = cli("abort", execution_id)
    assert (said.code, said.out) == (0, f"{execution_id} is SUCCEEDED already\n")
    assert cli("abort", execution_id, "--json").json["phase"] == "SUCCEEDED"


def test_abort_with_wait_gives_up_after_its_timeout(cli: Cli) -> None:
    """Nobody runs it: the wish stays."""
    execution_id = cli.going_on("never")
    said = cli("abort", execution_id, "--wait", "--timeout", "0.1")
    assert said.code == 1
    waiting, error = said.err.splitlines()[0], said.err.splitlines()[-1]
    who = NOBODY.format("quick")
    assert waiting.startswith(f"{execution_id} will be aborted by {who}; waiting")
    assert error.endswith("after 0.1 s; its abort stays wished: wait again")
    quiet = cli("abort", execution_id, "--wait", "--timeout", "0", "--json")
    assert quiet.err.count("\n") == 1


def test_retry_submits_the_same_again(cli: Cli) -> None:
    """A new execution that names the old one."""
    old = cli.run("fail", "--json").json["id"]
    record = cli("retry", old, *HERE, "--json").json
    assert (record["retry_of"], record["phase"]) == (old, "QUEUED")
    said = cli("retry", old, *HERE, "--wait", "--timeout", "10")
    assert said.code == 1
    assert "FAILED [REMOTE_FAILED]: no luck" in said.err


def test_retry_needs_a_terminal_execution_and_its_connector(cli: Cli) -> None:
    """Each refusal says what is missing."""
    execution_id = cli.accepted("x")
    live = cli("retry", execution_id, *HERE)
    assert (live.code, "abort it" in live.err) == (2, True)
    blind = cli("retry", execution_id)
    assert (blind.code, "--connectors MODULE is needed" in blind.err) == (2, True)


@pytest.mark.parametrize(
    ("choice", "phase", "cause"),
    [
        (["--give-up"], "FAILED", "GIVEN_UP"),
        (["--absent"], "CREATE_UNKNOWN", "KNOWN_ABSENT_DELAYED"),
        (["--created", '{"mode": "found"}', *HERE], "SUCCEEDED", "ADOPTED"),
    ],
    ids=["give-up", "absent", "created"],
)
def test_resolve_says_what_became_of_an_unknown_create(
    cli: Cli, choice: list[str], phase: str, cause: str
) -> None:
    """The execution is on hold until somebody does; then it goes on from there."""
    execution_id = cli.going_on("unknown")
    held = cli("ls", "--held", "--json").json[0]
    assert (held["phase"], held["hold"]) == ("CREATE_UNKNOWN", "OUTCOME_UNKNOWN")
    said = cli("resolve", execution_id, *choice)
    assert (said.code, said.err) == (0, "")
    causes: list[str] = []
    for _ in range(TRIES):
        cli.until_phase(execution_id, phase)
        rows = cli("history", execution_id, "--json").json
        causes = [row["cause"] for row in rows]
        if cause in causes:
            return
    raise AssertionError(causes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of the arguments --created --absent --give-up is required"),
        (["--absent", "--give-up"], "not allowed with argument"),
        (["--created", "{}"], "--connectors MODULE is needed"),
        (["--created", "{}", *HERE], "created: "),
        (["--created", "no json", *HERE], "created: "),
        (["--absent"], "is QUEUED, not CREATE_UNKNOWN"),
    ],
)
def test_a_resolution_that_cannot_be_is_refused(
    cli: Cli, arguments: list[str], words: str
) -> None:
    """Exit code 2, one line; nothing is written."""
    execution_id = cli.accepted("x")
    said = cli("resolve", execution_id, *arguments)
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
