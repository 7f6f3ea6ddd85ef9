"""The stacks that a Celery worker prints when it gets SIGUSR1, found in its log.

Note [What Celery prints]
~~~~~~~~~~~~~~~~~~~~~~~~~
Tried with Celery 5.7 and the pools prefork, threads and solo: `celery.utils.debug.cry` writes to
the worker's standard error, which is its log, for each thread of the *main* process: its name, its
stack, and the variables of its innermost frame. Three things follow.

- Python calls the handler in the main thread, between two byte codes. A worker that is frozen, or
  whose main thread waits in C code that no signal ends, prints nothing.
- Before Celery has set its handler, SIGUSR1 ends the process; so it is not sent until `/proc` says
  that it is caught.
- To a process of a prefork pool the same signal is the soft time limit of its task; so it goes to
  the main process alone, and what the pool's processes do is not told.

The variables are left out of what is handed on: arguments of tasks and passwords may be among them.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, frozen
from twisted.internet.task import deferLater

from cyme.errors import NoDump
from cyme.workers.proc import Condition

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IHandle

#: Seconds between two looks at the log.
INTERVAL = 0.05
#: At most so many bytes that follow the first stack are looked at.
READ_MOST = 4 * 1024 * 1024
#: What of the log is kept while no stack has begun: more than the line before one.
KEPT = 4096
#: The most characters of a dump.
MOST = 256 * 1024

_RULE = "=" * 49
#: The name of a thread, and its stack, every line of which is indented.
_STACK = re.compile(rf"^([^\n]*)\n{_RULE}\n((?:  [^\n]*\n)+){_RULE}\nLOCAL VARIABLES\n", re.MULTILINE)
_BEGINNING = re.compile(rf"^[^\n]*\n{_RULE}\n  ".encode(), re.MULTILINE)

#: Why a process in a state (proc_pid_stat(5)) prints nothing.
_WHY = {
    "T": "its process is stopped, by SIGSTOP or the like",
    "t": "its process is stopped by a debugger",
    "D": "its process is in an uninterruptible wait, for a disk mostly",
}


def stacks_in(text: str) -> str:
    """The stacks that stand in a part of a worker's log, without variables; empty if none does."""
    found = "\n".join(f"{name}\n{_RULE}\n{stack}" for name, stack in _STACK.findall(text))
    return found if len(found) <= MOST else found[:MOST] + "\n(cut)\n"


@define
class Following:
    """What is written to a file from now on.

    :ivar read: what of it is kept.
    """

    path: Path
    read: bytes = b""
    _at: int = 0

    def begin(self) -> None:
        """Remember where the file ends. Blocks."""
        self._at = self.path.stat().st_size

    def go_on(self) -> bool:
        """Read on; whether there was anything new. Blocks.

        :raises OSError: when it can't be read.
        """
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:
                # It was emptied meanwhile.
                self._at = 0
            file.seek(self._at)
            new = file.read(READ_MOST - len(self.read))
        self._at += len(new)
        self.read += new
        beginning = _BEGINNING.search(self.read)
        self.read = self.read[-KEPT:] if beginning is None else self.read[beginning.start() :]
        return bool(new)

    def stacks(self) -> str:
        """The stacks that were read so far."""
        return stacks_in(self.read.decode("utf-8", "replace"))


@frozen
class Dumping:
    """What is needed to have a worker print its stacks.

    :ivar in_thread: runs what blocks.
    :ivar condition: how a process is, by its pid; None when it is gone.
    """

    clock: IReactorTime
    in_thread: Callable[[Callable[[], Any]], Deferred[Any]]
    condition: Callable[[int], Condition | None]

    async def take(
        self, name: str, handle: IHandle, log: Path, lives: Callable[[], bool], timeout: float
    ) -> str:
        """Have the worker `name` print its stacks, see Note [What Celery prints].

        :param lives: whether it is still the same worker.
        :param timeout: seconds.
        :raises NoDump: when it printed none until then, or its log can't be read.
        """
        until = self.clock.seconds() + timeout
        file = Following(log)
        asked = False
        stacks = ""
        try:
            await self.in_thread(file.begin)
            while lives():
                condition = await self.in_thread(lambda: self.condition(handle.pid))
                if not asked and condition is not None and condition.catches(signal.SIGUSR1) and lives():
                    handle.signal(signal.SIGUSR1)
                    asked = True
                is_longer = await self.in_thread(file.go_on)
                stacks = file.stacks() if is_longer else stacks
                # What is written in one go is not always read in one go.
                if stacks and not is_longer:
                    return stacks
                if self.clock.seconds() >= until:
                    break
                await deferLater(self.clock, INTERVAL)
        except OSError as problem:
            raise NoDump(name, timeout, f"its log can't be read: {problem.strerror}") from None
        if stacks:
            return stacks
        raise NoDump(name, timeout, _why(asked, condition) if lives() else "it has ended")


def _why(asked: bool, condition: Condition | None) -> str:
    """Why a living worker printed nothing."""
    if condition is None:
        return "it has ended"
    if condition.state in _WHY:
        return _WHY[condition.state]
    if not asked:
        return "it does not catch SIGUSR1, as when it is still starting"
    return "its main thread does not get round to it; it may be in C code"
