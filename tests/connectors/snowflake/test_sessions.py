"""Sessions and credentials: one per call, kept, bounded, replaced; secrets nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._secrets import Redactor, redacting
from orchestrator.connectors.snowflake import SnowflakeConnector
from orchestrator.connectors.snowflake._login import login
from orchestrator.connectors.snowflake._place import Place
from orchestrator.connectors.snowflake._sessions import (
    AGE_MAX_S,
    Credentials,
    Sessions,
)
from orchestrator.connectors.utils import redacted
from orchestrator.errors import AuthError, PermanentError, TransientError
from orchestrator.testing import ManualClock
from tests.connectors.snowflake.kit import attempt, pem
from tests.emulators import Fault, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulators import Running

NOBODY = Credentials()
PLACE = Place("shop-main", "RUNNER", "SHOP", "PUBLIC", "SMALL")


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture
def sessions(service: Running, clock: ManualClock) -> Iterator[Sessions]:
    """Return a pool for two."""
    made = Sessions(service.url, {}, 2, kept=2, clock=clock)
    yield made
    made.close()


def test_a_session_is_kept_and_never_shared(sessions: Sessions) -> None:
    """Two calls at once have two; the next takes one of them."""
    with (
        sessions.borrow(PLACE, NOBODY) as one,
        sessions.borrow(PLACE, NOBODY) as other,
    ):
        assert one is not other
        assert len(sessions) == 0
    assert len(sessions) == 2
    with sessions.borrow(PLACE, NOBODY, sure=True) as again:
        assert again in (one, other)
    with sessions.borrow(PLACE, Credentials.of({"snowflake_password": "x"})) as foreign:
        assert foreign not in (one, other)
    assert len(sessions) == 2


def test_one_that_fails_or_is_old_is_not_used_again(
    sessions: Sessions, clock: ManualClock
) -> None:
    """A failing call closes its own session, and no other."""
    with sessions.borrow(PLACE, NOBODY) as kept:
        pass
    with pytest.raises(KeyError), sessions.borrow(PLACE, NOBODY, fresh=True) as broken:
        raise KeyError
    assert broken.is_closed()
    assert not kept.is_closed()
    clock.advance(AGE_MAX_S + 1)
    with sessions.borrow(PLACE, NOBODY) as new:
        assert new is not kept
    assert kept.is_closed()


def test_after_the_end_nothing_is_kept(sessions: Sessions) -> None:
    """Also what was in use."""
    with sessions.borrow(PLACE, NOBODY) as one:
        sessions.close()
        assert not one.is_closed()
    assert one.is_closed()


async def test_closing_ends_no_query(
    service: Running, connector: SnowflakeConnector
) -> None:
    """Neither the connector's end nor the client's: nobody logs out."""
    one = attempt("SELECT 1 /* sleep=600 */")
    meta = await one.create(connector)
    await connector.get(meta)
    connector.close()
    assert sum(service.calls("logout").values()) == 0
    other = SnowflakeConnector(endpoint=service.url)
    assert (await other.get(meta)).phase == TaskExecution.RUNNING
    other.close()


async def test_many_jobs_at_once_share_no_session_and_lose_none(
    service: Running, connector: SnowflakeConnector
) -> None:
    """More than there are threads; deleting half of them leaves the others alone."""
    many = [attempt("SELECT 1 /* sleep=600 */") for _ in range(20)]
    metas = await asyncio.gather(*(one.create(connector) for one in many))
    await asyncio.gather(*(connector.delete(meta) for meta in metas[::2]))
    told = await asyncio.gather(*(connector.get(meta) for meta in metas))
    phases = [resource.phase for resource in told]
    assert phases == [TaskExecution.ABORTED, TaskExecution.RUNNING] * 10
    assert all(service.count(one.token) == 1 for one in many)


@pytest.mark.parametrize("passphrase", ["", "a phrase"])
async def test_a_key_pair_is_taken(
    connector: SnowflakeConnector, passphrase: str
) -> None:
    """PEM, encrypted or not."""
    secrets = {"snowflake_private_key": pem(passphrase)}
    if passphrase:
        secrets["snowflake_private_key_passphrase"] = passphrase
    meta = await attempt().create(connector, **secrets)
    told = await connector.get(meta, **secrets)
    assert told.phase == TaskExecution.SUCCEEDED


@pytest.mark.parametrize("name", ["snowflake_password", "snowflake_token"])
async def test_passwords_and_tokens_are_taken_or_refused(
    service: Running, connector: SnowflakeConnector, name: str
) -> None:
    """A refusal holds the execution: nothing was submitted."""
    await attempt().create(connector, **{name: "right"})
    one = attempt()
    with pytest.raises(AuthError):
        await one.create(connector, **{name: "wrong"})
    with pytest.raises(AuthError, match="empty"):
        await one.create(connector, **{name: ""})
    assert service.count(one.token) == 0


async def test_a_key_that_cannot_be_read_is_not_quoted(
    connector: SnowflakeConnector,
) -> None:
    """Nor is what its reader said."""
    for key, phrase in (("no key at all", ""), (pem("right"), "wrong")):
        with pytest.raises(AuthError) as caught:
            await attempt().create(
                connector,
                snowflake_private_key=key,
                snowflake_private_key_passphrase=phrase,
            )
        assert key not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_while_logging_in_words_are_shown_and_tokens_are_not() -> None:
    """Nor what is known to be a secret; the id of a refusal is for administrators."""
    told = "JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a] at db.example"
    token = f"eyJ{'a-_' * 20}.{'Z' * 300}"
    known = Redactor()
    known.register({"": "a secret"})
    with redacting(known):
        with login():
            assert redacted(told) == told
            assert redacted(f"{told}: {token}, a secret") == f"{told}: ***.***, ***"
            assert redacted(f"b {token * 500}", 20) == "b ***.***.***.***.**"
        assert token in redacted(f"{told}: {token}")


async def test_a_refused_login_says_why_and_has_no_cause(
    service: Running, connector: SnowflakeConnector
) -> None:
    """The client's own error is not redacted."""
    service.script(Rule(do=Fault.REFUSE, verb="login", status=200))
    with pytest.raises(AuthError, match=r"no session: .*refused by a rule") as caught:
        await attempt().create(connector)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_several_credentials_are_not_guessed_among(
    connector: SnowflakeConnector,
) -> None:
    """Whoever names two means one of them."""
    both = {"snowflake_password": "x", "snowflake_token": "y"}
    with pytest.raises(AuthError, match="name one of"):
        await attempt().create(connector, **both)


