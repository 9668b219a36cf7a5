"""What a task's template says about its command, and the command made from it.

A template carries these keys in ``custom``; ``ProcessTask`` writes them, and a
template of other origin may:

===============  ===================================================================
``command``      list of arguments, or with ``shell`` one string
``shell``        run the string by ``/bin/sh -c``; default False
``cwd``          folder to run in; relative to, and by default, the orchestrator's
``env``          variables, added to the inherited ones and to those that the
                 template's container names (``env_vars`` of a task)
``inherit_env``  start from the orchestrator's environment; default True
``grace_s``      seconds between TERM and KILL; default 10
``stdout_bytes`` so much of the end of stdout is the output ``stdout``; default 65536
===============  ===================================================================
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from orchestrator.connectors._placeholders import INPUT, as_text
from orchestrator.connectors.process._supervisor import Spec
from orchestrator.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flyteidl2.core.tasks_pb2 import TaskTemplate

OUTPUTS_VARIABLE = "ORCHESTRATOR_OUTPUTS"
TOKEN_VARIABLE = "ORCHESTRATOR_TOKEN"  # noqa: S105 - the name of a job
INPUT_PREFIX = "INPUT_"
GRACE_S = 10.0
STDOUT_BYTES = 64 * 1024
STDOUT_BYTES_MAX = 8 * 1024 * 1024
GRACE_S_MAX = 24 * 3600.0

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """The part of ``custom`` that is ours, validated at birth.

    Raises:
        ValueError: A value cannot be used; the message names it.
    """

    command: list[str] | str
    shell: bool = False
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inherit_env: bool = True
    grace_s: float = GRACE_S
    stdout_bytes: int = STDOUT_BYTES

    def __post_init__(self) -> None:
        """Refuse what could not run, or would run as something else."""
        if self.shell:
            _check_shell_command(self.command)
        else:
            _check_arguments(self.command)
        for name, value in self.env.items():
            _check_variable(name, value, f"env[{name!r}]")
        if self.cwd is not None:
            _check_text(self.cwd, "cwd")
        if not 0 <= self.grace_s <= GRACE_S_MAX:
            raise ValueError(f"grace_s: {self.grace_s!r} is not 0 to {GRACE_S_MAX:g} s")
        if not 0 <= self.stdout_bytes <= STDOUT_BYTES_MAX:
            raise ValueError(
                f"stdout_bytes: {self.stdout_bytes!r} is not 0 to {STDOUT_BYTES_MAX}"
            )

    def to_custom(self) -> dict[str, Any]:
        """Return what stands in the template; defaults are left out."""
        whole = {
            "command": self.command,
            "shell": self.shell,
            "cwd": self.cwd,
            "env": dict(self.env),
            "inherit_env": self.inherit_env,
            "grace_s": self.grace_s,
            "stdout_bytes": self.stdout_bytes,
        }
        plain = CommandConfig(command=["true"]).__dict__
        return {k: v for k, v in whole.items() if v != plain[k]}

    @classmethod
    def from_template(cls, template: TaskTemplate) -> CommandConfig:
        """Read the template.

        Raises:
            PermanentError: It says nothing that could be run.
        """
        custom = json_format.MessageToDict(template.custom)
        known = {k: custom[k] for k in cls.__dataclass_fields__ if k in custom}
        container = {pair.key: pair.value for pair in template.container.env}
        known["env"] = container | known.get("env", {})
        if "stdout_bytes" in known:  # protobuf's JSON knows floats only
            known["stdout_bytes"] = int(known["stdout_bytes"])
        try:
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise PermanentError(f"task {template.id.name!r}: {error}") from error

    def input_names(self) -> set[str]:
        """Return the names of the inputs that the arguments mention."""
        if isinstance(self.command, str):
            return set()
        return {name for part in self.command for name in INPUT.findall(part)}


def build_spec(
    config: CommandConfig,
    *,
    inputs: Mapping[str, Any],
    secrets: Mapping[str, Any],
    environ: Mapping[bytes, bytes],
    extra: Mapping[str, str],
) -> Spec:
    """Make the command that is to run.

    Inputs become arguments or variables and are never read by a shell. Secrets
    become variables of their keyword's name; an inherited variable that holds the
    same value under another name is not handed on. *environ* is the orchestrator's
    environment, *extra* what we promise to the command.

    Raises:
        PermanentError: An input or secret cannot be handed over; it is named,
            and a secret's value is not shown.
    """
    texts: dict[str, str] = {}
    for name, value in inputs.items():
        texts[name] = _as_text(name, value)
    variables = dict(config.env)
    if isinstance(config.command, str):
        argv = ["/bin/sh", "-c", config.command]
        variables |= {INPUT_PREFIX + name: text for name, text in texts.items()}
    else:
        argv = [_fill_in(part, texts) for part in config.command]
    for name, value in secrets.items():
        _refuse_permanently(_check_variable, name, value, f"secret {name!r}")
        variables[name] = value
    variables |= extra
    hidden = {os.fsencode(value) for value in secrets.values()}
    inherited = environ if config.inherit_env else {}
    env = {k: v for k, v in inherited.items() if v not in hidden and b"=" not in k}
    env |= {os.fsencode(k): os.fsencode(v) for k, v in variables.items()}
    return Spec(
        grace_s=config.grace_s,
        cwd=os.fsencode(Path.cwd() / (config.cwd or "")),
        argv=[os.fsencode(part) for part in argv],
        env=env,
    )


def _as_text(name: str, value: Any) -> str:
    """Return an input as an argument: a str as it is, all else as JSON has it."""
    try:
        return _check_text(as_text(value), f"input {name!r}")
    except ValueError as error:
        problem = f"input {name!r} cannot become an argument: {error}"
        raise PermanentError(problem) from error


def _fill_in(part: str, texts: Mapping[str, str]) -> str:
    """Fill the inputs into one argument, in one pass: values are never templates."""

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in texts:
            raise PermanentError(f"command: there is no input {name!r}")
        return texts[name]

    return INPUT.sub(value_of, part)


def _refuse_permanently(check: Callable[..., object], *args: Any) -> None:
    """Run a check of ours whose ValueError ends the attempt."""
    try:
        check(*args)
    except ValueError as error:
        raise PermanentError(str(error)) from None


def _check_text(value: Any, what: str) -> str:
    """Return *value* if an operating system takes it as an argument or variable."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a str, not {type(value).__name__}")  # noqa: TRY004
    if "\0" in value:
        raise ValueError(f"{what} holds a NUL character")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds a lone surrogate") from None
    return value


