"""How long workers on Redis take to stop by themselves under load, and what it costs not to wait.

Three workers as Cyme starts them consume from one queue, to which a task goes every ten milliseconds.
One after the other is told to stop (TERM) and started again. A worker that has not stopped after
`--patience` seconds gets QUIT, and ten seconds later it is killed with all its processes, as a branch does.

  stop              from TERM to the end of the process; the longest is the last figure of the row
  slow stops        those of more than five seconds
  killed            those that did not end before `--patience` and ten seconds
  tasks not run     of those that were sent, when the queue is empty

No peer: this is what Celery, kombu and billiard do. With the default patience nobody is killed and no task is
missing; `--patience 10` shows what a short `--warm-timeout` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from machine import BIN, Children, environment, import_project
from reporting import Report, make_parser

import_project()

NAMES = ("w1", "w2", "w3")
SEND_EVERY = 0.01
SLOW = 5.0
#: Seconds from QUIT to KILL, as `cyme.workers` has it.
COLD = 10.0
#: Seconds that a worker may take to come up, and the queue to be emptied.
LIMIT = 60.0

APP = """
from celery import Celery
app = Celery("stops")

@app.task(ignore_result=True)
def leave(path):
    open(path, "w").close()
"""


class Worker:
    """A worker that is stopped and started again."""

    def __init__(self, children: Children, folder: str, name: str, env: dict[str, str]) -> None:
        self._children, self._folder, self._env = children, folder, env
        self._log = Path(folder, f"{name}.log")
        self._starts = 0
        self._argv = [os.path.join(BIN, "celery"), "-A", "stops", "worker", "-n", f"{name}@bench"]
        self._argv += ["-Q", f"dq.{name},tasks", "--pool=prefork", "--concurrency=1"]
        self._argv += [f"--logfile={self._log}", "--loglevel=INFO", "--without-gossip", "--without-mingle"]

    def start(self) -> None:
        self.process = self._children.start(self._argv, self._env, cwd=self._folder)
        self._starts += 1

    def wait_ready(self) -> None:
        wait_for(lambda: self._log.exists() and self._log.read_text().count(" ready.") >= self._starts)

    def stop(self, patience: float) -> tuple[float, bool]:
        """Seconds that it took, and whether it was killed."""
        began = time.monotonic()
        killed = False
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(COLD)
            except subprocess.TimeoutExpired:
                killed = True
        self._children.kill(self.process)
        return time.monotonic() - began, killed


class Load:
    """Sends tasks until it is stopped.

    :ivar paths: what the tasks are to leave.
    """

    def __init__(self, broker: str, folder: str) -> None:
        self.paths: list[str] = []
        self._broker, self._folder = broker, folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        from celery import Celery

        with Celery("load", broker=self._broker, set_as_current=False) as app:
            while not self._over.wait(SEND_EVERY):
                path = os.path.join(self._folder, f"task{len(self.paths)}")
                app.send_task("stops.leave", args=(path,), queue="tasks", ignore_result=True)
                self.paths.append(path)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def missing(self) -> int:
        return sum(not os.path.exists(path) for path in self.paths)


def wait_for(true: Callable[[], bool], limit: float = LIMIT) -> bool:
    """Look every tenth of a second whether something holds; whether it came to hold."""
    deadline = time.monotonic() + limit
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    parser = make_parser(__doc__, runs=60)
    parser.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="from TERM to QUIT, per stop (60)"
    )
    options = parser.parse_args()
    from tests.support.redis_server import RedisServer

    report = Report("warm_stops", options.json)
    redis = None if options.broker else RedisServer()
    broker = options.broker or f"redis+socket://{redis.socket if redis else ''}"
    took: list[float] = []
    killed = 0
    with Children() as children, tempfile.TemporaryDirectory(prefix="cyme-bench-") as folder:
        Path(folder, "stops.py").write_text(APP)
        env = environment(broker) | {"PYTHONPATH": folder}
        workers = [Worker(children, folder, name, env) for name in NAMES]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        load = Load(broker, folder)
        for number in range(options.runs):
            worker = workers[number % len(workers)]
            seconds, was_killed = worker.stop(options.patience)
            took.append(seconds)
            killed += was_killed
            worker.start()
            worker.wait_ready()
            print(f"\r{number + 1} of {options.runs} stops", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        load.stop()
        wait_for(lambda: not load.missing(), 30.0)
        missing, sent = load.missing(), len(load.paths)
    if redis is not None:
        redis.close()
    report.row("stop", "s", took)
    report.row("slow stops", "", [sum(seconds > SLOW for seconds in took)])
    report.row("killed", "", [killed])
    report.row(f"tasks not run, of {sent}", "", [missing])


if __name__ == "__main__":
    main()
