"""What is printed: tables for people, JSON for programs. Pure functions of values."""

from __future__ import annotations

import json
import pprint
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

#: Stands where there is nothing.
NONE = "-"
#: How a value is printed for programs, by the name of the format.
FORMATS: Mapping[str, Callable[[Any], str]] = {
    "json": lambda value: json.dumps(value),
    "jsonp": lambda value: json.dumps(value, indent=4),
    "pprint": lambda value: pprint.pformat(value),
}
#: Fields that are seconds since the epoch.
_TIMES = frozenset({"at", "deadline", "last_pong", "last_start", "next_attempt", "since"}) | {
    f"{what}_at" for what in ("asked", "ended", "started")
}
_UNITS = ("B", "K", "M", "G", "T")

#: The colours of the words that tell how something is.
COLOURS: Mapping[str, str] = {
    **dict.fromkeys(("running", "ok", "SUCCESS", "finished", "fine"), "green"),
    **dict.fromkeys(("starting", "stopping", "draining", "PENDING", "STARTED", "RETRY", "warning"), "yellow"),
    **dict.fromkeys(("unresponsive", "backoff", "lost", "stalled", "down", "FAILURE", "halted"), "red"),
    **dict.fromkeys(("unknown", "problem", "REVOKED"), "red"),
    **dict.fromkeys(("disabled", "stopped"), "bright_black"),
}


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def printable(text: str) -> str:
    """A text without what would steer a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def shortened(text: str, most: int) -> str:
    """A text that takes at most so many columns."""
    if width_of(text) <= most:
        return text
    kept = ""
    for one in text:
        if width_of(kept + one) > most - 1:
            break
        kept += one
    return f"{kept}…" if most > 0 else ""


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None or value == "" or value == []:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return printable(",".join(str(one) for one in value))
    if isinstance(value, Mapping):
        return printable(json.dumps(value))
    if isinstance(value, float):
        return f"{value:g}"
    return printable(str(value).rstrip("\n"))


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    most: int | None = None,
    style: Callable[[str, str], str] | None = None,
) -> list[str]:
    """Rows under headers, in columns.

    :param most: columns of the terminal; the last column is shortened to them.
    :param style: makes a coloured text of (text, colour).
    """
    cells = [[cell(value) for value in row] for row in rows]
    widths = [
        max(width_of(header), *(width_of(row[column]) for row in cells), 0)
        for column, header in enumerate(headers)
    ]
    lines = []
    for number, row in enumerate([list(headers), *cells]):
        parts, used = [], 0
        for column, text in enumerate(row):
            is_last = column == len(row) - 1
            if is_last and most is not None:
                text = shortened(text, max(most - used, 1))
            padding = "" if is_last else " " * (widths[column] - width_of(text) + 2)
            used += widths[column] + 2
            if style is not None and number and text in COLOURS:
                text = style(text, COLOURS[text])
            parts.append(text + padding)
        lines.append("".join(parts).rstrip())
    return lines


def sheet(fields: Mapping[str, Any], style: Callable[[str, str], str] | None = None) -> list[str]:
    """The fields of one thing, a line each; what is in them is indented under them."""
    lines: list[str] = []
    width = max((width_of(name) for name in fields), default=0)
    for name, value in fields.items():
        label = f"{name}:".ljust(width + 2)
        if isinstance(value, Mapping) and value:
            lines.append(f"{name}:")
            lines += [f"  {line}" for line in sheet(value, style)]
        elif isinstance(value, str) and "\n" in value.strip():
            lines.append(f"{name}:")
            lines += [f"  {printable(line)}" for line in value.rstrip().splitlines()]
        elif isinstance(value, (list, tuple)) and any(len(str(one)) > 30 for one in value):
            lines.append(f"{name}:")
            lines += [f"  {cell(one)}" for one in value]
        else:
            text = moment(value) if name in _TIMES and isinstance(value, float) else cell(value)
            if style is not None and text in COLOURS:
                text = style(text, COLOURS[text])
            lines.append(label + text)
    return lines


def size(number: float | None) -> str:
    """A number of bytes, short."""
    if number is None:
        return NONE
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.0f}{unit}" if unit == "B" or number >= 10 else f"{number:.1f}{unit}"


def moment(at: float | None) -> str:
    """A time, given in seconds since the epoch, on the clocks of this place."""
    return NONE if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def event_line(event: Mapping[str, Any]) -> str:
    """An event as one line."""
    place = "/".join(event[name] for name in ("app", "instance") if event.get(name))
    details = event.get("details") or {}
    told = " ".join(
        f"{name}={_short(value)}" for name, value in details.items() if value not in (None, [], {})
    )
    words = (moment(event.get("at")), event.get("branch"), place or NONE, event.get("kind"), event.get("who"))
    return printable("  ".join([*(str(word) for word in words), told]).rstrip())


def _short(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value), 100)


def instance_row(info: Mapping[str, Any]) -> list[Any]:
    """An instance in the table of instances."""
    bounds = f"{info.get('min_concurrency')}-{info.get('max_concurrency')}"
    return [
        info.get("name"),
        info.get("app"),
        info.get("state"),
        info.get("branch"),
        info.get("pid"),
        bounds,
        size(info.get("rss")),
        info.get("queues"),
        "; ".join(info.get("problems") or []),
    ]


INSTANCE_HEADERS = ("NAME", "APP", "STATE", "BRANCH", "PID", "CONCURRENCY", "MEMORY", "QUEUES", "PROBLEMS")
