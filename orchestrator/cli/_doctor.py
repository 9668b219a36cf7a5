"""``doctor``: what needs a person, and who is at work. It changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock, duration_to_us, to_datetime
from orchestrator._ids import create_token
from orchestrator._phase import LIVE, Hold, Phase
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator._storage import HEAD, INVARIANTS
from orchestrator.cli._errors import DID_NOT_SUCCEED, OK
from orchestrator.cli._nodes import ALIVE, Node, nodes
from orchestrator.cli._open import with_store
from orchestrator.cli._text import one_line, print_fields, print_json, print_table
from orchestrator.errors import ConnectorNotFoundError, InvalidInputError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncIterator, Iterator, Sequence

    from orchestrator._records import Execution
    from orchestrator._storage import Finding, Store

OVERDUE = timedelta(minutes=1)
_PAGE = 1000
_SHOWN = 5
"""Ids of a problem that many executions share; ``--json`` has them all."""

_ADVICE = {
    Hold.CONNECTOR_MISSING: "start a process that registers this task type",
    Hold.META_UNREADABLE: "run code that can read the stored resource meta",
    Hold.UNAUTHORIZED: "renew the credentials; it goes on by itself",
    Hold.SECRET_UNRESOLVED: "give it to the process that runs the execution",
    Hold.POISON: "report it as a bug, with `orchestrator show ID --json`",
    Hold.OUTCOME_UNKNOWN: "look at the service, then `orchestrator resolve ID`",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not mend itself; *executions* are those of a whole kind."""

    kind: str
    execution_id: str | None
    text: str
    advice: str
    executions: tuple[str, ...] = ()


def doctor(options: Namespace) -> int:
    """Look at everything that may wait for a person; exit 1 if anything does."""
    if options.days < 0:
        raise InvalidInputError("days", f"must not be negative, got {options.days}")
    return with_store(options, _doctor)


async def _doctor(store: Store, options: Namespace) -> int:
    now = SystemClock().now_us()
    at_work = await nodes(store)
    phases: Counter[str] = Counter()
    for (_, phase), count in (await store.counts()).items():
        phases[phase] += count
    owed = [job async for job in _orphans(store, now, options.days)]
    problems = [
        *_unattended(phases, at_work),
        *[_stuck(e, now) for e in await store.stuck(now - _us(OVERDUE))],
        *[problem for problem in owed if problem.kind == "orphan"],
    ]
    if options.connectors:
        problems += [problem async for problem in _unreadable(store)]
    found = await store.audit() if options.audit else []
    problems += [_broken(finding) for finding in found]
    report = {
        "ok": not problems,
        "database": store.path,
        "schema": HEAD,
        "files": store.sizes(),
        "nodes": [asdict(node) for node in at_work],
        "executions": {phase: phases[phase] for phase in Phase if phases[phase]},
        "jobs_to_delete": sum(problem.kind == "due" for problem in owed),
        "audit": _audited(found) if options.audit else None,
        "problems": [asdict(problem) for problem in problems],
    }
    if options.json:
        print_json(report)
    else:
        _print(report, problems)
        _print_rows(found)
    return DID_NOT_SUCCEED if problems else OK


def _us(duration: timedelta) -> int:
    return duration_to_us(duration)


# Who is at work


def _unattended(phases: Counter[str], at_work: Sequence[Node]) -> Iterator[Problem]:
    live = sum(phases[phase] for phase in LIVE)
    if live and not any(node.state == ALIVE for node in at_work):
        text = f"{live} live executions, and no process is at work on this database"
        advice = "start a program that registers their connectors and opens it"
        yield Problem("unattended", None, text, advice)


# What waits


def _stuck(execution: Execution, now: int) -> Problem:
    if execution.hold is not None:
        said = execution.last_error or execution.message
        text = f"{execution.phase} on hold, {execution.hold}"
        advice = _ADVICE.get(Hold(execution.hold), "")
        return Problem(
            "held", execution.id, f"{text}: {said}" if said else text, advice
        )
    late = "late"
    if execution.due_at is not None:
        seconds = (to_datetime(now) - execution.due_at).total_seconds()
        late = f"{seconds:.0f} s overdue"
    text = f"{execution.phase}, task type {execution.task_type}, {late}"
    advice = "start a process that registers this task type"
    return Problem("overdue", execution.id, text, advice)


