"""What the checks found: named, with what was seen and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Which.
        outcome: OK, FAILED, or NOT_CHECKED: nothing could be said.
        seen: What was seen.
        advice: What to do about it; empty if nothing is to be done.
    """

    name: str
    outcome: Outcome
    seen: str
    advice: str = ""

    def __str__(self) -> str:
        """Return it as lines of text."""
        advice = f"\n{'':<14}-> {self.advice}" if self.advice else ""
        return f"{self.outcome:<12}  {self.name}: {self.seen}{advice}"


@dataclass(frozen=True, slots=True)
class Report:
    """What ``check_connector`` found; printable.

    Attributes:
        connector: Name of the connector's class.
        checks: Every check, in the order in which they were made.
    """

    connector: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what could not be checked does not count."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome is Outcome.FAILED]

    def __getitem__(self, name: str) -> Check:
        """Return the check called *name*.

        Raises:
            KeyError: There was none.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def __str__(self) -> str:
        """Return all of it as lines of text."""
        return "\n".join([self.connector, *map(str, self.checks)])

    def assert_ok(self) -> None:
        """Do nothing if all is well.

        Raises:
            AssertionError: Something failed; every failed check is told.
        """
        if self.failed:
            head = f"{self.connector} fails {len(self.failed)} checks"
            raise AssertionError("\n".join([head, *map(str, self.failed)]))


class FindingError(Exception):
    """Raised by a check that fails: what was seen, and what to do about it."""

    def __init__(self, seen: str, advice: str) -> None:
        """Tell both."""
        super().__init__(seen)
        self.advice = advice


class NotCheckedError(Exception):
    """Raised by a check that can say nothing: why, and how to enable it."""

    def __init__(self, seen: str, advice: str = "") -> None:
        """Tell both."""
        super().__init__(seen)
        self.advice = advice
