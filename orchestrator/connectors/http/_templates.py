"""Templates in requests: ``{{.inputs.x}}`` and its kin, filled in without evaluation.

A value is never read as a template, and nothing in a template is code. Where a value
lands decides what becomes of it:

=========  =======================================================================
path       percent-encoded, slashes too; empty, ``.`` and ``..`` are refused
query      percent-encoded; a list that is the whole value repeats the parameter,
           None leaves it out
header     as text; control characters (line breaks first of all) are refused
form       as query
JSON body  a string that is one placeholder becomes the value with its JSON type,
           inside of a longer string it becomes text
=========  =======================================================================
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestrator.connectors._placeholders import as_text
from orchestrator.connectors.http import _hosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACE = re.compile(r"\{\{\s*\.([A-Za-z_]\w*)(?:\.([\w./-]*\w))?\s*\}\}")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Scope = dict[str, Any]
"""Name to value; a dict below a name holds what stands after the dot."""


def places(template: Any) -> Iterator[str]:
    """Yield the name of every placeholder, such as ``inputs.x``, in any JSON value.

    Raises:
        ValueError: Two braces are no placeholder.
    """
    if isinstance(template, str):
        for match in _PLACE.finditer(template):
            yield ".".join(filter(None, match.groups()))
        if "{{" in _PLACE.sub("", template):
            raise ValueError(
                f"{template!r}: two braces must hold a name such as {{{{.inputs.x}}}}"
            )
    elif isinstance(template, dict):
        for key, value in template.items():
            if "{{" in key:
                raise ValueError(f"{key!r}: the name of a field cannot be a template")
            yield from places(value)
    elif isinstance(template, list):
        for item in template:
            yield from places(item)


def fill_path(template: str, scope: Scope) -> str:
    """Return a path with its values percent-encoded.

    Raises:
        ValueError: A value is missing, empty, or leads elsewhere.
    """

    def encode(name: str, value: Any) -> str:
        text = as_text(value)
        if not text:
            raise ValueError(f"{name} is empty, and the path {template!r} needs it")
        return quote(text, safe="")

    return _hosts.check_path(_fill(template, scope, encode))


def fill_pairs(templates: Mapping[str, str], scope: Scope) -> list[tuple[str, str]]:
    """Return parameters of a query or form, not yet encoded.

    Raises:
        ValueError: A value is missing or has no JSON form.
    """
    pairs: list[tuple[str, str]] = []
    for name, template in templates.items():
        value = fill_value(template, scope)
        many = value if isinstance(value, list) else [value]
        pairs += [(name, as_text(item)) for item in many if item is not None]
    return pairs


def fill_headers(templates: Mapping[str, str], scope: Scope) -> dict[str, str]:
    """Return header fields.

    Raises:
        ValueError: A value is missing, or could end the field and begin another.
    """
    return {
        name: check_header(name, _fill(template, scope, lambda _, v: as_text(v)))
        for name, template in templates.items()
    }


def check_header(name: str, value: str) -> str:
    """Return a header's value.

    Raises:
        ValueError: It is no text of one line in ASCII; it is not quoted, since it
            may be a secret.
    """
    if _UNPRINTABLE.search(value) or not value.isascii():
        raise ValueError(
            f"header {name}: the value holds a line break, another control character"
            " or what is not ASCII"
        )
    return value.strip()


def fill_value(template: Any, scope: Scope) -> Any:
    """Return a JSON value with every placeholder filled in.

    Raises:
        ValueError: A value is missing.
    """
    if isinstance(template, dict):
        return {key: fill_value(value, scope) for key, value in template.items()}
    if isinstance(template, list):
        return [fill_value(item, scope) for item in template]
    if not isinstance(template, str):
        return template
    if match := _PLACE.fullmatch(template):
        return _look_up(match, scope)
    return _fill(template, scope, lambda _, value: as_text(value))


def fill_text(template: str, scope: Scope) -> str:
    """Return a URL for humans, its values percent-encoded.

    Raises:
        ValueError: A value is missing.
    """
    return _fill(template, scope, lambda _, value: quote(as_text(value), safe=""))


def json_bytes(value: Any) -> bytes:
    """Return *value* as JSON text.

    Raises:
        ValueError: It holds an infinity or NaN, which JSON does not know.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def _fill(template: str, scope: Scope, encode: Any) -> str:
    """Fill in one text in one pass, so that values are never templates."""

    def replace(match: re.Match[str]) -> str:
        text: str = encode(match.group()[2:-2].strip(), _look_up(match, scope))
        return text

    return _PLACE.sub(replace, template)


def _look_up(match: re.Match[str], scope: Scope) -> Any:
    """Return the value that a placeholder names."""
    root, key = match.groups()
    try:
        return scope[root] if key is None else scope[root][key]
    except KeyError:
        raise ValueError(f"there is no {match.group()[2:-2].strip()[1:]}") from None
