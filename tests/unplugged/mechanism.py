"""What a row of the table says."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tests.unplugged.switch import Patch


class Promise(StrEnum):
    """The lines of README's promise table, by their first words, and two more."""

    KILL = "kill -9, power loss, out of memory, at any instruction"
    CREATE = "a crash between `create` and storing its answer"
    GET = "`get` raises, hangs, answers nonsense"
    ABORT = "abort, timeout, lost race"
    TWO = "two processes on one database, a paused process that wakes up"
    AWAY = "the database is locked or the disk is full"
    TERMINAL = "a terminal row"
    KEY = "a `submit` with a key that was used before"
    ROW = "one bad row or connector"
    SECRET = "a secret that a service quotes"  # noqa: S105 - a promise


class Mechanism(NamedTuple):
    """A mechanism, how it is switched off, and the tests that are red then.

    Attributes:
        promise: What it serves.
        off: What is the case without it, in words.
        patches: The switch.
        tests: Node ids; every one has to be red.
        heavy: Whether it is left out of the run of all tests.
    """

    promise: Promise
    off: str
    patches: tuple[Patch, ...]
    tests: tuple[str, ...]
    heavy: bool = False


_ENGINE, _STORE, _UNIT = "tests/engine/test_", "tests/conformance/test_", "tests/unit/"
FILE = "[sqlite-file]"
"""The store of most tests of stores."""


def one(owner: object, attribute: str, instead: object) -> tuple[Patch, ...]:
    """Return the switch that is one attribute."""
    return (Patch(owner, attribute, instead),)


def engine(*tests: str) -> tuple[str, ...]:
    """Return tests of the engine, from their file and name."""
    return tuple(_ENGINE + test.replace("::", ".py::") for test in tests)


def store(*tests: str) -> tuple[str, ...]:
    """Return tests of the store, from their file and name."""
    return tuple(_STORE + test.replace("::", ".py::") for test in tests)


def unit(*tests: str) -> tuple[str, ...]:
    """Return tests of one unit, from their file and name."""
    return tuple(_UNIT + "test_" + test.replace("::", ".py::") for test in tests)
