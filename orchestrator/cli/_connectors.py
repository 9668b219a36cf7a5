"""``connectors``: check definitions of HTTP services, and print their JSON schema."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.cli._errors import OK, REFUSED
from orchestrator.cli._text import one_line, print_json
from orchestrator.connectors.http import HttpConnector, HttpDefinition
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from argparse import Namespace


_COSTS = {
    "fail": "a crash in create ends as CREATE_OUTCOME_UNKNOWN",
    "hold": "a crash in create is held until somebody resolves it",
    "create": "a crash in create may make a second job",
}
"""What class N costs, by ``on_unknown_create``."""


def check(options: Namespace) -> int:
    """Make the connector of each file; tell every problem in a line of its own."""
    found = [_look(file) for file in options.file]
    if options.json:
        print_json(found)
    for item in () if options.json else found:
        for problem in item["problems"]:
            print(one_line(problem), file=sys.stderr)
        if not item["problems"]:
            print(one_line(f"{item['file']}: fine: {item['says']}"))
    return REFUSED if any(item["problems"] for item in found) else OK


def schema(options: Namespace) -> int:
    """Print the schema."""
    del options
    print_json(HttpDefinition.model_json_schema())
    return OK


def _look(file: str) -> dict[str, Any]:
    try:
        connector = HttpConnector.load(file)
    except ConfigurationError as error:
        problems = str(error).split("\n")
        # Those of a part that no file is to blame for, such as a missing library.
        named = [p if file in p else f"{file}: {p}" for p in problems]
        return {"file": file, "says": None, "problems": named}
    definition = connector.definition
    says = (
        f"task type {definition.task_type}, {_promise(connector)},"
        f" {len(definition.status.phases)} states, at {definition.hosts.base}"
    )
    return {"file": file, "says": says, "problems": []}


def _promise(connector: HttpConnector) -> str:
    """Return the class of the connector's promise, in words."""
    kept = connector.create_is_idempotent
    if isinstance(kept, timedelta):
        return f"class I for {str(kept).removesuffix(', 0:00:00')}"
    if kept:
        return "class I"
    if connector.definition.find is not None:
        return "class L"
    return f"class N ({_COSTS[connector.on_unknown_create]})"
