"""ResourceMeta survives restarts and upgrades; the interface promises nothing."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from orchestrator._connector import (
    AsyncConnector,
    Resource,
    ResourceMeta,
    implements,
)


class Size(enum.Enum):
    SMALL = "small"


@dataclass
class Region:
    name: str
    key: bytes
    weight: float = 1.0


@dataclass
class Meta(ResourceMeta):
    job_id: str
    created_at: datetime
    region: Region
    size: Size = Size.SMALL
    lifetime: timedelta | None = None
    tags: list[str] = field(default_factory=list)
    regions: dict[str, Region] = field(default_factory=dict)
    ratio: float = 0.5


@dataclass
class Plain(ResourceMeta):
    job_id: str
    created_at: float


def test_a_meta_comes_back_with_nested_classes_times_and_bytes() -> None:
    meta = Meta(
        job_id="j",
        created_at=datetime(2026, 11, 22, 10, 30, 0, 7, tzinfo=UTC),
        region=Region("eu", b"\xff\x00"),
        lifetime=timedelta(days=1, microseconds=1),
        tags=["a"],
        regions={"x": Region("us", b"")},
        ratio=math.inf,
    )
    assert Meta.decode(meta.encode()) == meta


def test_a_plain_meta_is_the_json_that_flyte_writes() -> None:
    meta = Plain("j", 1.5)
    assert json.loads(meta.encode()) == {"job_id": "j", "created_at": 1.5}


def test_a_field_that_the_class_lost_is_ignored() -> None:
    data = b'{"job_id": "j", "created_at": 1.5, "gone": {"x": 1}}'
    assert Plain.decode(data) == Plain("j", 1.5)


def test_a_new_field_takes_its_default() -> None:
    @dataclass
    class Newer(ResourceMeta):
        job_id: str
        created_at: float
        project: str = "default"

    assert Newer.decode(Plain("j", 1.5).encode()) == Newer("j", 1.5)


def test_a_numeric_id_in_a_str_field_is_read_as_str() -> None:
    assert Plain.decode(Plain(17, 1.5).encode()).job_id == "17"  # type: ignore[arg-type]


def test_a_meta_that_does_not_fit_names_the_field_and_no_value() -> None:
    with pytest.raises(ValueError, match=r"Plain cannot be decoded: created_at") as e:
        Plain.decode(b'{"job_id": "hush", "created_at": "hush"}')
    assert "hush" not in str(e.value)


def test_a_value_without_json_form_names_the_class() -> None:
    with pytest.raises(ValueError, match="Plain cannot be encoded"):
        Plain("\ud800", 1.5).encode()


@dataclass
class Renamed(ResourceMeta):
    schema_version: ClassVar[int] = 3
    run_id: str

    @classmethod
    def upcast(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Rename the field of version 1 and 2."""
        return {"run_id": f"{data['job_id']}@{from_version}"}


def test_an_older_layout_goes_through_upcast_once() -> None:
    assert Renamed.decode(b'{"job_id": "j"}') == Renamed("j@1")
    assert Renamed.decode(b'{"__schema_version__": 2, "job_id": "j"}') == Renamed("j@2")
    assert Renamed.decode(Renamed("r").encode()) == Renamed("r")


def test_a_newer_layout_is_refused_with_both_versions() -> None:
    data = b'{"__schema_version__": 9, "job_id": "j", "created_at": 1}'
    with pytest.raises(ValueError, match="schema version 9, this code knows 1"):
        Plain.decode(data)


def test_a_versioned_meta_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="Renamed: the stored meta is no JSON object"):
        Renamed.decode(b"[]")


def test_a_changed_version_without_upcast_keeps_the_fields() -> None:
    @dataclass
    class Second(ResourceMeta):
        schema_version: ClassVar[int] = 2
        job_id: str

    assert Second.decode(b'{"job_id": "j"}') == Second("j")


def test_a_versioned_meta_without_fields_is_json() -> None:
    @dataclass
    class Empty(ResourceMeta):
        schema_version: ClassVar[int] = 2

    assert json.loads(Empty().encode()) == {"__schema_version__": 2}
    assert Empty.decode(Empty().encode()) == Empty()


def test_a_frozen_meta_is_possible() -> None:
    @dataclass(frozen=True)
    class Frozen(ResourceMeta):
        job_id: str

    assert Frozen.decode(Frozen("j").encode()) == Frozen("j")


class Minimal(AsyncConnector[Plain]):
    task_type_name = "minimal"
    metadata_type = Plain

    async def create(self, *args: Any, **kwargs: Any) -> Plain:
        return Plain("j", 1.0)

    async def get(self, resource_meta: Plain, **kwargs: Any) -> Resource:
        return Resource(phase=3)  # type: ignore[arg-type]

    async def delete(self, resource_meta: Plain, **kwargs: Any) -> None:
        return None


class Rich(Minimal):
    async def find(self, token: str, **kwargs: Any) -> Plain | None:
        return None


def test_the_defaults_of_the_optional_members_promise_nothing() -> None:
    connector = Minimal()
    assert connector.create_is_idempotent is False
    assert connector.not_created_errors == ()
    assert connector.delete_is_final is False
    assert connector.on_unknown_create == "fail"
    assert connector.policy is None
    assert connector.runs_in == "loop"
    assert connector.job_key(Plain("j", 1.0)) is None


def test_an_own_member_is_told_from_an_inherited_stub() -> None:
    assert not implements(Minimal(), "find")
    assert implements(Rich(), "find")
    assert not implements(Rich(), "get_logs")
    assert not implements(Rich(), "no_such_member")
