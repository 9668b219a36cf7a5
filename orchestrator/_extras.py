"""How to get what an extra brings, in words that are safe to follow."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_OF_EXTRA = re.compile(
    r"(?P<requirement>[^;]+?)\s*;.*\bextra\s*==\s*(['\"])(?P<extra>[^'\"]+)\2.*"
)


def how_to_install(extra: str) -> str:
    """Return the ``pip install`` command for what *extra* brings.

    It names the vendors' distributions, as our metadata has them, and never our own:
    on a package index that name may be a stranger's. A checkout that is not installed
    has no metadata; then its path is named.
    """
    try:
        declared = requires("orchestrator") or []
    except PackageNotFoundError:
        declared = []
    found = [match for line in declared if (match := _OF_EXTRA.fullmatch(line))]
    names = [match["requirement"] for match in found if match["extra"] == extra]
    checkout = Path(__file__).parents[1]
    return shlex.join(["pip", "install", *(names or [f"{checkout}[{extra}]"])])
