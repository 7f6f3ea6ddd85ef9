"""`makeService`: it builds, and does nothing else."""

from __future__ import annotations

import os

from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme import tap
from cyme.branch import Branch
from cyme.settings import make_settings


class MakeServiceTests(SynchronousTestCase):
    """Building a branch."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def test_from_options(self) -> None:
        """Parsed options make a branch."""
        options = tap.Options({})
        options.parseOptions(["-D", self.path])
        self.assertIsInstance(tap.makeService(options), Branch)
        self.assertFalse(os.path.exists(self.path))

    def test_only_builds(self) -> None:
        """Nothing is opened, bound, started or scheduled."""
        reactor = MemoryReactorClock()
        open_files = os.listdir("/proc/self/fd")
        branch = tap.make_branch(
            reactor,
            make_settings({"instance-dir": self.path, "logfile": "/no/such/folder/log"}),
            logs_itself=True,
        )
        self.assertTrue(verifyObject(IService, branch))
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(open_files))
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(
            (reactor.getDelayedCalls(), reactor.tcpServers, reactor.unixServers, reactor.whenRunningHooks),
            ([], [], [], []),
        )
