"""Every named point is killed at once, and the witness has nothing to complain of.

The short version of ``python -m tests.crash.campaign``; real processes, SIGKILL.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from orchestrator._secrets import Redactor
from orchestrator.testing import ServiceClass
from tests.crash.campaign import POINTS, Options, reachable, run_class
from tests.crash.canaries import KEYWORD, Indiscreet, canary, traces
from tests.crash.figures import Totals, load, table
from tests.jobserver.launch import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_SHARES = 4


@pytest.mark.timeout(180)
@pytest.mark.parametrize("share", range(_SHARES))
def test_each_named_point_survives_a_kill(share: int, tmp_path: Path) -> None:
    """Class I: nothing lost, duplicated, orphaned or rewritten, at any point."""
    points = reachable(ServiceClass.IDEMPOTENT, POINTS)[share::_SHARES]
    totals = Totals()
    options = Options(jobs=25, points=points, round_size=6, seed=share)
    never = run_class(
        ServiceClass.IDEMPOTENT, options, tmp_path, totals, every_point=True
    )
    report = "\n".join(table("I", totals, points))
    assert totals.clean, report
    assert not never, f"never reached: {never}\n{report}"
    assert totals.kills == len(points)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "service", [ServiceClass.LISTED, ServiceClass.NEITHER, ServiceClass.TIMED]
)
def test_other_classes_keep_their_smaller_promise(
    service: ServiceClass, tmp_path: Path
) -> None:
    """Class L ends every second job, class N never makes one and says what it lost."""
    totals = Totals()
    options = Options(cycles=4, jobs=25, round_size=4, random_share=0.0)
    run_class(service, options, tmp_path, totals)
    assert totals.clean, "\n".join(table(service.value, totals, POINTS))
    assert totals.kills == 4
    assert totals.canaries["quoted by the service"] > 100


def _campaign(totals: Path, cycles: int) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "tests.crash.campaign", "--class", "I"),
        *("--jobs", "3", "--round", "1", "--without", "given up"),
        *("--cycles", str(cycles), "--resume", str(totals)),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.timeout(120)
def test_a_campaign_that_is_killed_itself_goes_on(tmp_path: Path) -> None:
    """What was judged is kept; the next run has another seed and adds to it."""
    path = tmp_path / "totals.json"
    with _campaign(path, 100) as first:
        while not (path.exists() and load(path)["I"].kills):
            with suppress(subprocess.TimeoutExpired):
                first.wait(0.05)
        first.kill()
    before = load(path)["I"]
    with _campaign(path, 1) as second:
        (printed, _) = second.communicate(timeout=100)
    assert second.returncode == 0
    after = load(path)["I"]
    assert after.kills == before.kills + 1
    assert after.seeds == before.seeds + Counter({"1": 1})
    assert (
        "\n".join(table("I", after, reachable(ServiceClass.IDEMPOTENT, POINTS)))
        in printed.decode()
    )


@pytest.mark.timeout(120)
def test_without_redaction_the_canaries_are_found(tmp_path: Path) -> None:
    """In the database and in its WAL, raw and in base64: the search is not blind."""
    totals = Totals()
    points = ("end.after_commit",)
    options = Options(cycles=1, jobs=25, points=points, random_share=0, redacted=False)
    run_class(ServiceClass.IDEMPOTENT, options, tmp_path, totals)
    report = "\n".join(table("I", totals, points))
    found = "\n".join(totals.examples)
    assert totals.findings["leaked"], report
    assert "its head, in orchestrator.db-wal" in found, report
    assert "its tail, in orchestrator.db\n" in f"{found}\n", report
    assert "in base64" in found, report
    assert "in worker.log" in found, report


def test_a_canary_is_found_in_every_spelling_of_a_service() -> None:
    """Whatever stands before and behind it."""
    value = canary("0")
    ways = Indiscreet(lambda: None)
    texts = [ways("said", {KEYWORD: value}) for _ in range(8)]
    assert [bool(traces("it", text.encode())) for text in texts] == [False, *[True] * 7]
    redactor = Redactor()
    redactor.register({KEYWORD: value})
    assert not any(traces("it", redactor.redact(text).encode()) for text in texts)


def test_there_are_at_least_twenty_named_points() -> None:
    """The points cover the intent, the calls, the commits, delete and recovery."""
    assert len(set(POINTS)) == len(POINTS) >= 20
