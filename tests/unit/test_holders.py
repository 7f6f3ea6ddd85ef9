"""Who holds a message of a Redis broker, and what becomes of it."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.holders import incarnation, mark, put_back, unmark
from cyme.tasks.holding import hook, own_incarnation
from cyme.workers.proc import incarnation_of


def message(**more: Any) -> dict[str, Any]:
    """A message as kombu has it."""
    return {
        "body": "e30=",
        "headers": {"id": "1", "eta": {"__type__": "datetime", "__value__": "x"}},
        "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}},
        **more,
    }


class HoldersTests(SynchronousTestCase):
    """What is written into messages, and read."""

    def test_put_back(self) -> None:
        """A message goes back to its list as it was, but that it says that it was delivered before."""
        held = message()
        mark(held, "boot/1/2", "q\x06\x163")
        found = put_back(json.dumps([held, "x", "key"]).encode(), {"boot/1/2"})
        assert found is not None
        expected = message()
        expected["headers"]["redelivered"] = True
        expected["properties"]["delivery_info"]["redelivered"] = True
        self.assertEqual((found[0], json.loads(found[1])), ("q\x06\x163", expected))

    def test_others(self) -> None:
        """What another holds, or nobody that is known, and what is no message stays."""
        other = message()
        mark(other, "boot/1/23", "q")
        unmarked = message()
        mark(unmarked, "boot/1/2", "q")
        unmark(unmarked)
        self.assertEqual(unmarked, message())
        odd = {"cyme-holder": "boot/1/2", "cyme-list": "q"}
        entries: tuple[Any, ...] = (
            *([one, "", "q"] for one in (other, unmarked, message(**{"cyme-holder": "boot/1/2"}), odd)),
            *([{**odd, "cyme-list": 5}], [{**odd, "cyme-holder": []}], [], {}, None, "boot/1/2", [5]),
        )
        for entry in entries:
            self.assertIsNone(put_back(json.dumps(entry), {"boot/1/2"}), entry)
        for text in (b"\xff", "{", ""):
            self.assertIsNone(put_back(text, {"boot/1/2"}))

    def test_incarnation(self) -> None:
        """A worker names itself as its branch does, and nobody is named who is not there."""
        self.assertEqual(own_incarnation(), incarnation_of(os.getpid()))
        self.assertEqual(incarnation("b", 1, 2), "b/1/2")
        self.assertIsNone(incarnation_of(2**30))


class FakeConnection:
    """What is used of a kombu transport."""

    def __init__(self) -> None:
        self._callbacks: dict[str, Any] = {}


def make_channel() -> type[Any]:
    """A class with what is used of kombu's Redis channel."""

    class Channel:
        def __init__(self) -> None:
            self.connection = FakeConnection()
            self._fanout_queues = {"fanout": ("x", "")}
            self.delivered: list[Any] = []
            self.restored: list[Any] = []

        def basic_consume(self, queue: str, no_ack: bool = False, **options: Any) -> str:
            self.connection._callbacks[queue] = self.delivered.append
            return f"consuming {queue}"

        def _get_message_priority(self, message: Any, *, reverse: bool) -> int:
            return int(message["properties"].get("priority", 0))

        def _q_for_pri(self, queue: str, priority: int) -> str:
            return f"{queue}/{priority}"

        def _do_restore_message(self, payload: Any, *arguments: Any) -> None:
            self.restored.append((payload, *arguments))

    return Channel


class HookTests(SynchronousTestCase):
    """Where messages are marked."""

    def setUp(self) -> None:
        kind = make_channel()
        hook(kind, "boot/1/2")
        hook(kind, "boot/3/4")
        self.channel = kind()

    def deliver(self, queue: str, **options: Any) -> Any:
        self.assertEqual(self.channel.basic_consume(queue, **options), f"consuming {queue}")
        sent = message()
        sent["properties"]["priority"] = 3
        self.channel.connection._callbacks[queue](sent)
        return self.channel.delivered[-1]

    def test_marked(self) -> None:
        """What is delivered to be acknowledged says who has it and where it came from."""
        for options in ({}, {"no_ack": False, "callback": print}):
            delivered = self.deliver("q", **options)
            self.assertEqual((delivered["cyme-holder"], delivered["cyme-list"]), ("boot/1/2", "q/3"))

    def test_not_marked(self) -> None:
        """What needs no acknowledgement, or came by broadcast, is as it was."""
        for queue, options in (("q", {"no_ack": True}), ("fanout", {})):
            self.assertNotIn("cyme-holder", self.deliver(queue, **options))

    def test_restored(self) -> None:
        """What is put back is nobody's."""
        delivered = self.deliver("q")
        self.channel._do_restore_message(delivered, "x", "key", None, True)
        expected = message()
        expected["properties"]["priority"] = 3
        self.assertEqual(self.channel.restored, [(expected, "x", "key", None, True)])
