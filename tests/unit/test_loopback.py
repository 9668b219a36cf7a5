"""Which hosts count as this machine itself: the one table for all who ask."""

from __future__ import annotations

import pytest

from orchestrator._loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "[::1]",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "[::FFFF:7f00:2]",
    ],
)
def test_this_machine(host: str) -> None:
    """What is sent there, nobody on a network reads."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0.0.0.0",  # noqa: S104 - a name like others
        "::",
        "::2",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "128.0.0.1",
        "fe80::1%lo",
    ],
)
def test_any_other_machine_or_one_that_nobody_can_be_sure_of(host: str) -> None:
    """Names are looked up by others, who may find something else."""
    assert not is_loopback(host)
