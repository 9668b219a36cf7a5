"""CrashAt: dies at its points, in their order, and stays dead until it is revived."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.testing import Crash, CrashAt


def test_who_is_dead_reaches_nothing_until_it_is_revived() -> None:
    """Each point crashes once, and only when the ones before it have."""
    crash = CrashAt("create.after_call", "get.before_call")
    crash.reach("get.before_call")
    for name in ("create.after_call", "created.before_commit"):
        with pytest.raises(Crash, match=name):
            crash.reach(name)
    assert (crash.dead, crash.left) == (True, ["get.before_call"])
    crash.revive()
    crash.reach("create.after_call")
    with pytest.raises(Crash):
        crash.reach("get.before_call")
    assert crash.left == []


def test_a_point_that_does_not_exist_is_named() -> None:
    """A test that never crashes would be green for ever."""
    with pytest.raises(ConfigurationError, match=r"'create\.during_call'"):
        CrashAt("create.during_call")
