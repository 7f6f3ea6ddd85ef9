"""One connection to RabbitMQ: txamqp's, with what is wrong with it mended by subclasses.

Note [What is mended]
~~~~~~~~~~~~~~~~~~~~~
Of txamqp 0.8.2 the specification's loader, the methods that it makes, the handshake and the errors
are used. Replaced are its codec (it knows four of the types of a table, so one message of Celery's
ends the connection, again and again; it counts characters for bytes; it writes half a call before it
finds that the rest can't be written, and never writes again), its queues between frames and messages
(they cut bodies of text and bytes, and cost a turn for each frame), and its heartbeats. Added are
RabbitMQ's extensions: confirms, cancelled consumers, blocked connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from txamqp.client import Closed, TwistedDelegate
from txamqp.protocol import AMQClient

from cyme.bus.amqp.channel import Channel, Listener, closed_by
from cyme.bus.amqp.fields import Malformed
from cyme.bus.amqp.frames import END, FRAME_MOST, GREETING, HEARTBEAT, HEARTBEAT_FRAME, LEAD, OVERHEAD, SPEC

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

#: Channels that a connection may have, unless the server allows fewer.
CHANNELS_MOST = 64
#: Looks at whether the server lives, for each interval of heartbeats.
LOOKS = 2
#: Intervals of silence after which the server is given up.
SILENT_MOST = 2

#: What the server need not do for clients that do not say it.
CAPABILITIES: Mapping[str, bool] = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class Delegate(TwistedDelegate):  # type: ignore[misc]
    """What to do with what the server says by itself."""

    client: Client

    def connection_start(self, ch: Any, msg: Any) -> None:
        client = self.client
        if "PLAIN" not in str(msg.mechanisms).split():
            client.give_up(Malformed("it does not let anybody in by name and password"))
            return
        sent = ch.connection_start_ok(
            client_properties={"product": "Cyme", "capabilities": CAPABILITIES, **client.properties},
            mechanism=client.mechanism,
            response=client.response,
            locale=client.locale,
        )
        sent.addErrback(lambda failure: client.give_up(failure.value))

    def connection_tune(self, ch: Any, msg: Any) -> None:
        client = self.client
        client.MAX_LENGTH = min(msg.frame_max or FRAME_MOST, FRAME_MOST)
        client.channels_most = min(msg.channel_max or CHANNELS_MOST, CHANNELS_MOST)
        client.beat(min(msg.heartbeat or client.heartbeat, client.heartbeat))
        ch.connection_tune_ok(client.channels_most, client.MAX_LENGTH, client.heartbeat)
        client.started.fire()

    def connection_blocked(self, ch: Any, msg: Any) -> None:
        self.client.blocked = str(msg.reason) or "it does not say why"

    def connection_unblocked(self, ch: Any, msg: Any) -> None:
        self.client.unblock()

    def basic_deliver(self, ch: Any, msg: Any) -> None:
        ch.tell("delivered", msg)

    def basic_return_(self, ch: Any, msg: Any) -> None:
        ch.tell("returned", {} if msg.content is None else msg.content.properties)

    def basic_ack(self, ch: Any, msg: Any) -> None:
        ch.tell("confirmed", msg.delivery_tag, msg.multiple, True)

    def basic_nack(self, ch: Any, msg: Any) -> None:
        ch.tell("confirmed", msg.delivery_tag, msg.multiple, False)

    def basic_cancel(self, ch: Any, msg: Any) -> None:
        ch.tell("cancelled", msg.consumer_tag)


class Client(AMQClient):  # type: ignore[misc]
    """A connection.

    :param heartbeat: seconds between signs of life, unless the server wants more of them; the
        server is given up after `SILENT_MOST` times as many.
    :param properties: what the server shows of this connection, beside what it has to know.
    :param body_most: bytes of the longest body that is kept; of a longer one nothing is.
    :ivar blocked: why the server takes no messages now, or None.
    """

    _log = Logger()
    closed: bool
    channelClass = Channel

    def __init__(
        self,
        clock: IReactorTime,
        vhost: str,
        *,
        heartbeat: int,
        properties: Mapping[str, Any],
        body_most: int,
    ) -> None:
        # Heartbeats are our own: txamqp's would make and cancel two delayed calls for each frame.
        super().__init__(Delegate(), vhost, SPEC, heartbeat=0, clock=clock)
        self.heartbeat = heartbeat
        self.properties = properties
        self.body_most = body_most
        self.blocked: str | None = None
        self.channels_most = CHANNELS_MOST
        self._unblocked: list[Deferred[None]] = []
        self._pending = b""
        self._beating = LoopingCall(self._beat)
        self._beating.clock = clock
        self._silent = 0
        self._has_heard = self._has_written = False

    # -- channels ---------------------------------------------------------------------

    def channel(self, id: int) -> Deferred[Any]:
        """The channel of a number, made if it is not there."""
        return succeed(self._channel(id))

    def _channel(self, id: int) -> Any:
        channel = self.channels.get(id)
        if channel is None:
            channel = self.channels[id] = self.channelFactory(id, self.outgoing, self)
        return channel

    async def open_channel(self, listener: Listener) -> Any:
        """Open a new channel.

        :raises Closed: when the connection is closed, or has as many channels as may be.
        """
        if self.closed:
            raise Closed("the connection is closed")
        free = (number for number in range(1, self.channels_most + 1) if number not in self.channels)
        number = next(free, None)
        if number is None:
            raise Closed("there are too many channels")
        channel = self._channel(number)
        channel.listener = listener
        await channel.channel_open()
        return channel

    def when_heeded(self) -> Deferred[None]:
        """Fire when the server reads what is written, or the connection is closed."""
        if self.blocked is None or self.closed:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._unblocked.append(waiting)
        return waiting

    def unblock(self) -> None:
        """The server reads again."""
        self.blocked = None
        waiting, self._unblocked = self._unblocked, []
        for one in waiting:
            if not one.called:
                one.callback(None)

    # -- frames -----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet the server."""
        self.transport.setTcpNoDelay(True)
        self.transport.write(GREETING)

    def write(self, data: bytes) -> None:
        """Write whole frames."""
        self._has_written = True
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        """Take what came from the server."""
        self._has_heard = True
        data = self._pending + data
        start, end = 0, len(data)
        try:
            while end - start >= OVERHEAD and not self.closed:
                kind, number, size = LEAD.unpack_from(data, start)
                if size > FRAME_MOST:
                    raise Malformed("a frame of more bytes than were agreed on")
                after = start + size + OVERHEAD
                if after > end:
                    break
                if data[after - 1] != END:
                    raise Malformed("a frame without its end")
                payload = data[start + LEAD.size : after - 1]
                start = after
                if kind == HEARTBEAT:
                    continue
                # Of what comes on a channel that was closed meanwhile nothing is of use.
                if number == 0 or number in self.channels:
                    self._channel(number).take(kind, payload)
        except Malformed as problem:
            self.give_up(problem)
        except Exception as problem:
            self._log.failure("what came from the broker was not understood")
            self.give_up(problem)
        self._pending = b"" if self.closed else data[start:]

    def do_close(self, reason: Any) -> None:
        """The connection is closed: tell whoever waits for anything of it."""
        if self.closed:
            return
        self.closed = True
        if self._beating.running:
            self._beating.stop()
        for channel in list(self.channels.values()):
            channel.do_close(reason)
        self.started.fail_if_not_fired(closed_by(reason))
        self.unblock()
        if self.transport is not None:
            self.transport.loseConnection()

    async def goodbye(self) -> None:
        """Close the connection in good order; fires when the server has let go of all that it held.

        :raises Closed: when it is closed otherwise meanwhile.
        """
        if not self.closed:
            await self._channel(0).connection_close(reply_code=200, reply_text="goodbye")
            self.do_close(Closed("it was closed in good order"))

    def give_up(self, reason: Exception) -> None:
        """Cut the connection off."""
        self.do_close(reason)
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The connection has ended."""
        self._pending = b""
        super().connectionLost(reason)

    # -- heartbeats ---------------------------------------------------------------------

    def beat(self, interval: int) -> None:
        """Send signs of life from now on, and expect them.

        :param interval: seconds.
        """
        self.heartbeat = interval
        self._beating.start(interval / LOOKS, now=False)

    def _beat(self) -> None:
        if not self._has_written:
            self.transport.write(HEARTBEAT_FRAME)
        self._silent = 0 if self._has_heard else self._silent + 1
        self._has_heard = self._has_written = False
        if self._silent > LOOKS * SILENT_MOST:
            silence = SILENT_MOST * self.heartbeat
            self.give_up(Closed(f"the broker has given no sign of life for {silence} s"))
