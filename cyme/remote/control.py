"""`IRemoteControl`: one line for each broker, and errands on throw-away connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.brokers import REDIS, redacted, transport_of
from cyme.errors import BrokerAway
from cyme.interfaces import IRemoteControl
from cyme.remote.errands import count, declare, delete_queue, purge
from cyme.remote.lines import ISession, Line
from cyme.remote.restoring import restore
from cyme.remote.sessions import Session
from cyme.vitals import Pulse

if TYPE_CHECKING:
    from cyme.planning import ConsumedQueue, QueueCount

T = TypeVar("T")

#: Throw-away connections at the same time.
MOST_ERRANDS = 4

#: Seconds that `close` waits for threads beyond what connecting may take.
CLOSING_MARGIN = 3.0


@implementer(IRemoteControl)
class RemoteControl:
    """Celery's remote control over any broker that kombu knows.

    :param reactor: provides IReactorTime and IReactorFromThreads.
    :param retry_policy: failures in a row (from 1) -> seconds until the next attempt to
        connect; with jitter, if there is to be any.
    :param connect_timeout: seconds that an attempt to connect may take.
    :param make_session: makes the sessions of lines, see `cyme.remote.lines.Line`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        retry_policy: Callable[[int], float],
        connect_timeout: float = 5.0,
        make_session: Callable[[str, Line], ISession] | None = None,
    ) -> None:
        self._reactor = reactor
        self._retry_policy = retry_policy
        self._connect_timeout = connect_timeout
        self._make_session = make_session or self._thread_session
        self._lines: dict[str, Line] = {}
        self._ending: set[Deferred[None]] = set()
        self._pulse = Pulse()
        self._errands = DeferredSemaphore(MOST_ERRANDS)
        self._subscribers: list[Callable[[str, bool], None]] = []
        self._closed = False

    # -- IRemoteControl ---------------------------------------------------------

    def ask(
        self,
        broker: str,
        command: str,
        nodes: Sequence[str],
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float,
    ) -> Deferred[dict[str, Any]]:
        line = self._line(broker)
        if line is None:
            return fail(self._closed_error(broker))
        return line.ask(command, nodes, arguments or {}, timeout)

    def tell(self, broker: str, command: str, arguments: Mapping[str, Any]) -> Deferred[None]:
        line = self._line(broker)
        if line is None:
            return fail(self._closed_error(broker))
        return line.tell(command, arguments)

    def declare(self, broker: str, queue: ConsumedQueue) -> Deferred[bool]:
        return self._errand(broker, declare, broker, queue, self._connect_timeout)

    def count(self, broker: str, queues: Sequence[str]) -> Deferred[Mapping[str, QueueCount | None] | None]:
        return self._errand(broker, count, broker, tuple(queues), self._connect_timeout)

    def purge(self, broker: str, queue: str) -> Deferred[int]:
        return self._errand(broker, purge, broker, queue, self._connect_timeout)

    def delete_queue(self, broker: str, name: str) -> Deferred[None]:
        return self._errand(broker, delete_queue, broker, name, self._connect_timeout)

    def restore(self, broker: str, holders: Sequence[str]) -> Deferred[int]:
        if transport_of(broker) not in REDIS:
            return succeed(0)
        return self._errand(broker, restore, broker, tuple(holders), self._connect_timeout)

    def reachable(self, broker: str) -> bool | None:
        line = self._line(broker)
        return False if line is None else line.reachable

    def revived_at(self, broker: str) -> float | None:
        line = self._lines.get(broker)
        return None if line is None else line.revived_at

    def retain(self, brokers: Iterable[str]) -> None:
        kept = set(brokers)
        for broker in [one for one in self._lines if one not in kept]:
            self._end(broker)

    def subscribe(self, changed: Callable[[str, bool], None]) -> None:
        self._subscribers.append(changed)

    def close(self) -> Deferred[None]:
        self._closed = True
        for broker in list(self._lines):
            self._end(broker)
        finished: Deferred[None] = Deferred()
        limit = self._reactor.callLater(
            self._connect_timeout + CLOSING_MARGIN, self._give_up_closing, finished
        )

        def all_ended(_: object) -> None:
            if limit.active():
                limit.cancel()
                finished.callback(None)

        DeferredList(list(self._ending)).addCallback(all_ended)
        return finished

    # -- signs of life, see `cyme.vitals.Signs` -----------------------------------

    def serving(self) -> Mapping[str, object]:
        """What the threads of connections that were made are at; each turn takes seconds at most."""
        return {
            f"the remote control of {redacted(broker)}": sign[1]
            for broker, line in self._lines.items()
            if (sign := line.sign()) is not None and sign[0]
        }

    def connecting(self) -> Mapping[str, object]:
        """What the threads are at that connect; the system's resolver may keep one for minutes."""
        connecting: dict[str, object] = {
            f"the connection to {redacted(broker)}": sign[1]
            for broker, line in self._lines.items()
            if (sign := line.sign()) is not None and not sign[0]
        }
        return {**connecting, **self._pulse.signs("the errands to brokers")}

    # -- inside -------------------------------------------------------------------

    def _line(self, broker: str) -> Line | None:
        """The line to a broker, made when there is none yet; None once closed."""
        line = self._lines.get(broker)
        if line is None and not self._closed:
            line = Line(
                self._reactor,
                broker,
                self._make_session,
                self._retry_policy,
                lambda reachable: self._tell(broker, reachable),
            )
            self._lines[broker] = line
            line.connect()
        return line

    def _thread_session(self, url: str, line: Line) -> ISession:
        return Session(self._reactor, url, line, self._connect_timeout)

    def _end(self, broker: str) -> None:
        self._await_end(self._lines.pop(broker).close())

    def _await_end(self, ended: Deferred[None]) -> None:
        """Have `close` wait for something."""
        self._ending.add(ended)

        def forget(result: object) -> None:
            self._ending.discard(ended)

        ended.addBoth(forget)

    def _give_up_closing(self, finished: Deferred[None]) -> None:
        self._log.warn("{count} connections to brokers have not closed in time", count=len(self._ending))
        finished.callback(None)

    def _tell(self, broker: str, reachable: bool) -> None:
        for changed in self._subscribers:
            try:
                changed(broker, reachable)
            except Exception:
                self._log.failure("a subscriber failed on {broker}", broker=redacted(broker))

    def _closed_error(self, broker: str) -> BrokerAway:
        return BrokerAway(redacted(broker), "remote control is closed")

    def _errand(self, broker: str, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run a blocking function in a thread, unless the broker is known to be away."""
        line = self._lines.get(broker)
        if self._closed:
            return fail(self._closed_error(broker))
        if line is not None and line.reachable is False:
            return fail(line.away())
        running: Deferred[T] = self._errands.run(self._in_thread, function, *arguments)
        self._pulse.during(running)
        ended: Deferred[None] = Deferred()
        self._await_end(ended)

        def tell_end(result: T | Failure) -> T | Failure:
            ended.callback(None)
            return result

        return running.addBoth(tell_end)

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call a function in a daemon thread, which no exit of the process waits for."""
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                outcome: Any = function(*arguments)
            except BaseException:
                self._reactor.callFromThread(finish, Failure())
            else:
                self._reactor.callFromThread(finish, outcome)

        def finish(outcome: Any) -> None:
            thread.join(1.0)
            # `callback` with a Failure is an errback.
            done.callback(outcome)

        thread = threading.Thread(target=run, name=f"errand {function.__name__}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return fail()
        return done
