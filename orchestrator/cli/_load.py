"""Loading a user's module, and the task in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import TaskTemplate
from orchestrator.errors import (
    ConnectorAlreadyRegisteredError,
    InvalidInputError,
    OrchestratorError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType


_DEFINITIONS = (".yaml", ".yml", ".toml")


def load_connectors(modules: Sequence[str]) -> None:
    """Import modules that register connectors, and register those of definitions.

    Raises:
        InvalidInputError: A module cannot be imported, or a definition not be used.
    """
    for name in modules:
        if name.endswith(_DEFINITIONS):
            _load_definition("connectors", name)
        else:
            load_module("connectors", name)


def load_task(target: str) -> TaskTemplate:
    """Return the task that ``MODULE:TASK`` names, or that a definition declares.

    Raises:
        InvalidInputError: There is no such module or task.
    """
    if target.endswith(_DEFINITIONS):
        return _load_definition("task", target)
    module_name, colon, path = target.rpartition(":")
    if not colon or not module_name or not path:
        problem = f"{target!r} must be MODULE:TASK or file.py:TASK"
        raise InvalidInputError("task", problem)
    value: Any = load_module("task", module_name)
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            problem = f"{module_name!r} has no {path!r}"
            raise InvalidInputError("task", problem) from None
    if not isinstance(value, TaskTemplate) and callable(value):
        with _refusing("task", target):
            value = value()
    if not isinstance(value, TaskTemplate):
        problem = f"{target!r} is no task, but of type {type(value).__qualname__}"
        raise InvalidInputError("task", problem)
    return value


def _load_definition(field: str, name: str) -> TaskTemplate:
    """Register the connector that a file defines, and return its task."""
    with _refusing(field, name):
        from orchestrator.connectors import ConnectorRegistry  # noqa: PLC0415 - rarely
        from orchestrator.connectors.http import (  # noqa: PLC0415 - needed
            HttpConnector,
            HttpTask,
        )

        connector = HttpConnector.load(name)
        try:
            ConnectorRegistry.register(connector)
        except ConnectorAlreadyRegisteredError:
            # The same file may be named as a task and as a connector.
            kind, version = connector.task_type_name, connector.task_type_version
            known = ConnectorRegistry.get_connector(kind, version)
            if getattr(known, "definition", None) != connector.definition:
                raise
        return HttpTask(Path(name).stem, connector.definition)


def load_module(field: str, name: str) -> ModuleType:
    """Import a module by its name, seen from the current folder, or by its file.

    Raises:
        InvalidInputError: *field* is named, and what the import raised.
    """
    with _refusing(field, name):
        if name.endswith(".py") or os.sep in name:
            return _load_file(Path(name))
        _look_in(Path.cwd())
        return importlib.import_module(name)


def _look_in(folder: Path) -> None:
    """Let imports look in *folder* first, as ``python -m`` and ``python file`` do."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _load_file(path: Path) -> ModuleType:
    path = path.absolute()
    # A name of its own: a file called json.py must not become the module json.
    name = f"orchestrator_file_{path.stem}_{abs(hash(str(path))):x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    _look_in(path.parent)
    # Dataclasses look for their module while they are made.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _refusing(field: str, what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into one refusal that names it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if os.environ.get("ORCHESTRATOR_DEBUG"):
            raise
        named = "" if isinstance(error, OrchestratorError) else type(error).__name__
        problem = ": ".join(filter(None, [what, named, str(error)]))
        raise InvalidInputError(field, problem) from error


def pairs(field: str, given: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a dict.

    Raises:
        InvalidInputError: One has no name or no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInputError(field, f"{text!r} must be NAME=VALUE")
        if name in found:
            raise InvalidInputError(field, f"{name!r} is given twice")
        found[name] = value
    return found
