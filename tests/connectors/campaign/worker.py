"""The process that is killed: the crash worker with a built-in connector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.connectors.campaign.entry import ENTRIES, entry_of
from tests.crash import worker

if TYPE_CHECKING:
    import argparse

    from tests.connectors.campaign.entry import ConnectorSide


def side_of(options: argparse.Namespace) -> ConnectorSide:
    """Return the side that ``--connector`` names."""
    return entry_of(options.connector).SIDE(options)


def more(parser: argparse.ArgumentParser) -> None:
    """Add the options of connectors."""
    parser.add_argument("--connector", choices=ENTRIES, required=True)
    parser.add_argument("--url", required=True, help="where the service is")


if __name__ == "__main__":
    worker.main(side_of, more)
