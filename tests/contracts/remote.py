"""What every provider of `IRemoteControl` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.errors import BrokerAway
from cyme.interfaces import IRemoteControl


class World(Protocol):
    """A remote control, and brokers and workers for it.

    :ivar remote: the provider.
    :ivar broker: the URL of a broker that can be reached, with the workers `w1@host` and
        `w2@host`, and `mute@host`, which never answers.
    :ivar absent: the URL of a broker that is not there, with the password `hidden`.
    """

    remote: Any
    broker: str
    absent: str

    def known(self, broker: str) -> Deferred[bool]:
        """Fire with whether a broker is reachable, once that is known."""

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Let time pass."""


def make_remote_tests(fixture: Callable[[TestCase], Deferred[World]]) -> type[TestCase]:
    """Make the tests of `IRemoteControl`.

    :param fixture: called with the test case, which it may add clean-ups to.
    """

    class RemoteControlTests(TestCase):
        """The contract of `IRemoteControl`."""

        timeout = 60

        async def setUp(self) -> None:  # type: ignore[override]
            self.world = await fixture(self)
            self.remote = self.world.remote
            self.broker = self.world.broker

        async def ready(self) -> None:
            self.assertTrue(await self.world.known(self.broker))

        def ask(self, command: str, *nodes: str, timeout: float = 10.0, **arguments: Any) -> Any:
            return self.remote.ask(self.broker, command, nodes, arguments, timeout=timeout)

        def test_interface(self) -> None:
            """It provides its interface."""
            verifyObject(IRemoteControl, self.remote)

        async def test_answers(self) -> None:
            """A question fires with the answer of each node, long before its time is over."""
            await self.ready()
            self.assertEqual(
                await self.ask("ping", "w1@host", "w2@host", timeout=300),
                {"w1@host": {"ok": "pong"}, "w2@host": {"ok": "pong"}},
            )

        async def test_only_those_asked(self) -> None:
            """Nodes that were not asked neither answer nor obey."""
            await self.ready()
            self.assertEqual(list(await self.ask("add_consumer", "w1@host", queue="q")), ["w1@host"])
            [queues] = (await self.ask("active_queues", "w2@host")).values()
            self.assertEqual([queue["name"] for queue in queues], ["dq.w2"])

        async def test_silence(self) -> None:
            """At the end of its time a question fires with the answers that came."""
            await self.ready()
            asked = self.ask("ping", "w1@host", "mute@host", timeout=0.5)
            await self.world.pass_time(0.2)
            self.assertFalse(asked.called)
            await self.world.pass_time(0.5)
            self.assertEqual(list(await asked), ["w1@host"])

        async def test_silence_holds_up_nobody(self) -> None:
            """A question that waits for a silent node leaves others their answers."""
            await self.ready()
            silent = self.ask("ping", "mute@host", timeout=0.5)
            self.assertEqual(list(await self.ask("ping", "w1@host")), ["w1@host"])
            self.assertFalse(silent.called)
            await self.world.pass_time(0.7)
            self.assertEqual(await silent, {})

        async def test_no_nodes(self) -> None:
            """A question to nobody is answered at once, and nobody hears it."""
            await self.ready()
            self.assertEqual(await self.ask("add_consumer", queue="q"), {})
            [queues] = (await self.ask("active_queues", "w1@host")).values()
            self.assertEqual([queue["name"] for queue in queues], ["dq.w1"])

        async def test_commands(self) -> None:
            """Commands carry their arguments, and what they changed shows in later answers."""
            await self.ready()
            binding: dict[str, Any] = {"exchange": "x", "exchange_type": "topic", "routing_key": "k.#"}
            added = await self.ask("add_consumer", "w1@host", queue="tasks", **binding)
            self.assertEqual(added, {"w1@host": {"ok": "add consumer tasks"}})
            await self.ask("autoscale", "w1@host", max=5, min=2)
            [queues] = (await self.ask("active_queues", "w1@host")).values()
            self.assertEqual({queue["name"] for queue in queues}, {"dq.w1", "tasks"})
            [stats] = (await self.ask("stats", "w1@host")).values()
            self.assertEqual((stats["autoscaler"]["max"], stats["autoscaler"]["min"]), (5, 2))
            cancelled = await self.ask("cancel_consumer", "w1@host", queue="tasks")
            self.assertEqual(cancelled, {"w1@host": {"ok": "no longer consuming from tasks"}})

        async def test_tell(self) -> None:
            """A command that nobody answers reaches every worker."""
            await self.ready()
            await self.remote.tell(self.broker, "add_consumer", {"queue": "told"})
            for node in ("w1@host", "w2@host"):
                answers = await self.ask("active_queues", node)
                self.assertIn("told", [queue["name"] for queue in answers[node]])

        async def test_tell_absent_broker(self) -> None:
            """A broker that is away can be told nothing."""
            self.assertFalse(await self.world.known(self.world.absent))
            await self.assertFailure(self.remote.tell(self.world.absent, "revoke", {}), BrokerAway)

        async def test_unknown_command(self) -> None:
            """What a worker does not understand is answered with its error."""
            await self.ready()
            [answer] = (await self.ask("no_such_command", "w1@host")).values()
            self.assertIn("error", answer)

        async def test_cancelled(self) -> None:
            """A question that is cancelled ends at once."""
            await self.ready()
            asked = self.ask("ping", "mute@host", timeout=300)
            asked.cancel()
            with self.assertRaises(CancelledError):
                await asked

        async def test_absent_broker(self) -> None:
            """A broker that is not there is not reachable; what says so is without its password."""
            self.assertFalse(await self.world.known(self.world.absent))
            for attempt in (
                lambda: self.remote.ask(self.world.absent, "ping", ["w1@host"], timeout=1),
                lambda: self.remote.delete_queue(self.world.absent, "dq.w1"),
            ):
                with self.assertRaises(BrokerAway) as caught:
                    await attempt()
                self.assertNotIn("hidden", str(caught.exception))

        async def test_count(self) -> None:
            """A broker that can counts messages and consumers of queues; one that is away does not."""
            await self.ready()
            counts = await self.remote.count(self.broker, ["dq.w1", "no.such.queue"])
            if counts is not None:
                self.assertEqual((set(counts), counts["no.such.queue"]), ({"dq.w1", "no.such.queue"}, None))
            await self.world.known(self.world.absent)
            with self.assertRaises(BrokerAway):
                await self.remote.count(self.world.absent, ["dq.w1"])

        async def test_purge(self) -> None:
            """A queue without messages, or that does not exist, has none to remove; nor has who is away."""
            await self.ready()
            for queue in ("dq.w1", "no.such.queue"):
                self.assertEqual(await self.remote.purge(self.broker, queue), 0)
            await self.world.known(self.world.absent)
            with self.assertRaises(BrokerAway):
                await self.remote.purge(self.world.absent, "dq.w1")

        async def test_restore(self) -> None:
            """Processes that held nothing leave nothing to put back."""
            await self.ready()
            self.assertEqual(await self.remote.restore(self.broker, ["boot/1/1"]), 0)

        async def test_delete_absent_queue(self) -> None:
            """Deleting a queue that does not exist succeeds."""
            self.assertIsNone(await self.remote.delete_queue(self.broker, "dq.nobody"))

        async def test_first_connection_is_no_revival(self) -> None:
            """A broker that was never away has not come back."""
            await self.ready()
            self.assertIsNone(self.remote.revived_at(self.broker))

        async def test_closed(self) -> None:
            """After `close` questions fail at once, those under way included."""
            await self.ready()
            asked = self.ask("ping", "mute@host", timeout=300)
            closed = self.remote.close()
            with self.assertRaises(BrokerAway):
                await asked
            await closed
            with self.assertRaises(BrokerAway):
                await self.ask("ping", "w1@host")
            self.assertFalse(self.remote.reachable(self.broker))

    return RemoteControlTests
