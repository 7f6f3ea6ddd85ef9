"""One branch as a service: the order of its start and stop, and what it does when something refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.application.service import Application
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cyme.addresses import Address, read_address
from cyme.branch import FINISH_WITHIN, STOP_WITHIN, Branch, Parts, Readiness, Refusals, _signs_of_port
from cyme.errors import CannotStart
from cyme.rootfolder import Memory, RootFolder
from cyme.settings import Settings, make_settings
from cyme.vitals import Vitals


class FakePort:
    """A bound port that notes what is done with it."""

    def __init__(self, host: str, note: Callable[[str], None]) -> None:
        self._host = host
        self._note = note

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._host, 8001)

    def stopReading(self) -> None:
        self._note("port pauses")

    def startReading(self) -> None:
        self._note("port accepts")

    def stopListening(self) -> Deferred[None]:
        self._note("port closes")
        return succeed(None)


class FakeManager:
    """A service manager that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self, describe: Callable[[], str]) -> None:
        self.told.append("ready")
        self.describe = describe

    def stopping(self, status: str) -> None:
        self.told.append(f"stopping: {status}")


class PortReactor(MemoryReactorClock):
    """Binds `FakePort`s, or refuses to."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note
        self.taken = False
        self.host: str | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> FakePort:
        if self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return FakePort(self.host or interface or "0.0.0.0", self._note)


class FakePart:
    """Any part of a branch: notes what it is asked for, and obeys, fails or hangs as the test says."""

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        self._name = name
        self._note = note
        self.does: dict[str, Callable[[], Any]] = {}

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb.startswith("__"):
            raise AttributeError(verb)

        def call(*arguments: Any, **options: Any) -> Any:
            self._note(f"{self._name} {verb}")
            return self.does.get(verb, lambda: succeed(None))()

        return call


NAMES = (
    "store",
    "catalogue",
    "events",
    "workers",
    "remote",
    "supervisor",
    "rolling",
    "gateway",
    "actors",
    "membership",
    "stall_watch",
    "redis",
    "watchdog",
)


class BranchTestCase(SynchronousTestCase):
    """A branch of fakes in a real root folder."""

    def setUp(self) -> None:
        self.notes: list[str] = []
        self.refused: list[str] = []
        self.failed = 0
        self.reactor = PortReactor(self.notes.append)
        self.parts = {name: FakePart(name, self.notes.append) for name in NAMES}
        self.parts["workers"].does["processes"] = dict
        self.parts["store"].does["open"] = lambda: None
        self.parts["redis"].does["prepare"] = lambda: None
        self.redis.url = "redis+socket:///r.sock"
        self.vitals = Vitals()
        self.manager = FakeManager()
        self.in_flight: Deferred[None] = succeed(None)
        self.heard: list[tuple[str | None, int | None]] = []
        self.amqp = False
        self.observe: Callable[[], Any] | None = None
        self.assembled: list[tuple[str, str]] = []
        self.path = os.path.abspath(self.mktemp())
        self.settings = make_settings(
            {
                "instance-dir": self.path,
                "id": "b1",
                "http": read_address(":8001"),
                "broker": "amqp://me:secret@h//",
            }
        )

    @property
    def redis(self) -> Any:
        return self.parts["redis"]

    def make(self, **changes: Any) -> Branch:
        settings: Settings = evolve(self.settings, **changes)
        self.root = RootFolder(settings.instance_dir, generate_id=lambda: "generated")
        self.addCleanup(self.root.close)

        def assemble(branch_id: str, broker: str, readiness: Readiness) -> Parts:
            self.assembled.append((branch_id, broker))
            own = {name: self.parts[name] for name in NAMES if name not in ("redis", "watchdog")}
            return Parts(
                **own,  # type: ignore[arg-type]
                presence=self,  # type: ignore[arg-type]
                site=Factory(),
                in_flight=lambda: self.in_flight,
            )

        def refuse(problem: CannotStart) -> None:
            self.refused.append(str(problem))

        def failed() -> None:
            self.failed += 1

        return Branch(
            self.reactor,  # type: ignore[arg-type]
            settings,
            self.root,
            self.redis,
            self.parts["watchdog"],  # type: ignore[arg-type]
            assemble=assemble,
            answers=lambda url: self.amqp,
            redacted=lambda url: url.replace("secret", "***"),
            refusals=Refusals(at_start=refuse, later=failed),
            observe=self.observe,
            heed_signals=lambda hurry: self.notes.append("signals"),
            vitals=self.vitals,
            manager=self.manager,  # type: ignore[arg-type]
            host="box",
            built=lambda: self.notes.append("built"),
        )

    def listens(self, url: str | None, port: int | None) -> None:
        self.heard.append((url, port))

    def start(self, **changes: Any) -> Branch:
        branch = self.make(**changes)
        branch.startService()
        self.addCleanup(branch.stopService)
        return branch


class StartTests(BranchTestCase):
    """From `startService` to readiness."""

    def test_order(self) -> None:
        """Nothing accepts requests before the catalogue is loaded, nor is supervised before that."""
        loaded: Deferred[None] = Deferred()
        self.parts["catalogue"].does["load"] = lambda: loaded
        branch = self.start()
        first = ["signals", "port pauses", "store open", "watchdog startService", "catalogue load"]
        self.assertEqual(self.notes, first)
        self.assertEqual(branch.readiness(), {"branch": "it is starting"})
        loaded.callback(None)
        self.assertEqual(
            self.notes[len(first) :],
            [
                "actors start",
                "membership start",
                "actors own_later",
                "port accepts",
                "gateway startService",
                "supervisor startService",
                "rolling startService",
                "built",
                "stall_watch startService",
            ],
        )

    def test_ready(self) -> None:
        """A branch that is up says so, and is ready unless its broker is away."""
        branch = self.start()
        self.parts["remote"].does["reachable"] = lambda: None
        self.assertEqual(branch.readiness(), {})
        self.parts["remote"].does["reachable"] = lambda: True
        self.assertEqual(branch.readiness(), {})
        self.parts["remote"].does["reachable"] = lambda: False
        self.assertEqual(branch.readiness(), {"broker": "amqp://me:***@h// can't be reached"})

    def test_manager(self) -> None:
        """The service manager hears when the start is complete, and when the stop begins."""
        started: Deferred[None] = Deferred()
        self.parts["supervisor"].does["startService"] = lambda: started
        self.parts["remote"].does["reachable"] = lambda: False
        branch = self.start()
        self.assertEqual(self.manager.told, [])
        started.callback(None)
        self.assertEqual(self.manager.told, ["ready"])
        self.assertEqual(
            self.manager.describe(),
            "http://127.0.0.1:8001/, 0 workers; broker: amqp://me:***@h// can't be reached",
        )
        branch.stopService()
        self.assertEqual(self.manager.told[1:], ["stopping: it is stopping"])

    def test_no_judgement_at_the_end(self) -> None:
        """What makes no progress during a stop is not held against it."""
        self.vitals.watch(lambda: {"it": "stands still"}, 1.0)
        self.start().stopService()
        self.assertEqual([self.vitals.look(5.0) for _ in range(3)], [None] * 3)

    def test_port(self) -> None:
        """The HTTP port must listen, and the reactor look at it; an unknown kind of port is not judged."""
        port = Port(0, Factory(), interface="127.0.0.1", reactor=self.reactor)
        signs = _signs_of_port(self.reactor, FakePort("127.0.0.1", self.notes.append))
        self.assertEqual(signs(), {})
        port.startListening()
        signs = _signs_of_port(self.reactor, port)
        self.assertEqual(signs(), {})
        self.reactor.removeReader(port)
        self.assertEqual(signs(), {"the HTTP port": "closed"})
        self.reactor.addReader(port)
        self.assertEqual(signs(), {})
        port.stopListening()
        port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(signs(), {"the HTTP port": "closed"})

    def test_presence(self) -> None:
        """Presence learns where the HTTP server is."""
        self.start()
        self.assertEqual(self.heard, [("http://127.0.0.1:8001/", 8001)])

    def test_without_http(self) -> None:
        """Without HTTP nothing is bound."""
        self.start(http=None)
        self.assertNotIn("port pauses", self.notes)
        self.assertEqual(self.heard, [])

    def test_id_and_broker(self) -> None:
        """The parts get the id and the broker, which the folder remembers."""
        self.start()
        self.assertEqual(self.assembled, [("b1", "amqp://me:secret@h//")])
        self.assertEqual(self.root.memory, Memory(id="b1", broker="amqp://me:secret@h//"))

    def test_embedded(self) -> None:
        """The embedded Redis is checked first, and answers before workers are supervised."""
        self.start(broker=None)
        self.assertEqual(self.assembled, [("b1", "redis+socket:///r.sock")])
        self.assertEqual(self.root.memory.broker, "embedded")
        self.assertEqual(self.notes[1], "redis prepare")
        self.assertLess(self.notes.index("redis start"), self.notes.index("supervisor startService"))

    def test_found(self) -> None:
        """An AMQP broker that answers is used instead, and the next start does not look again."""
        self.amqp = True
        branch = self.start(broker=None)
        self.assertEqual(self.assembled[0][1], self.settings.probe_broker)
        self.assertNotIn("redis prepare", self.notes)
        self.successResultOf(branch.stopService())
        self.amqp = False
        self.start(broker=None)
        self.assertEqual(self.assembled[1][1], self.settings.probe_broker)

    def test_banner(self) -> None:
        """The first line says everything but the password."""
        with capturedLogs() as events:
            self.start()
        lines = [formatEvent(event) for event in events]
        self.assertIn(
            "branch b1 at http://127.0.0.1:8001/, broker amqp://me:***@h// (as --broker says)", lines[0]
        )
        self.assertEqual(lines[-1], f"[READY] branch b1 at http://127.0.0.1:8001/ (pid {os.getpid()})")
        self.assertNotIn("secret", "".join(lines))


class RefusalTests(BranchTestCase):
    """Starts that are refused."""

    def refuse(self, **changes: Any) -> str:
        """Start a branch that can't be; the one line that it says."""
        branch = self.make(**changes)
        self.assertRaises(CannotStart, branch.startService)
        (line,) = self.refused
        self.assertNotIn("\n", line)
        self.assertFalse({note for note in self.notes if note.endswith((" start", " startService"))})
        RootFolder(self.path, generate_id=str).check_free()
        return line

    def test_root_folder(self) -> None:
        """A root folder that can't be had is said before anything else is touched."""
        Path(self.path).write_text("")
        branch = self.make()
        self.assertRaises(CannotStart, branch.startService)
        self.assertIn("File exists", self.refused[0])
        self.assertEqual(self.notes, ["signals"])

    def test_database(self) -> None:
        """A database that can't be opened is said, and the port is free again."""

        def open() -> None:
            raise CannotStart("the database is no database")

        self.parts["store"].does["open"] = open
        self.assertEqual(self.refuse(), "the database is no database")
        self.assertEqual(self.notes[-1], "port closes")

    def test_port(self) -> None:
        """A port that is taken is named; the database, whose thread would stay, was not opened."""
        self.reactor.taken = True
        line = self.refuse()
        self.assertIn("HTTP can't be served at 127.0.0.1, port 8001: Address already in use; --http", line)
        self.assertNotIn("store open", self.notes)

    def test_endpoint(self) -> None:
        """An endpoint that makes no sense is named with the reason."""
        line = self.refuse(http=Address("ssl:443:interface=127.0.0.1:privateKey=/no/such/key", "127.0.0.1"))
        self.assertIn("--http ssl:443", line)
        self.reactor.taken = False

    def test_open_socket(self) -> None:
        """A socket that turns out to be open to other machines is refused, and closed."""
        self.reactor.host = "10.0.0.1"
        line = self.refuse()
        self.assertIn("other machines can reach 10.0.0.1", line)
        self.assertIn("port closes", self.notes)

    def test_insecure_socket(self) -> None:
        """It is taken when that was asked for."""
        self.reactor.host = "10.0.0.1"
        self.start(insecure=True)
        self.assertEqual(self.heard, [("http://10.0.0.1:8001/", 8001)])

    def test_no_redis(self) -> None:
        """An embedded Redis that can't be is said, and not remembered as the choice."""

        def prepare() -> None:
            raise CannotStart("no Redis")

        self.redis.does["prepare"] = prepare
        self.assertEqual(self.refuse(broker=None), "no Redis")
        self.assertIsNone(RootFolder(self.path, generate_id=str).open("b1").broker)

    def test_later(self) -> None:
        """What fails after the first half ends the branch with one critical line."""
        self.parts["catalogue"].does["load"] = lambda: fail(CannotStart("no table"))
        self.start()
        self.assertEqual((self.failed, self.refused), (1, []))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_later_unexpected(self) -> None:
        """What nobody expected is logged with its traceback."""
        self.parts["supervisor"].does["startService"] = lambda: fail(RuntimeError("bug"))
        self.start()
        self.assertEqual(self.failed, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class StopTests(BranchTestCase):
    """`stopService`."""

    def stopped(self, branch: Branch) -> list[str]:
        """Stop a branch; what it did, in order."""
        self.notes.clear()
        self.successResultOf(branch.stopService())
        return self.notes

    def test_order(self) -> None:
        """HTTP goes first; the broker of the workers outlives them; the folder is free at the end."""
        branch = self.start(broker="embedded")
        self.assertEqual(
            self.stopped(branch),
            [
                "stall_watch stopService",
                "port closes",
                "rolling stopService",
                "supervisor stopService",
                "workers processes",
                "workers stop_all",
                "gateway stopService",
                "membership stop",
                "actors stop",
                "remote close",
                "events close",
                "store close",
                "redis stop",
                "watchdog stopService",
            ],
        )
        RootFolder(self.path, generate_id=str).check_free()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_leave(self) -> None:
        """Workers that are to be left are released, and so is their broker."""
        notes = self.stopped(self.start(broker="embedded", workers_on_exit="leave"))
        self.assertIn("workers release", notes)
        self.assertIn("redis release", notes)
        self.assertNotIn("workers stop_all", notes)
        self.assertNotIn("redis stop", notes)

    def test_waits(self) -> None:
        """The stop is over when the last worker was reaped, not before."""
        reaped: Deferred[None] = Deferred()
        branch = self.start()
        self.parts["workers"].does["stop_all"] = lambda: reaped
        stopped = branch.stopService()
        self.assertNoResult(stopped)
        self.assertEqual(branch.readiness(), {"branch": "it is stopping"})
        reaped.callback(None)
        self.successResultOf(stopped)

    def test_in_flight(self) -> None:
        """Requests that are being answered are waited for, but not for ever."""
        self.in_flight = Deferred()
        branch = self.start()
        self.notes.clear()
        stopped = branch.stopService()
        self.assertEqual(self.notes, ["stall_watch stopService", "port closes"])
        self.reactor.advance(FINISH_WITHIN)
        self.assertIn("workers stop_all", self.notes)
        self.successResultOf(stopped)

    def test_failures(self) -> None:
        """What fails at a stop is logged and keeps nothing else from being stopped."""
        branch = self.start()
        for name, verb in (("supervisor", "stopService"), ("workers", "stop_all"), ("remote", "close")):
            self.parts[name].does[verb] = lambda: fail(RuntimeError("bug"))
        self.assertIn("store close", self.stopped(branch))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)
        RootFolder(self.path, generate_id=str).check_free()

    def test_hangs(self) -> None:
        """What hangs at a stop is given up after a while."""
        branch = self.start()
        self.parts["actors"].does["stop"] = Deferred
        stopped = branch.stopService()
        self.assertNoResult(stopped)
        self.reactor.advance(STOP_WITHIN)
        self.successResultOf(stopped)
        self.assertIn("store close", self.notes)

    def test_while_starting(self) -> None:
        """A stop in the middle of a start stops what was begun, and nothing that was not."""
        self.redis.does["start"] = Deferred
        branch = self.start(broker="embedded")
        notes = self.stopped(branch)
        self.assertIn("redis stop", notes)
        self.assertNotIn("workers stop_all", notes)
        self.assertNotIn("supervisor stopService", notes)
        self.assertEqual(self.failed, 0)

    def test_never_started(self) -> None:
        """Stopping a branch that never started does nothing."""
        self.assertEqual(self.stopped(self.make()), [])

    def test_hurry(self) -> None:
        """A hurried stop stops the workers cold; those that are left are left in peace."""
        self.start().hurry()
        self.assertIn("workers hurry", self.notes)
        self.notes.clear()
        self.start(workers_on_exit="leave", instance_dir=os.path.abspath(self.mktemp())).hurry()
        self.assertNotIn("workers hurry", self.notes)


class LogTests(BranchTestCase):
    """How the branch has its application log."""

    def test_observer(self) -> None:
        """An application that gets the branch gets its observer."""
        observer = object()
        self.observe = lambda: observer
        branch = self.make()
        application = Application("x")
        branch.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), observer)
