"""Switches every mechanism off, one at a time: ``python -m tests.unplugged``."""

from __future__ import annotations

import sys

from tests.unplugged.run import main

if __name__ == "__main__":
    sys.exit(main())
