"""Between Flyte's messages and native values: inputs, outputs, resources, tokens."""

from __future__ import annotations

import enum
import hashlib
import json
from typing import TYPE_CHECKING, Any

from flyteidl2.connector import connector_pb2
from flyteidl2.core import literals_pb2
from flyteidl2.task import common_pb2
from google.protobuf import json_format
from google.protobuf.message import Error as MessageError
from google.protobuf.struct_pb2 import Struct, Value

from orchestrator._codec import decode_values, encode_values, interface_from_proto
from orchestrator._connector import Resource
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.errors import InvalidInputError
from orchestrator.flyte._msgpack import MSGPACK_TAG, from_flyte, pack, to_flyte

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.security_pb2 import Connection
    from flyteidl2.core.tasks_pb2 import TaskTemplate


def literals_of(
    named: Iterable[common_pb2.NamedLiteral],
) -> literals_pb2.LiteralMap:
    """Return Flyte's list of named literals as the map that is stored here."""
    found = literals_pb2.LiteralMap()
    for item in named:
        from_flyte(item.value, found.literals[item.name])
    return found


def named_literals(
    proto: bytes, order: Iterable[str] = ()
) -> list[common_pb2.NamedLiteral]:
    """Return a stored map as Flyte's list: those in *order* first, then by name."""
    literals = literals_pb2.LiteralMap.FromString(proto).literals
    names = dict.fromkeys([n for n in order if n in literals] + sorted(literals))
    named = []
    for name in names:
        item = common_pb2.NamedLiteral(name=name)
        to_flyte(literals[name], item.value)
        named.append(item)
    return named


def native_inputs(template: TaskTemplate, inputs: common_pb2.Inputs) -> dict[str, Any]:
    """Return the inputs of a request as native values, by the task's interface.

    Raises:
        InvalidInputError: They do not fit it.
    """
    types = interface_from_proto(template.interface).get_input_types()
    for item in inputs.literals:
        if item.name not in types:
            known = ", ".join(types) or "none"
            problem = f"is no input of this task; it has {known}"
            raise InvalidInputError(item.name, problem)
    try:
        return decode_values(
            types, literals_of(inputs.literals).SerializeToString(deterministic=True)
        )
    except ValueError as error:
        raise InvalidInputError("inputs", str(error)) from None


def inputs_proto(
    template: TaskTemplate, values: Mapping[str, Any] | None
) -> common_pb2.Inputs:
    """Return native inputs as a request carries them.

    What the interface describes only as a structure (a dataclass, a model) is written
    as the plain data that it holds.

    Raises:
        InvalidInputError: A value has no form on the wire.
    """
    types = interface_from_proto(template.interface).get_input_types()
    named = []
    for name, value in (values or {}).items():
        try:
            proto = encode_values(types, {name: value}, what="input").proto
        except InvalidInputError:
            proto = encode_values({}, {name: value}, what="input").proto
        named += named_literals(proto)
    return common_pb2.Inputs(literals=named)


def resource_proto(resource: Resource) -> connector_pb2.Resource:
    """Return what ``get`` told as Flyte's message; outputs keep their order.

    Raises:
        OutputMismatchError: An output has no form on the wire.
    """
    outputs = resource.outputs
    named: list[common_pb2.NamedLiteral] | None = None
    if isinstance(outputs, literals_pb2.LiteralMap):
        named = named_literals(outputs.SerializeToString(deterministic=True))
    elif outputs:
        named = [_told_output(name, value) for name, value in outputs.items()]
    return connector_pb2.Resource(
        phase=resource.phase,
        message=resource.message,
        log_links=resource.log_links,
        outputs=None if named is None else common_pb2.Outputs(literals=named),
        custom_info=struct_of(resource.custom_info),
    )


