"""ProcessTask: a command as a task."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._secrets import secrets_from_request
from orchestrator._tasks import AsyncConnectorExecutorMixin, TaskTemplate
from orchestrator.connectors.process._command import (
    GRACE_S,
    STDOUT_BYTES,
    VARIABLE,
    CommandConfig,
)
from orchestrator.errors import ConfigurationError
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.models import SerializationContext

# What a JSON file cannot give back.
_NO_JSON = (bytes, date, timedelta)


class ProcessTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A command on the machine that runs the orchestrator.

    Inputs, outputs and secrets reach the command as told in
    ``orchestrator.connectors.process``.

    Args:
        name: Name of the task.
        command: The arguments, the program first; with *shell* one string.
        cwd: Folder to run in; None, and what is relative, means the
            orchestrator's own.
        env: Variables that are added to the inherited ones.
        shell: Run *command* by ``/bin/sh -c``. Default False.
        inputs: Name to type, or to ``(type, default)``.
        outputs: Name to type, in the order of the results. None for
            ``{"exit_code": int, "stdout": str}``, an empty mapping for none.
        inherit_env: Whether the command starts from the orchestrator's
            environment. Default True.
        grace: Time between TERM and KILL when the job is deleted. Longer lets the
            command tidy up, and keeps an abort waiting. Default 10 s.
        stdout_bytes: How much of the end of stdout (and stderr) is an output.
        **kwargs: Other fields of TaskTemplate, such as ``retries`` and ``timeout``.

    Raises:
        ConfigurationError: The command cannot be run as written, or mentions an
            input that is not declared; the field is named.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str] | str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        shell: bool = False,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        inherit_env: bool = True,
        grace: timedelta = timedelta(seconds=GRACE_S),
        stdout_bytes: int = STDOUT_BYTES,
        **kwargs: Any,
    ) -> None:
        try:
            self.command_config = CommandConfig(
                command=command if isinstance(command, str) else list(command),
                shell=shell,
                cwd=cwd,
                env=dict(env or {}),
                inherit_env=inherit_env,
                grace_s=grace.total_seconds(),
                stdout_bytes=stdout_bytes,
            )
        except ValueError as error:
            raise ConfigurationError(f"task {name}: {error}") from None
        if outputs is None:
            outputs = {"exit_code": int, "stdout": str}
        super().__init__(
            name=name,
            interface=NativeInterface(inputs=dict(inputs or {}), outputs=dict(outputs)),
            task_type="process",
            image=None,
            **kwargs,
        )
        self._check()

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return the command and how to run it."""
        del sctx
        return self.command_config.to_custom()

    def _check(self) -> None:
        """Refuse what the command could not get or give."""
        unknown = self.command_config.input_names() - set(self.interface.inputs)
        if unknown:
            raise ConfigurationError(
                f"task {self.name}: command mentions {sorted(unknown)}, declared"
                f" inputs are {sorted(self.interface.inputs)}"
            )
        for name, kind in self.interface.outputs.items():
            if isinstance(kind, type) and issubclass(kind, _NO_JSON):
                raise ConfigurationError(
                    f"task {self.name}: output {name!r} cannot be {kind.__name__}:"
                    " a command gives its outputs as JSON"
                )
        for secret in secrets_from_request(self.secrets or []):
            if not VARIABLE.fullmatch(secret.key):
                raise ConfigurationError(
                    f"task {self.name}: secret {secret.key!r} becomes an environment"
                    " variable of the command, and cannot have that name"
                )
