"""Other programs on the bus of two branches: one that asks actors, and branches of other versions."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from cyme.actors import NOBODY, Actors
from cyme.bus.amqp.bus import AMQPBus
from cyme.errors import BranchCordoned, NoRoute, NoSuchApp, OtherVersion
from cyme.listing import list_branches
from tests.functional.clustercase import ClusterTestCase
from tests.support.waiting import eventually


class ProgramTests(ClusterTestCase):
    """A program that is no branch."""

    def bus(self) -> AMQPBus:
        return AMQPBus(reactor, self.celery_broker(None), name="a program", retry_policy=lambda _: 0.1)

    async def actors(self) -> Actors:
        """The way to the branches' actors, without HTTP."""
        actors = Actors(reactor, self.bus(), "a program", tuple)
        await actors.start()
        self.addCleanup(actors.stop)
        return actors

    async def test_actors(self) -> None:
        """It asks who lives, and whatever branches can be asked, wherever that is; no HTTP is needed."""
        owners = await self.spread("w1", "w2")
        found = await list_branches(reactor, self.bus(), 10.0)
        self.assertEqual([one["id"] for one in found], ["branch1", "branch2"])
        actors = await self.actors()
        for name, branch in owners.items():
            stats = await actors.call("Instance", name, "stats")
            self.assertEqual((stats["name"], stats["branch"]), (name, branch))
            grown = await actors.call("Instance", name, "autoscale", max=3, min=2, wait=0.0)
            self.assertEqual(grown, {"max": 3, "min": 2})
        await actors.call("Branch", "branch1", "cordon")
        made = [
            await actors.throw("Instance", name, "add", app="foo", generated=name, wait=0.0)
            for name in ("w3", "w4")
        ]
        self.assertEqual([one["branch"] for one in made], ["branch2", "branch2"])

        async def are_known() -> bool:
            details = await self.instance("w2")
            names = await self.ask("GET", "/foo/instances/")
            return bool(names == ["w1", "w2", "w3", "w4"] and details["max_concurrency"] == 3)

        await eventually(are_known, 10.0)
        with self.assertRaises(NoSuchApp):
            await actors.throw("Instance", "w5", "add", app="nosuch", generated="w5", wait=0.0)
        with self.assertRaises(BranchCordoned):
            wanted = {"instance": "w5", "app": "foo", "generated": "w5", "wait": 0.0}
            await actors.call("Branch", "branch1", "place", **wanted)
        before = (await self.instance("w2"))["pid"]
        await actors.call("Instance", "w2", "restart")
        await self.until_replaced(before, "w2")

    async def test_nobody(self) -> None:
        """A call to what no live branch has fails at once."""
        actors = await self.actors()
        await self.second.kill()

        async def has_ended() -> bool:
            try:
                await actors.call("Branch", "branch2", "cordon", timeout=30.0)
            except NoRoute:
                return True
            return False

        await eventually(has_ended, 10.0)
        begun = time.monotonic()
        for actor, name in (("Instance", "w9"), ("Branch", "branch2")):
            with self.assertRaises(NoRoute):
                await actors.call(actor, name, "restart", timeout=30.0)
        self.assertLess(time.monotonic() - begun, 5.0)

    async def test_versions(self) -> None:
        """Branches of other versions live beside: what is new to a branch it ignores or refuses by name."""
        bus = self.bus()
        answers: dict[str, Deferred[Any]] = {}

        def receive(body: bytes) -> Deferred[None]:
            message = json.loads(body)
            if message.get("id") in answers:
                answers[message["id"]].callback(message)
            return succeed(None)

        await bus.start(receive)
        self.addCleanup(bus.stop)

        def message(**fields: Any) -> dict[str, Any]:
            return {
                "v": 1,
                "kind": "request",
                "id": str(uuid4()),
                "actor": "Presence",
                "name": None,
                "verb": "facts",
                "arguments": {},
                "branch": "branch9",
                "reply_to": bus.inbox,
                "deadline": time.time() + 30.0,
                **fields,
            }

        async def ask(**fields: Any) -> Any:
            request = message(**fields)
            answers[request["id"]] = Deferred()
            await bus.to_owner("Branch", "branch1", json.dumps(request).encode(), expires=30.0)
            return await answers[request["id"]]

        # As an older branch would ask, which says nothing about who asked.
        self.assertEqual((await ask())["ok"]["id"], "branch1")
        # As a newer one would: fields that are new are ignored.
        newer = await ask(priority=7, trace={"span": "1f"}, arguments={"since": 5, "colour": "blue"})
        self.assertEqual(newer["ok"]["id"], "branch1")
        refusal = await ask(v=99)
        self.assertEqual(refusal["nok"], {"error": "OtherVersion", "arguments": ["branch1", "1", "99"]})
        self.assertIn("not 99", str(OtherVersion(*refusal["nok"]["arguments"])))
        # News of a kind or a version that nobody knows yet, and declarations of a kind that is new.
        news = {"kind": "Schedule", "name": "nightly", "version": [1 << 60, "branch9"], "deleted": False}
        for number in range(20):
            for fields in (
                {"v": 99, "verb": "beat"},
                {"verb": "moon", "actor": "Weather"},
                {"actor": "Catalogue", "verb": "news", "arguments": {"declarations": [news, number]}},
            ):
                body = json.dumps(message(reply_to=NOBODY, **fields)).encode()
                await bus.to_all(body, expires=30.0)
        await self.branch.wait_for_line("version 99 of the wire format; this branch speaks version 1")
        await self.ask("PUT", "/foo/", 201)
        await self.known_there("/foo/")
        self.assertEqual(await self.ask("GET", "/branches/"), ["branch1", "branch2"])
        # The refusal that was answered, and the first of the news.
        told = [line for line in self.branch.process.lines() if "version 99" in line]
        self.assertEqual(len(told), 2, told)