def _told_output(name: str, value: Any) -> common_pb2.NamedLiteral:
    """Return an output whose declared type nobody told, as Flyte's tasks read it.

    Raises:
        OutputMismatchError: It has no form on the wire.
    """
    value = _with_names(value)
    item = common_pb2.NamedLiteral(name=name)
    if _write_structure(value, item.value):
        return item
    proto = encode_values({}, {name: value}, what="output").proto
    [item] = named_literals(proto)
    _write_items(value, item.value)
    return item


def _with_names(value: Any) -> Any:
    """Return *value* with the names of Enums, which are what Flyte reads."""
    if isinstance(value, enum.Enum):
        return value.name
    if type(value) is dict:
        return {key: _with_names(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_with_names(item) for item in value]
    return value


def _write_structure(value: Any, literal: literals_pb2.Literal) -> bool:
    """Write a dict of plain data as Flyte's structure; tell whether it is one.

    As a map, only a task that declares the type of its items could read it.
    """
    if type(value) is not dict:
        return False
    try:
        packed = pack(value)
    except ValueError:
        return False
    literal.scalar.binary.value = packed
    literal.scalar.binary.tag = MSGPACK_TAG
    return True


def _write_items(value: Any, literal: literals_pb2.Literal) -> None:
    """Write the dicts of a list as structures, too."""
    if type(value) is not list:
        return
    for item, written in zip(value, literal.collection.literals, strict=True):
        if not _write_structure(item, written):
            _write_items(item, written)


def struct_of(info: Mapping[str, Any] | None) -> Struct | None:
    """Return JSON-able details as a Struct, None for none."""
    return json_format.Parse(json.dumps(info), Struct()) if info else None


def told_struct_of(info: object) -> Struct | None:
    """Return stored details as a Struct; what does not fit in one says so instead."""
    problem = "cannot be told as a Struct"
    if info is None:
        return None
    try:
        if not isinstance(info, dict):
            raise TypeError(problem)  # noqa: TRY301 - one way out
        made = struct_of(info)
        # A reader's parser takes so many levels and no more; a message holds it deeper.
        outer = Struct(fields={"a": Value(struct_value=made)})
        Struct.FromString(outer.SerializeToString())
    except (TypeError, ValueError, RecursionError, json_format.Error, MessageError):
        return struct_of({"problem": f"custom_info {problem}"})
    return made


def resource_of(proto: connector_pb2.Resource) -> Resource:
    """Return a service's answer as the engine wants it."""
    outputs = None
    if proto.HasField("outputs"):
        outputs = literals_of(proto.outputs.literals)
    info = None
    if proto.HasField("custom_info"):
        info = json_format.MessageToDict(proto.custom_info)
    return Resource(
        phase=proto.phase,
        message=proto.message or None,
        log_links=list(proto.log_links) or None,
        outputs=outputs,
        custom_info=info,
    )


def connection_values(connection: Connection) -> dict[str, str]:
    """Return secrets and configs as keyword arguments; configs win, as in Flyte."""
    return {**connection.secrets, **connection.configs}


def identity_of(metadata: TaskExecutionMetadata) -> str | None:
    """Return what tells one Flyte attempt from every other, None if nothing does.

    A repeated call for the same attempt has the same identity; Flyte's next attempt
    has another one, and so has an execution of our own engine that runs again what
    Flyte has asked for.
    """
    task = metadata.task_execution_id
    token = metadata.labels.get(TOKEN_LABEL, "")
    if task.node_execution_id.execution_id.name:
        data = task.SerializeToString(deterministic=True)
        if token:
            data += b"\0" + token.encode()
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(token.encode()).hexdigest() if token else None


def token_of(metadata: TaskExecutionMetadata) -> str | None:
    """Return the token of an attempt: the caller's own, else made of its identity.

    It has the shape of the engine's own tokens, which every service here takes.
    """
    token: str = metadata.labels.get(TOKEN_LABEL, "")
    if token:
        return token
    identity = identity_of(metadata)
    if identity is None:
        return None
    return f"o{identity[:32]}-{metadata.task_execution_id.retry_attempt + 1}"
