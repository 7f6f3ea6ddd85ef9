"""Child processes of the tests, which end with the test run whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tests.support import guard


class Ended(Exception):
    """A process ended, or a time-out passed, before it said what was waited for."""


class Guarded:
    """A child process whose output is collected line by line.

    The methods block; from asynchronous tests call them by `deferToThread`.

    :param root: a folder; it, and every process that names it, go with the test run too.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        cwd: str | None = None,
        root: str = "",
    ) -> None:
        self.argv = tuple(argv)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._status: int | None = None
        pid_reader, pid_writer = os.pipe()
        self._guard = subprocess.Popen(
            [sys.executable, guard.__file__, str(pid_writer), root, *argv],
            pass_fds=[pid_writer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if env is None else env),
            cwd=cwd,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        os.close(pid_writer)
        with os.fdopen(pid_reader) as pid_file:
            pid = pid_file.read()
        if not pid:
            problem = self._guard.stdout.read().decode(errors="replace")
            raise Ended(f"{argv[0]} could not be started: {problem}")
        self.pid = int(pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._reap, daemon=True).start()

    def _read(self) -> None:
        assert self._guard.stdout is not None
        for line in self._guard.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()

    def _reap(self) -> None:
        status = self._guard.wait()
        # What it said last is to be seen by whoever learns that it ended. A grandchild
        # may hold the pipe for ever, so this is bounded.
        self._reader.join(1.0)
        with self._changed:
            self._status = 128 - status if status < 0 else status
            self._changed.notify_all()

    def lines(self) -> list[str]:
        """What it has written so far, both streams in one."""
        with self._changed:
            return list(self._lines)

    def log_text(self) -> str:
        """What it has written so far, as one text."""
        return "\n".join(self.lines())

    def wait_for_line(self, wanted: Callable[[str], bool], timeout: float, *, skip: int = 0) -> str:
        """Return the first line (after the first `skip`) for which `wanted` is true.

        :param timeout: seconds.
        :raises Ended: when it ended without having written one, or at the time-out.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines[skip:]:
                    if wanted(line):
                        return line
                skip = max(skip, len(self._lines))
                if self._status is not None:
                    raise Ended(self._story(f"ended with status {self._status}"))
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Ended(self._story(f"did not say it within {timeout:g} s"))

    def _story(self, what: str) -> str:
        return f"{' '.join(self.argv)}: {what}; it said:\n" + "\n".join(self._lines[-60:])

    @property
    def status(self) -> int | None:
        """Its exit status (128 + N for signal N), or None while it lives."""
        with self._changed:
            return self._status

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its status, see `status`.

        :raises Ended: when it lives after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._status is not None, timeout):
                raise Ended(self._story(f"still runs after {timeout:g} s"))
            assert self._status is not None
            return self._status

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its whole group; no error if it has ended."""
        with self._changed:
            if self._status is None:
                try:
                    (os.killpg if group else os.kill)(self.pid, number)
                except ProcessLookupError:
                    pass

    def kill(self, timeout: float = 10.0) -> int:
        """Kill its process group and wait for its end; its status."""
        self.signal(signal.SIGKILL, group=True)
        return self.wait(timeout)
