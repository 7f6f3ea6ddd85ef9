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

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed, ConnectionClosed, TwistedDelegate
from txamqp.content import Content
from txamqp.message import Message
from txamqp.protocol import AMQChannel, AMQClient

from cyme.bus.amqp.fields import Malformed, Unencodable
from cyme.bus.amqp.frames import (
    BODY,
    END,
    FRAME_MOST,
    GREETING,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    LEAD,
    METHOD,
    OVERHEAD,
    SPEC,
    ContentHeader,
    content_frames,
    method_frame,
    read_header,
    read_method,
)

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


class Listener(Protocol):
    """What is told of what comes on a channel without having been asked for."""

    def delivered(self, message: Any) -> None:
        """A message; its content is None where it was malformed or too long."""

    def returned(self, properties: Mapping[str, Any]) -> None:
        """A mandatory message that no queue took."""

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        """What was published under a number, or under all up to it, was taken or refused."""

    def cancelled(self, consumer: str) -> None:
        """The server ended a consumer."""

    def closed(self, reason: Exception) -> None:
        """The channel is closed; nothing comes any more."""


def problem_of(error: BaseException) -> str:
    """What an error says, for people; what the server said, where it did."""
    reason = error.args[0] if isinstance(error, Closed) and error.args else None
    if isinstance(reason, Message):
        return f"{reason.reply_code}: {reason.reply_text}"
    said = getattr(reason, "value", reason) if reason is not None else error
    return str(said) or type(said).__name__


def code_of(error: BaseException) -> int:
    """The server's code of what closed a channel or a connection; 0 where it said none."""
    reason = error.args[0] if isinstance(error, Closed) and error.args else None
    return int(reason.reply_code) if isinstance(reason, Message) else 0


class Channel(AMQChannel):  # type: ignore[misc]
    """A channel whose calls are written whole or not at all.

    The methods are those that txamqp makes of the specification; each gives a Deferred of the
    server's answer, or of None where it gives none.

    :ivar listener: see `Listener`; set before anything can come.
    """

    _log = Logger()
    closed: bool

    def __init__(self, id: int, outgoing: Any, client: Any) -> None:
        super().__init__(id, outgoing, client)
        self.listener: Listener | None = None
        self._awaited: deque[tuple[Any, Deferred[Any]]] = deque()
        self._method: tuple[Any, tuple[Any, ...]] | None = None
        self._header: ContentHeader | None = None
        self._pieces: list[bytes] = []
        self._left = 0

    def invoke(self, method: Any, args: Any, content: Any = None) -> Deferred[Any]:
        """Call a method of the server.

        Fails with `Unencodable` when the call can't be said, which harms nothing else, and with
        txamqp's `Closed` when the channel is closed before the answer.
        """
        if self.closed:
            return fail(self.reason)
        try:
            frames = [method_frame(self.id, method, args)]
            if method.content:
                given = Content(b"") if content is None else content
                most = self.client.MAX_LENGTH
                frames += content_frames(self.id, method.klass, given.properties, given.body, most)
        except Unencodable as problem:
            return fail(problem)
        self.client.write(b"".join(frames))
        nowait = method.fields.byname.get("nowait")
        if not method.responses or (nowait is not None and args[method.fields.index(nowait)]):
            return succeed(None)
        answer: Deferred[Any] = Deferred()
        self._awaited.append((method, answer))
        return answer

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame.

        :raises Malformed: when the server broke the rules.
        """
        if kind == METHOD:
            if self._method is not None:
                raise Malformed("a method within a message")
            method, arguments = read_method(payload)
            if method.content:
                self._method = method, arguments
            else:
                self._have(method, arguments, None)
        elif kind == HEADER:
            if self._method is None or self._header is not None:
                raise Malformed("a content header without a method")
            self._header = read_header(payload)
            self._left = self._header.size
            self._complete()
        elif kind == BODY:
            if self._header is None or len(payload) > self._left:
                raise Malformed("more of a body than was promised")
            self._left -= len(payload)
            if self._header.size <= self.client.body_most:
                self._pieces.append(payload)
            self._complete()
        else:
            raise Malformed(f"a frame of type {kind}")

    def _complete(self) -> None:
        """Hand a message over once all of its body is there."""
        if self._left or self._header is None or self._method is None:
            return
        (method, arguments), header, pieces = self._method, self._header, self._pieces
        self._method, self._header, self._pieces = None, None, []
        if header.properties is None or header.size > self.client.body_most:
            content = None
        else:
            content = Content(b"".join(pieces), properties=dict(header.properties))
        self._have(method, arguments, content)

    def _have(self, method: Any, arguments: tuple[Any, ...], content: Any) -> None:
        message = Message(method, arguments, content)
        if not method.response:
            self.client.delegate.dispatch(self, message)
            return
        if not self._awaited or method not in self._awaited[0][0].responses:
            raise Malformed(f"{method.klass.name}.{method.name} answers nothing that was asked")
        _, answer = self._awaited.popleft()
        if not answer.called:
            answer.callback(message)

    def leave(self) -> None:
        """Close the channel; its listener is told of nothing any more."""
        self.listener = None
        if not self.closed:
            closing = self.channel_close(reply_code=200, reply_text="goodbye")
            closing.addBoth(lambda _: self.do_close(Closed("it was closed in good order")))

    def do_close(self, reason: Any) -> None:
        """The channel is closed: fail what still waits for an answer."""
        if self.closed:
            return
        self.closed = True
        self.reason = closed_by(reason)
        self.client.channels.pop(self.id, None)
        awaited, self._awaited = self._awaited, deque()
        for _, answer in awaited:
            if not answer.called:
                answer.errback(self.reason)
        self.tell("closed", self.reason)

    def tell(self, what: str, *arguments: Any) -> None:
        """Tell the listener; what it does wrong is not the connection's fault."""
        if self.listener is not None:
            try:
                getattr(self.listener, what)(*arguments)
            except Exception:
                self._log.failure("what came from the broker was not handled")


def closed_by(reason: Any) -> Exception:
    """The error for those whose channel is closed.

    :param reason: what the server said, or an error, or a failure.
    """
    kind: Any = Closed
    if isinstance(reason, Message):
        kind = ChannelClosed if reason.method.klass.name == "channel" else ConnectionClosed
    error: Exception = reason if isinstance(reason, Closed) else kind(reason)
    return error


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
        for channel in list(self.channels.values()):
            channel.do_close(reason)
        self.started.fail_if_not_fired(closed_by(reason))
        self.unblock()
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
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The connection has ended."""
        if self._beating.running:
            self._beating.stop()
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
