"""Small plots of the past hour: pure functions from samples to what the template draws as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, log10
from typing import Any

from attrs import frozen

from cyme.admin import formats

#: The coordinates of a plot; the stylesheet says how large it is shown.
WIDTH, HEIGHT = 240, 56


@frozen(kw_only=True)
class Plot:
    """One plot.

    :ivar title: what it shows.
    :ivar now: the newest value, as people read it, and `most` the top of its scale.
    :ivar line: the path of the line, and `area` of what is under it; empty where nothing is known.
    :ivar description: all of it in a sentence, for who does not see it.
    """

    title: str
    now: str
    most: str
    line: str
    area: str
    description: str
    width: int = WIDTH
    height: int = HEIGHT


def plot(title: str, values: Sequence[float | None], show: Callable[[float | None], str]) -> Plot:
    """Draw a series.

    :param values: the oldest first; None where nothing is known.
    :param show: makes text of a value.
    """
    known = [value for value in values if value is not None]
    top = scale(max(known, default=0.0), binary=show is formats.size)
    line, area = [], []
    for run in runs(values):
        points = [
            f"{_x(place, len(values))} {HEIGHT - 1 - value / top * (HEIGHT - 3):.1f}" for place, value in run
        ]
        line.append(f"M{' L'.join(points)}" + ("h.01" if len(points) == 1 else ""))
        first, last = _x(run[0][0], len(values)), _x(run[-1][0], len(values))
        area.append(f"M{first} {HEIGHT} L{' L'.join(points)} L{last} {HEIGHT}Z")
    newest = next((value for value in reversed(values[-3:]) if value is not None), None)
    if known:
        told = f"now {show(newest)}, at most {show(max(known))}, at least {show(min(known))}"
    else:
        told = "nothing is known yet"
    return Plot(
        title=title,
        now=show(newest),
        most=show(top) if known else "",
        line=" ".join(line),
        area=" ".join(area),
        description=f"{title} over the past hour: {told}",
    )


def runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The values that are known, with their places, in pieces without a gap."""
    found: list[list[tuple[int, float]]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        if not found or found[-1][-1][0] != place - 1:
            found.append([])
        found[-1].append((place, value))
    return found


def scale(most: float, *, binary: bool = False) -> float:
    """A round number that is not less, for the top of a scale.

    :param binary: whether it is of bytes, whose round numbers are others.
    """
    if most <= 0:
        return 1.0
    unit = 1.0
    if binary:
        while most / unit >= 1024:
            unit *= 1024
    exponent = 10 ** (ceil(log10(most / unit)) - 1) * unit
    for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12):
        if factor * exponent >= most:
            return float(factor * exponent)
    return most


def bar(counts: Mapping[str, int], order: Sequence[str], width: int = 1000) -> list[dict[str, Any]]:
    """The segments of a bar that shows shares: state, count, where it begins and how wide it is.

    :param order: of the states; others come last, by name.
    """
    places = {state: place for place, state in enumerate(order)}
    states = sorted(
        (state for state, count in counts.items() if count), key=lambda one: (places.get(one, 99), one)
    )
    total = sum(counts[state] for state in states)
    segments, begin = [], 0.0
    for state in states:
        share = width * counts[state] / total
        segments.append(
            {"state": state, "count": counts[state], "x": round(begin, 1), "width": round(share, 1)}
        )
        begin += share
    return segments


def _x(place: int, count: int) -> str:
    return f"{place * WIDTH / max(1, count - 1):.1f}"
