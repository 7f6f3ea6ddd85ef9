"""The other side of an AMQP connection, in memory: says yes to everything, until it is told to be silent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cyme.bus.amqp.frames import (
    GREETING,
    HEARTBEAT_FRAME,
    LEAD,
    METHOD,
    OVERHEAD,
    SPEC,
    content_frames,
    method_frame,
    read_method,
)

DEFAULTS: dict[str, Any] = {"bit": False, "table": {}, "shortstr": "", "longstr": ""}


def method_of(name: str) -> Any:
    """A method by a name like `basic.publish`."""
    klass, _, method = name.partition(".")
    return SPEC.classes.byname[klass].methods.byname[method]


class Transport(StringTransport):
    """A transport that knows whether it was cut off."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if not self.disconnecting:
            super().loseConnection()


class FakeServer:
    """A broker for one client at a time.

    :ivar said: the methods that came on the newest connection: (name, arguments by their names).
    :ivar silent_from: the number of the method from which on nothing is answered, or None.
    :ivar refuses: whether no connection can be made.
    """

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.silent_from: int | None = None
        self.refuses = False
        self.connections = 0
        self.protocol: Any = None
        self.transport = Transport()
        self._read = 0
        self._is_greeted = False

    def connect(self, factory: Any) -> Deferred[Any]:
        """Act as the endpoint."""
        if self.refuses:
            return fail(ConnectionRefusedError("refused"))
        self.connections += 1
        self.said = []
        self._read, self._is_greeted = 0, False
        self.transport = Transport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)

    @property
    def is_cut_off(self) -> bool:
        return self.transport.disconnecting

    def names(self) -> list[str]:
        return [name for name, _ in self.said]

    def turn(self) -> None:
        """Read what the client wrote, and answer, until it writes nothing more."""
        while not self.is_cut_off and self._read < len(self.transport.value()):
            if not self._is_greeted:
                assert self.transport.value().startswith(GREETING)
                self._is_greeted, self._read = True, len(GREETING)
                if self.silent_from != 0:
                    self.say(0, "connection.start", 0, 9, {}, "PLAIN AMQPLAIN", "en_US")
                continue
            kind, channel, size = LEAD.unpack_from(self.transport.value(), self._read)
            start = self._read + LEAD.size
            self._read += size + OVERHEAD
            if kind == METHOD:
                self._take(channel, *read_method(self.transport.value()[start : start + size]))

    def say(self, channel: int, name: str, *arguments: Any) -> None:
        """Send a method."""
        self.send(method_frame(channel, method_of(name), arguments))

    def deliver(self, body: bytes, *, most: int = 131072, channel: int = 1, consumer: str = "tag") -> None:
        """Send a message, from the inbox unless another channel and consumer are given."""
        self.say(channel, "basic.deliver", consumer, 1, False, "", "")
        self.send(b"".join(content_frames(channel, SPEC.classes.byname["basic"], {}, body, most)))

    def live(self) -> None:
        """Send a sign of life."""
        self.send(HEARTBEAT_FRAME)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        """Have the connection lost, if there is one."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))

    def _take(self, channel: int, method: Any, arguments: tuple[Any, ...]) -> None:
        name = f"{method.klass.name}.{method.name}"
        fields = (field.name for field in method.fields)
        said = dict(zip(fields, arguments, strict=True))
        self.said.append((name, said))
        if self.silent_from is not None and len(self.said) >= self.silent_from:
            return
        if name == "connection.start-ok":
            self.say(0, "connection.tune", 2047, 131072, 60)
        elif method.responses and not said.get("nowait"):
            answer = method.responses[0]
            values = [DEFAULTS.get(field.type, 0) for field in answer.fields]
            self.say(channel, f"{answer.klass.name}.{answer.name}", *values)
