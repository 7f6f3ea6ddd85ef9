"""What signals do to a branch: the first stops it in good order, a second one hurries it.

SIGHUP is the end of a terminal. To a branch that has something to read again, or no terminal, it is
the request to do so, as to other daemons: `systemctl reload` stops nothing.

The reactor's own handlers would do for the first. But after them `twistd` ends itself by
the same signal, so that a clean stop would look like a death to whoever started it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

#: A terminal that is closed says SIGHUP.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def has_terminal() -> bool:
    """Whether this process has a terminal, whose end it is told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class StopSignals:
    """Turns signals into calls in the reactor's turn.

    :param stop: called at the first signal.
    :param hurry: called at each further one.
    :param reread: called at each SIGHUP; None has that stop the branch, as the end of its terminal does.
    :param signals: the module `signal`, or a stand-in.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        stop: Callable[[], None],
        hurry: Callable[[], None],
        reread: Callable[[], None] | None = None,
        *,
        signals: Any = signal,
    ) -> None:
        self._reactor = reactor
        self._stop = stop
        self._hurry = hurry
        self._reread = reread
        self._signals = signals
        self._stopping = False

    def install(self) -> None:
        """Take over the signals that nobody chose to ignore, as `nohup` does."""
        for number in SIGNALS:
            if self._signals.getsignal(number) != signal.SIG_IGN:
                self._signals.signal(number, self._caught)

    def _caught(self, number: int, frame: object) -> None:
        # In the middle of anything, so nothing is done here but to have it done soon.
        self._reactor.callFromThread(self._received, signal.Signals(number).name)

    def _received(self, name: str) -> None:
        if self._reread is not None and name == signal.SIGHUP.name:
            self._reread()
            return
        if self._stopping:
            self._hurry()
            return
        self._stopping = True
        self._log.info("{name}: stopping", name=name)
        self._stop()
