"""For who writes connectors, and tests of programs that use this library.

==================  =============================================================
`check_connector`   drives a connector through the engine's crash points against
                    your service, and reports what it does not keep
`JobServer`         a scriptable service over HTTP, to learn and to test against
`ScriptedConnector` a connector whose answers a test writes
`ManualClock`       a clock that stands still until a test moves it
`CrashAt`           crashes the engine at named points, as kill -9 would
==================  =============================================================

Nothing here needs a test framework, and nothing else imports it.
"""

from __future__ import annotations

from orchestrator._faults import Crash
from orchestrator.testing._check import (
    CRASH_POINTS,
    Check,
    Outcome,
    Report,
    check_connector,
)
from orchestrator.testing._clock import START_US, ManualClock
from orchestrator.testing._crash import CrashAt
from orchestrator.testing._jobserver import JobServer
from orchestrator.testing._jobserver._ledger import JobCall
from orchestrator.testing._jobserver._service import Job
from orchestrator.testing._jobserver._vocabulary import (
    Fault,
    JobSpec,
    Rule,
    ServiceClass,
    State,
)
from orchestrator.testing._scripted import Answer, ScriptedConnector, ScriptedMeta

__all__ = [
    "CRASH_POINTS",
    "START_US",
    "Answer",
    "Check",
    "Crash",
    "CrashAt",
    "Fault",
    "Job",
    "JobCall",
    "JobServer",
    "JobSpec",
    "ManualClock",
    "Outcome",
    "Report",
    "Rule",
    "ScriptedConnector",
    "ScriptedMeta",
    "ServiceClass",
    "State",
    "check_connector",
]
