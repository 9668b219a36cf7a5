"""Stand-ins for vendors' services: real processes that the real clients talk to.

Each is a module that runs by itself::

    python -m tests.emulators.bigquery --port 0 --ledger FILE

It prints one line, its URL, and serves until it is told to stop. What it does with
jobs is written to the ledger before it is answered; `Witness` reads that file, as
for the job server. Tests start one with `running`. Each imitates what its vendor's
own client expects; none was compared with the vendor's service.

``_base`` is what all have in common: routes, jobs, scripts and faults.
"""

from __future__ import annotations

from orchestrator.testing._jobserver._vocabulary import Fault, Rule, State
from tests.emulators._launch import Running, running

__all__ = ["Fault", "Rule", "Running", "State", "running"]
