"""kombu connections whose thread can be woken: how to wait on each kind of transport.

`kombu.Connection.drain_events` waits for the broker alone. The thread of a line also waits
for new questions, so it looks at the transport's sockets together with a `Wakeup` and
drains only what is there. Where kombu does not tell the sockets, it drains with short
time-outs while answers are expected.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from kombu.connection import Connection

from cyme.brokers import AMQP, REDIS, transport_of

#: Seconds between two AMQP heartbeats; two missed ones end the connection.
HEARTBEAT = 10.0

#: Seconds that a read waits for the rest of what has begun to arrive.
READ_PATIENCE = 0.001

#: Seconds after which a Redis server answers a waiting BRPOP with nothing.
BRPOP_TIMEOUT = 5

#: Seconds between two looks, where there is no socket to wait on and answers are expected.
POLL_INTERVAL = 0.02

#: Messages after which a thread looks for questions to send, while more messages are there.
MOST_AT_ONCE = 500

#: Seconds that one wait takes at most: a part of a heartbeat's interval.
TURN = 2.5


class Wakeup:
    """Wakes a thread that waits on file descriptors; any thread may ring."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """End the wait that is under way, or else the next."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def wait(self, others: Iterable[int], seconds: float) -> bool:
        """Wait until rung or until one of `others` can be read; whether one of those can.

        :raises OSError: when one of them is closed.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        for other in others:
            poll.register(other, select.POLLIN)
        events = poll.poll(seconds * 1000)
        if any(event & select.POLLNVAL for _, event in events):
            raise OSError(errno.EBADF, "a socket to the broker was closed")
        ready = {fd for fd, _ in events}
        if self._fd in ready:
            ready.discard(self._fd)
            os.eventfd_read(self._fd)
        return bool(ready)

    def close(self) -> None:
        """Let go of the descriptor; ringing does nothing from now on."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Wire(Protocol):
    """A connection that has been made, with the way to wait on it."""

    #: Whether the transport notices by itself that the broker is silent.
    has_heartbeats: bool

    def turn(self, wakeup: Wakeup, expecting: Callable[[], bool]) -> None:
        """Wait until rung, or for `TURN` seconds, or for messages, and deliver those.

        :param expecting: whether answers are under way.
        :raises Exception: any, when the connection is lost; also for a message that
            kombu can't read, see `Session`.
        """

    def settle(self, poke: Callable[[], None]) -> None:
        """Leave nothing under way that closing the connection would wait for.

        :param poke: sends a message to this connection's own queue.
        """


def connect(url: str, timeout: float, purpose: str = "remote control") -> Any:
    """A `kombu.Connection` to one URL, connected; blocks at most about `timeout` seconds.

    :param purpose: what it is for, which brokers show.
    :raises Exception: any, with what kombu or the library below it says.
    """
    transport = transport_of(url)
    options: dict[str, Any] = {}
    if transport in AMQP:
        options = {"client_properties": {"connection_name": f"cyme {purpose}"}}
    elif transport in REDIS:
        options = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "client_name": f"cyme {purpose}".replace(" ", "-"),
            "polling_interval": BRPOP_TIMEOUT,
            # See Note [Visibility timeout].
            "ack_emulation": False,
        }
    connection = Connection(
        url,
        # kombu would take librabbitmq for these where it is installed.
        transport="pyamqp" if transport in ("amqp", "librabbitmq") else None,
        connect_timeout=timeout,
        heartbeat=HEARTBEAT,
        transport_options=options,
    )
    try:
        connection.ensure_connection(
            max_retries=1,
            interval_start=0,
            interval_step=0,
            interval_max=0,
            timeout=timeout,
            reraise_as_library_errors=False,
        )
        sock = socket_of(connection)
        if sock is not None:
            sock.settimeout(timeout)
    except BaseException:
        abandon(connection)
        raise
    return connection


# Note [Visibility timeout]
#
# Every kombu consumer on Redis also puts back messages which *other* consumers have held for
# longer than the visibility timeout (an hour by default), going by its own options. The options
# of the app whose broker this is are not known here: if the app allows its tasks ten hours, a
# connection of ours with the default would have each of them run ten times. Without
# acknowledgement emulation it puts nothing back; it consumes without acknowledgement anyway.


