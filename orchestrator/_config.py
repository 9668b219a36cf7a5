"""Settings: every one with its unit, its default and the consequence both ways.

Precedence: arguments, then ``ORCHESTRATOR_*`` environment variables, then
``[tool.orchestrator]`` in pyproject.toml or ``orchestrator.toml``.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_DATABASE = "sqlite+aiosqlite:///orchestrator.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the engine treats one connector's jobs.

    Give it as the class attribute ``policy`` of a connector; without one the
    defaults hold.

    Attributes:
        poll_delay_min: First delay between polls. Shorter sees quick jobs sooner
            and costs calls.
        poll_delay_max: Longest delay between polls. Longer costs latency at the
            end of long jobs and saves calls.
        poll_factor: Growth of the delay per poll without news; at least 1.
        jitter: Share of a delay that chance may take off, 0 to 1; spreads herds.
        error_delay_min: First delay after a failed call.
        error_delay_max: Longest delay after failed calls.
        hold_delay: Delay between looks at a row on hold.
        create_timeout: After this ``create`` counts as unknown; the call goes on,
            detached, and a late answer is entered in the ledger.
        create_hard_timeout: After this a detached ``create`` is cancelled.
        get_timeout: After this ``get`` is cancelled; it spends poll budget. Each page
            of ``get_logs``, and ``get_metrics``, have as long.
        delete_timeout: After this ``delete`` is cancelled and called again later.
        find_timeout: After this ``find`` is cancelled and called again later.
        create_budget: How long refusals (throttled, transient) of ``create`` are
            answered by the same attempt again before it FAILS.
        poll_budget_errors: Failed calls in a row, at least, before a job is given
            up.
        poll_budget: Time of failing calls, at least, before a job is given up;
            only time in which this engine was polling counts.
        gone_grace: So long after ``create`` a ``get`` that says "gone" is not
            believed: services list new jobs late.
        find_settle: So long after ``create`` a ``find`` that says "none" is not
            believed.
        sweep_for: So long after a "none" of ``find`` was believed the token is
            searched again, ever more rarely; 0 never. A second job is deleted.
        cleanup_deadline: After this a job that could not be confirmed deleted is
            ABANDONED, with an alert, and the execution takes its terminal phase.
        retry_on_failed: Whether a remote FAILED spends a retry, as
            RETRYABLE_FAILED always does.
        output_bytes_max: Encoded outputs larger than this are refused.
    """

    poll_delay_min: timedelta = timedelta(seconds=1)
    poll_delay_max: timedelta = timedelta(seconds=30)
    poll_factor: float = 1.2
    jitter: float = 0.1
    error_delay_min: timedelta = timedelta(seconds=1)
    error_delay_max: timedelta = timedelta(minutes=5)
    hold_delay: timedelta = timedelta(minutes=1)
    create_timeout: timedelta = timedelta(seconds=60)
    create_hard_timeout: timedelta = timedelta(minutes=15)
    get_timeout: timedelta = timedelta(seconds=30)
    delete_timeout: timedelta = timedelta(seconds=30)
    find_timeout: timedelta = timedelta(seconds=30)
    create_budget: timedelta = timedelta(hours=24)
    poll_budget_errors: int = 10
    poll_budget: timedelta = timedelta(hours=24)
    gone_grace: timedelta = timedelta(seconds=60)
    find_settle: timedelta = timedelta(seconds=30)
    sweep_for: timedelta = timedelta(hours=24)
    cleanup_deadline: timedelta = timedelta(hours=24)
    retry_on_failed: bool = False
    output_bytes_max: int = 10 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        _check_durations(self)
        if not self.poll_factor >= 1:
            _refuse("poll_factor", self.poll_factor, "must be at least 1")
        if not 0 <= self.jitter <= 1:
            _refuse("jitter", self.jitter, "must be between 0 and 1")
        if self.poll_delay_max < self.poll_delay_min:
            _refuse("poll_delay_max", self.poll_delay_max, "is below poll_delay_min")
        if self.error_delay_max < self.error_delay_min:
            _refuse("error_delay_max", self.error_delay_max, "is below error_delay_min")
        if self.create_hard_timeout < self.create_timeout:
            _refuse(
                "create_hard_timeout",
                self.create_hard_timeout,
                "is below create_timeout",
            )
        if self.poll_budget_errors < 1:
            _refuse("poll_budget_errors", self.poll_budget_errors, "must be at least 1")
        if self.output_bytes_max < 1:
            _refuse("output_bytes_max", self.output_bytes_max, "must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one engine works.

    Attributes:
        batch_max: Rows claimed by one tick. More is faster in bulk and holds more
            rows in memory.
        in_flight_max: Steps at work at once, in all.
        lease: How long a node that went silent keeps its rows. Longer survives
            longer pauses; shorter takes over sooner. On one host a dead process is
            noticed at once, whatever this says.
        heartbeat: How often a node renews its lease; at most a third of *lease*.
        idle: Longest sleep of an idle scheduler.
        watch: How often an idle scheduler asks the database whether another
            process wrote something. Shorter sees its submissions sooner.
        missing_connector_grace: So long a due row of a task type that this node
            has not loaded is left to other nodes before it is put on hold.
        migrate: Whether opening a database upgrades its schema. False raises
            SchemaMismatchError instead.
        input_bytes_max: Encoded inputs larger than this are refused.
        busy_timeout: How long a SQLite write waits for another process's
            transaction.
        output_prefix: Handed to ``create``, a path or URL; the execution's id and
            attempt are appended.
        secrets: Where values of secrets are looked up, in this order, separated by
            commas: ``environment``, ``files:FOLDER``, ``keyring:SERVICE``.
            ``Orchestrator(secrets=...)`` wins.
        stop_timeout: How long a stopping engine waits for calls in flight; they
            are recovered at the next start.
    """

    batch_max: int = 250
    in_flight_max: int = 1000
    lease: timedelta = timedelta(seconds=60)
    heartbeat: timedelta = timedelta(seconds=15)
    idle: timedelta = timedelta(seconds=60)
    watch: timedelta = timedelta(milliseconds=100)
    missing_connector_grace: timedelta = timedelta(seconds=30)
    migrate: bool = True
    input_bytes_max: int = 10 * 1024 * 1024
    busy_timeout: timedelta = timedelta(seconds=30)
    output_prefix: str = ".orchestrator/outputs"
    secrets: str = "environment,files:/etc/flyte/secrets"
    stop_timeout: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        _check_durations(self)
        for name in ("batch_max", "in_flight_max", "input_bytes_max"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "must be at least 1")
        for name in ("heartbeat", "idle", "watch"):
            if getattr(self, name) <= timedelta(0):
                _refuse(name, getattr(self, name), "must be above zero")
        if self.heartbeat * 3 > self.lease:
            _refuse("heartbeat", self.heartbeat, "must be at most a third of lease")


def load_config(
    environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> Config:
    """Read settings from the environment, then from a TOML file in *folder*.

    Args:
        environ: None for the process's environment.
        folder: None for the current folder.

    Raises:
        ConfigurationError: A value does not parse, or a key is unknown.
    """
    environ = os.environ if environ is None else environ
    values = _from_toml(folder or Path.cwd())
    values.pop("database", None)
    hints = get_type_hints(Config)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        _refuse(
            unknown[0], values[unknown[0]], f"is no setting; known: {sorted(hints)}"
        )
    for name in hints:
        text = environ.get(f"ORCHESTRATOR_{name.upper()}")
        if text is not None:
            values[name] = text
    return Config(**{k: _parse(k, v, hints[k]) for k, v in values.items()})


def database_url(
    database: str | os.PathLike[str] | None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Return the SQLAlchemy URL of a database named by URL, path or nothing.

    None means ``ORCHESTRATOR_DATABASE``, then the TOML file, then
    ``./orchestrator.db``.
    """
    environ = os.environ if environ is None else environ
    if database is None:
        database = environ.get("ORCHESTRATOR_DATABASE")
    if database is None:
        toml = _from_toml(folder or Path.cwd())
        configured: str = toml.get("database", DEFAULT_DATABASE)
        database = configured
    text = os.fspath(database)
    if text.startswith("sqlite:///"):
        return "sqlite+aiosqlite:///" + text.removeprefix("sqlite:///")
    if "://" in text:
        return text
    if not text:
        _refuse("database", text, "is empty")
    # In a URL these two would not mean themselves.
    path = text.replace("%", "%25").replace("?", "%3F")
    return f"sqlite+aiosqlite:///{path}"


def _from_toml(folder: Path) -> dict[str, Any]:
    own, project = folder / "orchestrator.toml", folder / "pyproject.toml"
    try:
        if own.is_file():
            return tomllib.loads(own.read_text(encoding="utf-8"))
        if project.is_file():
            text = project.read_text(encoding="utf-8")
            table = tomllib.loads(text).get("tool", {}).get("orchestrator", {})
            return dict(table)
    except tomllib.TOMLDecodeError as error:
        msg = f"{own if own.is_file() else project}: {error}"
        raise ConfigurationError(msg) from error
    return {}


def _parse(name: str, value: Any, kind: type) -> Any:
    try:
        if kind is timedelta:
            return timedelta(seconds=float(value))
        if kind is bool and isinstance(value, str):
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        return kind(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        what = "seconds" if kind is timedelta else f"a value of type {kind.__name__}"
        msg = f"{name}: {value!r} is not {what}"
        raise ConfigurationError(msg) from error


def _check_durations(settings: Policy | Config) -> None:
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(item.default, timedelta) and not isinstance(value, timedelta):
            _refuse(item.name, value, "must be a timedelta")
        if isinstance(value, timedelta) and value < timedelta(0):
            _refuse(item.name, value, "must not be negative")


def _refuse(name: str, value: object, problem: str) -> None:
    msg = f"{name}: {value!r} {problem}"
    raise ConfigurationError(msg)
