"""What a log has gained between two looks at its end."""

from __future__ import annotations

from collections.abc import Sequence


def gained(before: Sequence[str], now: Sequence[str]) -> tuple[bool, Sequence[str]]:
    """The lines at the end of `now` that came after `before`, and whether none was missed.

    Both are the last lines of one log. The longest end of `before` that is found in `now` says where
    they meet; where there is none, more was written between than was looked at, or the log is a new one.

    :return: (they meet, the new lines).
    """
    if not before:
        return True, now
    last = before[-1]
    for end in range(len(now), 0, -1):
        if now[end - 1] != last:
            continue
        overlap = min(end, len(before))
        if list(now[end - overlap : end]) == list(before[len(before) - overlap :]):
            return True, now[end:]
    return False, now
