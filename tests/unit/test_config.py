"""Settings: where they come from, and what is refused with the field's name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator._config import Config, Policy, database_url, load_config
from orchestrator.errors import ConfigurationError


def _write(folder: Path, text: str, name: str = "orchestrator.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config({}, tmp_path) == Config()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    folder = _write(tmp_path, "batch_max = 7\nidle = 5\n")
    config = load_config({"ORCHESTRATOR_BATCH_MAX": "9"}, folder)
    assert (config.batch_max, config.idle) == (9, timedelta(seconds=5))


def test_its_own_file_wins_over_pyproject(tmp_path: Path) -> None:
    _write(tmp_path, "[tool.orchestrator]\nbatch_max = 3\n", "pyproject.toml")
    assert load_config({}, tmp_path).batch_max == 3
    _write(tmp_path, "batch_max = 4\n")
    assert load_config({}, tmp_path).batch_max == 4


def test_a_pyproject_without_our_table_says_nothing(tmp_path: Path) -> None:
    _write(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")
    assert load_config({}, tmp_path) == Config()


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("FALSE", False), ("1", True), ("0", False)]
)
def test_booleans_are_words_or_digits(
    tmp_path: Path,
    text: str,
    value: bool,  # noqa: FBT001 - the expectation
) -> None:
    assert load_config({"ORCHESTRATOR_MIGRATE": text}, tmp_path).migrate is value


def test_durations_are_seconds(tmp_path: Path) -> None:
    config = load_config({"ORCHESTRATOR_WATCH": "0.25"}, tmp_path)
    assert config.watch == timedelta(milliseconds=250)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BATCH_MAX", "many"),
        ("BATCH_MAX", "1.5"),
        ("BATCH_MAX", "0"),
        ("IDLE", "soon"),
        ("IDLE", "nan"),
        ("IDLE", "inf"),
        ("IDLE", "-1"),
        ("IDLE", "1e300"),
        ("MIGRATE", "maybe"),
        ("HEARTBEAT", "60"),
    ],
)
def test_a_bad_value_is_refused_by_the_setting_s_name(
    tmp_path: Path, name: str, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=name.lower()):
        load_config({f"ORCHESTRATOR_{name}": text}, tmp_path)


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        load_config({}, _write(tmp_path, "batch_size = 3\n"))


@pytest.mark.parametrize("name", ["orchestrator.toml", "pyproject.toml"])
def test_a_file_that_does_not_parse_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_config({}, _write(tmp_path, "= nothing", name))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("jobs.db", "sqlite+aiosqlite:///jobs.db"),
        (Path("/var/jobs.db"), "sqlite+aiosqlite:////var/jobs.db"),
        ("100%/a?b.db", "sqlite+aiosqlite:///100%25/a%3Fb.db"),
        ("sqlite:///jobs.db", "sqlite+aiosqlite:///jobs.db"),
        ("sqlite+aiosqlite:///jobs.db", "sqlite+aiosqlite:///jobs.db"),
        (":memory:", "sqlite+aiosqlite:///:memory:"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        (None, "sqlite+aiosqlite:///orchestrator.db"),
    ],
)
def test_a_database_is_a_url_a_path_or_the_default(
    tmp_path: Path, given: Any, url: str
) -> None:
    assert database_url(given, {}, tmp_path) == url


def test_the_database_s_name_has_the_same_precedence(tmp_path: Path) -> None:
    folder = _write(tmp_path, "database = 'file.db'\n")
    environ = {"ORCHESTRATOR_DATABASE": "env.db"}
    assert database_url("arg.db", environ, folder).endswith("/arg.db")
    assert database_url(None, environ, folder).endswith("/env.db")
    assert database_url(None, {}, folder).endswith("/file.db")
    assert load_config({}, folder) == Config(), "the database is no engine setting"


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="database"):
        database_url("", {}, tmp_path)


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("poll_factor", {"poll_factor": 0.5}),
        ("poll_factor", {"poll_factor": float("nan")}),
        ("jitter", {"jitter": 1.5}),
        ("jitter", {"jitter": float("nan")}),
        ("poll_delay_max", {"poll_delay_max": timedelta(milliseconds=1)}),
        ("error_delay_max", {"error_delay_max": timedelta(milliseconds=1)}),
        ("create_hard_timeout", {"create_hard_timeout": timedelta(seconds=1)}),
        ("poll_budget_errors", {"poll_budget_errors": 0}),
        ("output_bytes_max", {"output_bytes_max": 0}),
        ("gone_grace", {"gone_grace": timedelta(seconds=-1)}),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    setting: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        Policy(**changes)


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("batch_max", {"batch_max": 0}),
        ("in_flight_max", {"in_flight_max": -1}),
        ("input_bytes_max", {"input_bytes_max": 0}),
        ("lease", {"lease": timedelta(seconds=-1)}),
        ("heartbeat", {"heartbeat": timedelta(seconds=21)}),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    setting: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        Config(**changes)


def test_settings_are_frozen() -> None:
    for settings, name in ((Config(), "migrate"), (Policy(), "jitter")):
        with pytest.raises(AttributeError):
            setattr(settings, name, 0)
