"""One branch as a service: what is started in which order, and stopped in which.

Note [Two halves of a start]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~
What can be refused is tried in `startService`, before the reactor runs and before anything
is started: root folder, broker, database, HTTP port. A refusal is one line and a non-zero
exit. Then, in the reactor: the declarations are loaded, and only then connections are
accepted (the kernel keeps those that came earlier), so that nobody reads an empty catalogue;
the embedded Redis and the supervisor, which adopts workers first, follow. Requests that
arrive before those are up are answered from the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from socket import SO_ACCEPTCONN, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Protocol

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from cyme.addresses import Address, reaches_out, url_of
from cyme.broker_choice import Choice, choose
from cyme.errors import CannotStart
from cyme.readers import EMBEDDED

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime

    from cyme.embedded import EmbeddedRedis
    from cyme.interfaces import ICatalogue, IEvents, IRemoteControl, IStore, IWorkers
    from cyme.rootfolder import RootFolder
    from cyme.settings import Settings
    from cyme.systemd import ServiceManager
    from cyme.vitals import Signs, Vitals

#: What is away -> what is wrong with it.
Readiness = Callable[[], Mapping[str, str]]

#: Seconds that requests in flight may take until they are cut off at a stop.
FINISH_WITHIN = 10.0
#: Seconds that one step of a stop may take beyond what it has to wait for.
STOP_WITHIN = 30.0
#: Seconds for which the HTTP port may be closed; nothing opens it again.
PORT_LIMIT = 5.0


class Startable(Protocol):
    """What is used of `cyme.actors.Actors`."""

    def start(self, later: Collection[str] = ()) -> Deferred[None]: ...

    def own_later(self) -> None: ...

    def stop(self) -> Deferred[None]: ...


class Meeting(Protocol):
    """What is used of `cyme.membership.Membership`."""

    def start(self) -> Deferred[None]: ...

    def stop(self) -> Deferred[None]: ...


class Listening(Protocol):
    """What is used of `cyme.presence.Presence`."""

    def listens(self, url: str | None, port: int | None) -> None: ...


@frozen(kw_only=True)
class Parts:
    """What a branch consists of, built but not started.

    :ivar gateway: queues requests as tasks; takes none before it is started.
    :ivar rolling: what goes on beside supervision, once that has begun: rolling restarts, drains,
        reaping of orphans.
    :ivar stall_watch: runs while everything is up; a start and a stop may hold things up.
    :ivar in_flight: fires when no HTTP request is being answered.
    :ivar away: what is away beside the broker -> what is wrong with it.
    """

    store: IStore
    catalogue: ICatalogue
    events: IEvents
    workers: IWorkers
    remote: IRemoteControl
    supervisor: IService
    rolling: IService
    gateway: IService
    actors: Startable
    membership: Meeting
    presence: Listening
    site: IProtocolFactory
    stall_watch: IService
    in_flight: Callable[[], Deferred[None]]
    away: Callable[[], Mapping[str, str]] = dict


@frozen
class Refusals:
    """How a branch says that it can't go on; injected, because it ends the process.

    :ivar at_start: called with the one line, before the reactor runs; must raise.
    :ivar later: called when something failed after that, once it is logged; ends the process
        with a non-zero status after the clean stop that follows.
    """

    at_start: Callable[[CannotStart], None]
    later: Callable[[], None]


class Branch(Service):
    """Starts and stops everything of one branch, in order.

    :param watchdog: runs from the first half of the start to the end of the stop.
    :param assemble: builds the parts, given the branch's id, the default broker's URL and
        what tells what is away (see `readiness`).
    :param answers: says whether an AMQP broker answers at a URL; blocks.
    :param redacted: takes the password out of a broker's URL.
    :param observe: makes the log's observer, when an application is to log as the settings
        say.
    :param heed_signals: called at the start, with what hurries a stop; arranges for signals
        to stop and then to hurry.
    :param vitals: what the watchdog looks at; nothing any more once the branch stops.
    :param manager: the service manager, which is told how the branch is.
    :param host: this machine's name.
    :param built: called when everything is up, before the reactor's stalls count.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        settings: Settings,
        root: RootFolder,
        redis: EmbeddedRedis,
        watchdog: IService,
        *,
        assemble: Callable[[str, str, Readiness], Parts],
        answers: Callable[[str], bool],
        redacted: Callable[[str], str],
        refusals: Refusals,
        observe: Callable[[], ILogObserver] | None,
        heed_signals: Callable[[Callable[[], None]], None],
        vitals: Vitals,
        manager: ServiceManager,
        host: str,
        built: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._root = root
        self._redis = redis
        self._watchdog = watchdog
        self._assemble = assemble
        self._answers = answers
        self._redacted = redacted
        self._refusals = refusals
        self._observe = observe
        self._heed_signals = heed_signals
        self._vitals = vitals
        self._manager = manager
        self._host = host
        self._built = built
        self._port: IListeningPort | None = None
        self._parts: Parts | None = None
        self._broker = ""
        self._state = "it is starting"
        self._starting: Deferred[None] | None = None
        self._begun: set[str] = set()

    def setServiceParent(self, parent: Any) -> None:
        """Have the application that this service is given to log as the settings say."""
        if self._observe is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observe())
        super().setServiceParent(parent)

    def readiness(self) -> Mapping[str, str]:
        """What keeps this branch from doing all of its work; empty when nothing does."""
        if self._state:
            return {"branch": self._state}
        if self._parts is None:
            return {}
        away = dict(self._parts.away())
        if self._parts.remote.reachable(self._broker) is False:
            away["broker"] = f"{self._redacted(self._broker)} can't be reached"
        return away

    # -- start, see Note [Two halves of a start] -----------------------------------

    def startService(self) -> None:
        """Take hold of everything that could refuse; go on when the reactor runs.

        What `Refusals.at_start` raises comes through.
        """
        super().startService()
        self._heed_signals(self.hurry)
        try:
            parts, url, uses_redis = self._take_hold()
        except CannotStart as problem:
            self._let_go()
            self._refusals.at_start(problem)
            raise
        self._starting = Deferred.fromCoroutine(self._come_up(parts, url, uses_redis))
        self._starting.addErrback(self._failed)

    def _take_hold(self) -> tuple[Parts, str | None, bool]:
        """Open the root folder, the database and the port.

        :return: the parts, the URL of the HTTP server, whether the embedded Redis is needed.
        :raises CannotStart: when one of them refuses.
        """
        settings = self._settings
        memory = self._root.open(settings.id)
        choice = choose(settings.broker, memory.broker, settings.probe_broker, self._answers)
        uses_redis = choice.broker == EMBEDDED
        if uses_redis:
            self._redis.prepare()
        self._broker = self._redis.url if uses_redis else choice.broker
        parts = self._assemble(memory.id, self._broker, self.readiness)
        url = self._listen(settings.http, parts) if settings.http is not None else None
        if choice.broker != memory.broker:
            self._root.remember(evolve(memory, broker=choice.broker))
        # Last, because only a running reactor could end the store's thread again.
        parts.store.open()
        self._parts = parts
        self._begun |= {"HTTP", "broker connections", "database", "why-log", "root folder", "watchdog"}
        self._watchdog.startService()
        self._banner(url, choice)
        return parts, url, uses_redis

    def _listen(self, address: Address, parts: Parts) -> str:
        """Bind the HTTP port, and accept nothing from it yet; the URL that it has."""
        endpoint = address.endpoint
        try:
            listening = serverFromString(self._reactor, endpoint).listen(parts.site)
        except Exception as problem:
            # An endpoint's parser raises whatever it likes, for a missing certificate too.
            raise CannotStart(f"--http {endpoint}: {problem}") from None
        outcome: list[Any] = []
        listening.addBoth(outcome.append)
        if not outcome or isinstance(outcome[0], Failure):
            raise CannotStart(self._cannot_listen(address, outcome[0] if outcome else None))
        self._port = port = outcome[0]
        bound = port.getHost()
        is_guarded = self._settings.insecure or self._settings.auth_token_file is not None
        if reaches_out(bound) and not is_guarded:
            raise CannotStart(
                f"--http {endpoint}: other machines can reach {bound.host}, and anyone who can reach it can"
                " start processes: --auth-token-file keeps out who has no token; --insecure lets everybody in"
            )
        url = url_of(bound, endpoint, self._host)
        parts.presence.listens(url, getattr(bound, "port", None))
        _pause(port)
        return url

    @staticmethod
    def _cannot_listen(address: Address, failure: Failure | None) -> str:
        where, problem = address.endpoint, failure.value if failure is not None else None
        if isinstance(problem, CannotListenError):
            if problem.interface:
                where = f"{problem.interface}, port {problem.port}"
            problem = problem.socketError
        reason = getattr(problem, "strerror", None) or problem or "it can't be bound before the branch runs"
        return f"HTTP can't be served at {where}: {reason}; --http names another address"

    def _let_go(self) -> None:
        """Undo `_take_hold` after a refusal."""
        if self._port is not None:
            maybeDeferred(self._port.stopListening)
            self._port = None
        self._root.close()

    def _banner(self, url: str | None, choice: Choice) -> None:
        settings = self._settings
        self._log.info(
            "branch {id} at {url}, broker {broker} ({reason}), root folder {root}, full check every"
            " {interval} s, log level {loglevel}",
            id=self._root.memory.id,
            url=url or "no HTTP address",
            broker=self._redacted(choice.broker),
            reason=choice.reason,
            root=self._root.path,
            interval=settings.sup_interval,
            loglevel=settings.loglevel,
        )

    async def _come_up(self, parts: Parts, url: str | None, uses_redis: bool) -> None:
        await parts.catalogue.load()
        self._begun.add("actors")
        # Others may have its instances by now: first it hears what they know.
        await parts.actors.start(later=("Instance",))
        self._begun.add("membership")
        await maybeDeferred(parts.membership.start)
        parts.actors.own_later()
        if self._port is not None:
            _resume(self._port)
            self._vitals.watch(_signs_of_port(self._reactor, self._port), PORT_LIMIT)
        if uses_redis:
            self._begun.add("embedded Redis")
            await self._redis.start()
        self._begun.add("gateway")
        await maybeDeferred(parts.gateway.startService)
        self._begun |= {"supervisor", "workers"}
        await maybeDeferred(parts.supervisor.startService)
        self._begun.add("rolling restarts")
        parts.rolling.startService()
        self._state = ""
        self._built()
        self._begun.add("stall watch")
        parts.stall_watch.startService()
        self._log.info(
            "[READY] branch {id} {where} (pid {pid})",
            id=self._root.memory.id,
            where=f"at {url}" if url is not None else "without HTTP",
            pid=os.getpid(),
        )
        self._manager.ready(partial(self._describe, url))

    def _describe(self, url: str | None) -> str:
        """How the branch is, in a line."""
        assert self._parts is not None
        away = "; ".join(f"{name}: {problem}" for name, problem in sorted(self.readiness().items()))
        count = len(self._parts.workers.processes())
        return f"{url or 'without HTTP'}, {count} workers" + (f"; {away}" if away else "")

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(CannotStart):
            self._log.critical("the branch can't start: {problem}", problem=str(failure.value))
        else:
            self._log.failure("the branch can't start", failure)
        self._refusals.later()

    # -- stop -------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Stop everything in order; fires when the last process was reaped and the lock is free.

        What fails or hangs is logged and does not keep the rest from being stopped.
        """
        super().stopService()
        self._state = "it is stopping"
        self._vitals.clear()
        self._manager.stopping(self._state)
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        parts = self._parts
        if parts is None:
            return
        # A worker has the whole ladder, and only then is overdue.
        ladder = self._settings.warm_timeout + 2 * STOP_WITHIN
        steps: tuple[tuple[str, Callable[[], Any], float], ...] = (
            ("stall watch", parts.stall_watch.stopService, STOP_WITHIN),
            ("HTTP", self._stop_http, STOP_WITHIN),
            ("rolling restarts", parts.rolling.stopService, STOP_WITHIN),
            ("supervisor", parts.supervisor.stopService, STOP_WITHIN),
            ("workers", self._stop_workers, ladder),
            # What the last tasks returned is still collected.
            ("gateway", parts.gateway.stopService, STOP_WITHIN),
            ("membership", parts.membership.stop, STOP_WITHIN),
            ("actors", parts.actors.stop, STOP_WITHIN),
            ("broker connections", parts.remote.close, STOP_WITHIN),
            ("why-log", parts.events.close, STOP_WITHIN),
            ("database", parts.store.close, STOP_WITHIN),
            ("embedded Redis", self._stop_redis, STOP_WITHIN),
            ("root folder", self._root.close, STOP_WITHIN),
            ("watchdog", self._watchdog.stopService, STOP_WITHIN),
        )
        for name, step, limit in steps:
            if name not in self._begun:
                continue
            self._begun.discard(name)
            self._log.debug("stopping the {part}", part=name)
            try:
                await maybeDeferred(step).addTimeout(limit, self._reactor)
            except TimeoutError:
                self._log.error("stopping the {part} takes over {limit} s; going on", part=name, limit=limit)
            except Exception:
                self._log.failure("stopping the {part} failed; going on", part=name)
        self._log.info("stopped")

    def hurry(self) -> None:
        """Stop the workers cold, after a second signal."""
        if self._parts is not None and self._settings.workers_on_exit == "stop":
            self._log.warn("stopping the workers cold")
            self._parts.workers.hurry()

    async def _stop_http(self) -> None:
        """Accept nothing more, and let what is being answered be finished."""
        port, self._port = self._port, None
        if port is None or self._parts is None:
            return
        await maybeDeferred(port.stopListening)
        try:
            await self._parts.in_flight().addTimeout(FINISH_WITHIN, self._reactor)
        except TimeoutError:
            self._log.warn("requests are cut off that take over {limit} s to answer", limit=FINISH_WITHIN)

    def _stop_workers(self) -> Deferred[None] | None:
        assert self._parts is not None
        workers = self._parts.workers
        count = len(workers.processes())
        if self._settings.workers_on_exit == "leave":
            self._log.info("leaving {count} workers to the next start", count=count)
            workers.release()
            return None
        if count:
            self._log.info(
                "stopping {count} workers warmly, up to {limit} s; signal again to stop them cold",
                count=count,
                limit=self._settings.warm_timeout,
            )
        return workers.stop_all()

    def _stop_redis(self) -> Deferred[None] | None:
        """Leave it if workers are left: it is their broker."""
        if self._settings.workers_on_exit == "leave":
            self._redis.release()
            return None
        return self._redis.stop()


def _pause(port: IListeningPort) -> None:
    """Leave new connections in the kernel's queue; no interface says how, all ports can."""
    getattr(port, "stopReading", _nothing)()


def _resume(port: IListeningPort) -> None:
    getattr(port, "startReading", _nothing)()


def _signs_of_port(reactor: Any, port: Any) -> Signs:
    """See `cyme.vitals.Signs`: a port must listen, and the reactor wait for who comes.

    A port that is none of the reactor's own is not known well enough to be judged.
    """
    # A port that was closed has none any more.
    sock = getattr(port, "socket", None)

    def signs() -> Mapping[str, object]:
        if sock is None or not IReadDescriptor.providedBy(port):
            return {}
        if sock.fileno() >= 0 and sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) and port in reactor.getReaders():
            return {}
        return {"the HTTP port": "closed"}

    return signs


def _nothing() -> None:
    """In place of what a port lacks that came from some other endpoint."""
