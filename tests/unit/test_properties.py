"""Properties of what is written and read back: handles, sizes, secrets in texts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestrator._clock import to_datetime
from orchestrator._codec import encode_values, exceeds
from orchestrator._secrets import Redactor
from orchestrator.connectors import ResourceMeta

if TYPE_CHECKING:
    from collections.abc import Callable

PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    phases=[Phase.generate],  # small examples need no shrinking, which takes long
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MOMENTS = st.integers(0, 10**16).map(to_datetime)


@dataclass
class Handle(ResourceMeta):
    """A handle with a field of each kind."""

    text: str
    number: int
    share: float
    raw: bytes
    at: datetime
    wait: timedelta
    names: list[str]
    by_name: dict[str, int]
    maybe: str | None = None


HANDLES = st.builds(
    Handle,
    text=TEXT,
    number=st.integers(),
    share=st.floats(allow_nan=False),
    raw=st.binary(),
    at=MOMENTS,
    wait=st.timedeltas(timedelta(0), timedelta(days=9999)),
    names=st.lists(TEXT),
    by_name=st.dictionaries(TEXT, st.integers()),
    maybe=st.none() | TEXT,
)


@PROFILE
@given(HANDLES)
def test_a_handle_comes_back_as_it_was(handle: Handle) -> None:
    assert Handle.decode(handle.encode()) == handle


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@PROFILE
@given(st.dictionaries(TEXT.filter(bool), PLAIN, min_size=1))
def test_a_size_is_never_overrated(values: dict[str, object]) -> None:
    """What would fit a limit is never refused before it is encoded."""
    size = len(encode_values({}, values, what="output").proto)
    assert not exceeds(values, size)


SECRETS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=40
)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda value: value,
    "quoted": lambda value: quote(value, safe=""),
    "quoted as JavaScript does": lambda value: quote(value, safe="!'()*~"),
    "quoted in lower case": lambda value: "".join(
        c if c.isascii() and c.isalnum() else "".join(f"%{b:02x}" for b in c.encode())
        for c in value
    ),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "urlsafe base64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
}


@PROFILE
@given(
    SECRETS,
    st.sampled_from(sorted(SPELLINGS)),
    TEXT,
    TEXT,
    st.integers(0, 100),
)
def test_a_secret_never_survives(
    secret: str, spelling: str, before: str, after: str, limit: int
) -> None:
    """In no text and no spelling, wherever the text is cut."""
    redactor = Redactor()
    redactor.register({"key": secret})
    spelled = SPELLINGS[spelling](secret)
    text = before + spelled + after
    for shown in (redactor.redact(text), redactor.redact_start(text, limit)):
        assert spelled not in shown
