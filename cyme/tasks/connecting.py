"""Connections to targets that are checked before they get a byte, and a time that they all keep.

Note [The address that counts]: a name is resolved here, once, and each address is checked before
it is connected to, so that a target that is denied is not even knocked at. Then the address of
the socket that is connected is checked again: it, and nothing that was asked before, says where
the request goes. Who answers for a name can't give one address to a check and another one to the
connection (DNS rebinding).
"""

from __future__ import annotations

import functools
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import urllib3.connection

from cyme.targets import Rule, Target, TargetRefused, check_address
from cyme.tasks.alarms import Alarm, alarms
from cyme.tasks.failures import ConnectionFailed, HostNotFound, TimedOut

#: What `socket.getaddrinfo` gives for one address: family, type, protocol, a name, address.
Info = Any


class Deadline:
    """The time that one attempt has, from the question for an address to the last byte.

    Time-outs of sockets bound one wait each, and a target that sends a byte now and then is never
    late by them. So what is connected is shut down when the time is over.

    :param seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_over = False
        self._alarm: Alarm | None = None

    @property
    def is_over(self) -> bool:
        return self._is_over or time.monotonic() >= self._end

    def remaining(self) -> float:
        """Seconds that are left.

        :raises TimedOut: when there are none.
        """
        left = self._end - time.monotonic()
        if self._is_over or left <= 0:
            raise self.failure()
        return left

    def failure(self) -> TimedOut:
        """What is raised when the time is over."""
        return TimedOut(f"there was no response within {self.seconds:g} s")

    def watch(self, sock: socket.socket) -> None:
        """End a connection when the time is over."""
        # A descriptor of its own: TLS takes the socket's away, and others may get its number.
        own = sock.dup()
        with self._lock:
            self._sockets.append(own)
            if self._alarm is None:
                left = max(0.0, self._end - time.monotonic())
                self._alarm = alarms("deadlines").set(left, self._expire)

    def _expire(self) -> None:
        with self._lock:
            self._is_over = True
            for sock in self._sockets:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is at its end already

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            if self._alarm is not None:
                self._alarm.put_off()
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()


class Checked:
    """A mixin of urllib3's connections: reaches only what it may.

    :param target: where the request goes.
    """

    target: Target
    allow: Sequence[Rule]
    deny: Sequence[Rule]
    deadline: Deadline

    def _new_conn(self) -> socket.socket:
        sock = connect(self.target, self.allow, self.deny, self.deadline)
        self.deadline.watch(sock)
        return sock


class PlainConnection(Checked, urllib3.connection.HTTPConnection):
    """A connection to an `http` URL."""


class TlsConnection(Checked, urllib3.connection.HTTPSConnection):
    """A connection to an `https` URL."""


def connection(
    target: Target, allow: Sequence[Rule], deny: Sequence[Rule], deadline: Deadline
) -> PlainConnection | TlsConnection:
    """A connection to a target that is not made yet. No proxy is ever used."""
    # The deadline ends it; the time-out is for who waits where no socket is.
    timeout = deadline.remaining() + 1
    made: PlainConnection | TlsConnection
    if target.scheme == "https":
        made = TlsConnection(target.host, target.port, timeout=timeout, ssl_context=tls_context())
    else:
        made = PlainConnection(target.host, target.port, timeout=timeout)
    made.target, made.allow, made.deny, made.deadline = target, allow, deny, deadline
    return made


@functools.lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """What trusts whom the machine trusts; made once, since that reads a hundred certificates."""
    return ssl.create_default_context()


def connect(target: Target, allow: Sequence[Rule], deny: Sequence[Rule], deadline: Deadline) -> socket.socket:
    """Connect to the first address of a target that may be reached, and can be.

    :raises TargetRefused: when none may be.
    :raises RequestFailed: when none can be.
    """
    refusal: TargetRefused | None = None
    problem: OSError | None = None
    infos = resolve(target, deadline)
    for number, (family, kind, protocol, _, address) in enumerate(infos):
        try:
            check_address(target.host, address[0], allow, deny, target.port)
        except TargetRefused as refused:
            refusal = refusal or refused
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            # One that never answers leaves time for the others.
            sock.settimeout(deadline.remaining() / (len(infos) - number))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
            # See Note [The address that counts].
            check_address(target.host, sock.getpeername()[0], allow, deny, target.port)
            sock.settimeout(deadline.remaining() + 1)
        except OSError as failed:
            sock.close()
            problem = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if problem is None:
        raise refusal or HostNotFound(f"the host {target.host} has no address")
    if isinstance(problem, TimeoutError):
        raise TimedOut(f"{target.authority} did not take the connection in time")
    raise ConnectionFailed(f"no connection to {target.authority}: {problem.strerror or problem}")


def resolve(target: Target, deadline: Deadline) -> list[Info]:
    """The addresses of a target's host, at least one.

    :raises HostNotFound: when there are none.
    :raises TimedOut: when that can't be told in time.
    """
    ask = functools.partial(socket.getaddrinfo, target.host, target.port, 0, socket.SOCK_STREAM)
    try:
        infos: list[Info] = ask() if target.address is not None else _in_time(ask, deadline)
    except (OSError, UnicodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no host name"
        raise HostNotFound(f"the host {target.host} was not found: {reason}") from None
    return infos


def _in_time(ask: Callable[[], list[Info]], deadline: Deadline) -> list[Info]:
    # The resolver knows no time-out but its own; its thread ends by that one.
    answers: queue.Queue[list[Info] | Exception] = queue.Queue()

    def run() -> None:
        try:
            answers.put(ask())
        except Exception as problem:
            answers.put(problem)

    threading.Thread(target=run, daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining())
    except queue.Empty:
        raise deadline.failure() from None
    if isinstance(answer, Exception):
        raise answer
    return answer
