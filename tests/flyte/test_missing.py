"""Without the flyte package: said at once, with what to do, and nothing else breaks."""

from __future__ import annotations

import re
import subprocess
import sys
from types import ModuleType

import pytest

from orchestrator._extras import how_to_install
from orchestrator.errors import ConfigurationError
from orchestrator.flyte import install, uninstall


def test_a_missing_flyte_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By ``install``, not in the middle of a job."""
    monkeypatch.setitem(sys.modules, "flyte", None)
    with pytest.raises(ConfigurationError, match=re.escape(how_to_install("flyte"))):
        install()
    uninstall()


def test_an_old_flyte_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connectors have another shape."""
    old = ModuleType("flyte")
    old.version = lambda: "2.9.4"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flyte", old)
    monkeypatch.setitem(sys.modules, "flyte.connectors", ModuleType("flyte.connectors"))
    with pytest.raises(ConfigurationError, match=r"flyte 2\.9\.4 is older than 2\.12"):
        install()


def test_importing_the_module_does_not_import_flyte() -> None:
    """Not before ``install`` is called."""
    code = (
        "import sys; from orchestrator.flyte import install; import orchestrator.cli;"
        " print([m for m in sys.modules if m.split('.')[0] == 'flyte'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
