"""Collecting results: a batch is acknowledged when it is stored, and not before.

Note [Batches]
~~~~~~~~~~~~~~
A collector hands on what has arrived, as one batch; the reactor stores it in one transaction and
says so; only then it is acknowledged. Killed in between, the branch gets the same messages again and
writes the same again, so that nothing is lost and nothing counts twice. What is in hand has a bound
in messages (the prefetch) and in bytes (above it the socket is not read).

Note [Taken]
~~~~~~~~~~~~
kombu's acknowledgements on Redis bring back what a consumer took and did not acknowledge after
an hour (the visibility timeout), and every consumer does that to others (see Note [Visibility
timeout] in `cyme.remote.wires`). So here the results' list is read without kombu: messages are moved
to a second list, in order, which is removed when they are stored. A new session begins with what
that list holds.
"""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Callable
from functools import partial
from json import loads
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, Protocol

from kombu.entity import Queue
from kombu.messaging import Consumer

from cyme.gateway.answers import Answer, read_answer
from cyme.gateway.sessions import Session, SessionListener
from cyme.remote.wires import TURN, socket_of, wire

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

#: Messages of one batch, and so of one transaction; each may call somebody who waits.
MOST_AT_ONCE = 200
#: Messages that a broker sends before any of them is acknowledged.
PREFETCH = 600
#: Bytes in hand above which no more is taken in.
MOST_BYTES = 8 * 1024 * 1024
#: Seconds for which a Redis server lets us wait for a message; a stop takes as long.
BLOCK = 1

#: Says that a batch is stored.
Acknowledge = Callable[[], None]


class CollectorListener(SessionListener, Protocol):
    """Whom a collector tells; always in the reactor's thread."""

    def arrived(
        self, session: Any, answers: list[Answer], problems: list[str], stored: Callable[[], None]
    ) -> None:
        """A batch has arrived; `stored` is to be called once it is written down.

        :param problems: what was wrong with messages that are none; they are dropped.
        """


class Collector(Session):
    """Collects the results from one broker.

    :param results: the name of their queue.
    """

    purpose = "collector"
    _listener: CollectorListener

    def __init__(
        self,
        reactor: IReactorFromThreads,
        url: str,
        listener: CollectorListener,
        timeout: float,
        *,
        results: str,
    ) -> None:
        super().__init__(reactor, url, listener, timeout)
        self._results = results
        self._answers: list[Answer] = []
        self._problems: list[str] = []
        self._size = 0
        self._in_hand = 0
        self._stored: deque[tuple[int, Acknowledge]] = deque()

    # -- in the session's own thread -------------------------------------------------

    def open(self, connection: Any) -> Callable[[], None]:
        if socket_of(connection) is not None:
            return self._on_amqp(connection)
        if hasattr(getattr(connection.transport, "cycle", None), "fds"):
            return self._on_redis(connection)
        return self._on_others(connection)

    def _take(self, body: Any, content_type: object) -> None:
        """Take one message in, whatever is wrong with it."""
        self._size += len(body)
        try:
            self._answers.append(read_answer(body, content_type))
        except ValueError as problem:
            self._problems.append(str(problem)[:200])

    def _count(self) -> int:
        return len(self._answers) + len(self._problems)

    def _hand_on(self, acknowledge: Acknowledge) -> None:
        """Give what was taken in to the reactor."""
        answers, self._answers = self._answers, []
        problems, self._problems = self._problems, []
        size, self._size = self._size, 0
        self._in_hand += size
        self.tell(self._listener.arrived, self, answers, problems, partial(self._mark, size, acknowledge))

    def _mark(self, size: int, acknowledge: Acknowledge) -> None:
        """A batch is stored. Called in the reactor's thread."""
        self._stored.append((size, acknowledge))
        self._wakeup.ring()

    def _acknowledge(self) -> bool:
        """Acknowledge what is stored; whether there was any."""
        count = len(self._stored)
        for _ in range(count):
            size, acknowledge = self._stored.popleft()
            self._in_hand -= size
            acknowledge()
        return count > 0

    def _on_amqp(self, connection: Any) -> Callable[[], None]:
        line, sock = wire(connection, self._timeout), socket_of(connection)
        channel = connection.channel()
        channel.queue_declare(self._results, durable=True, auto_delete=False)
        channel.basic_qos(0, PREFETCH, False)
        tags: list[int] = []
        readable = poll()
        readable.register(sock.fileno(), POLLIN)

        def take(message: Any) -> None:
            body = message.body
            tags.append(message.delivery_info["delivery_tag"])
            self._take(body, message.properties.get("content_type"))

        def is_expecting() -> bool:
            return self._count() < MOST_AT_ONCE and self._size < MOST_BYTES and bool(readable.poll(0))

        def turn() -> None:
            self._acknowledge()
            if self._in_hand >= MOST_BYTES:
                self._wakeup.wait([], TURN)
                return
            line.turn(self._wakeup, is_expecting)
            if tags:
                last = tags[-1]
                tags.clear()
                self._hand_on(lambda: channel.basic_ack(last, multiple=True))

        channel.basic_consume(self._results, callback=take)
        return turn

    def _on_redis(self, connection: Any) -> Callable[[], None]:
        channel = connection.channel()
        client, queue = channel.client, self._results
        taken = f"{queue}.taken"
        keys = [channel._q_for_pri(queue, priority) for priority in channel.priority_steps]
        # How many messages of the last batch's size would fit.
        most = 1

        def take_in(texts: list[bytes]) -> None:
            for text in texts:
                try:
                    message = loads(text)
                    body = message["body"]
                    if message["properties"].get("body_encoding") == "base64":
                        body = b64decode(body)
                    self._take(body, message.get("content-type"))
                except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    self._problems.append("it is none of kombu's")

        def move() -> list[bytes]:
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    for _ in range(most if key == queue else 1):
                        pipeline.rpoplpush(key, taken)
                moved = [text for text in pipeline.execute() if text is not None]
            if not moved:
                text = client.brpoplpush(queue, taken, BLOCK)
                moved = [] if text is None else [text]
            return moved

        def done() -> None:
            client.delete(taken)

        # What an earlier session had taken, the oldest at the end.
        waiting: list[bytes] = client.lrange(taken, 0, -1)[::-1]
        busy = False

        def turn() -> None:
            nonlocal most, busy, waiting
            if busy:
                busy = not self._acknowledge()
                if busy:
                    self._wakeup.wait([], TURN)
                return
            texts, waiting = waiting or move(), []
            if not texts:
                return
            largest = max(map(len, texts))
            most = max(1, min(MOST_AT_ONCE, 2 * most, MOST_BYTES // largest))
            take_in(texts)
            busy = True
            self._hand_on(done)

        return turn

    def _on_others(self, connection: Any) -> Callable[[], None]:
        channel, line = connection.channel(), wire(connection, self._timeout)
        queue = Queue(self._results, durable=True, auto_delete=False)(channel)
        queue.declare()
        messages: list[Any] = []

        def take(message: Any) -> None:
            messages.append(message)
            self._take(message.body, message.content_type)

        def acknowledge(those: list[Any]) -> None:
            for one in those:
                one.ack()

        def turn() -> None:
            self._acknowledge()
            if self._in_hand >= MOST_BYTES:
                self._wakeup.wait([], TURN)
                return
            line.turn(self._wakeup, lambda: not messages)
            if messages:
                those = messages.copy()
                messages.clear()
                self._hand_on(lambda: acknowledge(those))

        consumer = Consumer(channel, [queue], no_ack=False, on_message=take, auto_declare=False)
        consumer.qos(prefetch_count=PREFETCH)
        consumer.consume()
        return turn
