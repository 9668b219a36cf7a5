"""Database against witness: what was lost, duplicated, orphaned or rewritten.

Every finding is one line that names its execution. The classes differ in what a
service lets anybody know, so they differ in what counts as a violation: see `judge`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.testing import ServiceClass, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.crash.audit import Audit, Row
    from tests.crash.scenario import Plan
    from tests.jobserver.witness import WitnessedJob

KINDS_OF_FINDING = (
    "lost",
    "duplicated",
    "orphaned",
    "overlapping",
    "unintended",
    "history",
    "rewritten",
    "undeleted",
    "wrong end",
    "unfenced",
    "zombie write",
    "leaked",
    "misread",
)
_FORGETTING = frozenset({ServiceClass.NEITHER, ServiceClass.TIMED})


@dataclass
class Verdict:
    """Findings, and figures that are no findings but have to be told.

    Attributes:
        findings: Violations by kind; empty lists for a clean round.
        figures: Counts, such as executions by phase.
    """

    findings: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS_OF_FINDING}
    )
    figures: Counter[str] = field(default_factory=Counter)

    def found(self, kind: str, lines: Iterable[str]) -> None:
        """Add findings of one kind, each once."""
        known = self.findings[kind]
        known.extend(line for line in lines if line not in known)

    @property
    def clean(self) -> bool:
        """Whether nothing was violated."""
        return not any(self.findings.values())

    def lines(self) -> list[str]:
        """Return every finding as text."""
        return [
            f"{kind}: {line}" for kind, found in self.findings.items() for line in found
        ]


@dataclass
class Acknowledged:
    """What submits have returned, over all lives, and the hashes of terminal rows."""

    ids: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def note(self, pairs: Iterable[tuple[str, str]]) -> list[str]:
        """Take up new acknowledgements; return contradictions to earlier ones."""
        wrong = []
        for key, execution_id in pairs:
            known = self.ids.setdefault(key, execution_id)
            if known != execution_id:
                wrong.append(f"key {key} was {known}, then {execution_id}")
        return wrong


def judge_kill(audit: Audit, acknowledged: Acknowledged, verdict: Verdict) -> None:
    """Check what must hold right after a kill: no row lost or rewritten (P1, P4)."""
    rows = audit.rows()
    missing = (
        f"{execution_id} ({key}) was acknowledged and has no row"
        for key, execution_id in acknowledged.ids.items()
        if execution_id not in rows
    )
    verdict.found("lost", missing)
    hashes = audit.terminal_hashes()
    verdict.found("rewritten", _rewritten(acknowledged.hashes, hashes))
    acknowledged.hashes.update(hashes)


def _rewritten(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{execution_id} was terminal and has changed"
        for execution_id, known in before.items()
        if now.get(execution_id) != known
    ]


def judge(
    audit: Audit,
    jobs: list[WitnessedJob],
    plans: list[Plan],
    acknowledged: Acknowledged,
    verdict: Verdict,
) -> None:
    """Check what must hold when everything is terminal and quiet.

    Class I: one job per token ever, none live. Class L: a second job may have been
    made, but does not live: it ended by itself before any search could see it, or it
    is in the ledger and was deleted. Class N: never a second
    job; one may live on if the ledger does not know it and the audit view of orphans
    names its execution. Class T: as N, since a worker may be away for longer than
    the service remembers. What a user gave up counts as N too, in every class.
    """
    judge_kill(audit, acknowledged, verdict)
    verdict.found("history", audit.broken_histories())
    rows = audit.rows()
    service = plans[0].service
    for plan in plans:
        _judge_end(plan, acknowledged, rows, verdict)
    by_token: dict[str, list[WitnessedJob]] = {}
    for job in jobs:
        by_token.setdefault(job.token, []).append(job)
    recorded = audit.recorded_job_keys()
    for token, same in by_token.items():
        if len(same) > 1:
            verdict.figures["tokens with a second job"] += 1
            verdict.found("duplicated", _duplicated(service, token, same, recorded))
    listed = audit.listed_orphans()
    given_up = {acknowledged.ids.get(plan.key) for plan in plans if plan.kind.give_up}
    for job in jobs:
        if job.live:
            verdict.figures["live at the end"] += 1
            # What is in the ledger is known: the engine could have ended it.
            told = job.execution_id in listed and job.id not in recorded
            excused = service in _FORGETTING or job.execution_id in given_up
            if not (told and excused):
                verdict.found("orphaned", [_orphan(job, rows, recorded)])
    _judge_deletes(jobs, rows, verdict)
    verdict.figures["jobs"] += len(jobs)
    verdict.figures["deletes"] += sum(job.deletes for job in jobs)


def _judge_end(
    plan: Plan, acknowledged: Acknowledged, rows: Mapping[str, Row], verdict: Verdict
) -> None:
    execution_id = acknowledged.ids.get(plan.key)
    if execution_id is None:
        verdict.found("lost", [f"{plan.key} was never acknowledged"])
        return
    row = rows.get(execution_id)
    if row is None:
        return  # found by judge_kill
    if not row.terminal:
        where = f"{row.phase}, attempt {row.attempt}, hold {row.hold}"
        line = f"{execution_id} ({plan.kind_name}) is not terminal: {where}"
        verdict.found("lost", [line])
    elif row.phase not in plan.allowed:
        why = f"{row.phase} [{row.error_code}], not {sorted(plan.allowed)}"
        verdict.found("wrong end", [f"{execution_id} ({plan.kind_name}) is {why}"])
    verdict.figures[row.phase] += 1
    if row.error_code == "CREATE_OUTCOME_UNKNOWN":
        verdict.figures["CREATE_OUTCOME_UNKNOWN"] += 1


def _duplicated(
    service: ServiceClass, token: str, same: list[WitnessedJob], recorded: set[str]
) -> list[str]:
    ids = [job.id for job in same]
    if service is not ServiceClass.LISTED:
        return [f"{token} has the jobs {ids}"]
    live = [job.id for job in same if job.live]
    # A search tells of one job: one that has ended may hide behind the attempt's own.
    unrecorded = [job.id for job in same if job.live and job.id not in recorded]
    found = []
    if len(live) > 1:
        found.append(f"{token} has the live jobs {live}")
    if unrecorded:
        found.append(f"{token} has the jobs {ids}, {unrecorded} not in the ledger")
    return found


def _orphan(job: WitnessedJob, rows: Mapping[str, Row], recorded: set[str]) -> str:
    row = rows.get(job.execution_id)
    end = f"{row.phase} [{row.error_code}]" if row else "no row"
    known = "in the ledger" if job.id in recorded else "not in the ledger"
    return f"{job.id} of {job.token} is {job.state}, {known}, its execution {end}"


def _judge_deletes(
    jobs: list[WitnessedJob], rows: Mapping[str, Row], verdict: Verdict
) -> None:
    latest: dict[str, WitnessedJob] = {}
    for job in jobs:
        latest[job.execution_id] = job
    for execution_id, job in latest.items():
        row = rows.get(execution_id)
        if row is None or row.phase not in ("ABORTED", "TIMED_OUT") or job.live:
            continue
        itself = job.state is not State.ABORTED or row.error_code == "REMOTE_ABORTED"
        if not job.deletes and not itself:
            verdict.found("undeleted", [f"{job.id} of {job.token}: {row.phase}"])


def overlapping(
    pairs: Iterable[tuple[WitnessedJob, WitnessedJob]],
) -> list[str]:
    """Return one line per attempt that began before the one before it had ended."""
    return [
        f"{later.token} began ({later.id}) before {earlier.token} ended ({earlier.id})"
        for earlier, later in pairs
    ]


def unintended(creates: Mapping[str, int], intents: Mapping[str, int]) -> list[str]:
    """Return one line per token that was created more often than intended (Q6, Q7)."""
    return [
        f"{calls} creates of {token}, {intents.get(token, 0)} committed intents"
        for token, calls in creates.items()
        if calls > intents.get(token, 0)
    ]
