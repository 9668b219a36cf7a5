"""The judge finds what it is there to find: each planted breach is named."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine

from orchestrator._storage._ddl import SQLITE_VIEWS
from orchestrator._storage._schema import metadata
from orchestrator.testing import JobSpec, ServiceClass, State
from tests.crash.audit import Audit
from tests.crash.board import Board, Reading
from tests.crash.campaign import Campaign, Options
from tests.crash.figures import Totals, load, save
from tests.crash.judge import Acknowledged, Verdict, judge, unintended
from tests.crash.scenario import KINDS, Plan, batch
from tests.crash.subject import job_server_subject
from tests.jobserver.launch import RunningServer
from tests.jobserver.witness import WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Iterator

ID = f"{7:032x}"
TOKEN = f"o{ID}-1"

TIMER = """
INSERT INTO timer (execution_id, task_type, task_version, due_at)
SELECT id, 'j', 0, 0 FROM execution"""
ADOPTED_TWICE = """
INSERT INTO external_job (execution_id, attempt, task_type, task_version, job_key,
                          meta, meta_version, recorded_at, adopted_at)
SELECT id, 1, 'j', 0, 'job-2', x'', 1, 0, 0 FROM execution"""
SWEPT = """
INSERT INTO external_job (execution_id, attempt, task_type, task_version, job_key,
                          meta, meta_version, recorded_at, cleanup)
