"""Each of the protocol's variants, explored once for all tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from tests.model.rules import Change, Givens, Row, Seen, decide
from tests.model.variants import PROTOCOL

if TYPE_CHECKING:
    from tests.model.check import Report

Asked = tuple[Row, Seen, Givens]


@cache
def explored(name: str) -> tuple[Report, dict[Asked, Change]]:
    """Return what the exploration saw, and each decision that it asked for."""
    answers: dict[Asked, Change] = {}

    def listen(row: Row, seen: Seen, givens: Givens) -> Change:
        asked = (row, seen, givens)
        answer = answers.get(asked)
        if answer is None:
            answer = answers[asked] = decide(row, seen, givens)
        return answer

    variant = PROTOCOL[name]
    world = replace(variant.world, decide=listen)
    return variant._replace(world=world).explore(), answers
