"""Comparing what came with what a page shows."""

from __future__ import annotations

from collections.abc import Sequence

#: What stands in a page for anything.
ANYTHING = "..."


def matches(shown: Sequence[str], came: str) -> bool:
    """Whether what came is what is shown; white space counts once, and `...` is anything."""
    first, *others = (part.strip() for part in _spaced("\n".join(shown)).split(ANYTHING))
    text = _spaced(came)
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    place = len(first)
    *middle, last = others
    for part in middle:
        found = text.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return text.endswith(last) and len(text) - len(last) >= place


def _spaced(text: str) -> str:
    return " ".join(text.split())


def shortened(text: str, most: int = 3000) -> str:
    """A text of which a failure shows enough."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}\n[...]\n{text[-half:]}"
