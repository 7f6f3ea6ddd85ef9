"""What a branch says of itself."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.presence import Identity, Presence

ME = Identity(id="b1", version="1.0", loglevel="info", logfile="/log/branch.log", sup_interval=60.0)


def disk(blocks: int, free: int, available: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, available, 0, 0, 0, 0, 255))


class PresenceTests(SynchronousTestCase):
    """A branch that is alone."""

    def make_presence(self, **changed: Any) -> Presence:
        facts: dict[str, Any] = {
            "root": "/branch",
            "count_instances": lambda: 3,
            "getloadavg": lambda: (0.5, 1.256, 2.0),
            "statvfs": lambda path: disk(1000, 400, 200),
        }
        return Presence(ME, **{**facts, **changed})

    def test_about(self) -> None:
        """It tells what the product document's branch details hold, and more."""
        presence = self.make_presence()
        presence.listens("http://127.0.0.1:8000", 8000)
        self.assertEqual(
            presence.heartbeat(),
            {
                "id": "b1",
                "url": "http://127.0.0.1:8000",
                "port": 8000,
                "loglevel": "info",
                "logfile": "/log/branch.log",
                "sup_interval": 60.0,
                "numc": 1,
                "version": "1.0",
                "labels": {},
                "cpus": 1,
                "instances": 3,
                "load_average": [0.5, 1.26, 2.0],
                "disk_use": 75.0,
            },
        )

    def test_without_http(self) -> None:
        """Without an HTTP server it has neither URL nor port."""
        about = self.make_presence().heartbeat()
        self.assertEqual((about["url"], about["port"]), (None, None))

    def test_listens_no_more(self) -> None:
        """An HTTP server that is gone is no longer told of."""
        presence = self.make_presence()
        presence.listens("http://127.0.0.1:8000", 8000)
        presence.listens(None, None)
        self.assertIsNone(presence.heartbeat()["url"])

    def test_root(self) -> None:
        """The disk is the root folder's."""
        asked = []

        def statvfs(path: str) -> os.statvfs_result:
            asked.append(path)
            return disk(1, 1, 1)

        self.assertEqual(self.make_presence(statvfs=statvfs).heartbeat()["disk_use"], 0.0)
        self.assertEqual(asked, ["/branch"])

    def test_unknown(self) -> None:
        """What the system does not say is null."""

        def fail(*_: Any) -> Any:
            raise OSError("not today")

        heartbeat = self.make_presence(getloadavg=fail, statvfs=fail).heartbeat()
        self.assertEqual((heartbeat["load_average"], heartbeat["disk_use"]), (None, None))

    def test_no_disk(self) -> None:
        """A file system without blocks has no use in percent."""
        heartbeat = self.make_presence(statvfs=lambda path: disk(0, 0, 0)).heartbeat()
        self.assertIsNone(heartbeat["disk_use"])
