"""How much memory an idle branch keeps, by the number of instances that it has stored.

The resident memory of `twistd -n cyme`, some seconds after it says that it is ready, in a life in
which nobody has sent it a request. The instances are disabled, so that no worker runs; they were
created over HTTP in an earlier life. Beside it, in turn:

  imports alone                a process that only imports twisted, klein, txamqp, sqlalchemy, kombu
                               and Celery
  ... less txamqp and Celery   the same without those that only serve several branches or workers

Targets: at most 1.2 times the process that only imports, and under 5 kB for each instance.
"""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace
from contextlib import ExitStack

from branches import Branch
from machine import Children, a_broker, environment, resident_kib, wait_quiet
from reporting import Report, make_parser, median_ratio, sizes

#: What processes import that do nothing else. Celery and kombu import their parts when those are
#: first used, so that what is named here are the parts.
LIBRARIES = """
from twisted.internet import reactor
from twisted.web.server import Site
from klein import Klein
import sqlalchemy.orm, sqlalchemy.dialects.sqlite, sqlite3
from kombu import Connection, Consumer, Producer
import kombu.transport.pyamqp
"""
ALL_LIBRARIES = (
    LIBRARIES
    + """
from txamqp.client import TwistedDelegate
from txamqp.protocol import AMQClient
from celery import Celery
"""
)
SAY_READY = """
print("ready", flush=True)
input()
"""
IMPORTING = "imports alone"
IMPORTING_LESS = "... less txamqp and Celery"
PEERS = {IMPORTING: ALL_LIBRARIES, IMPORTING_LESS: LIBRARIES}

RATIO_TARGET = 1.2
INSTANCE_TARGET = 5.0

#: Instances that are created with one request each before the first measured life.
PATH = "/foo/instances/worker-{}/?is_enabled=false"


def importing_kib(children: Children, imports: str, settle: float) -> int:
    """The memory of a process that has imported the packages and does nothing."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
    process = children.start([sys.executable, "-c", imports + SAY_READY], environment(), **pipes)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise RuntimeError("the packages can't be imported")
    time.sleep(settle)
    resident = resident_kib(process.pid)
    children.kill(process)
    return resident


def branch_kib(branch: Branch, settle: float) -> int:
    """The memory of one life of a branch."""
    branch.start()
    time.sleep(settle)
    resident = resident_kib(branch.pid)
    branch.stop()
    return resident


def fill(branch: Branch, count: int) -> None:
    """Give a branch `count` disabled instances, in a life that is not measured."""
    branch.start()
    branch.ask("PUT", "/foo/")
    for number in range(count):
        branch.ask("PUT", PATH.format(number))
    branch.stop()


def take(options: Namespace, broker: str) -> tuple[dict[str, list[int]], dict[int, list[int]]]:
    """The samples: of the processes that only import, and by number of instances."""
    importing: dict[str, list[int]] = {peer: [] for peer in PEERS}
    resident: dict[int, list[int]] = {count: [] for count in options.instances}
    with ExitStack() as stack:
        children = stack.enter_context(Children())
        branches = {count: stack.enter_context(Branch(broker)) for count in options.instances}
        for count, branch in branches.items():
            fill(branch, count)
        for _ in range(options.runs):
            wait_quiet(options.wait_quiet)
            for peer, imports in PEERS.items():
                importing[peer].append(importing_kib(children, imports, options.settle))
            for count, branch in branches.items():
                resident[count].append(branch_kib(branch, options.settle))
    return importing, resident


def main() -> None:
    parser = make_parser(__doc__, runs=3)
    parser.add_argument(
        "--instances",
        type=sizes,
        default=[0, 10, 100, 1000],
        metavar="N,N,...",
        help="numbers of instances (0,10,100,1000)",
    )
    parser.add_argument(
        "--settle", type=float, default=5.0, metavar="SECONDS", help="how long a process idles before (5)"
    )
    options = parser.parse_args()
    report = Report("memory", options.json)
    with a_broker(options) as broker:
        importing, resident = take(options, broker)
    for peer, values in importing.items():
        report.row(peer, "MB", [kib / 1024 for kib in values])
    medians = {
        count: report.row(f"branch with {count} instances", "MB", [kib / 1024 for kib in values])
        for count, values in resident.items()
    }
    least, most = min(medians), max(medians)
    compared = [(count, IMPORTING) for count in medians] + [(most, IMPORTING_LESS)]
    for count, peer in compared:
        report.target(
            f"memory with {count} instances",
            medians[count],
            "MB",
            beside=peer,
            ratio=median_ratio(resident[count], importing[peer]),
            ratio_at_most=RATIO_TARGET,
        )
    if most > least:
        each = (medians[most] - medians[least]) * 1024 / (most - least)
        report.target("memory for each instance", each, "kB", at_most=INSTANCE_TARGET)


if __name__ == "__main__":
    main()
