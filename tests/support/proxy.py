"""A way to a server that can be cut, and mended."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.trial.unittest import TestCase


class _Way(ProxyServer):
    """One connection, known to its factory while it lasts."""

    factory: _Ways

    def connectionMade(self) -> None:
        self.factory.open.append(self)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self.factory.open.remove(self)
        super().connectionLost(reason)


class _Ways(ProxyFactory):
    protocol = _Way
    noisy = False

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.open: list[_Way] = []


class Proxy:
    """Stands before a server on this machine; ends with the test.

    :ivar port: where it listens, on the loopback interface; the same after it was cut.
    """

    def __init__(self, test: TestCase, port: int) -> None:
        self._ways = _Ways("127.0.0.1", port)
        self.port = 0
        self._listening: Any = None
        self.mend()
        test.addCleanup(self.cut)

    def mend(self) -> None:
        """Take connections."""
        listening: Any = reactor.listenTCP(self.port, self._ways, interface="127.0.0.1")
        self._listening = listening
        self.port = listening.getHost().port

    async def cut(self) -> None:
        """Take none any more, and break those that there are."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            for way in list(self._ways.open):
                ends: list[Any] = [way.transport, way.peer and way.peer.transport]
                for end in ends:
                    if end is not None:
                        end.abortConnection()
            await listening.stopListening()
