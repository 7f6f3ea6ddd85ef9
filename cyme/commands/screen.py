"""What `cyme top` shows: pure functions from what was heard to lines with colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from cyme.commands.output import COLOURS, INSTANCE_HEADERS, cell, instance_row, shortened, size, width_of

#: States in the order of how much they want to be looked at.
_URGENCY = (
    "lost",
    "backoff",
    "unresponsive",
    "unknown",
    "stopping",
    "starting",
    "running",
    "stopped",
    "disabled",
)

#: A part of a line and its colour, None for the usual one.
Span = tuple[str, "str | None"]
Line = list[Span]


@frozen
class Snapshot:
    """What was heard of the cluster.

    :ivar problem: why nothing newer could be heard, None when it could.
    :ivar missing: branches that could not be asked.
    """

    url: str
    branches: Sequence[Mapping[str, Any]] = ()
    instances: Sequence[Mapping[str, Any]] = ()
    queues: Sequence[tuple[str, Mapping[str, Any]]] = ()
    missing: Sequence[str] = ()
    problem: str | None = None


@frozen
class View:
    """How a person looks at it.

    :ivar order: one of `ORDERS`.
    :ivar first: the first instance that is shown.
    """

    order: str = "state"
    first: int = field(default=0)


def _urgency(info: Mapping[str, Any]) -> int:
    state = info.get("state")
    return _URGENCY.index(state) if state in _URGENCY else 0


def _memory(info: Mapping[str, Any]) -> float:
    return float(info.get("rss") or 0)


#: What instances can be ordered by.
ORDERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "state": lambda info: (_urgency(info), info.get("name")),
    "name": lambda info: info.get("name"),
    "memory": lambda info: (-_memory(info), info.get("name")),
    "branch": lambda info: (info.get("branch") or "", info.get("name")),
}


def next_order(order: str) -> str:
    """The order after this one."""
    names = list(ORDERS)
    return names[(names.index(order) + 1) % len(names)]


def moved(view: View, by: int, count: int) -> int:
    """The first instance that is shown after a step up or down."""
    return max(0, min(view.first + by, count - 1))


def screen(snapshot: Snapshot, view: View, width: int, height: int) -> list[Line]:
    """The lines of a screen, none wider than `width`, at most `height` of them."""
    lines: list[Line] = [*_head(snapshot, view), []]
    lines += _branches(snapshot)
    if snapshot.queues:
        lines += [[], *_queues(snapshot, max(3, height // 4))]
    lines.append([])
    lines += _instances(snapshot, view, max(3, height - len(lines)))
    return [_cut(line, width) for line in lines[:height]]


def _head(snapshot: Snapshot, view: View) -> list[Line]:
    counts: dict[str, int] = {}
    for info in snapshot.instances:
        state = str(info.get("state"))
        counts[state] = counts.get(state, 0) + 1
    title: Line = [("cyme top  ", "bold"), (snapshot.url, None), (f"  ordered by {view.order}", None)]
    totals: Line = [(f"{len(snapshot.branches)} branches, {len(snapshot.instances)} instances", None)]
    for state in sorted(counts, key=lambda one: _URGENCY.index(one) if one in _URGENCY else 0):
        totals += [("  ", None), (f"{state} {counts[state]}", COLOURS.get(state))]
    total = sum(_memory(info) for info in snapshot.instances)
    totals.append((f"  memory {size(total)}", None))
    lines = [title, totals]
    if snapshot.problem is not None:
        lines.append([(snapshot.problem, "red")])
    if snapshot.missing:
        lines.append([(f"could not be asked: {', '.join(snapshot.missing)}", "red")])
    lines.append([("q quits, s orders, arrows scroll, r asks now", "bright_black")])
    return lines


def _branches(snapshot: Snapshot) -> list[Line]:
    rows = []
    for info in snapshot.branches:
        load, disk = info.get("load_average"), info.get("disk_use")
        rows.append(
            [
                info.get("id"),
                info.get("instances"),
                load[0] if load else None,
                info.get("cpus"),
                None if disk is None else f"{disk:g}%",
                "cordoned" if info.get("is_cordoned") else None,
            ]
        )
    return _table(("BRANCH", "INSTANCES", "LOAD", "CPUS", "DISK", ""), rows)


def _queues(snapshot: Snapshot, most: int) -> list[Line]:
    found = sorted(snapshot.queues, key=lambda one: (-(one[1].get("messages") or 0), one[0], one[1]["name"]))
    rows = [
        [
            f"{app}/{info['name']}",
            info.get("messages"),
            info.get("consumers"),
            "paused" if info.get("paused") else None,
        ]
        for app, info in found[:most]
    ]
    lines = _table(("QUEUE", "MESSAGES", "CONSUMERS", ""), rows)
    if len(found) > most:
        lines.append([(f"... and {len(found) - most} more queues", "bright_black")])
    return lines


def _instances(snapshot: Snapshot, view: View, most: int) -> list[Line]:
    found = sorted(snapshot.instances, key=ORDERS[view.order])
    if not found:
        return [[("there is no instance; cyme -a APP instances add makes one", "bright_black")]]
    shown = found[view.first : view.first + most - 1]
    return _table(INSTANCE_HEADERS, [instance_row(info) for info in shown])


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Line]:
    cells = [[cell(value) if value is not None else "-" for value in row] for row in rows]
    widths = [max(width_of(one) for one in column) for column in zip(headers, *cells, strict=True)]
    lines: list[Line] = [[("  ".join(_padded(headers, widths)).rstrip(), "bold")]]
    for row in cells:
        line: Line = []
        for text, padded in zip(row, _padded(row, widths), strict=True):
            line.append((padded + "  ", COLOURS.get(text)))
        lines.append(line)
    return lines


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [text + " " * (width - width_of(text)) for text, width in zip(row, widths, strict=True)]


def _cut(line: Line, width: int) -> Line:
    cut: Line = []
    left = width
    for text, colour in line:
        if left <= 0:
            break
        part = shortened(text, left)
        cut.append((part, colour))
        left -= width_of(part)
    return cut
