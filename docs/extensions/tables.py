"""Writing reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def literal(text: str) -> str:
    """A text as it is typed."""
    return f"``{text}``"


def plain(text: str) -> str:
    """A text of the sources as running text: what is in backquotes there is literal here."""
    parts = re.split(r"`+([^`]+)`+", text)
    return "".join(literal(part) if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\*|_`])", r"\\\1", text)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> str:
    """A table; nothing where there are no rows."""
    listed = list(rows)
    if not listed:
        return ""
    lines = [
        f"   {' ' if number else '*'} - {cell}".rstrip()
        for row in (titles, *listed)
        for number, cell in enumerate(row)
    ]
    return "\n".join([".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "", *lines, ""])


def heading(text: str, underline: str) -> str:
    """A heading with its line under it."""
    return f"{text}\n{underline * len(text)}\n"