async def _orphans(store: Store, now: int, days: int) -> AsyncIterator[Problem]:
    since = max(now - _us(timedelta(days=days)), 0)
    for row in await store.orphans(since):
        kind = "due" if row.state == "DUE" else "orphan"
        job = f"job {row.job_key}" if row.job_key else "a job that may exist"
        text = f"{row.state}: {job} of attempt {row.attempt}, {row.task_type}"
        if row.error:
            text = f"{text}: {row.error}"
        token = create_token(row.execution_id, row.attempt)
        advice = f"look for {token} at the service, and end it there"
        yield Problem(kind, row.execution_id, text, advice)


async def _unreadable(store: Store) -> AsyncIterator[Problem]:
    """Yield what the loaded connectors could not run or read."""
    missing: dict[tuple[str, int], list[str]] = {}
    after = None
    while True:
        page = await store.find(phases=LIVE, limit=_PAGE, after=after)
        for execution in page:
            kind = (execution.task_type, execution.task_version)
            try:
                connector = DEFAULT_REGISTRY.get_connector(*kind)
            except ConnectorNotFoundError:
                missing.setdefault(kind, []).append(execution.id)
                continue
            if execution.resource_meta is None:
                continue
            try:
                connector.metadata_type.decode(execution.resource_meta)
            except Exception as error:  # noqa: BLE001 - a user's own decode
                advice = "add defaults or an upcast to its class before you deploy it"
                yield Problem("unreadable", execution.id, str(error), advice)
        if len(page) < _PAGE:
            break
        after = page[-1].id
    advice = "register it before you deploy"
    for (task_type, version), ids in sorted(missing.items()):
        text = f"no connector for {task_type!r} version {version}: {len(ids)} live"
        some = ", ".join(ids[:_SHOWN])
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        text = f"{text}: {some}{more}"
        yield Problem("no connector", None, text, advice, executions=tuple(ids))


# What must hold


def _broken(finding: Finding) -> Problem:
    """Return the problem that *finding* is: a bug, or somebody wrote to the tables."""
    ids = (row["execution_id"] for row in finding.rows)
    execution_id = next((str(i) for i in ids if i is not None), None)
    text = f"{finding.name}: {finding.says}: not so for {_rows(finding.count)}"
    advice = "keep a copy of the database, and report it with `doctor --audit --json`"
    return Problem("broken", execution_id, text, advice)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _audited(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return every invariant with the rows that break it."""
    broken = {finding.name: finding for finding in found}
    report = []
    for invariant in INVARIANTS:
        finding = broken.get(invariant.name)
        report.append(
            {
                "name": invariant.name,
                "says": invariant.says,
                "elsewhere": invariant.elsewhere or None,
                "broken": finding.count if finding else 0,
                "rows": finding.rows if finding else [],
            }
        )
    return report


# Telling


def _print(report: dict[str, Any], problems: Sequence[Problem]) -> None:
    files = ", ".join(
        f"{path} {size:,} bytes" for path, size in report["files"].items()
    )
    counts = ", ".join(f"{n} {phase}" for phase, n in report["executions"].items())
    print_fields(
        [
            ("database", f"{report['database']}, schema {report['schema']}"),
            ("files", files),
            ("executions", counts or "none"),
            ("jobs to delete", report["jobs_to_delete"] or None),
        ]
    )
    if report["audit"] is not None:
        broken = sum(bool(each["broken"]) for each in report["audit"])
        print(f"\ninvariants: {len(report['audit'])} checked, {broken} broken")
    at_work = report["nodes"]
    print(f"\nnodes: {len(at_work)}")
    if at_work:
        heads = ("NODE", "STATE", "HOST", "PID", "VERSION", "STARTED")
        columns = ("id", "state", "host", "pid", "version", "started_at")
        print_table(heads, ([node[c] for c in columns] for node in at_work))
    print(f"\nproblems: {len(problems)}")
    if problems:
        print_table(
            ("KIND", "EXECUTION", "WHAT"),
            ((p.kind, p.execution_id, f"{p.text} -> {p.advice}") for p in problems),
        )


def _print_rows(found: Sequence[Finding]) -> None:
    """Print the rows that break an invariant, each as its columns and values."""
    for finding in found:
        left_out = finding.count - len(finding.rows)
        more = f", {left_out} of them not shown" if left_out else ""
        print(f"\nbroken {finding.name}: {_rows(finding.count)}{more}")
        for row in finding.rows:
            print("  " + one_line(", ".join(f"{k}={v}" for k, v in row.items())))
