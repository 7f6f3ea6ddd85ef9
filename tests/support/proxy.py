"""A way to a server that can be cut or silenced, and mended."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from twisted.trial.unittest import TestCase


class _End:
    """One end of a way: passes on what comes, or holds it while nothing gets through."""

    peer: Any
    ways: _Ways
    held: bytes = b""

    def dataReceived(self, data: bytes) -> None:
        if self.ways.is_silent:
            self.held += data
        elif self.peer is not None:
            self.peer.transport.write(data)

    def speak(self) -> None:
        """Pass on what was held."""
        held, self.held = self.held, b""
        if held and self.peer is not None:
            self.peer.transport.write(held)


class _Server(_End, ProxyClient):
    """The end at the server."""

    def connectionMade(self) -> None:
        self.ways = self.factory.server.ways  # type: ignore[attr-defined]
        super().connectionMade()


class _ToServer(ProxyClientFactory):
    protocol = _Server
    noisy = False


class _Way(_End, ProxyServer):
    """One connection, known to its factory while it lasts."""

    clientProtocolFactory = _ToServer
    factory: _Ways

    def connectionMade(self) -> None:
        self.ways = self.factory
        self.ways.open.append(self)
        if not self.ways.is_silent:
            super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self.ways.open.remove(self)
        super().connectionLost(reason)


class _Ways(ProxyFactory):
    protocol = _Way
    noisy = False

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.open: list[_Way] = []
        self.is_silent = False


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
        """Take connections, and let all through that was held."""
        self._ways.is_silent = False
        way: Any
        for way in list(self._ways.open):
            if way.peer is None:
                # As if it had never been taken.
                way.transport.abortConnection()
                continue
            for end in (way, way.peer):
                end.speak()
        if self._listening is not None:
            return
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

    def silence(self) -> None:
        """Let nothing through, and break nothing: as a cable that was pulled."""
        self._ways.is_silent = True
