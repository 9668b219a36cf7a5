"""The real store, driven at random, against a dict that says what must be there."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator._engine._stepper import after
from orchestrator._machine import decide
from orchestrator._phase import TERMINAL
from orchestrator._storage import _claim
from orchestrator.testing import ManualClock
from tests.support.factories import SECOND, TASK_TYPE, make_job, make_new
from tests.support.situations import situations_of
from tests.support.stores import (
    NODE,
    OTHER,
    apply,
    check_store,
    claim,
    dump,
    make_store,
    preload,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from orchestrator._records import Change, Claimed

PROFILE = settings(
    derandomize=True,
    database=None,
    phases=[Stage.generate],  # a sequence of few steps needs no shrinking
    deadline=None,
    report_multiple_bugs=False,
    max_examples=8,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Row:
    """What the model knows of an execution."""

    phase: str = "QUEUED"
    version: int = 1
    due_at: int | None = None
    wished: bool = False
    key: str | None = None
    claimed: Claimed | None = None


class StoreMachine(RuleBasedStateMachine):
    """Submits, claims, steps, wishes, late jobs and lost leases in any order."""

    statements: list[str]

    def __init__(self) -> None:
        """Open a memory database."""
        super().__init__()
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.store = make_store("sqlite+aiosqlite:///:memory:", self.clock)
        preload(self.store, self.statements)
        self.run(self.store.open())
        self.rows: dict[str, Row] = {}
        self.jobs = 0
        self.recorded = 0
        self.rng = Random(1)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await in this machine's own loop."""
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        """Check what holds for every database, and close."""
        self.run(check_store(self.store))
        self.run(self.store.close())
        self.runner.close()

    @property
    def now(self) -> int:
        """The clock's time."""
        return self.clock.now_us()

    def _held(self) -> list[str]:
        return [i for i, row in self.rows.items() if row.claimed is not None]

    @rule(key=st.sampled_from([None, None, "a", "b", "c"]), delay=st.integers(0, 5))
    def submit(self, key: str | None, delay: int) -> None:
        due = self.now + delay * SECOND
        more = {} if key is None else {"key": key}
        new = make_new(ready_at=due, **more)
        holder = next((i for i, r in self.rows.items() if key and r.key == key), None)
        [told] = self.run(self.store.submit([new], self.now))
        assert told.existing == (holder is not None)
        assert told.execution_id == (holder or new.row["id"])
        if holder is None:
            self.rows[told.execution_id] = Row(due_at=due, key=key)

    @rule(seconds=st.integers(1, 120))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        free = [
            (row.due_at, i)
            for i, row in self.rows.items()
            if row.claimed is None and row.due_at is not None and row.due_at <= self.now
        ]
        taken = self.run(claim(self.store, now=self.now, limit=limit))
        assert sorted(row.id for row in taken) == sorted(
            i for _, i in sorted(free)[:limit]
        )
        for row in taken:
            known = self.rows[row.id]
            assert (row.phase, row.version) == (known.phase, known.version)
            assert (row.abort_requested_at is not None) == known.wished
            known.claimed = row

    def _change(self, data: st.DataObject) -> tuple[Claimed, Change]:
        held = data.draw(st.sampled_from(self._held()))
        row = self.rows[held].claimed
        assert row is not None
        chosen = data.draw(st.sampled_from(situations_of(row.phase)))
        observation: Any = chosen.observation
        if getattr(observation, "job", None) is not None:
            self.jobs += 1
            observation = replace(observation, job=make_job(self.jobs))
        return row, decide(row, observation, self.now, chosen.policies, self.rng)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        row, change = self._change(data)
        if not change.writes:
            return
        known = self.rows[row.id]
        stale = known.version != row.version
        accepted = self.run(apply(self.store, row, change, now=self.now))
        assert accepted == (not stale)
        known.phase, known.claimed = str(change.phase), after(row, change)
        known.version += change.cause is not None
        self.recorded += change.job is not None
        if change.phase in TERMINAL:
            known.claimed = known.due_at = None
        elif change.then is None:
            known.claimed = None
            assert change.due_at is not None
            woken = known.wished and row.abort_requested_at is None
            known.due_at = min(change.due_at, self.now) if woken else change.due_at

    @precondition(lambda self: self._held())
    @rule(data=st.data(), other=st.booleans())
    def step_of_a_zombie(self, data: st.DataObject, other: bool) -> None:  # noqa: FBT001
        row, change = self._change(data)
        if not change.writes:
            return
        before = self.run(dump(self.store))
        node = OTHER if other else NODE
        late = row if other else row._replace(epoch=row.epoch - 1)
        assert not self.run(apply(self.store, late, change, node=node, now=self.now))
        assert self.run(dump(self.store)) == before

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def wish_abort(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.rows)))
        row = self.rows[chosen]
        new = row.phase not in TERMINAL and not row.wished
        assert self.run(self.store.wish_abort(chosen, "enough", self.now)) == new
        if new:
            row.wished = True
            if row.claimed is None:
                assert row.due_at is not None
                row.due_at = min(row.due_at, self.now)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def record_a_late_job(self, data: st.DataObject) -> None:
        row = self.rows[data.draw(st.sampled_from(self._held()))].claimed
        assert row is not None
        self.jobs += 1
        self.recorded += 1
        job = make_job(self.jobs)
        for _ in range(2):  # a fact is idempotent
            self.run(self.store.record(row, row.attempt, job, self.now))

    @precondition(lambda self: self._held())
    @rule()
    def lose_the_lease(self) -> None:
        held = {(i, r.claimed.epoch) for i, r in self.rows.items() if r.claimed}
        assert self.run(self.store.free(NODE, held)) == len(held)
        for execution_id, _ in held:
            self.rows[execution_id].claimed = None
            self.rows[execution_id].due_at = self._due(execution_id)

    def _due(self, execution_id: str) -> int | None:
        timers = self.run(dump(self.store))["timer"]
        [due] = [timer[3] for timer in timers if timer[0] == execution_id]
        assert due <= self.now, "what was claimed was due, and is again"
        return int(due)

    @rule()
    def pay_debts(self) -> None:
        owed = self.run(
            self.store.claim_cleanups(
                node=NODE, limit=3, loaded=[(TASK_TYPE, 0)], now=self.now
            )
        )
        for job in owed:
            done = {"node": NODE, "cleanup": "DONE", "due_at": None, "error": None}
            assert self.run(self.store.finish_cleanup(job, **done))
            assert not self.run(self.store.finish_cleanup(job, **done)), "only once"

    @invariant()
    def the_tables_are_what_the_dict_says(self) -> None:
        tables = self.run(dump(self.store))
        found = {
            e.id: (str(e.phase), e.version, e.idempotency_key)
            for e in self.run(self.store.find(limit=1000))
        }
        assert found == {i: (r.phase, r.version, r.key) for i, r in self.rows.items()}
        lengths = Counter(row[0] for row in tables["history"])
        assert lengths == {i: r.version for i, r in self.rows.items()}
        claimed = {row[0] for row in tables["timer"] if row[4] is not None}
        assert claimed == set(self._held())
        due = {row[0]: row[3] for row in tables["timer"] if row[4] is None}
        assert due == {
            i: r.due_at
            for i, r in self.rows.items()
            if r.phase not in TERMINAL and r.claimed is None
        }
        counts = Counter((TASK_TYPE, r.phase) for r in self.rows.values())
        assert self.run(self.store.counts()) == counts
        keys = {row[0]: row[1] for row in tables["idempotency_key"]}
        assert keys == {r.key: i for i, r in self.rows.items() if r.key}
        assert len(tables["external_job"]) == self.recorded


@pytest.fixture
def machine(migrated_statements: list[str]) -> type[StoreMachine]:
    """Return the machine, with the statements that make its database."""
    return type("Machine", (StoreMachine,), {"statements": migrated_statements})


def test_the_store_is_what_a_dict_says(machine: type[StoreMachine]) -> None:
    """Whatever is done, in whatever order."""
    run_state_machine_as_test(machine, settings=PROFILE)


def test_a_claim_that_takes_nothing_is_noticed(
    machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ablation: rows are read and not marked as taken."""
    take = _claim._TAKE.replace("SET node = ?,", "SET woken = woken + 0 * ?,")
    monkeypatch.setattr(_claim, "_TAKE", take)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=PROFILE)
