"""What a service manager is told, by a socket that plays systemd."""

from __future__ import annotations

import os
import socket
import tempfile
from uuid import uuid4

from twisted.trial.unittest import SynchronousTestCase

from cyme.systemd import ServiceManager


class ServiceManagerTests(SynchronousTestCase):
    """Messages and their conditions."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp(prefix="cyme-sd-")
        self.addCleanup(os.rmdir, folder)
        self.path = os.path.join(folder, "notify")
        self.listener = self.listen(self.path)
        self.addCleanup(os.unlink, self.path)
        self.status = "all is well"

    def listen(self, address: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        listener.bind(address)
        self.addCleanup(listener.close)
        return listener

    def heard(self, listener: socket.socket | None = None) -> list[list[str]]:
        """The messages that came, as lines."""
        messages = []
        while True:
            try:
                messages.append((listener or self.listener).recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def make(self, **environment: str) -> ServiceManager:
        manager = ServiceManager({"NOTIFY_SOCKET": self.path, **environment}, getpid=lambda: 7)
        self.addCleanup(manager.close)
        return manager

    def test_life(self) -> None:
        """From readiness over signs of life to the stop, with a status whenever it changes."""
        manager = self.make(WATCHDOG_USEC="3000000", WATCHDOG_PID="7")
        self.assertEqual(manager.open(), 3.0)
        manager.turn()
        manager.ready(lambda: self.status)
        manager.turn()
        self.status = "two\nlines"
        manager.turn()
        manager.stopping("it is stopping")
        manager.turn()
        self.assertEqual(
            self.heard(),
            [
                ["WATCHDOG=1"],
                ["READY=1", "STATUS=all is well"],
                ["WATCHDOG=1"],
                ["WATCHDOG=1", "STATUS=two lines"],
                ["STOPPING=1", "STATUS=it is stopping", "EXTEND_TIMEOUT_USEC=30000000"],
                ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"],
            ],
        )

    def test_no_watchdog(self) -> None:
        """Signs of life are for who asked this process for them."""
        for environment in (
            {},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "x"},
            {"WATCHDOG_USEC": "-3"},
            {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"},
        ):
            manager = self.make(**environment)
            self.assertIsNone(manager.open())
            manager.turn()
            self.assertEqual(self.heard(), [])
        self.assertEqual(self.make(WATCHDOG_USEC="1500000").open(), 1.5)

    def test_abstract(self) -> None:
        """A socket in the abstract namespace is reached too."""
        name = f"cyme-test-{uuid4()}"
        listener = self.listen(f"\0{name}")
        manager = self.make(NOTIFY_SOCKET=f"@{name}")
        manager.open()
        manager.ready(lambda: self.status)
        self.assertEqual(self.heard(listener), [["READY=1", "STATUS=all is well"]])

    def test_nobody(self) -> None:
        """Without a socket, or with one that is none, nothing is opened and nothing sent."""
        for address in ("", "relative", "vsock:2:1234"):
            before = len(os.listdir("/proc/self/fd"))
            manager = self.make(NOTIFY_SOCKET=address, WATCHDOG_USEC="3000000")
            self.assertIsNone(manager.open())
            manager.ready(lambda: self.status)
            manager.turn()
            manager.stopping("it is stopping")
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual(self.heard(), [])

    def test_does_not_listen(self) -> None:
        """A manager that is gone, or takes nothing more, is no matter."""
        manager = self.make(WATCHDOG_USEC="3000000")
        manager.open()
        for _ in range(5000):
            manager.turn()
        gone = self.make(NOTIFY_SOCKET="/no/such/socket")
        gone.open()
        gone.ready(lambda: self.status)
