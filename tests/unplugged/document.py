"""The section of ``docs/reliability.md``, as the tables say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unplugged.elsewhere import ALONE, HOMES
from tests.unplugged.mechanism import Promise
from tests.unplugged.mechanisms import MECHANISMS

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADING = "## Every mechanism switched off"
_HEAD = f"""{HEADING}

`python -m tests.unplugged` runs each test of this table with its mechanism on, where
it has to be green, and off, where it has to be red. `--only NAME` runs one line,
`--why` prints what each test said. `python -m pytest -p tests.unplugged.plugin
--unplug NAME TESTS` runs any tests without that mechanism. `make test` switches off
all but the slow ones.

| promise | mechanism | switched off | red then |
|---|---|---|---|
"""
_MORE = """
These have ablations of their own, which run with `make test` too:

| promise | without | test | command |
|---|---|---|---|
"""


def section() -> str:
    """Return the section, from its heading to its last line."""
    return _HEAD + "".join(_mechanisms()) + _MORE + "".join(_elsewhere())


def _mechanisms() -> Iterator[str]:
    for promise in Promise:
        for name, it in MECHANISMS.items():
            if it.promise is promise:
                tests = "<br>".join(f"`{_short(test)}`" for test in it.tests)
                yield f"| {promise} | {name} | {it.off} | {tests} |\n"


def _elsewhere() -> Iterator[str]:
    for promise in Promise:
        for home in HOMES.values():
            names = [name for name, serves in home.serves.items() if serves is promise]
            if names:
                what = "; ".join(names)
                test = f"`{home.file}::{home.test}`"
                yield f"| {promise} | {what} | {test} | `{home.command}` |\n"
        for (serves, what), (file, test, command) in ALONE.items():
            if serves is promise:
                yield f"| {promise} | {what} | `{file}::{test}` | `{command}` |\n"


def _short(test: str) -> str:
    """Return a node id without its parameters."""
    return test.partition("[")[0]
