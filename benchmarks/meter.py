"""How a measurement is taken and passed from one process to another."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import asdict, dataclass, field
from typing import Self


@dataclass
class Measurement:
    """What one run of one subject cost.

    Attributes:
        executions: How many executions the subject carried to their end.
        wall_s: Seconds that passed.
        cpu_s: Seconds of processor time of the whole process, threads included.
        peak_mb: Largest resident size of the process so far, in megabytes.
    """

    executions: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    _started: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> Self:
        """Start both clocks."""
        self._started = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both clocks and look at the memory."""
        cpu, wall = self._started
        self.wall_s = time.perf_counter() - wall
        self.cpu_s = time.process_time() - cpu
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.peak_mb = usage.ru_maxrss / 1024

    @property
    def rate(self) -> float:
        """Executions per second."""
        return self.executions / self.wall_s

    @property
    def wall_us_each(self) -> float:
        """Microseconds of wall time per execution."""
        return 1e6 * self.wall_s / self.executions

    @property
    def cpu_us_each(self) -> float:
        """Microseconds of processor time per execution."""
        return 1e6 * self.cpu_s / self.executions

    def to_json(self) -> str:
        """Return the figures as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))