def socket_of(connection: Any) -> Any:
    """The socket of a py-amqp connection, or None for other transports."""
    if connection.transport.driver_name != "py-amqp":
        return None
    return connection.connection.sock


def wire(connection: Any, patience: float) -> Wire:
    """The wire of a connection that was made by `connect`.

    :param patience: seconds that a synchronous call to the broker may take.
    """
    if socket_of(connection) is not None:
        return _AMQPWire(connection, patience)
    if hasattr(getattr(connection.transport, "cycle", None), "fds"):
        return _RedisWire(connection)
    return _OtherWire(connection)


def release(connection: Any) -> None:
    """Close a connection in good order, or in the end without."""
    with suppress(Exception):
        sock = socket_of(connection)
        if sock is not None:
            sock.settimeout(1.0)
    try:
        connection.release()
    except Exception:
        abandon(connection)


def abandon(connection: Any) -> None:
    """Drop a connection whose broker does not answer."""
    with suppress(Exception):
        connection.collect(socket_timeout=0.1)


class _AMQPWire:
    """py-amqp: one socket, from which only whole frames are taken."""

    def __init__(self, connection: Any, patience: float) -> None:
        # `connection.connection` and kombu's own `drain_events` would make a new connection,
        # without our consumer, in place of one that was lost.
        self._driver = connection.connection
        self._patience = patience
        self.has_heartbeats = bool(self._driver.heartbeat)

    def turn(self, wakeup: Wakeup, expecting: Callable[[], bool]) -> None:
        sock = self._driver.sock
        if _buffered(sock) or wakeup.wait([sock.fileno()], TURN):
            self._drain(sock, expecting)
        self._driver.heartbeat_tick()

    def settle(self, poke: Callable[[], None]) -> None:
        """Nothing is under way."""

    def _drain(self, sock: Any, expecting: Callable[[], bool]) -> None:
        """Deliver what is there.

        The time-out is set once, not for each frame. It is not zero, with which py-amqp
        would spin on a frame whose second half does not come.
        """
        sock.settimeout(READ_PATIENCE)
        try:
            for _ in range(MOST_AT_ONCE):
                self._driver.drain_events(timeout=READ_PATIENCE)
                if not expecting() and not _buffered(sock):
                    return
        except TimeoutError:
            return
        finally:
            with suppress(OSError):
                sock.settimeout(self._patience)


def _buffered(sock: Any) -> bool:
    """Whether a TLS socket holds decrypted bytes, which no poll shows."""
    pending = getattr(sock, "pending", None)
    return bool(pending is not None and pending())


class _RedisWire:
    """kombu's Redis transport: a BRPOP waits at the server whenever the thread waits."""

    has_heartbeats = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def turn(self, wakeup: Wakeup, expecting: Callable[[], bool]) -> None:
        # A drain that reads the empty answer to a BRPOP ends without sending the next one.
        # Only after two that found nothing is one under way for sure.
        idle = 0
        for _ in range(MOST_AT_ONCE):
            try:
                self._connection.drain_events(timeout=0)
                idle = 0
            except TimeoutError:
                idle += 1
                if idle == 2:
                    break
        wakeup.wait(self._connection.transport.cycle.fds, TURN if idle == 2 else 0)

    def settle(self, poke: Callable[[], None]) -> None:
        # Closing a channel waits for its BRPOP, which a message ends at once.
        poke()
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=1.0)


class _OtherWire:
    """Any other transport of kombu's: look often while answers are expected, rarely else."""

    has_heartbeats = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def turn(self, wakeup: Wakeup, expecting: Callable[[], bool]) -> None:
        try:
            for _ in range(MOST_AT_ONCE):
                self._connection.drain_events(timeout=POLL_INTERVAL if expecting() else 0.001)
        except TimeoutError:
            wakeup.wait([], 0 if expecting() else TURN)

    def settle(self, poke: Callable[[], None]) -> None:
        """Nothing is under way."""
