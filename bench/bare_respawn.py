"""Keep a command running with nothing but Twisted: `python bare_respawn.py COMMAND...`.

The least that a supervisor in Twisted can do: a ProcessProtocol that spawns anew when the
process has exited. A peer of cyme in respawn.py.
"""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


class Respawn(ProcessProtocol):
    """Keeps one process running."""

    def spawn(self) -> None:
        argv = sys.argv[1:]
        reactor.spawnProcess(self, argv[0], argv, env=os.environ, childFDs={0: 0, 1: 1, 2: 2})

    def processExited(self, reason: Failure) -> None:
        self.spawn()


if __name__ == "__main__":
    reactor.callWhenRunning(Respawn().spawn)
    reactor.run()
