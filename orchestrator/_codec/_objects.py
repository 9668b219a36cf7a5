"""Dataclasses, models, tuples, sets and all else that pydantic converts.

They are a Binary of JSON. The value is converted back at once and compared: what
would come back as something else is refused while the caller can still do
something about it.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any

import pydantic_core
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from orchestrator._codec._fit import Unfit, describe, same
from orchestrator._codec._plain import JSON_TAG, decode_plain
from orchestrator._codec._scalars import Codec, mismatch
from orchestrator._codec._types import show

if TYPE_CHECKING:
    from flyteidl2.core.literals_pb2 import Literal

_CONFIG = ConfigDict(
    # Lets a dataclass round-trip that says nothing about itself: bytes that are no
    # text, NaN and infinities.
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="constants",
)


def adapter_of(declared: Any) -> TypeAdapter[Any]:
    """Return an adapter for one-tuples of *declared*.

    The tuple is there because pydantic takes no configuration for a bare dataclass,
    but hands that of the tuple down to it.

    Raises:
        Unfit: pydantic cannot handle the type, or cannot resolve its annotations.
    """
    try:
        one: Any = GenericAlias(tuple, (declared,))
        adapter: TypeAdapter[Any] = TypeAdapter(one, config=_CONFIG)
        if not adapter.pydantic_complete:
            adapter.rebuild(force=True, raise_errors=True)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise Unfit(
            f"has type {show(declared)}, which has no form here ({reason})"
        ) from None
    return adapter


def problems(error: ValidationError) -> str:
    """Return what pydantic found, without the values."""
    found = [
        f"{'.'.join(map(str, e['loc'][1:])) or 'it'}: {e['msg']}"
        for e in error.errors(include_input=False, include_url=False)
    ]
    return "; ".join(found[:5])


class _Object:
    """Writes and reads values of one type that pydantic converts."""

    def __init__(self, declared: Any) -> None:
        """Build the adapter once."""
        self._adapter = adapter_of(declared)
        self._name = show(declared)

    def _convert(self, value: Any) -> Any:
        """Return *value* as an instance of the declared type."""
        name = self._name
        try:
            return self._adapter.validate_python((value,), strict=True)[0]
        except ValidationError as error:
            # A dict is what a class looks like in JSON, on a command line or in YAML.
            if not isinstance(value, dict):
                problem = f"is {describe(value)}, must be {name} ({problems(error)})"
                raise Unfit(problem) from None
        try:
            return self._adapter.validate_python((value,))[0]
        except ValidationError as error:
            raise Unfit(f"does not fit {name} ({problems(error)})") from None

    def _dump(self, value: Any) -> bytes:
        """Return the JSON of *value*, which comes back as the same value."""
        name = self._name
        try:
            data = self._adapter.dump_json((value,), warnings="error")[1:-1]
            back = self._adapter.validate_json(b"[" + data + b"]")[0]
        except ValidationError as error:
            problem = f"does not come back from JSON as {name} ({problems(error)})"
            raise Unfit(problem) from None
        except (ValueError, RecursionError) as error:
            reason = str(error).partition("[")[0].strip()
            raise Unfit(f"has no JSON form as {name} ({reason})") from None
        if not same(value, back):
            problem = f"does not come back from JSON as it is: see the types in {name}"
            raise Unfit(problem)
        return data

    def encode(self, value: Any, literal: Literal) -> Any:
        """Write *value* as JSON."""
        data = self._dump(self._convert(value))
        literal.scalar.binary.value = data
        literal.scalar.binary.tag = JSON_TAG
        return pydantic_core.from_json(data)

    def decode(self, literal: Literal) -> Any:
        """Read JSON, or the Struct, map or collection that another writer chose."""
        scalar = literal.scalar
        try:
            if scalar.HasField("binary"):
                if scalar.binary.tag != JSON_TAG:
                    tag = scalar.binary.tag
                    raise Unfit(f"the stored binary has tag {tag!r}, not {JSON_TAG!r}")
                data = b"[" + scalar.binary.value + b"]"
                return self._adapter.validate_json(data)[0]
            if (
                scalar.HasField("generic")
                or literal.HasField("map")
                or literal.HasField("collection")
            ):
                return self._adapter.validate_python((decode_plain(literal),))[0]
        except ValidationError as error:
            problem = f"the stored value does not fit {self._name} ({problems(error)})"
            raise Unfit(problem) from None
        return mismatch(literal, self._name, self.decode)


def object_codec(declared: Any) -> Codec:
    """Return the codec of a type that pydantic converts."""
    codec = _Object(declared)
    return Codec(codec.encode, codec.decode)
