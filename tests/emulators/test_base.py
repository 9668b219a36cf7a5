"""What all stand-ins can: jobs that outlive the process, scripts, faults, a witness."""

from __future__ import annotations

import itertools
import json
from http.client import BadStatusLine, HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from orchestrator.testing import State
from tests.emulators import Fault, Rule, Running, running
from tests.emulators._base import script_of
from tests.support.spoken import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def one_toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run the smallest stand-in."""
    with running("toy", tmp_path_factory.mktemp("toy") / "ledger.db") as service:
        yield service


@pytest.fixture
def toy(one_toy: Running) -> Iterator[Running]:
    """Return the stand-in; the test's rules end with it."""
    yield one_toy
    one_toy.script()


@pytest.fixture
def token() -> str:
    """Return a token that no other test has."""
    return f"o{next(_numbers):032x}-1"


def ask(
    service: Running,
    method: str,
    path: str,
    body: Any = None,
    timeout: float = 10,
) -> tuple[int, Any, dict[str, str]]:
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=timeout)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.getheaders())
    finally:
        connection.close()


def create(service: Running, token: str, text: str = "") -> Any:
    return ask(service, "POST", "/jobs", {"id": token, "text": text}, timeout=1)


def state(service: Running, token: str) -> Any:
    return ask(service, "GET", f"/jobs/{token}")[1].get("state")


def test_jobs_are_witnessed_and_a_later_process_goes_on_with_them(
    tmp_path: Path, token: str
) -> None:
    """What was answered is in the ledger, also after a kill."""
    ledger = tmp_path / "ledger.db"
    with running("toy", ledger) as first:
        create(first, token, "/* sleep=600 */")
        assert state(first, token) == State.RUNNING
    with running("tests.emulators.toy", ledger) as second:
        assert create(second, token)[0] == 409
        assert second.count(token) == 1
        assert [job.live for job in second.jobs()] == [True]
        ask(second, "DELETE", f"/jobs/{token}")
        assert state(second, token) == State.ABORTED
        assert not second.witness.live_jobs()
        assert second.calls("create") == {token: 2}


def test_a_stand_in_starts_by_hand_without_any_option(token: str) -> None:
    """Its ledger is a file of its own then."""
    with spoken("tests.emulators.toy") as (url, pid):
        service = Running(url, Path("nowhere"), pid)
        create(service, token)
        assert state(service, token) == State.SUCCEEDED


def test_a_job_does_what_its_text_says_per_attempt(toy: Running, token: str) -> None:
    """The first attempt fails, the second does not; a told job ends as told."""
    second = token[:-1] + "2"
    create(toy, token, "/* fail=oops,ok */")
    create(toy, second, "/* fail=oops,ok */")
    assert (state(toy, token), state(toy, second)) == (State.FAILED, State.SUCCEEDED)
    told = token[:-1] + "3"
    create(toy, told, "/* sleep=600 */")
    toy.end(told, State.FAILED)
    assert state(toy, told) == State.FAILED


def test_a_script_has_words_of_its_own_and_values_of_parameters(token: str) -> None:
    """Comments that are no scripts are left alone."""
    text = "/* a comment */ SELECT 1 /* sleep=@s queue=1\n cancel=2 fail=no rows=3 */"
    script = script_of(text, {"s": 0.5})
    spec = script.spec
    assert (spec.run_s, spec.queue_s, spec.delete_s) == (0.5, 1.0, 2.0)
    assert script.word_of("fail", token) == "no"
    assert script.words["rows"] == "3"


@pytest.mark.parametrize(
    ("fault", "made"),
    [(Fault.LOSE, 1), (Fault.HANG_AFTER, 1), (Fault.CUT, 0), (Fault.HANG, 0)],
)
def test_an_answer_is_lost_after_or_before_the_work(
    toy: Running, token: str, fault: Fault, made: int
) -> None:
    """The witness knows which; the client does not."""
    toy.script(Rule(do=fault, verb="create", times=1))
    with pytest.raises((OSError, BadStatusLine, HTTPException)):
        create(toy, token)
    assert toy.count(token) == made
    assert create(toy, token)[0] == (409 if made else 200)
    assert toy.witness.faults()["create", fault] == 1


def test_a_refusal_wears_the_status_and_says_when_to_come_back(
    toy: Running, token: str
) -> None:
    """Nothing is done."""
    toy.script(Rule(do=Fault.REFUSE, verb="create", status=429, retry_after=7, times=1))
    status, body, headers = create(toy, token)
    assert (status, headers["Retry-After"]) == (429, "7")
    assert "error" in body
    assert toy.count(token) == 0


def test_answers_come_late_or_when_they_are_released(toy: Running, token: str) -> None:
    """The client gives up; the job is there."""
    toy.script(Rule(do=Fault.WITHHOLD, verb="create", times=1))
    with pytest.raises(TimeoutError):
        create(toy, token)
    assert toy.count(token) == 1
    toy.release(token)
    toy.script(Rule(do=Fault.LATE, delay_s=0.1), Rule(do=Fault.STALL, delay_s=0.1))
    assert state(toy, token) == State.SUCCEEDED


def test_a_fault_of_the_stand_in_is_seen(toy: Running) -> None:
    """A request that it cannot read is a 500 that says so, or no route."""
    assert ask(toy, "GET", "/nothing")[0] == 404
    toy.script()
    with pytest.raises(RuntimeError, match="no_such_field"):
        toy._ask("PUT", "/-/rules", [{"do": "lose", "no_such_field": 1}])
