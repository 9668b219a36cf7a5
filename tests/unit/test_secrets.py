"""Secrets are references until the call, and never come back in a text."""

from __future__ import annotations

import base64
import html
import json
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from flyteidl2.core.tasks_pb2 import TaskTemplate
from google.protobuf import json_format

from orchestrator._secrets import (
    ConnectorSecretsMixin,
    RedactingFilter,
    Redactor,
    Secret,
    Use,
    get_logger,
    redacting,
    remember_secret,
    secret_references,
    secrets_from_request,
)
from orchestrator._secrets._redaction import GROUP_CHARS_MAX, LARGE, VALUES_MAX
from orchestrator.errors import InvalidInputError

VALUE = 'p@ss "w/ord" ü+%'


def template(**custom: Any) -> TaskTemplate:
    found = TaskTemplate()
    if custom:
        json_format.ParseDict(custom, found.custom)
    return found


def test_a_key_becomes_the_variable_that_flyte_would_choose() -> None:
    assert Secret("my-key").as_env_var == "MY_KEY"
    assert Secret("my-key", group="team").as_env_var == "TEAM_MY_KEY"
    assert Secret("my-key", as_env_var="OTHER").as_env_var == "OTHER"


def test_an_illegal_variable_or_mount_is_refused() -> None:
    with pytest.raises(ValueError, match="as_env_var"):
        Secret("k", as_env_var="lower")
    with pytest.raises(ValueError, match="mount"):
        Secret("k", mount=Path("/elsewhere"))


def test_a_request_is_a_key_a_secret_or_a_list_of_both() -> None:
    assert secrets_from_request("a") == [Secret("a")]
    assert secrets_from_request(Secret("a")) == [Secret("a")]
    assert secrets_from_request(["a", Secret("b")]) == [Secret("a"), Secret("b")]


def test_equal_secrets_have_one_hash_in_every_process() -> None:
    assert Secret("a").stable_hash() == Secret("a", as_env_var="A").stable_hash()
    assert Secret("a").stable_hash() != Secret("b").stable_hash()


def test_the_first_source_that_names_a_keyword_decides_it() -> None:
    task = template(secrets={"one": "CUSTOM_ONE"})
    context = task.security_context.secrets
    context.add(key="one", env_var="TEMPLATE_ONE")
    context.add(key="two-x", group="g")
    connector = ConnectorSecretsMixin(
        {"one": "MIXIN_ONE", "two-x": "MIXIN_TWO", "three": "MIXIN_THREE"}
    )
    found = secret_references(task, connector)
    assert {keyword: secret.variable for keyword, secret in found.items()} == {
        "one": "CUSTOM_ONE",
        "two-x": "G_TWO_X",
        "three": "MIXIN_THREE",
    }


def test_a_connector_without_the_mixin_has_no_secrets() -> None:
    assert secret_references(template(), object()) == {}


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        ("WORD", "custom.secrets"),
        ({"key": 5}, "custom.secrets.key"),
        ({"resource_meta": "A"}, "secrets.resource_meta"),
    ],
)
def test_unusable_custom_secrets_are_refused_with_their_field(
    secrets: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        secret_references(template(secrets=secrets), object())
    assert refused.value.field == field


@pytest.mark.parametrize(
    "spelling",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        json.dumps(VALUE),
        repr(VALUE),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    ],
)
def test_every_spelling_of_a_secret_is_replaced(spelling: str) -> None:
    redactor = Redactor()
    redactor.register({"password": VALUE})
    text = redactor.redact(f"denied for {spelling} at 12:00")
    assert spelling not in text
    assert "***" in text
    assert text.startswith("denied for ")
    assert text.endswith("at 12:00")


KEY = '-----BEGIN "KEY"-----\nab/c\\d<&>\'\u00fc\U0001f511\nend'


@pytest.mark.parametrize(
    "spelling",
    [
        json.dumps(json.dumps(KEY)[1:-1])[1:-1],
        json.dumps(json.dumps(KEY, ensure_ascii=False), ensure_ascii=False)[3:-3],
        json.dumps(json.dumps(json.dumps(KEY))),
        repr(json.dumps({"key": KEY})),
        json.dumps(KEY).replace("/", "\\/"),
        html.escape(KEY),
        html.escape(json.dumps(KEY)),
        quote(quote(KEY, safe=""), safe=""),
        quote(json.dumps(KEY)),
    ],
)
def test_a_secret_is_replaced_also_if_it_was_escaped_more_than_once(
    spelling: str,
) -> None:
    """Services quote the body of a request inside a text inside an answer."""
    redactor = Redactor()
    redactor.register({"password": KEY})
    text = redactor.redact(f"denied for {spelling} at 12:00")
    assert "BEGIN" not in text
    assert "end" not in text.replace("denied", "")
    assert redactor.redact_start(f"{spelling} {'x' * 99}", len(spelling)) == ""


