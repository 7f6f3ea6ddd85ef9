"""The why-log of a real branch, over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.curl import Curl
from tests.support.waiting import eventually


class EventsTests(OnEmbedded, BranchTestCase):
    """What happened, and why."""

    async def test_story(self) -> None:
        """The log tells the story of an instance, and still does after the branch was killed."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGKILL)
        await self.until_replaced(before["pid"])

        async def told() -> Any:
            events = await self.ask("GET", "/foo/instances/w1/events/")
            self.assertEqual([event["kind"] for event in events].count("running"), 2)
            return events

        events = await eventually(told, 20.0)
        kinds = [event["kind"] for event in events]
        self.assertEqual(kinds[:3], ["instance-created", "started", "running"])
        [ended] = [event for event in events if event["kind"] == "ended"]
        self.assertEqual(ended["details"]["signal"], "SIGKILL")
        await self.branch.kill()
        await self.start()
        again = await self.ask("GET", "/instances/w1/events", params={"limit": "1000"})
        self.assertEqual(again[: len(events)], events)
        last = events[-1]["id"]
        later = await self.ask("GET", "/events/", params={"since": str(last)})
        self.assertTrue(all(event["id"] > last for event in later))
        await self.ask("GET", "/events/", 400, params={"since": "yesterday"})
        await self.ask("GET", "/foo/instances/w9/events/", 404)

    async def test_by_hand(self) -> None:
        """A change that a person wrote into the database is told as such, before what comes of it."""
        await self.create()
        database = sqlite3.connect(os.path.join(self.branch.root, "branch.db"))
        self.addCleanup(database.close)
        with database:
            database.execute("UPDATE instance SET max_concurrency = 3 WHERE name = 'w1'")

        async def told() -> Any:
            events = await self.ask("GET", "/instances/w1/events/")
            by = [event["who"] for event in events]
            self.assertIn("database", by)
            place = by.index("database")
            self.assertEqual(events[place]["details"]["after"], {"max_concurrency": 3})
            self.assertIn("autoscaled", [event["kind"] for event in events[place:]])
            return True

        await eventually(told, 30.0)


class StreamTests(OnEmbedded, BranchTestCase):
    """The why-log live, with curl."""

    def curl(self, path: str, **headers: str) -> Curl:
        return Curl(self, self.branch.url.rstrip("/") + path, **headers)

    async def test_resumed(self) -> None:
        """Whoever comes back after the branch was killed gets every event once, then what happens."""
        first = self.curl("/events/")
        await first.until_begun()
        await self.create()
        told = await first.until(lambda events: "running" in [event["kind"] for event in events])
        self.assertEqual(
            [(event["kind"], event["who"]) for event in told],
            [
                ("app-created", "http 127.0.0.1"),
                ("instance-created", "http 127.0.0.1"),
                ("started", "supervisor"),
                ("running", "supervisor"),
            ],
        )
        await self.branch.kill()
        self.assertNotEqual(await first.until_ended(), 0)
        await self.start()
        await self.ask("PUT", "/foo/queues/q/", 201)
        seen = str(first.events()[-1]["id"])
        second = self.curl("/events/?since=0", Last_Event_ID=seen)
        one = self.curl("/foo/instances/w1/events/?since=0")
        await self.ask("POST", "/foo/instances/w1/restart/")
        later = await second.until(lambda events: "running" in [event["kind"] for event in events], 60.0)
        both = first.events() + later
        self.assertEqual(both, await self.ask("GET", "/events/", params={"limit": "1000"}))
        wanted = [event for event in both if event["instance"] == "w1"]
        self.assertEqual(await one.until(lambda events: len(events) >= len(wanted)), wanted)
        kinds = [event["kind"] for event in later]
        self.assertEqual(kinds[kinds.index("instance-changed") + 1], "stopping")

    async def test_stop(self) -> None:
        """A branch that stops ends its streams completely, and is not held up by them."""
        streams = [self.curl("/events/") for _ in range(3)]
        for stream in streams:
            await stream.until_begun()
        self.assertEqual(await self.branch.terminate(timeout=8.0), 0)
        self.assertEqual([await stream.until_ended() for stream in streams], [0, 0, 0])
        self.assertNotIn("cut off", self.branch.log_text())

    async def test_slow_reader(self) -> None:
        """A reader that does not read costs no memory, delays nobody, and gets everything later."""
        count = 10_000
        await self.ask("PUT", "/foo/", 201)
        await deferToThread(self.fill, count)
        sock = socket.create_connection(("127.0.0.1", int(self.branch.url.rstrip("/").rsplit(":", 1)[1])))
        self.addCleanup(sock.close)
        before = self.resident()
        sock.sendall(b"GET /events/?since=0 HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        fast = self.curl("/events/?since=0")
        await self.until_told(fast, count)
        self.assertLess(self.resident() - before, 15_000)
        await self.ask("PUT", "/bar/", 201)
        [*_, event] = await self.until_known(count)
        last = event["id"]
        await self.until_told(fast, last)
        got = await deferToThread(self.read_to, sock, b"\nid: %d\n" % last)
        ids = [int(line[4:]) for line in got.split(b"\n") if line.startswith(b"id: ")]
        self.assertEqual(ids, list(range(0, last + 1)))

    async def until_told(self, stream: Curl, last: int) -> None:
        """Wait until a stream has told the event with this id."""
        end = b"\nid: %d\n" % last
        await eventually(lambda: end in stream.output[-10_000:], 60.0, f"event {last}")

    async def until_known(self, since: int) -> Any:
        """Wait until an app `bar` stands in the list of events; what follows the event `since`."""

        async def look() -> Any:
            events = await self.ask("GET", "/events/", params={"since": str(since)})
            self.assertEqual(events[-1]["app"] if events else None, "bar")
            return events

        return await eventually(look, 20.0)

    def fill(self, count: int) -> None:
        """Have many events in the database, as if they had happened: 20 MB."""
        database = sqlite3.connect(os.path.join(self.branch.root, "branch.db"), timeout=30)
        with database:
            details = '{"x": "%s"}' % ("x" * 2000)
            row = (time.time(), "branch1", "strange", "database", details)
            database.executemany(
                "INSERT INTO event (at, branch, kind, who, details) VALUES (?, ?, ?, ?, ?)", [row] * count
            )
        database.close()

    def resident(self) -> int:
        """The branch's memory, in KiB."""
        status = Path(f"/proc/{self.branch.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    @staticmethod
    def read_to(sock: socket.socket, end: bytes) -> bytes:
        """Read until `end` came."""
        sock.settimeout(30.0)
        got = bytearray()
        while end not in got[-2_000_000:]:
            data = sock.recv(1 << 20)
            if not data:
                raise AssertionError(f"the stream ended after {len(got)} bytes")
            got += data
        return bytes(got)
