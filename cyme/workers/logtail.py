"""The last lines of a file that may be large."""

from __future__ import annotations

import os
from pathlib import Path

#: At most so many bytes at the end of a file are looked at.
LIMIT = 1024 * 1024


def tail(path: Path, lines: int, limit: int = LIMIT) -> tuple[str, ...]:
    """The last `lines` lines of a file, without their ends; none if there is no file. Blocks.

    A line whose beginning lies before the last `limit` bytes is cut. What is no UTF-8 is
    replaced, so that a worker can write what it likes.

    :raises OSError: when it can't be read.
    """
    if lines <= 0:
        return ()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            content = file.read(limit)
    except FileNotFoundError:
        return ()
    return tuple(line.decode("utf-8", "replace").rstrip("\r") for line in _lines(content)[-lines:])


def _lines(content: bytes) -> list[bytes]:
    """Split at line feeds alone: other line ends may stand within a log line."""
    found = content.split(b"\n")
    if not found[-1]:
        found.pop()
    return found
