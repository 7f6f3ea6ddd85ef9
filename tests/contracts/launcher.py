"""What every `ILauncher`, and every `IHandle` that it gives, does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.interfaces import IHandle, ILauncher


class LauncherFixture(Protocol):
    """A launcher, and what its tests need of its world.

    :ivar argv: a program that lives until it is told to end, or killed.
    """

    launcher: Any
    argv: tuple[str, ...]

    def path(self, name: str) -> str:
        """The path of a file that may be written."""

    def settled(self, record: str) -> Deferred[None]:
        """Fire when the process that was launched with `record` has written it."""

    def end(self, handle: Any, status: int) -> None:
        """Have the program that `argv` started end with an exit status."""


def until_reactor_runs() -> Deferred[None]:
    """Fire once the reactor runs.

    Trial begins a test before that. One that were over with the end of a process in the very
    moment when the reactor starts (and reaps) would leave it deaf to SIGCHLD for the next test.
    """
    return deferLater(reactor, 0)


def make_launcher_tests(fixture: Callable[[TestCase], LauncherFixture]) -> type[TestCase]:
    """Make the tests of one provider of `ILauncher` and its `IHandle`."""

    class LauncherTests(TestCase):
        """The contract of `ILauncher` and `IHandle`."""

        timeout = 30

        async def setUp(self) -> None:  # type: ignore[override]
            await until_reactor_runs()
            self.fixture = fixture(self)
            self.launcher = self.fixture.launcher
            self.record = self.fixture.path("w1.json")

        def launch(self, argv: tuple[str, ...] | None = None, name: str = "w1") -> Any:
            handle = self.launcher.launch(
                self.fixture.argv if argv is None else argv,
                {"PATH": "/usr/bin:/bin"},
                record=self.fixture.path(f"{name}.json"),
                log=self.fixture.path(f"{name}.log"),
                identity=f"the worker {name}",
                ready=lambda: None,
            )
            self.addCleanup(handle.release)
            return handle

        def find(self) -> Any:
            handle = self.launcher.find(self.record)
            if handle is not None:
                self.addCleanup(handle.release)
            return handle

        async def kill(self, handle: Any) -> Any:
            ended = handle.when_ended()
            handle.signal(signal.SIGKILL, group=True)
            return await ended

        async def test_interface(self) -> None:
            """The launcher and its handles provide their interfaces."""
            verifyObject(ILauncher, self.launcher)
            handle = self.launch()
            verifyObject(IHandle, handle)
            self.assertEqual(handle.identity, "the worker w1")
            await self.fixture.settled(self.record)
            verifyObject(IHandle, self.find())
            await self.kill(handle)

        async def test_exit_status(self) -> None:
            """A process that ends by itself has an exit status."""
            handle = self.launch()
            await self.fixture.settled(self.record)
            ended = handle.when_ended()
            self.fixture.end(handle, 3)
            self.assertEqual(await ended, (3, None))

        async def test_signal(self) -> None:
            """A process that a signal ended has that signal and no exit status."""
            handle = self.launch()
            await self.fixture.settled(self.record)
            ended = handle.when_ended()
            handle.signal(signal.SIGTERM)
            self.assertEqual(await ended, (None, signal.SIGTERM))

        async def test_every_listener(self) -> None:
            """Everybody who asks is told of the end, also who asks afterwards."""
            handle = self.launch()
            first, second = handle.when_ended(), handle.when_ended()
            await self.kill(handle)
            expected = (None, signal.SIGKILL)
            self.assertEqual([await first, await second, await handle.when_ended()], [expected] * 3)

        async def test_signal_after_the_end(self) -> None:
            """A signal to what has ended is no error."""
            handle = self.launch()
            await self.kill(handle)
            handle.signal(signal.SIGTERM)
            handle.signal(signal.SIGTERM, group=True)

        async def test_find(self) -> None:
            """The process that wrote a record is found, and its end is noticed without its status."""
            handle = self.launch()
            await self.fixture.settled(self.record)
            found = self.find()
            self.assertEqual((found.pid, found.identity), (handle.pid, handle.identity))
            self.assertApproximates(found.started_at, handle.started_at, 5)
            ended = found.when_ended()
            found.signal(signal.SIGTERM)
            self.assertEqual(await ended, (None, None))

        async def test_find_nothing(self) -> None:
            """Where no record is, or its process has ended, nothing is found."""
            self.assertIsNone(self.find())
            handle = self.launch()
            await self.fixture.settled(self.record)
            await self.kill(handle)
            self.assertIsNone(self.find())

        async def test_release(self) -> None:
            """What was let go lives on and can be found again."""
            handle = self.launch()
            await self.fixture.settled(self.record)
            handle.release()
            found = self.find()
            self.assertEqual(found.pid, handle.pid)
            await self.kill(found)

    return LauncherTests
