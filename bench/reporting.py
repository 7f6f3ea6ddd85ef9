"""Command lines, samples and reports, the same for every program of this folder."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from typing import Any


def make_parser(doc: str | None, *, runs: int | None) -> argparse.ArgumentParser:
    """A parser with the options that all programs have.

    :param doc: becomes the help.
    :param runs: how many samples are taken by default; None where that differs.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    usually = "the program's own number" if runs is None else runs
    parser.add_argument(
        "--runs", type=_positive, default=runs, help=f"samples of each case; they take turns ({usually})"
    )
    parser.add_argument("--json", metavar="FILE", help="append every row to FILE, one JSON object a line")
    parser.add_argument(
        "--wait-quiet",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="before a sample, wait until others leave the processors idle, at most so long (10)",
    )
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="amqp://USER:PASSWORD@HOST:PORT/VHOST, a virtual host that nothing else uses; without it a"
        " private RabbitMQ node is started and removed again",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def sizes(text: str) -> list[int]:
    """Read numbers separated by commas, for options."""
    return [int(part) for part in text.split(",") if part]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of samples that were taken in the same turn."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


class Report:
    """Prints rows and targets as they become known, and appends them to a file.

    :param bench: the program's name.
    :param path: of the file, or None.
    """

    def __init__(self, bench: str, path: str | None) -> None:
        self._bench = bench
        self._path = path
        print(f"# {bench}: Python {platform.python_version()}, {os.cpu_count()} processors", flush=True)

    def row(self, case: str, unit: str, values: Sequence[float]) -> float:
        """Note the samples of a case; returns their median."""
        middle, least, most = statistics.median(values), min(values), max(values)
        spread = f"[{_shown(least)} .. {_shown(most)}] n={len(values)}"
        print(f"  {case:<52} {_shown(middle):>8} {unit:<3} {spread}")
        self._append(case=case, unit=unit, median=middle, min=least, max=most, n=len(values))
        return middle

    def target(
        self,
        what: str,
        measured: float,
        unit: str,
        *,
        at_most: float | None = None,
        beside: str = "",
        ratio: float | None = None,
        ratio_at_most: float | None = None,
        ratio_at_least: float | None = None,
    ) -> None:
        """Note how a figure stands to what was aimed at; exactly one limit is given.

        :param beside: what it is a ratio to.
        """
        if at_most is not None:
            aim, is_met = f"<= {_shown(at_most)} {unit}".rstrip(), measured <= at_most
        elif ratio_at_most is not None and ratio is not None:
            aim, is_met = f"ratio <= {ratio_at_most:g}", ratio <= ratio_at_most
        elif ratio_at_least is not None and ratio is not None:
            aim, is_met = f"ratio >= {ratio_at_least:g}", ratio >= ratio_at_least
        else:
            raise ValueError("a target needs a limit, and a ratio if it limits that")
        found = {
            "target": what,
            "measured": f"{_shown(measured)} {unit}".rstrip(),
            "beside": beside,
            "ratio": None if ratio is None else round(ratio, 3),
            "aim": aim,
            "is_met": is_met,
        }
        print_targets([found])
        self._append(**found)

    def _append(self, **fields: Any) -> None:
        sys.stdout.flush()
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"bench": self._bench, **fields}) + "\n")


def print_targets(targets: Sequence[dict[str, Any]], heading: bool = False) -> None:
    """Print a table: what, measured, ratio, to what, aim, and whether it is met."""
    line = "{target:<52} {measured:>12} {ratio:>7} {beside:<30} {aim:<14} {verdict}"
    if heading:
        print(
            line.format(
                target="what", measured="measured", ratio="ratio", beside="beside", aim="target", verdict=""
            )
        )
    for one in targets:
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        verdict = "met" if one["is_met"] else "MISSED"
        text = line.format(**{**one, "ratio": ratio, "verdict": verdict})
        print(text if heading else f"> {text}", flush=True)


def _shown(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
