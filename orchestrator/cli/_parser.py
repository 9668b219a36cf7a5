"""The command line: every command with its options. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from orchestrator._version import __version__
from orchestrator.cli._serve import add_serve_options

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID = "the execution's id, or at least the first 8 characters of it"
_CONNECTORS = (
    "module (or file.py) whose import registers connectors, or the definition of an"
    " HTTP service (file.yaml or file.toml); may be repeated"
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the chosen command stands in ``command_function``."""
    parser = _Parser(
        prog="orchestrator",
        description="Run, look at and steer durable executions.",
        epilog="exit codes: 0 fine, 1 did not succeed, 2 bad usage, 3 no usable"
        " database",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser, database=None, json=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_readers(commands)
    _add_wishes(commands)
    _add_upkeep(commands)
    _add_connector_commands(commands)
    return parser


def command_names(parser: argparse.ArgumentParser | None = None) -> Iterator[str]:
    """Yield every command, such as ``ls`` and ``db upgrade``, for the documents."""
    for action in (parser or build_parser())._actions:  # noqa: SLF001 - no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, child in action.choices.items():
                below = list(command_names(child))
                yield from [f"{name} {command}" for command in below] or [name]


def _add_common(parser: argparse.ArgumentParser, **defaults: str | bool | None) -> None:
    """Add what every command takes, before or after its name."""
    parser.add_argument(
        "--database",
        metavar="PATH",
        default=defaults.get("database", argparse.SUPPRESS),
        help="path or URL; else ORCHESTRATOR_DATABASE, else ./orchestrator.db",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=defaults.get("json", argparse.SUPPRESS),
        help="print JSON: one object, or a list; times as ISO-8601",
    )


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, function: str, what: str
) -> _Parser:
    parser = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
    parser.set_defaults(command_function=function)
    _add_common(parser)
    return parser


def _add_connectors(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--connectors",
        metavar="MODULE",
        action="append",
        default=[],
        help=_CONNECTORS + more,
    )


def _add_wait(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--wait", action="store_true", help=what)
    _add_timeout(parser)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="stop waiting after this; the execution goes on",
    )


def _seconds(text: str) -> float:
    """Return a number of seconds that makes sense.

    Raises:
        ValueError: It is negative or no number.
    """
    value = float(text)
    if not value >= 0:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds"  # argparse names it in its message


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = _command(commands, "run", "_run:run", "submit a task and wait for its end")
    run.add_argument(
        "task",
        metavar="MODULE:TASK",
        help="a module or file.py, and in it a task, or what makes one when called;"
        " or the definition of an HTTP service: file.yaml or file.toml",
    )
    run.add_argument(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="text as it is for a str, else JSON; may be repeated",
    )
    _add_connectors(run)
    run.add_argument("--idempotency-key", metavar="KEY", help="never run this twice")
    run.add_argument(
        "--label", metavar="NAME=VALUE", action="append", default=[], help="to find it"
    )
    run.add_argument(
        "--no-wait",
        action="store_true",
        help="only accept it; a process that is running has to run it",
    )
    _add_timeout(run)


def _add_readers(commands: argparse._SubParsersAction[_Parser]) -> None:
    ls = _command(commands, "ls", "_read:ls", "list executions, newest first")
    ls.add_argument("--phase", action="append", type=str.upper, help="may be repeated")
    ls.add_argument("--task-type")
    ls.add_argument("--name", help="the task's name")
    ls.add_argument("--label", metavar="NAME=VALUE", action="append", default=[])
    ls.add_argument("--held", action="store_true", help="only those on hold")
    ls.add_argument("--limit", type=int, default=50, help="1 to 1000, default 50")
    ls.add_argument("--after", metavar="ID", help="the last id of the page before")
    show = _command(commands, "show", "_read:show", "show one execution and its jobs")
    show.add_argument("id", metavar="ID", help=_ID)
    history = _command(
        commands, "history", "_read:history", "show an execution's transitions"
    )
    history.add_argument("id", metavar="ID", help=_ID)
    logs = _command(commands, "logs", "_read:logs", "print the job's logs")
    logs.add_argument("id", metavar="ID", help=_ID)
    _add_connectors(logs)


def _add_wishes(commands: argparse._SubParsersAction[_Parser]) -> None:
    abort = _command(commands, "abort", "_wish:abort", "ask for an execution's end")
    abort.add_argument("id", metavar="ID", help=_ID)
    abort.add_argument("--reason", default="")
    _add_wait(abort, "until it is terminal")
    _add_connectors(abort, "; with --wait, carry it out in this process")
    retry = _command(
        commands, "retry", "_wish:retry", "submit a terminal execution's task again"
    )
    retry.add_argument("id", metavar="ID", help=_ID)
    _add_connectors(retry)
    _add_wait(retry, "run it in this process, until it is terminal")
    resolve = _command(
        commands,
        "resolve",
        "_wish:resolve",
        "say what you found out about a create whose outcome is unknown",
    )
    resolve.add_argument("id", metavar="ID", help=_ID)
    found = resolve.add_mutually_exclusive_group(required=True)
    found.add_argument(
        "--created", metavar="JSON", help="the job's resource meta: it is adopted"
    )
    found.add_argument(
        "--absent", action="store_true", help="there is no job: it is created again"
    )
    found.add_argument("--give-up", action="store_true", help="end it as unknown")
    _add_connectors(resolve)


def _add_upkeep(commands: argparse._SubParsersAction[_Parser]) -> None:
    doctor = _command(
        commands, "doctor", "_doctor:doctor", "say what needs a person; exit 1 if any"
    )
    _add_connectors(doctor, "; then what they cannot run or read is named, too")
    doctor.add_argument(
        "--days",
        type=int,
        default=30,
        help="orphans that are older do not count, default 30",
    )
    doctor.add_argument(
        "--audit",
        action="store_true",
        help="also check every invariant of the whole database; reads all of it",
    )
    db = commands.add_parser("db", help="the database's schema", allow_abbrev=False)
    below = db.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _command(below, "upgrade", "_db:upgrade", "bring the schema to this version's")
    _command(below, "current", "_db:current", "show the schema's revision")
    _command(commands, "phases", "_db:phases", "print the state machine as a chart")


def _add_connector_commands(commands: argparse._SubParsersAction[_Parser]) -> None:
    connectors = commands.add_parser(
        "connectors", help="the connectors themselves", allow_abbrev=False
    )
    below = connectors.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    check = _command(
        below,
        "check",
        "_connectors:check",
        "say what is wrong with the definition of an HTTP service; asks no service",
    )
    check.add_argument("file", metavar="FILE", nargs="+", help="YAML or TOML")
    _command(
        below,
        "schema",
        "_connectors:schema",
        "print the JSON schema of such definitions, for editors",
    )
    what = "offer connectors to a Flyte cluster, over gRPC"
    serve = _command(below, "serve", "_serve:serve", what)
    _add_connectors(serve)
    add_serve_options(serve)
