"""What every `IStore` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.declarations import App, BranchState, Instance, Queue, Rollout, Turn, Version
from cyme.events import Event
from cyme.interfaces import IStore

FOO = App(
    name="foo",
    broker="amqp://me:s%20cret@broker:5672//",
    celery_app="proj.celery:app",
    pool="threads",
    arguments="--a 'b c'",
    extra_config="x=1",
    max_memory=3 << 40,
    max_age=86_400.5,
    stall_timeout=60.0,
    version=Version(7 << 40, "b1"),
)
TASKS = Queue(
    app="foo",
    name="tâches, 1",
    exchange="e",
    exchange_type="topic",
    routing_key="r.#",
    options='{"durable": true}',
    version=Version(8, "b1"),
)
W1 = Instance(
    name="w1",
    app="foo",
    branch="b1",
    is_enabled=False,
    queues=("tâches, 1", "b"),
    max_concurrency=4,
    min_concurrency=0,
    broker="redis://r/1",
    celery_app="a.b",
    pool="solo",
    arguments="-x",
    extra_config="y=2",
    max_memory=1,
    max_age=0.25,
    stall_timeout=1e8,
    generation=3,
    created_at=1234567.25,
    moving_to="b3",
    labels=("gpu=yes", "zone=a"),
    version=Version(9, "b2"),
)
RESTART = Rollout(
    app="foo",
    id="9d5c",
    branch="b1",
    parallel=2,
    timeout=30.5,
    asked_by="branch b1",
    asked_at=1234567.5,
    waiting=("w4", "w5"),
    under_way=(Turn("w2", 4, 1234568.25), Turn("w3", 1, 1234569.0)),
    done=("w1",),
    skipped=(("w0", "it is désabled"),),
    halted="w2 is away",
    ended_at=1234570.0,
    version=Version(10, "b1"),
)
DRAINED = BranchState(
    name="b1",
    is_cordoned=True,
    draining_since=1234567.5,
    drained_at=1234570.25,
    moved=(("w1", "b2"), ("w2", "b3")),
    problem="nobody täkes w3",
    version=Version(11, "b1"),
)
ALL = (FOO, TASKS, W1, RESTART, DRAINED)


def make_store_tests(fixture: Callable[[TestCase], Any]) -> type[TestCase]:
    """Tests of an `IStore`.

    :param fixture: makes an empty store that is not open yet.
    """

    class StoreTests(TestCase):
        def setUp(self) -> None:
            self.store = fixture(self)
            self.store.open()
            self.addCleanup(lambda: self.store.close())

        async def contents(self) -> set[Any]:
            return set(await self.store.load())

        def test_interface(self) -> None:
            """It provides `IStore`."""
            verifyObject(IStore, self.store)

        async def test_empty(self) -> None:
            """A new store holds nothing."""
            self.assertEqual(await self.contents(), set())

        async def test_round_trip(self) -> None:
            """What was saved is loaded, equal in every field."""
            await self.store.save(ALL)
            self.assertEqual(await self.contents(), set(ALL))

        async def test_bare(self) -> None:
            """What has only its names is loaded as it was saved."""
            bare = {App(name="a"), Queue(app="a", name="q"), Instance(name="w", app="a", branch="b")}
            await self.store.save(tuple(bare))
            self.assertEqual(await self.contents(), bare)

        async def test_replace(self) -> None:
            """A declaration takes the place of what has its kind and key, a tombstone too."""
            await self.store.save(ALL)
            changed = evolve(W1, broker=None, queues=(), max_concurrency=1, version=Version(10, "b1"))
            dead = evolve(FOO, deleted=True, broker=None)
            await self.store.save((changed, dead))
            self.assertEqual(await self.contents(), {changed, dead, TASKS, RESTART, DRAINED})

        async def test_older(self) -> None:
            """What is there in a higher version is neither replaced nor removed by a lower one."""
            newest = evolve(W1, generation=9, version=Version(20, "b2"))
            await self.store.save((FOO, TASKS, newest))
            late = evolve(W1, generation=8, version=Version(20, "b1"))
            await self.store.save((late, evolve(FOO, pool="solo")))
            await self.store.remove((late, TASKS))
            self.assertEqual(await self.contents(), {evolve(FOO, pool="solo"), newest})

        async def test_same_name_elsewhere(self) -> None:
            """Queues of one name in two apps are two."""
            other = evolve(TASKS, app="bar")
            await self.store.save((TASKS, other))
            self.assertEqual(await self.contents(), {TASKS, other})

        async def test_remove(self) -> None:
            """What is removed is gone, and what was not there is no error."""
            await self.store.save(ALL)
            await self.store.remove((W1, RESTART, DRAINED, App(name="nobody")))
            self.assertEqual(await self.contents(), {FOO, TASKS})

        async def test_nothing(self) -> None:
            """Saving nothing changes nothing."""
            await self.store.save(ALL)
            await self.store.save(())
            self.assertEqual(await self.contents(), set(ALL))

        async def test_twice_in_one(self) -> None:
            """Of what is saved twice at once the last is kept."""
            await self.store.save((W1, FOO, evolve(W1, generation=9)))
            self.assertEqual(await self.contents(), {FOO, evolve(W1, generation=9)})

        async def test_letters(self) -> None:
            """Names that differ in the case of a letter, or in an accent, are two."""
            names = {Instance(name=name, app="foo", branch="b1") for name in ("w1", "W1")}
            queues = {Queue(app="foo", name=name) for name in ("é", "e", "E", "q" * 255, "q" * 254)}
            await self.store.save((*names, *queues))
            self.assertEqual(await self.contents(), names | queues)

        async def test_brokers(self) -> None:
            """Brokers' URLs come back as they went in, long ones and those that hardly differ too."""
            urls = ("amqp://me:a@b//", "amqp://me:A@b//", "amqp://me:é😀@b//", "redis://b/" + "x" * 5000)
            apps = {App(name=f"a{number}", broker=url) for number, url in enumerate(urls)}
            await self.store.save(tuple(apps))
            await self.store.save((App(name="again", broker=urls[-1]),))
            self.assertEqual(await self.contents(), apps | {App(name="again", broker=urls[-1])})

        async def test_big(self) -> None:
            """Texts of any length that a request may bring are kept."""
            queues = tuple(f"{number:0>250}" for number in range(1000))
            big = evolve(W1, queues=queues, arguments="é" * 16_384, version=Version((1 << 63) - 1, "b" * 128))
            await self.store.save((big,))
            self.assertEqual(await self.contents(), {big})

        async def test_many(self) -> None:
            """A thousand declarations are one save."""
            many = {evolve(W1, name=f"w{number}", generation=number) for number in range(1000)}
            await self.store.save(tuple(many))
            self.assertEqual(await self.contents(), many)

        async def test_order(self) -> None:
            """Saves that are asked for at once happen in the order in which they were asked for."""
            saves = [self.store.save((evolve(W1, generation=number),)) for number in range(20)]
            for save in saves:
                await save
            self.assertEqual(await self.contents(), {evolve(W1, generation=19)})

        async def test_events(self) -> None:
            """Events are read in order, from after an id, up to a limit, of all or of one instance."""
            happened = [
                Event(
                    at=float(n),
                    branch="b1",
                    app="foo",
                    instance=f"w{n % 2}",
                    kind="k",
                    who="http",
                    details="{}",
                )
                for n in range(6)
            ]
            stored = await self.store.append_events(happened)
            self.assertEqual(await self.store.read_events(0, 100, None, None), stored)
            self.assertEqual([evolve(one, id=0) for one in stored], happened)
            self.assertEqual(await self.store.read_events(stored[1].id, 2, None, None), stored[2:4])
            self.assertEqual(await self.store.read_events(0, 100, "foo", "w1"), stored[1::2])
            self.assertEqual(await self.store.read_events(0, 100, "bar", None), ())

        async def test_last_event(self) -> None:
            """The newest event is known by its id, also when older ones are gone."""
            self.assertEqual(await self.store.last_event(), 0)
            happened = [Event(at=float(at), branch="b1", kind="start", who="x") for at in range(3)]
            stored = await self.store.append_events(happened)
            await self.store.prune_events(0.0, 1)
            self.assertEqual(await self.store.last_event(), stored[-1].id)

        async def test_prune_events(self) -> None:
            """What is too old goes, and of the rest what is not among the newest."""
            happened = [Event(at=float(n), branch="b1", kind="k", who="http") for n in range(6)]
            stored = await self.store.append_events(happened)
            await self.store.prune_events(2.0, 100)
            self.assertEqual(await self.store.read_events(0, 100, None, None), stored[2:])
            await self.store.prune_events(0.0, 1)
            self.assertEqual(await self.store.read_events(0, 100, None, None), stored[5:])

    return StoreTests