def _check_variable(name: str, value: Any, what: str) -> None:
    """Refuse what is no environment variable."""
    if not VARIABLE.fullmatch(name):
        raise ValueError(f"{what}: {name!r} is no name of an environment variable")
    _check_text(value, what)


def _check_shell_command(command: Sequence[str] | str) -> None:
    """Refuse a list, and inputs inside the text of a shell."""
    if not isinstance(command, str) or not command.strip():
        raise ValueError("command: with shell=True it must be one non-empty str")
    _check_text(command, "command")
    if match := INPUT.search(command):
        raise ValueError(
            f"command: {match.group()} would be read by the shell, which is how"
            f' commands are injected; write "${INPUT_PREFIX}{match.group(1)}" (with the'
            " double quotes): inputs are environment variables there"
        )


def _check_arguments(command: Sequence[str] | str) -> None:
    """Refuse a bare string, an empty list, and an input as the program's name."""
    if isinstance(command, str):
        raise ValueError(  # noqa: TRY004 - Flyte's users catch ValueErrors
            "command: must be a list such as ['ls', '-l']; a str is for shell=True"
        )
    if not command:
        raise ValueError("command: is empty")
    for index, part in enumerate(command):
        _check_text(part, f"command[{index}]")
    if not command[0] or INPUT.search(command[0]):
        raise ValueError("command[0]: an input must not choose the program")
