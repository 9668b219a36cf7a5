"""Inputs named in texts, ``{{.inputs.name}}``, and native values as JSON and text."""

from __future__ import annotations

import json
import re
from typing import Any

import pydantic_core

INPUT = re.compile(r"\{\{\s*\.inputs\.(\w+)\s*\}\}")
"""The place of one input; group 1 is its name."""


def as_json(value: Any) -> Any:
    """Return a native value as JSON has it; a str stays what it is.

    Infinities and NaN stay floats, which JSON text cannot hold.

    Raises:
        ValueError: It has no JSON form.
    """
    if isinstance(value, str):
        return value
    try:
        return json.loads(pydantic_core.to_json(value, inf_nan_mode="constants"))
    except pydantic_core.PydanticSerializationError as error:
        raise ValueError(str(error)) from error


def as_text(value: Any) -> str:
    """Return a native value as text: a str as it is, all else as its JSON.

    Raises:
        ValueError: It has no JSON form.
    """
    data = as_json(value)
    return data if isinstance(data, str) else json.dumps(data)
