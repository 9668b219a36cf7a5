"""Releases of the simulated connectors: what they store of a job, and can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.connectors import ResourceMeta

if TYPE_CHECKING:
    from random import Random


@dataclass
class FirstMeta(ResourceMeta):
    """The handle of a simulated job, in the layout of the first release."""

    job_id: str


@dataclass
class HastyMeta(ResourceMeta):
    """Another layout, and nobody thought of the rows that are there."""

    schema_version = 2

    job: str
    job_id: str = ""

    def __post_init__(self) -> None:
        """Be readable like the others."""
        self.job_id = self.job


@dataclass
class SecondMeta(HastyMeta):
    """That layout, and the rows that are there are read."""

    @classmethod
    def upcast(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Take the first layout's one field by its new name."""
        assert from_version == 1
        return {"job": data["job_id"]}


Meta = type[FirstMeta] | type[HastyMeta]


class Releases:
    """Which release of one kind's connector each start of a process has."""

    def __init__(self) -> None:
        self.lasting: Meta = FirstMeta
        """What is installed for good."""

    def draw(self, rng: Random) -> Meta:
        """Return another release than the lasting one was, for one start.

        The upgrade, which lasts; or for this life alone the upgrade without its
        upcast, or a way back to the first release.
        """
        if self.lasting is FirstMeta:
            drawn: Meta = rng.choice([SecondMeta, HastyMeta])
            # What a hasty life stores, the first release could never read again.
            self.lasting = SecondMeta
            return drawn
        return rng.choice([FirstMeta, HastyMeta])