SELECT id, 1, 'j', 0, 'job-2', x'', 1, 0, 'DONE' FROM execution"""

Database = sqlite3.Connection


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with one execution that succeeded; no triggers to protect it."""
    path = tmp_path / "orchestrator.db"
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"CREATE VIEW orphans_v1 AS {SQLITE_VIEWS['orphans_v1']}")
        db.execute("INSERT INTO template VALUES ('h', x'', '{}', 0)")
        db.execute(
            "INSERT INTO execution (id, name, task_type, task_version, template_hash,"
            " phase, version, attempt, max_attempts, submitted_at, ready_at,"
            " updated_at, finished_at, phase_at, inputs, inputs_json, job_key,"
            " remote_phase) VALUES (?, 'plain', 'j', 0, 'h', 'SUCCEEDED', 4, 1, 3,"
            " 0, 0, 0, 0, 0, x'', '{}', 'job-1', 'SUCCEEDED')",
            (ID,),
        )
        steps = [
            (None, "SUBMITTED", "QUEUED", None),
            ("QUEUED", "CREATE_INTENT", "CREATING", None),
            ("CREATING", "CREATED", "RUNNING", None),
            ("RUNNING", "REMOTE_SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
        ]
        for version, (source, cause, target, remote) in enumerate(steps, start=1):
            db.execute(
                "INSERT INTO history (execution_id, version, attempt, cause,"
                " from_phase, to_phase, remote_phase, at, epoch)"
                " VALUES (?, ?, 1, ?, ?, ?, ?, 0, 0)",
                (ID, version, cause, source, target, remote),
            )
        db.execute(
            "INSERT INTO external_job (execution_id, attempt, task_type, task_version,"
            " job_key, meta, meta_version, recorded_at, adopted_at)"
            " VALUES (?, 1, 'j', 0, 'job-1', x'', 1, 0, 0)",
            (ID,),
        )
        db.execute("INSERT INTO counter VALUES ('j', 'SUCCEEDED', 1)")
        db.execute(
            "INSERT INTO outbox (execution_id, version, phase, created_at)"
            " VALUES (?, 4, 'SUCCEEDED', 0)",
            (ID,),
        )
        yield db


def job(number: int = 1, *, state: State = State.SUCCEEDED) -> WitnessedJob:
    """Return a job of the one execution, as the witness would."""
    ended = None if state is State.RUNNING else 100 + number
    return WitnessedJob(f"job-{number}", "I", TOKEN, number, state, ended, 0)


def judged(
    database: Database,
    jobs: list[WitnessedJob],
    service: ServiceClass = ServiceClass.IDEMPOTENT,
    acknowledged: Acknowledged | None = None,
) -> dict[str, int]:
    """Return how many findings of each kind there are; none are left out."""
    (_, _, path) = database.execute("PRAGMA database_list").fetchone()
    known = acknowledged or Acknowledged(ids={"key": ID})
    plan = Plan("key", "plain", service, JobSpec())
    verdict = Verdict()
    judge(Audit(Path(path)), jobs, [plan], known, verdict)
    return {kind: len(found) for kind, found in verdict.findings.items() if found}


def test_a_clean_history_has_no_findings(database: Database) -> None:
    """One job, one execution, all in order."""
    assert judged(database, [job()]) == {}


BREACHES: list[tuple[str, str]] = [
    ("UPDATE execution SET version = 5", "history"),
    ("UPDATE execution SET attempt = 2", "history"),
    ("DELETE FROM history WHERE version = 2", "history"),
    ("UPDATE history SET from_phase = 'ABORTING' WHERE version = 4", "history"),
    ("UPDATE history SET cause = 'CREATED' WHERE version = 2", "history"),
    ("UPDATE history SET epoch = 3 WHERE version = 2", "history"),
    ("UPDATE history SET cause = 'ABORT_REQUESTED' WHERE version = 1", "history"),
    ("DELETE FROM outbox", "history"),
    ("UPDATE counter SET executions = 2", "history"),
    ("INSERT INTO counter VALUES ('j', 'FAILED', 1)", "history"),
    (TIMER, "history"),
    ("UPDATE history SET to_phase = 'ABORTING' WHERE version = 3", "history"),
    (ADOPTED_TWICE, "history"),
    (
        "UPDATE execution SET phase = 'FAILED', error_code = 'REMOTE_FAILED'",
        "wrong end",
    ),
    ("UPDATE execution SET phase = 'RUNNING', finished_at = NULL", "lost"),
    ("DELETE FROM execution", "lost"),
]


@pytest.mark.parametrize(("breach", "kind"), BREACHES)
def test_a_broken_database_is_found(database: Database, breach: str, kind: str) -> None:
    """Each breach is found as what it is."""
    database.execute("PRAGMA ignore_check_constraints = ON")
    assert database.execute(breach).rowcount == 1
    assert kind in judged(database, [job()])


def test_a_rewritten_terminal_row_is_found(database: Database) -> None:
    """Whatever column changes after the end, the hash tells."""
    known = Acknowledged(ids={"key": ID})
    assert judged(database, [job()], acknowledged=known) == {}
    database.execute("UPDATE execution SET message = 'another'")
    assert judged(database, [job()], acknowledged=known) == {"rewritten": 1}


def test_an_unacknowledged_key_and_a_second_id_are_found(database: Database) -> None:
    """A key has one execution, from its first acknowledgement on."""
    known = Acknowledged()
    assert judged(database, [], acknowledged=known) == {"lost": 1}
    assert known.note([("key", ID), ("key", ID)]) == []
    assert len(known.note([("key", "another")])) == 1


@pytest.mark.parametrize(
    ("service", "jobs", "found"),
    [
        ("I", [job(), job(2)], {"duplicated": 1}),
        ("T", [job(), job(2)], {"duplicated": 1}),
        ("N", [job(), job(2)], {"duplicated": 1}),
        ("L", [job(), job(2)], {}),
        (
            "L",
            [job(), job(2, state=State.RUNNING)],
            {"duplicated": 1, "orphaned": 1},
        ),
        ("I", [job(state=State.RUNNING)], {"orphaned": 1}),
        ("L", [job(state=State.RUNNING)], {"orphaned": 1}),
        ("N", [job(state=State.RUNNING)], {"orphaned": 1}),
    ],
)
def test_the_witness_is_believed(
    database: Database, service: str, jobs: list[WitnessedJob], found: dict[str, int]
) -> None:
    """A second or a live job is a violation where the class forbids it."""
    assert judged(database, jobs, ServiceClass(service)) == found


def test_a_create_without_its_intent_is_found(database: Database) -> None:
    """The witness counts the calls of a token, the database its intents (Q6, Q7)."""
    (_, _, path) = database.execute("PRAGMA database_list").fetchone()
    intents = Audit(Path(path)).intents()
    assert intents == {TOKEN: 1}
    assert unintended({TOKEN: 1}, intents) == []
    assert len(unintended({TOKEN: 2}, intents)) == 1
    assert len(unintended({f"o{ID}-2": 1}, intents)) == 1


def test_class_l_may_make_a_second_job_that_is_recorded(database: Database) -> None:
    """Both in the ledger, none alive: told as a figure, not as a violation."""
    database.execute(SWEPT)
    assert judged(database, [job(), job(2)], ServiceClass.LISTED) == {}


def test_class_n_may_lose_a_job_that_it_lists(database: Database) -> None:
    """CREATE_OUTCOME_UNKNOWN in the view of orphans is the honest end."""
    database.execute(
        "UPDATE execution SET phase = 'FAILED', error_code = 'CREATE_OUTCOME_UNKNOWN'"
    )
    database.execute("UPDATE outbox SET phase = 'FAILED'")
    database.execute("UPDATE external_job SET adopted_at = NULL, cleanup = 'DONE'")
    database.execute("DELETE FROM history WHERE version > 2")
    database.execute("UPDATE execution SET version = 4")
    for version, source, cause, target in (
        (3, "CREATING", "CREATE_ERROR", "CREATE_UNKNOWN"),
        (4, "CREATE_UNKNOWN", "CREATE_OUTCOME_UNKNOWN", "FAILED"),
    ):
        database.execute(
            "INSERT INTO history (execution_id, version, attempt, cause, from_phase,"
            " to_phase, at, epoch) VALUES (?, ?, 1, ?, ?, ?, 0, 0)",
            (ID, version, cause, source, target),
        )
    database.execute("UPDATE counter SET phase = 'FAILED'")
    running = [job(2, state=State.RUNNING)]
    assert judged(database, running, ServiceClass.NEITHER) == {}
    known = [job(1, state=State.RUNNING)]
    assert judged(database, known, ServiceClass.NEITHER) == {"orphaned": 1}
    assert "orphaned" in judged(database, running, ServiceClass.IDEMPOTENT)


def test_an_abort_without_a_delete_is_found(database: Database) -> None:
    """An aborted execution whose job ended without being deleted (P10)."""
    database.execute("UPDATE execution SET phase = 'ABORTED', error_code = 'ABORTED'")
    assert "undeleted" in judged(database, [job(state=State.ABORTED)])
    assert "undeleted" not in judged(database, [job(state=State.SUCCEEDED)])


def test_a_plan_is_the_same_for_a_seed() -> None:
    """Worker and judge build the same batch, which has every kind of the class."""
    plans = batch(ServiceClass.LISTED, 3, 60, 5)
    assert plans == batch(ServiceClass.LISTED, 3, 60, 5)
    assert plans != batch(ServiceClass.LISTED, 4, 60, 5)
    assert {plan.kind_name for plan in plans} == set(KINDS)
    assert len({plan.key for plan in plans}) == 60


def test_the_board_tells_what_was_going_on(tmp_path: Path) -> None:
    """The page is read by another reader as it was written, at any moment."""
    path = tmp_path / "board"
    with Board(path, ("a", "b")) as board:
        assert Reading(path, ("a", "b")).places == []
        assert [board.reached("b"), board.reached("b"), board.reached("c")] == [1, 2, 0]
        board.set("commit", 1)
        with board.inside("get"), board.inside("get"):
            reading = Reading(path, ("a", "b"))
        assert reading.places == ["get", "commit"]
        assert (reading.counts["get"], reading.counts["b"]) == (2, 2)
    assert Reading(tmp_path / "none", ("a",)).places == []


def test_totals_run_on(tmp_path: Path) -> None:
    """What is saved is loaded; no file is an empty start."""
    path = tmp_path / "totals.json"
    assert load(path) == {}
    totals = Totals()
    totals.cycles["killed at a point"] += 2
    totals.note(["an example"])
    totals.seeds["0"] += 2
    save(path, {"I": totals})
    assert load(path) == {"I": totals}
    assert (load(path)["I"].kills, load(path)["I"].clean) == (2, True)
    assert (totals.next_seed, Totals().next_seed) == (1, 0)
    save(path, {"L": Totals()})
    assert load(path) == {"I": totals, "L": Totals()}


def test_the_least_hit_point_comes_next(tmp_path: Path) -> None:
    """Also over runs: the totals that were loaded count, and misses of this one."""
    server = RunningServer("127.0.0.1", 1, tmp_path / "ledger.db", 0)
    totals = Totals(points=Counter(a=3, b=1, c=2))
    options = Options(points=("a", "b", "c"), random_share=0.0)
    subject = job_server_subject(ServiceClass.LISTED, server)
    campaign = Campaign(subject, options, tmp_path, totals)
    assert campaign.choose().point == "b"
    campaign._misses["b"] += 2
    assert campaign.choose().point == "c"
    totals.points["c"] += 1
    totals.points["b"] += 1
    assert campaign.choose().point in ("a", "c")
