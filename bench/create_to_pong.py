"""How long it takes from the wish for a worker until that worker answers a ping.

Three starts take turns, each of one prefork worker with one pool process:

  celery worker         as people start it, from exec until its first pong
  celery worker, lean   the same with --without-gossip --without-mingle
  cyme                  POST /foo/instances/?wait=30 to a real branch, from the request until
                        the answer 201 that says `"state": "running"`

Pongs are seen by a client that has been connected for long and pings every 10 ms. The worker of
the sample before is stopped before the next begins.

Target: cyme takes at most 1.15 times what the lean start takes.
"""

from __future__ import annotations

import time

from branches import Branch
from machine import Children, a_broker, wait_quiet
from pidbox import Pidbox
from reporting import Report, make_parser, median_ratio
from starts import LEAN, STARTS, time_start

CYME = "cyme, POST /foo/instances/?wait=30"
TARGET = 1.15


def time_creation(branch: Branch) -> float:
    """Create an instance and remove it: seconds until the branch says that it runs."""
    began = time.monotonic()
    details = branch.create_running("/foo/instances/")
    took = time.monotonic() - began
    branch.remove(details["name"])
    return took


def main() -> None:
    options = make_parser(__doc__, runs=7).parse_args()
    report = Report("create_to_pong", options.json)
    taken: dict[str, list[float]] = {case: [] for case in (*STARTS, CYME)}
    with a_broker(options) as broker, Children() as children, Branch(broker) as branch:
        branch.start()
        branch.ask("PUT", "/foo/")
        pidbox = Pidbox(broker)
        for _ in range(options.runs):
            for start in STARTS:
                wait_quiet(options.wait_quiet)
                taken[start].append(time_start(children, pidbox, broker, start))
            wait_quiet(options.wait_quiet)
            taken[CYME].append(time_creation(branch))
        pidbox.close()
    medians = {
        case: report.row(case, "ms", [value * 1000 for value in values]) for case, values in taken.items()
    }
    report.target(
        "create -> running",
        medians[CYME],
        "ms",
        beside="lean start",
        ratio=median_ratio(taken[CYME], taken[LEAN]),
        ratio_at_most=TARGET,
    )


if __name__ == "__main__":
    main()
