"""Publishing tasks with confirmation: what waits at the same moment travels together.

Note [Confirmed]
~~~~~~~~~~~~~~~~
On AMQP a task is published when the broker has confirmed its message, for a durable queue once it
is on disk. `mandatory` has a message come back that no queue would take. On Redis it is published
when the server has answered the command that puts it into a list; how often that reaches the disk is
the server's `appendfsync`. Elsewhere it is when kombu says so.

A broker that is short of memory or of disk stops reading from whoever publishes (connection.blocked).
What is on its way then is given up, and so is everything until it reads again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from kombu.messaging import Producer

from cyme.brokers import redacted
from cyme.errors import BrokerAway, CymeError, Unroutable
from cyme.gateway.messages import Frames, Outgoing, Texts, headers_of, properties_of
from cyme.gateway.sessions import Session, SessionListener
from cyme.remote.errands import declare, worker_queue
from cyme.remote.wires import TURN, Wakeup, Wire, socket_of, wire

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

    from cyme.planning import ConsumedQueue

#: Messages that are on their way to a broker at the same time.
WINDOW = 1000
#: Bytes that are written to a broker in one go.
MOST_BYTES = 256 * 1024

#: What became of a message: its task's id, and why it was not published, or None.
Settled = tuple[str, CymeError | None]


class PublisherListener(SessionListener, Protocol):
    """Whom a publisher tells; always in the reactor's thread."""

    def settled(self, session: Any, outcomes: list[Settled]) -> None:
        """What became of messages."""


class Outlet(Protocol):
    """A way to publish over one kind of transport; used by the publisher's thread alone."""

    def send(self, messages: list[Outgoing]) -> None:
        """Put messages on their way.

        :raises Exception: any, when the connection is lost.
        """

    def room(self) -> int:
        """How many more may be on their way."""

    def turn(self, wakeup: Wakeup, is_hurried: bool) -> None:
        """Take in what the broker says; wait for it, or until rung, unless hurried."""


class Publisher(Session):
    """Publishes to one broker.

    :param results: the name of the queue for results, made before anything is published.
    :param origin: who sends, as workers show it.
    """

    purpose = "publisher"
    _listener: PublisherListener

    def __init__(
        self,
        reactor: IReactorFromThreads,
        url: str,
        listener: PublisherListener,
        timeout: float,
        *,
        results: str,
        origin: str,
    ) -> None:
        super().__init__(reactor, url, listener, timeout)
        self._results = results
        self._origin = origin
        self._outgoing: deque[Outgoing] = deque()
        self._settled: list[Settled] = []

    def submit(self, messages: list[Outgoing]) -> None:
        """Publish messages and tell the listener what became of them."""
        self._outgoing.extend(messages)
        self._wakeup.ring()

    # -- in the session's own thread -------------------------------------------------

    def open(self, connection: Any) -> Callable[[], None]:
        outlet = self._outlet(connection)

        def turn() -> None:
            count = min(len(self._outgoing), outlet.room())
            if count:
                outlet.send([self._outgoing.popleft() for _ in range(count)])
            outlet.turn(self._wakeup, bool(self._settled) or bool(self._outgoing and outlet.room()))
            if self._settled:
                settled, self._settled = self._settled, []
                self.tell(self._listener.settled, self, settled)

        return turn

    def _outlet(self, connection: Any) -> Outlet:
        details = (self._url, self._timeout, self._results, self._origin, self._settle)
        if socket_of(connection) is not None:
            return _AMQPOutlet(connection, *details)
        if hasattr(getattr(connection.transport, "cycle", None), "fds"):
            return _RedisOutlet(connection, *details)
        return _OtherOutlet(connection, *details)

    def _settle(self, task_id: str, problem: CymeError | None) -> None:
        self._settled.append((task_id, problem))


Settle = Callable[[str, "CymeError | None"], None]


