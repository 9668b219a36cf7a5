"""Imported by an example that needs more than the library: what is missing is one line.

An example whose extra is not installed ends with the command that installs it, and
without a traceback. In a program of yours, catch ConfigurationError where you start.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType


def tell(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what is missing, and anything else as Python does."""
    documented = re.search(r"pip install .+", sys.modules["__main__"].__doc__ or "")
    if isinstance(error, ModuleNotFoundError) and documented:
        print(f"{error}: {documented[0]}", file=sys.stderr)
    elif isinstance(error, ConfigurationError):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = tell
