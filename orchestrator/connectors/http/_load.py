"""Definitions from YAML and TOML files, and what is wrong with them in words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.connectors.http._definition import HttpDefinition
from orchestrator.connectors.http._extra import need
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    import os

_BYTES_MAX = 1024 * 1024
_ROOT = re.compile(r"(?s)^Value error, ")


def load(path: str | os.PathLike[str]) -> HttpDefinition:
    """Read a definition; relative paths in it are seen from its folder.

    Raises:
        ConfigurationError: It cannot be used; every problem names its field.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    if len(data) > _BYTES_MAX:
        raise ConfigurationError(f"{path}: is larger than {_BYTES_MAX} bytes")
    try:
        text = data.decode()
        raw = _read_toml(text) if path.suffix == ".toml" else _read_yaml(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error
    definition = parse(raw, str(path))
    ca_file = definition.tls.ca_file
    if ca_file is not None:
        tls = definition.tls.model_copy(update={"ca_file": path.parent / ca_file})
        definition = definition.model_copy(update={"tls": tls})
    return definition


def as_definition(
    given: HttpDefinition | Mapping[str, Any] | str | os.PathLike[str],
) -> HttpDefinition:
    """Return a definition from an object, a dict, or a file.

    Raises:
        ConfigurationError: It cannot be used; every problem names its field.
    """
    if isinstance(given, HttpDefinition):
        return given
    return parse(given) if isinstance(given, Mapping) else load(given)


def parse(raw: Mapping[str, Any], where: str = "definition") -> HttpDefinition:
    """Validate a definition that is a dict already.

    Raises:
        ConfigurationError: It cannot be used; every problem names its field.
    """
    try:
        return HttpDefinition.model_validate(raw)
    except ValidationError as error:
        lines = [f"{where}: {problem}" for problem in problems(error)]
        raise ConfigurationError("\n".join(lines)) from None


def problems(error: ValidationError) -> list[str]:
    """Return each problem as ``field: what is wrong``, without the values."""
    found = []
    for item in error.errors(include_input=False, include_url=False):
        words = _ROOT.sub("", item["msg"])
        if item["type"] == "extra_forbidden":
            words = "there is no such field"
        elif item["type"] == "missing":
            words = "is missing"
        field = ".".join(str(part) for part in item["loc"] if part != "[key]")
        lead = f"{field}: " if field else ""
        found += [lead + line for line in words.split("\n")]
    return list(dict.fromkeys(found))


def _read_toml(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def _read_yaml(text: str) -> dict[str, Any]:
    yaml = need("yaml")
    try:
        raw = yaml.load(text, _yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(raw, dict):
        raise ValueError("must be a mapping of fields")  # noqa: TRY004
    return raw


@lru_cache(maxsize=1)
def _yaml_loader() -> Any:
    """Return a loader of YAML 1.2's plain values.

    ``NO`` and ``on`` are states of a service and no booleans, ``12:30`` is no number
    in base 60, and a key that comes twice is a mistake.
    """
    yaml = need("yaml")

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc, unused-ignore]
        """Safe, and of YAML 1.2's core schema."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's way

        def construct_mapping(self, node: Any, *, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                name = self.construct_object(key, deep=True)
                if name in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {name!r} comes twice", key.start_mark
                    )
                seen.add(name)
            made = super().construct_mapping(node, deep=deep)
            return {_key(name): value for name, value in made.items()}

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", "-+0123456789"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
    ):
        firsts = [*first.replace("\0", ""), *([""] if "\0" in first else [])]
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), firsts
        )
    return Loader


def _key(name: Any) -> str:
    """Return a key as the text that it stands for: ``true:`` and ``0:`` are states."""
    if isinstance(name, bool):
        return str(name).lower()
    return "null" if name is None else str(name)