async def test_credentials_are_not_sent_in_the_clear_nor_to_other_accounts(
    service: Running,
) -> None:
    """Plain http is for emulators on this machine; accounts can be named."""
    far = SnowflakeConnector(endpoint="http://emulator.example:9050")
    with pytest.raises(AuthError, match="plain http"):
        await attempt().create(far, snowflake_password="x")  # noqa: S106 - no password
    far.close()
    choosy = SnowflakeConnector(endpoint=service.url, accounts=["other"])
    with pytest.raises(PermanentError, match="none of the connector's accounts"):
        await attempt().create(choosy)
    with pytest.raises(PermanentError, match="none of the connector's accounts"):
        await attempt().find(choosy)
    choosy.close()


def test_what_a_task_says_stands_behind_the_connectors_own(service: Running) -> None:
    """Keep-alive, tag and detached queries are nobody else's to decide."""
    given = {"role": "R", "session_parameters": {"ABORT_DETACHED_QUERY": True, "B": 2}}
    sessions = Sessions(service.url, given, 2)
    options = sessions._options(PLACE, NOBODY)
    assert options["role"] == "R"
    assert options["server_session_keep_alive"] is True
    assert options["session_parameters"]["ABORT_DETACHED_QUERY"] is False
    assert options["session_parameters"]["B"] == 2
    with (
        pytest.raises(TransientError),
        Sessions("http://127.0.0.1:9", {}, 1).borrow(PLACE, NOBODY),
    ):
        pass
