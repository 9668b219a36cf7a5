"""How a mechanism is switched off: attributes of the product replaced for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from orchestrator._storage._tx import Tx
from tests.engine import kit

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT_S = 1.0
"""What waits for something that does not come any more waits no longer than this."""


class Patch(NamedTuple):
    """One attribute and what stands there instead."""

    owner: Any
    attribute: str
    instead: Any


def rewritten(old: str, new: str) -> tuple[Patch, ...]:
    """Return what lets the writer send every statement with *new* for *old*."""

    def patch(verb: str) -> Patch:
        send = getattr(Tx, verb)

        async def instead(tx: Tx, sql: str, params: Any = ()) -> Any:
            return await send(tx, sql.replace(old, new), params)

        return Patch(Tx, verb, instead)

    return patch("run"), patch("scalar")


@contextmanager
def switched_off(patches: tuple[Patch, ...]) -> Iterator[None]:
    """Replace, and put back."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(kit, "DEADLINE_S", _SHORT_S)
        for patch in patches:
            # Read again: an attribute that a class inherits is no attribute of it.
            assert patch.attribute in vars(patch.owner), patch
            patching.setattr(patch.owner, patch.attribute, patch.instead)
        yield
