"""What every provider of `IMessageBus` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, DeferredQueue, gatherResults, maybeDeferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.errors import BodyTooLarge, BusAway, NameClaimed, NoRoute
from cyme.interfaces import IMessageBus

#: Seconds within which everything here happens, or never will.
SOON = 10.0


class Branch:
    """A bus and what it received."""

    def __init__(self, bus: IMessageBus) -> None:
        self.bus = bus
        self.received: DeferredQueue[bytes] = DeferredQueue()

    def receive(self, body: bytes) -> Deferred[None]:
        return maybeDeferred(self.received.put, body)

    def next(self) -> Deferred[bytes]:
        """The next message that came, or comes soon."""
        return self.received.get().addTimeout(SOON, reactor)


def make_bus_tests(fixture: Callable[[TestCase], Callable[[], IMessageBus]]) -> type[TestCase]:
    """Tests of a message bus.

    :param fixture: takes the test case and gives a function that makes buses of one cluster,
        not started yet.
    """

    class BusTests(TestCase):
        timeout = 60

        def setUp(self) -> None:
            self.make = fixture(self)

        async def branch(self) -> Branch:
            """A started bus, stopped at the end of the test."""
            branch = Branch(self.make())
            await branch.bus.start(branch.receive)
            self.addCleanup(branch.bus.stop)
            return branch

        async def refused(self, error: type[Exception], sent: Deferred[None]) -> Any:
            """Expect that a message can't be sent."""
            try:
                await sent
            except error as refusal:
                return refusal
            self.fail(f"not refused with {error.__name__}")

        async def nothing_more(self, branch: Branch) -> None:
            """Expect that what comes next is what is sent from now on."""
            await branch.bus.to_inbox(branch.bus.inbox, b"marker", expires=SOON)
            self.assertEqual(await branch.next(), b"marker")

        def test_interface(self) -> None:
            """It provides `IMessageBus`."""
            verifyObject(IMessageBus, self.make())

        async def test_owner(self) -> None:
            """A message for a name reaches the branch that owns it and no other."""
            first, second = await self.branch(), await self.branch()
            second.bus.own("Instance", "w1")
            await second.bus.settled()
            await first.bus.to_owner("Instance", "w1", b"hello", expires=SOON)
            self.assertEqual(await second.next(), b"hello")
            await self.nothing_more(first)

        async def test_owner_is_sender(self) -> None:
            """A branch may own the name that it sends to."""
            branch = await self.branch()
            branch.bus.own("Instance", "w1")
            await branch.bus.settled()
            await branch.bus.to_owner("Instance", "w1", b"hello", expires=SOON)
            self.assertEqual(await branch.next(), b"hello")

        async def test_owned_before_start(self) -> None:
            """What a bus was told to own before its start holds after it."""
            branch = Branch(self.make())
            branch.bus.own("Instance", "w1")
            await branch.bus.start(branch.receive)
            self.addCleanup(branch.bus.stop)
            await branch.bus.to_owner("Instance", "w1", b"hello", expires=SOON)
            self.assertEqual(await branch.next(), b"hello")

        async def test_nobody_owns(self) -> None:
            """A message for a name that nobody owns, or owns any more, is NoRoute at once."""
            branch = await self.branch()
            refusal = await self.refused(
                NoRoute, branch.bus.to_owner("Instance", "w1", b"hello", expires=SOON)
            )
            self.assertEqual(refusal.arguments, ("Instance", "w1"))
            branch.bus.own("Instance", "w1")
            branch.bus.disown("Instance", "w1")
            await branch.bus.settled()
            await self.refused(NoRoute, branch.bus.to_owner("Instance", "w1", b"hello", expires=SOON))

        async def test_names_belong_to_actors(self) -> None:
            """Owning a name for one actor is not owning it for another."""
            branch = await self.branch()
            branch.bus.own("App", "foo")
            await branch.bus.settled()
            await self.refused(NoRoute, branch.bus.to_owner("Instance", "foo", b"hello", expires=SOON))

        async def test_owner_leaves(self) -> None:
            """When its owner leaves, nobody owns a name."""
            first, second = await self.branch(), await self.branch()
            second.bus.own("Instance", "w1")
            await second.bus.settled()
            await second.bus.stop()
            await self.refused(NoRoute, first.bus.to_owner("Instance", "w1", b"hello", expires=SOON))

        async def test_any(self) -> None:
            """Work for any branch reaches exactly one of those that accept it."""
            first, second, third = await self.branch(), await self.branch(), await self.branch()
            first.bus.accept("Instance")
            await first.bus.settled()
            second.bus.accept("Instance")
            await second.bus.settled()
            count = 4
            for _ in range(count):
                await third.bus.to_any("Instance", b"work", expires=SOON)
            for branch in (first, second, third):
                await branch.bus.to_inbox(branch.bus.inbox, b"marker", expires=SOON)
            works = []
            for branch in (first, second, third):
                bodies: list[bytes] = []
                while not bodies or bodies[-1] != b"marker":
                    bodies.append(await branch.next())
                works.append(len(bodies) - 1)
            self.assertEqual((sum(works), works[2]), (count, 0))

        async def test_nobody_accepts(self) -> None:
            """Work that no branch accepts, or accepts any more, is NoRoute at once."""
            branch = await self.branch()
            await self.refused(NoRoute, branch.bus.to_any("Instance", b"work", expires=SOON))
            branch.bus.accept("Instance")
            branch.bus.decline("Instance")
            await branch.bus.settled()
            await self.refused(NoRoute, branch.bus.to_any("Instance", b"work", expires=SOON))

        async def test_all(self) -> None:
            """A message for all reaches every branch, its sender too."""
            first, second = await self.branch(), await self.branch()
            await first.bus.to_all(b"news", expires=SOON)
            self.assertEqual([await first.next(), await second.next()], [b"news", b"news"])

        async def test_inbox(self) -> None:
            """A message for an inbox reaches that branch; each branch has its own."""
            first, second = await self.branch(), await self.branch()
            await first.bus.to_inbox(second.bus.inbox, b"answer", expires=SOON)
            self.assertEqual(await second.next(), b"answer")
            await self.nothing_more(first)
            self.assertNotEqual(first.bus.inbox, second.bus.inbox)

        async def test_no_such_inbox(self) -> None:
            """A message for an inbox that is gone is NoRoute at once."""
            first, second = await self.branch(), await self.branch()
            inbox = second.bus.inbox
            await second.bus.stop()
            await self.refused(NoRoute, first.bus.to_inbox(inbox, b"answer", expires=SOON))

        async def test_order(self) -> None:
            """Messages to one branch arrive in the order in which they were sent."""
            branch = await self.branch()
            bodies = [b"%d" % number for number in range(20)]
            for body in bodies:
                await branch.bus.to_inbox(branch.bus.inbox, body, expires=SOON)
            self.assertEqual([await branch.next() for _ in bodies], bodies)

        async def test_any_bytes(self) -> None:
            """A body is bytes, whatever they are."""
            branch = await self.branch()
            body = bytes(range(256)) * 1000
            await branch.bus.to_inbox(branch.bus.inbox, body, expires=SOON)
            self.assertEqual(await branch.next(), body)

        async def test_not_in_senders_call(self) -> None:
            """Nothing is received within the call that sends it."""
            branch = await self.branch()
            sent = branch.bus.to_inbox(branch.bus.inbox, b"hello", expires=SOON)
            self.assertEqual(branch.received.pending, [])
            await sent
            await branch.next()

        async def test_away(self) -> None:
            """Before its start and after its end a bus carries nothing."""
            bus = self.make()
            branch = await self.branch()
            await branch.bus.stop()
            for away in (bus, branch.bus):
                await self.refused(BusAway, away.to_owner("Instance", "w1", b"hello", expires=SOON))
                await self.refused(BusAway, away.to_any("Instance", b"hello", expires=SOON))
                await self.refused(BusAway, away.to_all(b"hello", expires=SOON))
                await self.refused(BusAway, away.to_inbox("somebody", b"hello", expires=SOON))

        async def test_subscribed(self) -> None:
            """Who subscribes hears of the start and of the end, after the bus knows of it itself."""
            bus = self.make()
            heard: list[tuple[bool, bool]] = []
            bus.subscribe(lambda connected: heard.append((connected, bus.connected)))
            self.assertFalse(bus.connected)
            await bus.start(Branch(bus).receive)
            self.assertEqual(heard, [(True, True)])
            await bus.stop()
            self.assertEqual(heard, [(True, True), (False, False)])

        async def test_settled_while_away(self) -> None:
            """Nobody waits for a bus that is not connected until what is owned holds."""
            bus = self.make()
            bus.own("Instance", "w1")
            bus.accept("Instance")
            await bus.settled()

        async def test_claim(self) -> None:
            """Of two that ask at the same moment one has the claim, until it gives it back."""
            first, second = (await self.branch()).bus, (await self.branch()).bus
            asked = [bus.claim("Instance", "w1") for bus in (first, second)]
            outcomes: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
            self.assertEqual(sorted(taken for taken, _ in outcomes), [False, True])
            [release] = [outcome for taken, outcome in outcomes if taken]
            [refusal] = [outcome for taken, outcome in outcomes if not taken]
            self.assertIsInstance(refusal.value, NameClaimed)
            self.assertEqual(refusal.value.arguments, ("Instance", "w1"))
            for bus in (first, second):
                await self.refused(NameClaimed, bus.claim("Instance", "w1"))
            for actor, name in (("Instance", "w2"), ("Branch", "w1")):
                await (await second.claim(actor, name))()
            await release()
            again = await second.claim("Instance", "w1")
            await release()
            await self.refused(NameClaimed, first.claim("Instance", "w1"))
            await again()
            await (await first.claim("Instance", "w1"))()

        async def test_claims(self) -> None:
            """Many claims are had at the same time, and none is in another's way."""
            bus = (await self.branch()).bus
            names = [f"w{number}" for number in range(100)]
            held = await gatherResults([bus.claim("Instance", name) for name in names])
            await gatherResults([release() for release in held])
            await gatherResults([bus.claim("Instance", name) for name in names])

        async def test_claim_ends(self) -> None:
            """A claim ends with the bus of whoever has it; who is not on the bus has none."""
            first, second = (await self.branch()).bus, (await self.branch()).bus
            release = await first.claim("Instance", "w1")
            await first.stop()
            await self.refused(BusAway, first.claim("Instance", "w1"))
            await second.claim("Instance", "w1")
            await release()
            await self.refused(NameClaimed, second.claim("Instance", "w1"))
            await self.refused(BusAway, self.make().claim("Instance", "w1"))

        async def test_stopped_twice(self) -> None:
            """A bus that is stopped again stays stopped."""
            branch = await self.branch()
            await branch.bus.stop()
            await branch.bus.stop()

        async def test_limit(self) -> None:
            """A body over the limit is refused, whomever it is for."""
            branch = await self.branch()
            bus, body = branch.bus, bytes(branch.bus.limit + 1)
            bus.own("Instance", "w1")
            bus.accept("Instance")
            await bus.settled()
            await self.refused(BodyTooLarge, bus.to_owner("Instance", "w1", body, expires=SOON))
            await self.refused(BodyTooLarge, bus.to_any("Instance", body, expires=SOON))
            await self.refused(BodyTooLarge, bus.to_all(body, expires=SOON))
            await self.refused(BodyTooLarge, bus.to_inbox(bus.inbox, body, expires=SOON))
            await self.nothing_more(branch)

        async def test_receiver_fails(self) -> None:
            """A message whose handling fails is logged, and the next one still arrives."""
            branch = await self.branch()
            receive = branch.receive
            failing = [True]

            def fail_once(body: bytes) -> Deferred[None]:
                if failing.pop():
                    raise ZeroDivisionError
                return receive(body)

            clumsy = Branch(self.make())
            failing.insert(0, False)
            await clumsy.bus.start(fail_once)
            self.addCleanup(clumsy.bus.stop)
            await branch.bus.to_inbox(clumsy.bus.inbox, b"one", expires=SOON)
            await branch.bus.to_inbox(clumsy.bus.inbox, b"two", expires=SOON)
            self.assertEqual(await branch.next(), b"two")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    return BusTests
