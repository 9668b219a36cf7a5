"""Lets pytest run with a mechanism off: ``-p tests.unplugged.plugin --unplug NAME``.

With ``--unplug`` every test runs without the mechanism. With ``--unplugged FILE`` each
test runs with everything on, then once for each mechanism that names it, with that one
off, and what became of it is written to FILE. (A start of pytest takes longer than
most of these tests.)
"""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from tests.unplugged.mechanisms import MECHANISMS
from tests.unplugged.switch import switched_off

if TYPE_CHECKING:
    from collections.abc import Iterator

ON = ""
"""The name under which the run with everything on is noted."""
_OURS = "tests/unplugged/"
_LATE_S, _AGAIN_S = 4.0, 2.0


class LateError(Exception):
    """What waits for a thing that a mechanism would have brought about."""


@contextmanager
def _limited(*, off: bool) -> Iterator[None]:
    """Interrupt what hangs without its mechanism, and again what hangs at its end."""
    if not off:
        yield
        return

    def late(*_: object) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _LATE_S, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the options."""
    group = parser.getgroup("unplugged")
    group.addoption("--unplug", action="append", default=[], metavar="NAME")
    group.addoption("--unplugged", metavar="FILE", help="write what became of each")
    group.addoption("--only-red", action="store_true", help="not with all on")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a name that the table does not have."""
    for name in config.getoption("--unplug"):
        if name not in MECHANISMS:
            raise pytest.UsageError(f"no mechanism {name!r}: {', '.join(MECHANISMS)}")
    if config.getoption("--unplugged"):
        config.pluginmanager.register(_Each(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Run a test, its fixtures included, without what is named."""
    with ExitStack() as stack:
        for name in item.config.getoption("--unplug"):
            stack.enter_context(switched_off(MECHANISMS[name].patches))
        return (yield)


class _Each:
    """Runs each test once for each mechanism that names it."""

    def __init__(self, config: pytest.Config) -> None:
        self._only_red = bool(config.getoption("--only-red"))
        self._file = Path(config.getoption("--unplugged"))
        self._off = False
        self._outcomes: list[tuple[str, str, str, str]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Function, nextitem: pytest.Item | None
    ) -> bool:
        """Run, and note."""
        named = [name for name, it in MECHANISMS.items() if item.nodeid in it.tests]
        if not self._only_red:
            self._note(ON, item)
        for name in named:
            with switched_off(MECHANISMS[name].patches):
                self._note(name, item)
        # What modules and the session have made is kept for the tests that come.
        item.session._setupstate.teardown_exact(nextitem)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Interrupt a test that hangs."""
        with _limited(off=self._off):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """Interrupt a test that hangs at its end."""
        with _limited(off=self._off):
            return (yield)

    def _note(self, name: str, item: pytest.Function) -> None:
        item._initrequest()
        self._off = name != ON
        # Its own fixtures are torn down, those of its module stay.
        parent: Any = item.parent
        reports = runtestprotocol(item, log=False, nextitem=parent)
        outcome, why = "passed", ""
        for report in reports:
            if report.failed and outcome == "passed":
                crash = getattr(report.longrepr, "reprcrash", None)
                why = str(report.longrepr)[-300:] if crash is None else crash.message
                hangs = "LateError" in why
                ours = crash is not None and _OURS in crash.path and not hangs
                # Only what the test itself finds, or checks at its end, is red.
                broken = report.when == "setup" or ours
                outcome = "broken" if broken else "failed"
        self._outcomes.append((name, item.nodeid, outcome, why.split("\n")[0]))
        self._file.write_text(json.dumps(self._outcomes))
