"""How long a killed worker is missed.

A worker's main process is killed with -9, and two moments are taken: its replacement has been
exec'ed (seen in /proc, which is looked at every half millisecond), and its replacement answers a ping
(sent every 10 ms by a client that has been connected for long).

  cyme            a worker of a real branch; each sample has a worker of its own, because a second
                  failure in a row would be backed off from
  bare Twisted    the lean worker below, kept running by bare_respawn.py
  lean start      no kill: `celery worker --without-gossip --without-mingle`, from exec to pong

Targets: cyme's replacement is exec'ed within 20 ms, and answers within 1.15 times a lean start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from uuid import uuid4

from branches import Branch
from machine import HERE, Children, a_broker, children_of, environment, wait_for_exec, wait_quiet
from pidbox import Pidbox
from reporting import Report, make_parser, median_ratio
from starts import LEAN, time_start, worker_argv

CYME, BARE, LEAN_START = "cyme", "bare Twisted", "lean start"
EXEC_TARGET = 20.0
PONG_TARGET = 1.15

#: Seconds that a worker lives before it is killed, at least.
LIFE = 2.0


def kill(pidbox: Pidbox, keeper: int, victim: int, node: str) -> tuple[float, float]:
    """Kill a worker: seconds until its keeper has exec'ed another, and until that answers."""
    known = children_of(keeper)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, execed = wait_for_exec(keeper, known)
    return execed - began, pidbox.first_pong(node) - began


class Bare:
    """A worker that bare_respawn.py keeps running."""

    def __init__(self, children: Children, pidbox: Pidbox, broker: str) -> None:
        tag = uuid4().hex[:8]
        self._pidbox = pidbox
        self.node, self.queue = f"bare-{tag}@bench", f"bench-{tag}"
        argv = [sys.executable, os.path.join(HERE, "bare_respawn.py"), *worker_argv(self.node, self.queue)]
        self.process = children.start(argv, environment(broker))
        pidbox.first_pong(self.node)

    def kill(self) -> tuple[float, float]:
        keeper = self.process.pid
        (victim,) = children_of(keeper)
        return kill(self._pidbox, keeper, victim, self.node)


def main() -> None:
    options = make_parser(__doc__, runs=7).parse_args()
    report = Report("respawn", options.json)
    execed: dict[str, list[float]] = {CYME: [], BARE: []}
    answers: dict[str, list[float]] = {CYME: [], BARE: [], LEAN_START: []}
    with a_broker(options) as broker, Children() as children, Branch(broker) as branch:
        branch.start()
        branch.ask("PUT", "/foo/")
        pidbox = Pidbox(broker)
        bare = Bare(children, pidbox, broker)
        instances = [
            branch.create_running(f"/foo/instances/worker-{number}/") for number in range(options.runs)
        ]
        time.sleep(LIFE)
        for details in instances:
            wait_quiet(options.wait_quiet)
            answers[LEAN_START].append(time_start(children, pidbox, broker, LEAN))
            for case in (BARE, CYME):
                wait_quiet(options.wait_quiet)
                own = (branch.pid, details["pid"], details["node"])
                samples = bare.kill() if case is BARE else kill(pidbox, *own)
                execed[case].append(samples[0])
                answers[case].append(samples[1])
        branch.remove(*(details["name"] for details in instances))
        children.stop(bare.process)
        pidbox.remove_queue(bare.queue)
        pidbox.close()
    exec_medians = {
        case: report.row(f"{case}, kill -9 -> replacement exec'ed", "ms", [value * 1000 for value in values])
        for case, values in execed.items()
    }
    pong_medians = {}
    for case, values in answers.items():
        label = f"{case}, exec -> pong" if case is LEAN_START else f"{case}, kill -9 -> replacement answers"
        pong_medians[case] = report.row(label, "ms", [value * 1000 for value in values])
    report.target(
        "killed -> replacement exec'ed",
        exec_medians[CYME],
        "ms",
        beside="bare Twisted respawn",
        ratio=median_ratio(execed[CYME], execed[BARE]),
        at_most=EXEC_TARGET,
    )
    report.target(
        "killed -> replacement answers",
        pong_medians[CYME],
        "ms",
        beside="lean start",
        ratio=median_ratio(answers[CYME], answers[LEAN_START]),
        ratio_at_most=PONG_TARGET,
    )


if __name__ == "__main__":
    main()
