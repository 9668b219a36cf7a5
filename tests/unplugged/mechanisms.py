"""The table: mechanisms, what each is for, and the tests that are red without it."""

from __future__ import annotations

from tests.unplugged import deciding, storing

MECHANISMS = (
    storing.KILL
    | deciding.CREATE
    | deciding.GET
    | deciding.ABORT
    | storing.TWO
    | storing.AWAY
    | storing.TERMINAL
    | storing.KEY
    | storing.ROW
    | storing.SECRET
)
