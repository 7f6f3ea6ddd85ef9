"""The blocks of the documentation that no test runs."""

from __future__ import annotations

from tables import literal, plain, table

from tests.support.samples import blocks


def not_run() -> str:
    """Where each is, how it begins, and why."""
    rows = [
        [literal(f"{block.page}:{block.line}"), literal(block.text.split("\n")[0]), plain(block.reason or "")]
        for block in blocks()
        if not block.is_run
    ]
    return table(("Where", "Begins with", "Why"), rows, "30 35 35")
