"""``install``: Flyte's registry, tasks and local runs on a durable engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator._extras import how_to_install
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    import os

    from orchestrator._registry import Registry
    from orchestrator.flyte._installation import Installation

_OLDEST = (2, 12)
_made: list[Installation] = []


def install(
    *,
    database: str | os.PathLike[str] | None = None,
    registry: Registry | None = None,
    load_plugins: bool = True,
) -> Installation:
    """Make the ``flyte`` package's connectors and connector tasks durable.

    From now on every connector that is registered with Flyte, earlier or later, is
    known to our registry; Flyte's connector tasks can be given to
    ``Orchestrator.submit``; and their ``execute()``, and so a local run, is a durable
    execution. Idempotency keys and labels come from ``orchestrator.options``.

    Of no effect while it is installed already: the first installation is returned.

    Args:
        database: Where local runs are kept if their event loop has no Orchestrator
            open: as for ``Orchestrator``, None for ``ORCHESTRATOR_DATABASE``, else
            ``./orchestrator.db``.
        registry: Where the adapters go, None for the default one.
        load_plugins: Whether to load the connectors that installed packages announce
            (entry points ``flyte.connectors``), as Flyte's own service does. One that
            cannot be imported is named in the log.

    Raises:
        ConfigurationError: ``flyte`` is missing or older than 2.12.
    """
    if _made and _made[0].installed:
        return _made[0]
    _require_flyte()
    # Not before it is known to be there: the module imports flyte.
    home = import_module("orchestrator.flyte._installation")
    made: Installation = home.Installation(
        DEFAULT_REGISTRY if registry is None else registry
    )
    made.begin(database)
    _made[:] = [made]
    if load_plugins:
        home.load_plugins()
    return made


def uninstall() -> None:
    """Undo `install`; of no effect without it."""
    for made in _made:
        made.uninstall()
    _made.clear()


def _require_flyte() -> None:
    """Raise if the flyte package is missing or too old."""
    advice = how_to_install("flyte")
    try:
        flyte = import_module("flyte")
        import_module("flyte.connectors")
    except ImportError as error:
        raise ConfigurationError(f"flyte cannot be used ({error}): {advice}") from error
    version = flyte.version()
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if found < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        problem = f"flyte {version} is older than {oldest}: {advice}"
        raise ConfigurationError(problem)
