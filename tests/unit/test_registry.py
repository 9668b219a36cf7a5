"""What can be known to be wrong with a connector is refused when it is registered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from orchestrator._connector import AsyncConnector, Resource, ResourceMeta
from orchestrator._registry import (
    DEFAULT_REGISTRY,
    ConnectorRegistry,
    Registry,
    accepted,
)
from orchestrator._secrets import ConnectorSecretsMixin, Secret
from orchestrator.errors import (
    ConfigurationError,
    ConnectorAlreadyRegisteredError,
    ConnectorNotFoundError,
)


@dataclass
class Meta(ResourceMeta):
    job_id: str


class Base(AsyncConnector[Any]):
    name = "Base Connector"
    task_type_name = "base"
    metadata_type = Meta

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> Any:
        return Meta("j")

    async def get(self, resource_meta: Any, **kwargs: Any) -> Resource:
        raise NotImplementedError

    async def delete(self, resource_meta: Any, **kwargs: Any) -> None:
        raise NotImplementedError


class SecretsLast(Base, ConnectorSecretsMixin):
    def __init__(self, secrets: dict[str, str]) -> None:
        super().__init__(secrets=secrets)


class SecretsFirst(ConnectorSecretsMixin, Base):
    def __init__(self, secrets: dict[str, str]) -> None:
        super().__init__(secrets=secrets)


@pytest.fixture
def registry() -> Registry:
    return Registry()


def variant(**members: Any) -> AsyncConnector[Any]:
    """Return a connector with some members of its class replaced."""
    found: AsyncConnector[Any] = type("Variant", (Base,), members)()
    return found


def test_a_registered_connector_is_found_by_type_and_version(
    registry: Registry,
) -> None:
    old, new = variant(task_type_version=0), variant(task_type_version=1)
    registry.register(old)
    registry.register(new)
    assert registry.get_connector("base") is old
    assert registry.get_connector("base", 1) is new
    assert registry.keys() == [("base", 0), ("base", 1)]
    assert ("base", 1) in registry
    assert ("base", 2) not in registry
    assert list(registry) == [old, new]
    assert len(registry) == 2


def test_a_second_connector_for_a_type_is_refused_in_flytes_words(
    registry: Registry,
) -> None:
    registry.register(Base())
    text = "Duplicate connector for task type: base and version: 0"
    with pytest.raises(ConnectorAlreadyRegisteredError, match=text):
        registry.register(Base())
    with pytest.raises(ValueError, match=text):
        registry.register(Base())


def test_override_replaces_and_does_not_list_the_category_twice(
    registry: Registry,
) -> None:
    registry.register(Base())
    replacement = Base()
    registry.register(replacement, override=True)
    assert registry.get_connector("base") is replacement
    (metadata,) = registry.list_connectors()
    assert [c.name for c in metadata.supported_task_categories] == ["base"]


def test_override_under_another_name_leaves_nothing_of_the_old_one(
    registry: Registry,
) -> None:
    registry.register(Base())
    registry.register(variant(name="Other"), override=True)
    assert [m.name for m in registry.list_connectors()] == ["Other"]


def test_one_name_lists_all_its_categories(registry: Registry) -> None:
    registry.register(Base())
    registry.register(variant(task_type_name="second", task_type_version=3))
    metadata = registry.get_connector_metadata("Base Connector")
    found = [(c.name, c.version) for c in metadata.supported_task_categories]
    assert found == [("base", 0), ("second", 3)]


def test_an_unknown_type_or_name_is_an_error_in_flytes_words(
    registry: Registry,
) -> None:
    text = "Cannot find connector for task type: nothing and version: 2"
    with pytest.raises(ConnectorNotFoundError, match=text):
        registry.get_connector("nothing", 2)
    with pytest.raises(LookupError):
        registry.get_connector("nothing")
    with pytest.raises(ValueError, match=r"Cannot find connector for name: nobody\."):
        registry.get_connector_metadata("nobody")


def test_the_static_registry_is_the_default_one() -> None:
    connector = variant(task_type_name="static-facade", name="Static Facade")
    ConnectorRegistry.register(connector)
    try:
        assert ConnectorRegistry.get_connector("static-facade") is connector
        assert DEFAULT_REGISTRY.get_connector("static-facade") is connector
        assert connector in ConnectorRegistry._REGISTRY.values()
        found = ConnectorRegistry._get_connector_metadata("Static Facade")
        assert found in ConnectorRegistry._list_connectors()
        assert "Static Facade" in ConnectorRegistry._METADATA
    finally:
        for key, value in list(ConnectorRegistry._REGISTRY.items()):
            if value is connector:
                del ConnectorRegistry._REGISTRY[key]
        del ConnectorRegistry._METADATA["Static Facade"]


def test_the_class_instead_of_an_instance_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match=r"register\(Base\(\)\)"):
        registry.register(Base)  # type: ignore[arg-type]


def test_something_else_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match="is no AsyncConnector"):
        registry.register(object())  # type: ignore[arg-type]


class Undecorated(ResourceMeta):
    job_id: str


class HalfOwn(Meta):
    def encode(self) -> bytes:
        return b""


class Foreign:
    """Neither derived nor with methods of its own."""


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"task_type_name": ""}, "Variant.task_type_name"),
        ({"task_type_name": None}, "Variant.task_type_name"),
        ({"task_type_version": "1"}, "Variant.task_type_version"),
        ({"task_type_version": True}, "Variant.task_type_version"),
        ({"name": ""}, "Variant.name"),
        ({"metadata_type": None}, "Variant.metadata_type is missing"),
        ({"metadata_type": Meta("j")}, "Variant.metadata_type must be a class"),
        ({"metadata_type": Foreign}, "Foreign must derive from ResourceMeta"),
        ({"metadata_type": ResourceMeta}, "metadata_type must be a dataclass"),
        ({"metadata_type": Undecorated}, "Undecorated must be a @dataclass"),
        ({"metadata_type": HalfOwn}, "HalfOwn overrides encode only"),
        ({"on_unknown_create": "retry"}, "Variant.on_unknown_create"),
        ({"runs_in": "process"}, "Variant.runs_in"),
        ({"runs_in": None}, "Variant.runs_in"),
        ({"create_is_idempotent": 60}, "Variant.create_is_idempotent"),
        ({"create_is_idempotent": timedelta(0)}, "Variant.create_is_idempotent"),
        ({"not_created_errors": ValueError}, "Variant.not_created_errors"),
        ({"not_created_errors": ("x",)}, "Variant.not_created_errors"),
        ({"delete_is_final": None}, "Variant.delete_is_final"),
    ],
)
def test_an_unusable_class_is_refused_with_class_and_field(
    registry: Registry, members: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        registry.register(variant(**members))
    assert len(registry) == 0


def test_a_missing_metadata_type_is_refused(registry: Registry) -> None:
    class Forgetful(Base):
        pass

    del Base.metadata_type
    try:
        with pytest.raises(ConfigurationError, match=r"Forgetful\.metadata_type"):
            registry.register(Forgetful())
    finally:
        Base.metadata_type = Meta


def test_a_meta_with_annotations_out_of_reach_is_refused(registry: Registry) -> None:
    """Postponed annotations of a class in a function name what nobody else sees."""

    @dataclass
    class Inner:
        x: int

    @dataclass
    class Outer(ResourceMeta):
        inner: Inner

    with pytest.raises(ConfigurationError, match=r"metadata_type .*Outer .*top level"):
        registry.register(variant(metadata_type=Outer))


def test_a_meta_with_its_own_encode_and_decode_may_be_anything(
    registry: Registry,
) -> None:
    class Own:
        def encode(self) -> bytes:
            return b"own"

        @classmethod
        def decode(cls, data: bytes) -> Own:  # noqa: ARG003 - a fake
            return cls()

    registry.register(variant(metadata_type=Own))


@pytest.mark.parametrize("kind", [SecretsLast, SecretsFirst])
def test_the_secrets_mixin_works_in_either_order_of_bases(
    registry: Registry, kind: type[SecretsLast | SecretsFirst]
) -> None:
    connector = kind(secrets={"password": "DB_PASSWORD"})
    registry.register(connector)
    assert connector.secrets == [Secret(key="password", as_env_var="DB_PASSWORD")]


@pytest.mark.parametrize("keyword", ["inputs", "token", "idempotency_token"])
def test_a_secret_named_after_a_parameter_is_refused(
    registry: Registry, keyword: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"SecretsLast.secrets '{keyword}'"):
        registry.register(SecretsLast({keyword: "A"}))


def test_a_secret_with_an_illegal_variable_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match=r"SecretsLast\.secrets are unusable"):
        registry.register(SecretsLast({"password": "lower-case"}))


def test_secrets_that_were_never_set_are_refused(registry: Registry) -> None:
    class Forgetful(Base, ConnectorSecretsMixin):
        def __init__(self) -> None:
            """Do not call the mixin."""

    with pytest.raises(ConfigurationError, match=r"Forgetful\.secrets were never set"):
        registry.register(Forgetful())


KWARGS = {"inputs": 1, "password": 2, "idempotency_token": 3}


def test_bare_kwargs_take_all_but_the_idempotency_token() -> None:
    def method(inputs: Any, **kwargs: Any) -> None: ...

    assert accepted(method, KWARGS) == {"inputs": 1, "password": 2}


def test_a_named_idempotency_token_is_passed() -> None:
    def method(*, idempotency_token: str) -> None: ...

    assert accepted(method, KWARGS) == {"idempotency_token": 3}


def test_what_a_method_does_not_take_is_dropped() -> None:
    def method(inputs: Any, other: Any, /, password: Any) -> None: ...

    assert accepted(method, KWARGS) == {"password": 2}


def test_a_bound_method_does_not_offer_self() -> None:
    connector = Base()
    given = {"self": 1, "resource_meta": 2}
    assert accepted(connector.get, given) == {"self": 1, "resource_meta": 2}
    assert accepted(connector.get, {"resource_meta": 2}) == {"resource_meta": 2}
