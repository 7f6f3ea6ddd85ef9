"""Connections of clients: how many there are, and how long each may take over a request.

Note [Slow clients]
~~~~~~~~~~~~~~~~~~~
A time-out of idle connections does not help against a client that sends a byte now and then. So a
request has to be complete, its body too, within `REQUEST_WITHIN` seconds of its first byte, or of the
connection's beginning. Which are late is looked up every few seconds, all together: a timer for each
request would cost more than most requests do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from cyme.addresses import is_loopback

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.web.http import Request

#: Seconds within which a request has to be complete.
REQUEST_WITHIN = 60.0
#: Seconds between two looks for those that are late.
LOOK_EVERY = 5.0


class Connections:
    """The open connections of a site.

    :param most: how many there may be.
    :param most_of_one: how many of one address, this machine's own excepted.
    """

    def __init__(self, clock: IReactorTime, most: int, most_of_one: int) -> None:
        self._clock = clock
        self._most = most
        self._most_of_one = most_of_one
        self._open: set[BoundedChannel] = set()
        self._by_host: dict[str, int] = {}
        self._next: IDelayedCall | None = None

    def admits(self, address: IAddress) -> bool:
        """Whether one more of an address is taken."""
        if len(self._open) >= self._most:
            return False
        host = _host(address)
        return host is None or self._by_host.get(host, 0) < self._most_of_one

    def add(self, channel: BoundedChannel) -> None:
        """Count a connection, and look after it."""
        self._open.add(channel)
        if channel.host is not None:
            self._by_host[channel.host] = self._by_host.get(channel.host, 0) + 1
        if self._next is None:
            self._next = self._clock.callLater(LOOK_EVERY, self._look)

    def remove(self, channel: BoundedChannel) -> None:
        """Forget a connection that was lost."""
        self._open.discard(channel)
        if channel.host is not None:
            left = self._by_host.pop(channel.host) - 1
            if left:
                self._by_host[channel.host] = left
        if not self._open and self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = self._clock.callLater(LOOK_EVERY, self._look)
        late = self._clock.seconds() - REQUEST_WITHIN
        for channel in list(self._open):
            if channel.waits_since is not None and channel.waits_since <= late:
                channel.give_up()


class BoundedChannel(HTTPChannel):
    """One connection, see Note [Slow clients].

    :ivar host: the client's address, where it counts; see `Connections`.
    :ivar waits_since: when the request began that is not complete yet, by the site's clock; None
        while there is none.
    """

    site: Any
    transport: Any
    connections: Connections
    clock: IReactorTime
    host: str | None = None
    waits_since: float | None = None
    _is_answering = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.waits_since = self.clock.seconds()
        self.host = _host(self.transport.getPeer())
        self.connections.add(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.waits_since = None
        self.connections.remove(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.waits_since is None and not self._is_answering:
            self.waits_since = self.clock.seconds()
        super().dataReceived(data)

    def complete(self) -> None:
        """Take note that all of a request is there."""
        self.waits_since = None
        self._is_answering = True

    def requestDone(self, request: Request) -> None:
        self._is_answering = False
        # What has come of the next one meanwhile is looked at in here.
        super().requestDone(request)

    def give_up(self) -> None:
        """Cut off a client that takes too long."""
        self.waits_since = None
        self.transport.abortConnection()


def _host(address: IAddress) -> str | None:
    if isinstance(address, (IPv4Address, IPv6Address)) and not is_loopback(address.host):
        return address.host
    return None
