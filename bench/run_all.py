"""Run every program of this folder, one after the other, and end with a table of all targets.

All use one broker. Takes about ten minutes; `--runs 2` and `--only NAME` make it shorter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from machine import HERE, a_broker
from reporting import make_parser, print_targets

#: In the order in which they run; those of the second kind need no broker.
WITH_BROKER = (
    *("create_to_pong", "respawn", "supervision_pass", "memory"),
    *("queue_rate", "submit_to_result", "results_after_downtime", "bus_call"),
    *("fleet", "instances_list"),
)
OTHERS = ("http_reads",)

#: The share of bare Klein's rate that reads over HTTP are to reach.
READS_TARGET = 0.6

#: A line of http_reads.py: the case, both rates, and their ratio.
READS = re.compile(r"^(?P<case>\w+, \d+ callers)\s+(?P<floor>\d+)\s+(?P<own>\d+)\s+(?P<ratio>[\d.]+)")


def command(name: str, options: Namespace, broker: str, results: str) -> list[str]:
    """The command line of one program."""
    argv = [sys.executable, os.path.join(HERE, f"{name}.py")]
    if options.runs is not None:
        argv += ["--runs", str(options.runs)]
    if name in WITH_BROKER:
        argv += ["--broker", broker, "--json", results, "--wait-quiet", str(options.wait_quiet)]
    return argv


def run(argv: list[str]) -> list[str]:
    """Run a program, showing what it writes; the lines.

    :raises CalledProcessError: when it fails.
    """
    lines: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return lines


def reads_targets(lines: list[str]) -> Iterator[dict[str, Any]]:
    """The targets in what http_reads.py writes."""
    for found in filter(None, map(READS.match, lines)):
        yield {
            "bench": "http_reads",
            "target": f"GET {found['case']}",
            "measured": f"{found['own']} /s",
            "beside": f"bare Klein, {found['floor']} /s",
            "ratio": float(found["ratio"]),
            "aim": f"ratio >= {READS_TARGET:g}",
            "is_met": float(found["ratio"]) >= READS_TARGET,
        }


def main() -> int:
    parser = make_parser(__doc__, runs=None)
    parser.add_argument(
        "--only",
        action="append",
        choices=[*WITH_BROKER, *OTHERS],
        help="run this program; may be given several times (all)",
    )
    options = parser.parse_args()
    failed: list[str] = []
    targets: list[dict[str, Any]] = []
    with a_broker(options) as broker, tempfile.TemporaryDirectory(prefix="cyme-bench-") as folder:
        results = os.path.join(folder, "results")
        for name in options.only or [*WITH_BROKER, *OTHERS]:
            try:
                lines = run(command(name, options, broker, results))
            except subprocess.CalledProcessError as problem:
                print(f"! {name} ended with status {problem.returncode}", flush=True)
                failed.append(name)
                continue
            if name in OTHERS:
                rows = list(reads_targets(lines))
                with open(results, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
        if os.path.exists(results):
            with open(results, encoding="utf-8") as file:
                text = file.read()
            targets = [row for row in map(json.loads, text.splitlines()) if "target" in row]
            if options.json:
                with open(options.json, "a", encoding="utf-8") as file:
                    file.write(text)
    print()
    print_targets(targets, heading=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