class _Declared:
    """The queues that a connection knows to be there."""

    def __init__(self, make: Callable[[ConsumedQueue], None], settle: Settle) -> None:
        self._make = make
        self._settle = settle
        self._known: set[ConsumedQueue] = set()

    def those_with_queues(self, messages: Iterable[Outgoing]) -> list[Outgoing]:
        """The messages whose queues are there, or were made; the others are settled."""
        kept = []
        refused: dict[ConsumedQueue, CymeError] = {}
        for one in messages:
            queue = one.kind.queue
            if queue not in self._known and queue not in refused:
                try:
                    self._make(queue)
                    self._known.add(queue)
                except CymeError as problem:
                    refused[queue] = problem
            if queue in refused:
                self._settle(one.task_id, refused[queue])
            else:
                kept.append(one)
        return kept

    def forget(self, queue: ConsumedQueue) -> None:
        self._known.discard(queue)


class _AMQPOutlet:
    """py-amqp below kombu, in frames of our own; confirms are awaited together."""

    def __init__(
        self, connection: Any, url: str, timeout: float, results: str, origin: str, settle: Settle
    ) -> None:
        self._connection = connection
        self._driver = connection.connection
        self._url = url
        self._timeout = timeout
        self._settle = settle
        self._blocked = False
        self._tag = 0
        self._unconfirmed: OrderedDict[int, Outgoing] = OrderedDict()
        self._returned: dict[str, str] = {}
        self._declared = _Declared(self._make, settle)
        self._wire: Wire = wire(connection, timeout)
        self._readable = poll()
        self._readable.register(self._driver.sock.fileno(), POLLIN)
        self._driver.on_blocked = self._on_blocked
        self._driver.on_unblocked = self._on_unblocked
        self._channel = channel = connection.channel()
        channel.queue_declare(results, durable=True, auto_delete=False)
        channel.confirm_select()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._came_back)
        self._frames = Frames(channel, channel.channel_id, self._driver.frame_max, results, origin)

    def room(self) -> int:
        return WINDOW - len(self._unconfirmed)

    def send(self, messages: list[Outgoing]) -> None:
        if self._blocked:
            self._give_up(messages)
            return
        out: list[bytes] = []
        size = 0
        for one in self._declared.those_with_queues(messages):
            frames = self._frames.of(one)
            self._tag += 1
            self._unconfirmed[self._tag] = one
            out += frames
            size += len(one.body)
            if size > MOST_BYTES:
                self._write(out)
                out, size = [], 0
        self._write(out)

    def turn(self, wakeup: Wakeup, is_hurried: bool) -> None:
        if is_hurried:
            # What is there is taken, and nothing waited for.
            wakeup.ring()
        self._wire.turn(wakeup, self._is_expecting)

    def _write(self, frames: list[bytes]) -> None:
        if frames:
            self._driver.transport.write(b"".join(frames))
            self._driver.bytes_sent += 1

    def _is_expecting(self) -> bool:
        # No waiting for more: it would keep what is settled from being told.
        return bool(self._readable.poll(0))

    def _make(self, queue: ConsumedQueue) -> None:
        """Have a queue that is there, as it is, or make it as a worker would."""
        channel = self._connection.channel()
        try:
            channel.queue_declare(queue.name, passive=True)
            if queue.exchange:
                channel.exchange_declare(queue.exchange, queue.exchange_type, passive=True)
                # Both are there before the binding is, while a worker declares them.
                worker_queue(queue)(channel).queue_bind()
        except self._connection.channel_errors:
            declare(self._url, queue, self._timeout)
        else:
            channel.close()

    def _acked(self, tag: int, multiple: bool) -> None:
        for one in self._taken(tag, multiple):
            words = self._returned.pop(one.task_id, None)
            if words is None:
                self._settle(one.task_id, None)
            else:
                self._declared.forget(one.kind.queue)
                self._settle(one.task_id, Unroutable(one.kind.queue.name, redacted(self._url), words))

    def _nacked(self, tag: int, multiple: bool) -> None:
        for one in self._taken(tag, multiple):
            self._returned.pop(one.task_id, None)
            self._settle(one.task_id, self._away("it has refused the message"))

    def _taken(self, tag: int, multiple: bool) -> list[Outgoing]:
        """What a confirmation is about."""
        if not multiple:
            found = self._unconfirmed.pop(tag, None)
            return [] if found is None else [found]
        taken = []
        while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
            taken.append(self._unconfirmed.popitem(last=False)[1])
        return taken

    def _came_back(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        self._returned[message.properties.get("correlation_id", "")] = str(
            getattr(error, "reply_text", "") or error
        )

    def _on_blocked(self, reason: object = None) -> None:
        self._blocked = True
        given_up = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._give_up(given_up)

    def _on_unblocked(self) -> None:
        self._blocked = False

    def _give_up(self, messages: list[Outgoing]) -> None:
        for one in messages:
            self._settle(one.task_id, self._away("it takes no messages now, being short of memory or disk"))

    def _away(self, problem: str) -> BrokerAway:
        return BrokerAway(redacted(self._url), problem)


class _VirtualOutlet:
    """What kombu's virtual transports share: each message is published when it was sent."""

    def __init__(
        self, connection: Any, url: str, timeout: float, results: str, origin: str, settle: Settle
    ) -> None:
        self._connection = connection
        self._url = url
        self._results = results
        self._origin = origin
        self._settle = settle
        self._channel = connection.channel()
        self._producer = Producer(self._channel, auto_declare=False)
        self._declared = _Declared(self._make, settle)

    def room(self) -> int:
        return WINDOW

    def turn(self, wakeup: Wakeup, is_hurried: bool) -> None:
        wakeup.wait([], 0 if is_hurried else TURN)

    def _make(self, queue: ConsumedQueue) -> None:
        worker_queue(queue)(self._channel).declare()

    def _publish(self, one: Outgoing) -> None:
        self._producer.publish(
            one.body,
            content_type="application/json",
            content_encoding="utf-8",
            exchange=one.kind.queue.exchange,
            routing_key=one.kind.queue.routing_key,
            priority=one.kind.priority,
            headers=headers_of(one.task_id, one.kind, self._origin, one.eta, one.expires),
            retry=False,
            **properties_of(one.task_id, one.kind, self._results),
        )
        self._settle(one.task_id, None)


class _OtherOutlet(_VirtualOutlet):
    """Any transport of kombu's that is not known better."""

    def send(self, messages: list[Outgoing]) -> None:
        for one in self._declared.those_with_queues(messages):
            self._publish(one)


class _RedisOutlet(_VirtualOutlet):
    """kombu's Redis transport: what waits goes into its lists in one transaction."""

    def __init__(
        self, connection: Any, url: str, timeout: float, results: str, origin: str, settle: Settle
    ) -> None:
        super().__init__(connection, url, timeout, results, origin, settle)
        self._texts = Texts(results, origin)

    def send(self, messages: list[Outgoing]) -> None:
        keys: dict[ConsumedQueue, list[str]] = {}
        pushed: list[Outgoing] = []
        with self._channel.client.pipeline(transaction=True) as pipeline:
            for one in self._declared.those_with_queues(messages):
                queue = one.kind.queue
                if queue.exchange_type == "fanout":
                    # No list: those who listen now get it.
                    self._publish(one)
                    continue
                if queue not in keys:
                    found = self._channel._lookup(queue.exchange, queue.routing_key)
                    keys[queue] = [name for name in found if name]
                if not keys[queue]:
                    self._declared.forget(queue)
                    problem = Unroutable(queue.name, redacted(self._url), "its exchange leads to no queue")
                    self._settle(one.task_id, problem)
                    continue
                text = self._texts.of(one, str(uuid4()))
                priority = self._channel.priority(one.kind.priority or 0)
                for name in keys[queue]:
                    pipeline.lpush(self._channel._q_for_pri(name, priority), text)
                pushed.append(one)
            if pushed:
                pipeline.execute()
        for one in pushed:
            self._settle(one.task_id, None)
