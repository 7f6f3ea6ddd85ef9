"""Processes that are measured: starting them, looking at them, and being sure that they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
#: Where the programs are that were installed with this Python.
BIN = os.path.dirname(sys.executable)

#: Seconds between two looks at a process.
LOOK_EVERY = 0.0005


def import_project() -> None:
    """Have `cyme` and `tests` imported from this checkout."""
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)


# -- the broker ---------------------------------------------------------------


@contextmanager
def a_broker(options: Namespace) -> Iterator[str]:
    """The URL of `--broker`, or that of a private RabbitMQ node for as long as the block lasts."""
    if options.broker:
        yield options.broker
        return
    import_project()
    from tests.support.rabbitmq import RabbitMQ

    node = RabbitMQ()
    try:
        yield node.url()
    finally:
        node.close()


# -- processes ----------------------------------------------------------------


def environment(broker: str | None = None) -> dict[str, str]:
    """The environment of what is measured: without settings of Python, Celery and Cyme.

    Python's are left out because of `PYTHONDONTWRITEBYTECODE`, with which every start would
    compile what an installed program has compiled.
    """
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CELERY", "CYME"))
    }
    if broker is not None:
        env["CELERY_BROKER_URL"] = broker
    return env


class Children:
    """Processes that end, with all that they have started, when the block ends."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Children:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes[:]:
            self.kill(process)

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], *, log: str = os.devnull, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a process in a session of its own; its output goes to the file `log`."""
        with open(log, "ab") as output:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen(argv, env=dict(env), start_new_session=True, **{**streams, **options})
        self._processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[Any], seconds: float = 30.0) -> None:
        """Have it end in good order, so that nothing of it is under way in the next sample."""
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        self.kill(process)

    def kill(self, process: subprocess.Popen[Any]) -> None:
        """End it and what is left of its session."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._processes.remove(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def children_of(pid: int) -> set[int]:
    """The children that the main thread of a process has started; costs a tenth of a millisecond."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return {int(child) for child in file.read().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def command_line(pid: int) -> bytes:
    """The command line of a process, NUL between the words; empty when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait_for_exec(parent: int, known: set[int], limit: float = 60.0) -> tuple[int, float]:
    """Wait until a process has a new child that has exec'ed: its pid, and when that was seen.

    Until it execs, a child shows the command line of its parent.

    :param known: the children that are not new.
    :return: pid, and seconds of `time.monotonic`.
    :raises TimeoutError: after `limit` seconds.
    """
    before = (b"", command_line(parent))
    deadline = time.monotonic() + limit
    while (now := time.monotonic()) < deadline:
        for child in children_of(parent) - known:
            if command_line(child) not in before:
                return child, now
        time.sleep(LOOK_EVERY)
    raise TimeoutError(f"process {parent} has started nothing within {limit:g} s")


def resident_kib(pid: int) -> int:
    """The resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has no memory")


# -- quiet --------------------------------------------------------------------


def wait_quiet(limit: float, idle: float = 0.85) -> None:
    """Wait until the processors were idle for a quarter of a second, at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        before = _processor_times()
        time.sleep(0.25)
        after = _processor_times()
        total = sum(after) - sum(before)
        # Fields of /proc/stat: user, nice, system, idle, iowait, ...
        if total and sum(after[3:5]) - sum(before[3:5]) >= idle * total:
            return


def _processor_times() -> list[int]:
    with open("/proc/stat", encoding="ascii") as file:
        return [int(field) for field in file.readline().split()[1:9]]
