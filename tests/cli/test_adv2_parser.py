"""The command can be called at all."""

from __future__ import annotations

from orchestrator.cli._parser import build_parser, command_names


def test_the_parser_can_be_made_and_each_command_is_there_once() -> None:
    names = list(command_names(build_parser()))
    assert len(names) == len(set(names))
    assert "connectors serve" in names
