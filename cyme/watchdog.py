"""Ends a process whose reactor hangs, and shows what its threads do when asked.

A hung branch looks alive to its system and does nothing; ended with a non-zero status it
is started again by whatever looks after it, and adopts its workers. `faulthandler`'s own
thread does the ending: it needs neither the reactor nor the interpreter's lock.
"""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds without a turn of the reactor after which the process ends itself.
LIMIT = 120.0
#: How often the reactor shows within the limit that it turns.
SIGNS_OF_LIFE = 12


class Dumper(Protocol):
    """What is used of `faulthandler`."""

    def dump_traceback_later(
        self, timeout: float, repeat: bool = ..., file: int = ..., exit: bool = ...
    ) -> None: ...

    def cancel_dump_traceback_later(self) -> None: ...

    def register(self, signum: int, file: int = ..., all_threads: bool = ..., chain: bool = ...) -> None: ...

    def unregister(self, signum: int, /) -> object: ...


class Watchdog(Service):
    """Ends the process, with all stacks in the log, when the reactor hangs.

    :param output: gives the file descriptor that stacks are written to.
    :param limit: seconds that the reactor may take for one turn.
    :param dumper: `faulthandler`, or a stand-in.
    """

    def __init__(
        self,
        clock: IReactorTime,
        output: Callable[[], int],
        *,
        limit: float = LIMIT,
        dumper: Dumper = faulthandler,
    ) -> None:
        self._output = output
        self._limit = limit
        self._dumper = dumper
        self._loop = LoopingCall(self._rearm)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._dumper.register(signal.SIGUSR1, file=self._output(), all_threads=True, chain=False)
        self._loop.start(self._limit / SIGNS_OF_LIFE, now=True)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._dumper.cancel_dump_traceback_later()
        self._dumper.unregister(signal.SIGUSR1)

    def _rearm(self) -> None:
        self._dumper.dump_traceback_later(self._limit, repeat=False, file=self._output(), exit=True)
