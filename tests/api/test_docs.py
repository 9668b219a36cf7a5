"""Every setting is documented where a user looks for it."""

from __future__ import annotations

import dataclasses
import re
import textwrap

import pytest

from orchestrator._config import Config, Policy

SETTINGS = [
    pytest.param(owner, setting, id=f"{owner.__name__}.{setting.name}")
    for owner in (Config, Policy)
    for setting in dataclasses.fields(owner)
]


@pytest.mark.parametrize(("owner", "setting"), SETTINGS)
def test_every_setting_is_explained_in_its_class(
    owner: type, setting: dataclasses.Field[object]
) -> None:
    """The ``Attributes`` section says what each setting does."""
    _, _, attributes = textwrap.dedent(owner.__doc__ or "").partition("Attributes:\n")
    assert re.search(rf"^ +{setting.name}: \w", attributes, re.MULTILINE)
