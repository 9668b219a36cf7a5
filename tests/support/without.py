"""Python code after which some modules cannot be imported, as if not installed."""

from __future__ import annotations

_CODE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name in NAMES or name.startswith(tuple(n + "." for n in NAMES)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
"""


def without(*names: str) -> str:
    """Return code that hides the modules *names*, and all below them."""
    return f"NAMES = {names!r}\n{_CODE}"
