"""Values as people read them: pure functions, which the templates have as filters."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

#: Shown where there is nothing to show.
NOTHING = "–"


def size(value: float | None) -> str:
    """A number of bytes: `57.3 MiB`."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def number(value: float | None) -> str:
    """A number, thousands apart; small ones with what is behind the point."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or float(value).is_integer() or value >= 100:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """A time span in its greatest unit: `3 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return "under 1 s"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "min"):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(at: float | None, now: float) -> str:
    """How long ago a time is, or in how long it will be."""
    if at is None:
        return NOTHING
    if at > now + 1:
        return f"in {duration(at - now)}"
    if now - at < 1:
        return "just now"
    return f"{duration(now - at)} ago"


def iso(at: float) -> str:
    """A time as machines read it, in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock_time(at: float | None) -> str:
    """A time as people read it, in UTC: `2030-01-31 12:00:00`."""
    if at is None:
        return NOTHING
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def plural(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun: `1 queue`, `2 queues`."""
    return f"{number(count)} {one if count == 1 else several or one + 's'}"


def listed(words: Any, most: int = 5) -> str:
    """Words in a sentence: `a, b and 3 more`."""
    several = [str(word) for word in words]
    if len(several) > most:
        return f"{', '.join(several[: most - 1])} and {len(several) - most + 1} more"
    return " and ".join(filter(None, [", ".join(several[:-1]), *several[-1:]]))


def kind(word: str) -> str:
    """The kind of an event, as words: `branch-drained` is `branch drained`."""
    return word.replace("-", " ").replace("_", " ")


def detail(value: Any) -> str:
    """One value of an event's details, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {detail(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(detail(inner) for inner in value)
    return " ".join(str(value).split())
