"""The public surface: what is exported, that it is documented, that it is lazy."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from tests.api.project import ROOT, python_files

if TYPE_CHECKING:
    from collections.abc import Iterator

# Import names that must not be paid for by `import orchestrator` alone.
HEAVY = (
    "aiosqlite",
    "alembic",
    "databricks",
    "google",
    "pydantic",
    "requests",
    "rich",
    "sqlalchemy",
)


def _public_modules() -> Iterator[str]:
    """Yield the modules whose dotted name has no private part."""
    for path in python_files("orchestrator"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            yield ".".join(parts)


PUBLIC_MODULES = sorted(_public_modules())


def _is_ours(member: object) -> bool:
    return getattr(member, "__module__", "").split(".")[0] == "orchestrator"


def _exported() -> Iterator[tuple[str, object]]:
    """Yield every exported symbol once, by the name that a user would import."""
    seen: set[int] = set()
    for module_name in PUBLIC_MODULES:
        module = importlib.import_module(module_name)
        for symbol_name in module.__all__:
            symbol = getattr(module, symbol_name)
            if id(symbol) not in seen:
                seen.add(id(symbol))
                yield f"{module_name}.{symbol_name}", symbol


def _undocumented(where: str, symbol: object) -> Iterator[str]:
    """Yield *symbol* and its own public members that say nothing of themselves."""
    if not (inspect.isclass(symbol) or inspect.isroutine(symbol)):
        return
    if not _is_ours(symbol):
        return
    if not inspect.getdoc(symbol):
        yield where
    if inspect.isclass(symbol):
        for name, member in vars(symbol).items():
            documented = inspect.isroutine(member) or isinstance(member, property)
            if documented and not name.startswith("_") and not inspect.getdoc(member):
                yield f"{where}.{name}"


@pytest.mark.parametrize("module_name", PUBLIC_MODULES)
def test_all_lists_exactly_the_public_names(module_name: str) -> None:
    """What ``__all__`` leaves out is private, and everything in it exists.

    The order is ruff's business (RUF022).
    """
    module = importlib.import_module(module_name)
    exported = list(module.__all__)
    assert len(exported) == len(set(exported))
    assert {name for name in exported if not hasattr(module, name)} == set()
    assert set(exported) <= set(dir(module))
    defined_here = {
        name
        for name, member in vars(module).items()
        if not name.startswith("_")
        and not isinstance(member, ModuleType)
        and getattr(member, "__module__", None) == module_name
    }
    assert defined_here <= set(exported)


def test_every_public_symbol_has_a_docstring() -> None:
    """So have the public methods and properties of every public class."""
    missing = [
        name for where, symbol in _exported() for name in _undocumented(where, symbol)
    ]
    assert not missing


def test_importing_the_package_imports_nothing_heavy() -> None:
    """``import orchestrator`` is quick: the rest comes with first use."""
    code = f"import sys, orchestrator; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