def test_a_text_of_backslashes_costs_no_time() -> None:
    """No service stops the engine by what it says of a secret."""
    redactor = Redactor()
    redactor.register({"a": '\\\\"\\/\n\\"', "b": '"\\"/\u00fc', "c": "\u00fc/&\\"})
    for unit in ("\\", '\\"', "&", "%25", "\\u00"):
        text = unit * (65536 // len(unit))
        began = time.process_time()
        redactor.redact(text)
        assert time.process_time() - began < 5


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_a_password_inside_basic_authentication_is_replaced(user: str) -> None:
    redactor = Redactor()
    redactor.register({"password": "correct-horse-battery"})
    header = base64.b64encode(f"{user}:correct-horse-battery".encode()).decode()
    left = redactor.redact(f"Basic {header}").removeprefix("Basic ")
    assert len(left) < len(header) - 20


def test_the_longer_of_two_secrets_goes_first() -> None:
    redactor = Redactor()
    redactor.register({"a": "token", "b": "token-of-the-boss"})
    assert redactor.redact("token-of-the-boss") == "***"


def test_short_values_are_left_alone() -> None:
    redactor = Redactor()
    redactor.register({"a": "abc"})
    assert redactor.redact("abc abcabc") == "abc abcabc"


def test_values_of_several_calls_are_all_known() -> None:
    redactor = Redactor()
    for value in ("first-one", "second-one", "first-one"):
        redactor.register({"a": value})
    assert redactor.redact("first-one second-one") == "*** ***"


def _sizes(redactor: Redactor) -> list[int]:
    """Return how long the patterns are: what they cost to compile."""
    return [len(group.pattern.pattern) for group in redactor._groups]


def test_a_large_secret_does_not_stop_the_loop() -> None:
    """A bundle of certificates: a lease ends after 60 s; escapes of it took 17 s."""
    bundle = "".join(f"line-number-{n}/{n * n}+=\n" for n in range(6000))
    redactor = Redactor()
    redactor.register({"bundle": bundle})
    assert max(_sizes(redactor)) < 2 * LARGE
    encoded = base64.b64encode(bundle.encode()).decode()
    inside = base64.b64encode(f"user:{bundle}".encode()).decode()
    redactor.register({"token": "a-token-beside"})
    for form in (bundle, encoded):
        text = f"a {form} and a-token-beside {form}{form}."
        assert redactor.redact(text) == "a *** and *** ******."
    assert len(redactor.redact(inside)) < 50
    assert redactor.redact_start(f"{encoded} more", 100) == ""
    quoted = json.dumps(bundle.splitlines()[7])
    assert redactor.redact(quoted) == '"***"'


@pytest.mark.parametrize("value", ["s3cr3t-pw\n", " s3cr3t-pw\r\n", "s3cr3t-pw\t"])
def test_a_secret_with_whitespace_around_it_is_known_without(value: str) -> None:
    """As a variable of the environment may have it, and no service quotes it."""
    known, held = Redactor(), Redactor()
    known.register({"key": value})
    held.hold(Use(held), [value])
    for redactor in (known, held):
        assert redactor.redact("for s3cr3t-pw.") == "for ***."
        encoded = base64.b64encode(f"u:{value.strip()}".encode()).decode()
        assert encoded[4:-2] not in redactor.redact(encoded)
        assert value.strip() not in redactor.redact(f"for {value}.")


def test_a_large_secret_of_one_line_is_known_by_its_line() -> None:
    redactor = Redactor()
    redactor.register({"a": f"{'x' * LARGE}y\n", "b": "z" * (LARGE + 1)})
    assert redactor.redact(f"{'x' * LARGE}y and {'z' * (LARGE + 1)}!") == "*** and ***!"
    assert max(_sizes(redactor)) < LARGE


def test_values_of_some_length_share_no_pattern_that_is_long() -> None:
    """Compiling takes as long as it is: with 128 long values, a minute."""
    redactor = Redactor()
    values = [f"{number:03}{'ab' * 450}" for number in range(30)]
    for value in values:
        redactor.register({"a": value})
    lengths = [sum(map(len, group.values)) for group in redactor._groups]
    assert max(lengths) <= GROUP_CHARS_MAX
    assert redactor.redact(" ".join(values)) == " ".join(["***"] * 30)


def test_a_provider_of_short_lived_tokens_does_not_slow_the_engine_down() -> None:
    """A fresh token for each call, as a vault gives: most join a small group."""
    redactor = Redactor()
    compiled = values = 0
    for number in range(300):
        redactor.register({"token": f"eyJ-{number:06}-s3cret/value+of={number:09}"})
        compiled += len(redactor._groups[-1].values)
        values += len(redactor._values)
    assert compiled < values / 4


def test_many_values_are_known_the_oldest_unused_are_not() -> None:
    """Whatever group a value is in; one that is part of another hides no less."""
    redactor = Redactor()
    redactor.register({"static": "static-s3cret"})
    made = [f"tok{number:05}" for number in range(2000)]
    for value in made:
        redactor.register({"static": "static-s3cret", "token": value})
    text = f"a static-s3cret {made[-1]} {made[-400]}"
    assert redactor.redact(text) == "a *** *** ***"
    assert len(redactor._values) <= VALUES_MAX
    redactor.register({"long": f"{made[-1]}-and-more"})
    redactor.register({"tail": "d-more-and"})
    assert redactor.redact(f"{made[-1]}-and-more-and!") == "***!"


def test_what_a_call_uses_is_known_until_it_is_over_however_many_come() -> None:
    """And some time after: its use ended last. Red with a plain `register`."""
    redactor = Redactor()
    use = Use(redactor, ["held-s3cret", "abc"])
    with use:
        remember_secret("token-got-for-it")
    text = "held-s3cret token-got-for-it abc"

    def others(first: int) -> None:
        for number in range(first, first + 2 * VALUES_MAX):
            other = Use(redactor, [f"other{number:06}"])
            assert redactor.redact(f"other{number:06}") == "***"
            other.end()

    others(0)
    assert redactor.redact(text) == "*** *** abc"
    assert len(redactor._values) <= VALUES_MAX + 2
    use.end()
    assert redactor.redact(text) == "*** *** abc"
    others(10**5)
    assert redactor.redact(text) == text


def test_more_values_in_use_than_are_kept_cost_no_more_than_fewer() -> None:
    """None is dropped, and no group is built again and again for that."""
    redactor = Redactor()
    uses = [Use(redactor, [f"many{number:06}"]) for number in range(3 * VALUES_MAX)]
    text = " ".join(f"many{number:06}" for number in range(3 * VALUES_MAX))
    assert set(redactor.redact(text).split()) == {"***"}
    compiled = 0
    for number in range(100):
        redactor.register({"": f"more{number:06}"})
        compiled += len(redactor._groups[-1].values)
    assert compiled < 100 * 10
    for use in uses:
        use.end()
    for number in range(VALUES_MAX):
        redactor.register({"": f"last{number:06}"})
    assert len(redactor._values) <= VALUES_MAX


def test_a_percent_sign_is_found_however_often_it_was_encoded() -> None:
    """With any characters left as they are, unlike ``quote(value, safe="")``."""
    redactor = Redactor()
    redactor.register({"a": "path/100%25/secret"})
    text = "path/100%25/secret"
    for _ in range(4):
        assert redactor.redact(f"at {text}!") == "at ***!"
        text = quote(text, safe="/")


@pytest.mark.parametrize("width", range(20, 60))
def test_a_text_is_never_cut_within_a_secret(width: int) -> None:
    """Neither at its start nor at its end."""
    redactor = Redactor()
    redactor.register({"a": "Head-0123456789-Tail"})
    text = "Head-0123456789-Tail and " * 40
    for shown in (redactor.redact_start(text, width), redactor.redact_end(text, width)):
        assert "Head" not in shown
        assert "Tail" not in shown
    assert redactor.redact_end("short", width) == "short"


def test_what_is_logged_in_a_call_is_redacted_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Message, arguments and traceback; of every logger, if a handler is told to."""
    monkeypatch.setattr(caplog.handler, "filters", [RedactingFilter()])
    redactor = Redactor()
    redactor.register({"a": "correct-horse"})
    logger = logging.getLogger("some.vendor.client")
    with redacting(redactor):
        remember_secret("battery-staple")
        logger.warning("sent %s", "correct-horse")
        try:
            raise ValueError("refused battery-staple")  # noqa: TRY301
        except ValueError:
            logger.exception("it broke")
        logger.warning("%d things", 3)
        logger.warning("of %(kind)s", {"kind": "no secret"})
    logger.warning("correct-horse, outside of a call")
    remember_secret("of nobody")
    assert "sent ***" in caplog.text
    assert "ValueError: refused ***" in caplog.text
    assert "3 things" in caplog.text
    assert caplog.records[-2].args == {"kind": "no secret"}
    assert "outside" in caplog.text
    assert caplog.text.count("correct-horse") == 1
    assert "battery-staple" not in caplog.text


def test_our_own_records_are_redacted_whoever_handles_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By default: a vendor's are as they are, and the program's factory stays."""
    before = logging.getLogRecordFactory()
    redactor = Redactor()
    redactor.register({"a": "correct-horse"})
    with redacting(redactor):
        get_logger("orchestrator.of.this.test").warning("sent %s", "correct-horse")
        logging.getLogger("some.vendor.client").warning("got %s", "correct-horse")
    assert [record.getMessage() for record in caplog.records] == [
        "sent ***",
        "got correct-horse",
    ]
    assert logging.getLogRecordFactory() is before
