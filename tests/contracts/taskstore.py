"""What every `ITaskStore` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.interfaces import ITaskStore
from cyme.planning import ConsumedQueue
from cyme.queued import (
    Claim,
    Confirmed,
    Due,
    Held,
    Issued,
    Outcome,
    Postponed,
    Released,
    TaskError,
    TaskState,
    TaskStatus,
    Withdrawn,
)
from cyme.taskids import TaskIds

T1 = Issued("t1", "foo", "tâches", 100.0, 1000.0)
T2 = Issued("t2", "foo", "b", 101.0, 1000.0)
DONE = '{"result": {"content": "\\u00e9\\u0000"}, "error": null}'
FAILED = '{"result": null, "error": {"type": "OSError", "message": "no route"}}'

H1 = Held(
    id="t1",
    branch="b1",
    app="foo",
    due_at=200.0,
    queue=ConsumedQueue(
        name="tâches",
        exchange="",
        exchange_type="topic",
        routing_key="é.#",
        options='{"queue_arguments": {"x-max-length": 1}}',
    ),
    task="proj.add",
    priority=3,
    expires=900.5,
    body=b'[[1, "\\u00e9\\u0000"], {}, {"callbacks": null}]',
)
H2 = Held(
    id="t2",
    branch="b1",
    app="bar",
    due_at=201.0,
    queue=ConsumedQueue(name="b", exchange="b", exchange_type="direct", routing_key="b"),
    task="t",
    priority=None,
    expires=None,
    body=b"[]" * 50,
)


def make_taskstore_tests(fixture: Callable[[TestCase], Any]) -> type[TestCase]:
    """Tests of an `ITaskStore`.

    :param fixture: makes an empty store that is open.
    """

    class TaskStoreTests(TestCase):
        timeout = 60

        def setUp(self) -> None:
            self.store = fixture(self)

        async def state(self, task_id: str) -> TaskState | None:
            found = await self.store.read_tasks([task_id])
            return found[task_id].state if task_id in found else None

        def test_interface(self) -> None:
            """It provides `ITaskStore`."""
            verifyObject(ITaskStore, self.store)

        async def test_issued(self) -> None:
            """A task that was issued is known and pending; others are not known."""
            self.assertEqual(await self.store.write_tasks([T1]), frozenset())
            found = await self.store.read_tasks(["t1", "t2"])
            pending = TaskStatus(
                id="t1", app="foo", queue="tâches", state=TaskState.PENDING, created_at=100.0
            )
            self.assertEqual(found, {"t1": pending})

        async def test_outcomes(self) -> None:
            """What becomes of a task is kept, with its result or its error."""
            await self.store.write_tasks([T1, T2, Outcome("t1", TaskState.SUCCESS, DONE, 110.0, 2000.0)])
            await self.store.write_tasks([Outcome("t2", TaskState.FAILURE, FAILED, 111.0, 2000.0)])
            found = await self.store.read_tasks(["t1", "t2"])
            self.assertEqual(found["t1"].result, {"content": "é\0"})
            self.assertEqual((found["t1"].state, found["t1"].finished_at), (TaskState.SUCCESS, 110.0))
            self.assertEqual(found["t2"].error, TaskError(type="OSError", message="no route"))

        async def test_no_way_back(self) -> None:
            """A final state stays; others follow each other."""
            await self.store.write_tasks([T1, Outcome("t1", TaskState.STARTED, None, 110.0)])
            await self.store.write_tasks([Outcome("t1", TaskState.RETRY, FAILED, 111.0)])
            self.assertEqual(await self.state("t1"), TaskState.RETRY)
            await self.store.write_tasks([Outcome("t1", TaskState.SUCCESS, DONE, 112.0, 2000.0)])
            await self.store.write_tasks([Outcome("t1", TaskState.STARTED, None, 113.0)])
            await self.store.write_tasks([Outcome("t1", TaskState.REVOKED, None, 113.0, 9000.0)])
            self.assertEqual(await self.state("t1"), TaskState.SUCCESS)

        async def test_twice(self) -> None:
            """Writing the same twice changes nothing."""
            changes = [T1, Outcome("t1", TaskState.SUCCESS, DONE, 110.0, 2000.0)]
            await self.store.write_tasks(changes)
            before = await self.store.read_tasks(["t1"])
            await self.store.write_tasks(changes)
            self.assertEqual(await self.store.read_tasks(["t1"]), before)

        async def test_unknown(self) -> None:
            """What is said of a task that is not known is not kept, and told."""
            outcomes = [Outcome(name, TaskState.SUCCESS, DONE, 110.0, 2000.0) for name in ("t1", "t2")]
            self.assertEqual(await self.store.write_tasks([T1, *outcomes]), {"t2"})
            self.assertIsNone(await self.state("t2"))

        async def test_withdrawn(self) -> None:
            """A task that was withdrawn is not known any more."""
            await self.store.write_tasks([T1, T2])
            await self.store.write_tasks([Withdrawn("t1"), Withdrawn("never")])
            self.assertEqual((await self.state("t1"), await self.state("t2")), (None, TaskState.PENDING))

        async def test_claims(self) -> None:
            """A deduplication id belongs to the first who claims it, in each app, until its time is over."""
            claim = Claim(app="foo", deduplication_id="é" * 3000, task_id="t1", until=200.0)
            other = Claim(app="foo", deduplication_id="é" * 3000, task_id="t2", until=300.0)
            elsewhere = Claim(app="bar", deduplication_id="é" * 3000, task_id="t3", until=300.0)
            self.assertEqual(await self.store.claim_task(claim, 100.0), claim)
            self.assertEqual(await self.store.claim_task(other, 199.0), claim)
            self.assertEqual(await self.store.claim_task(elsewhere, 199.0), elsewhere)
            self.assertEqual(await self.store.claim_task(other, 200.0), other)

        async def test_claims_of_two_branches(self) -> None:
            """What another branch has claimed counts once it is confirmed."""
            first, second = (
                Claim(
                    app="foo",
                    deduplication_id="d",
                    task_id=TaskIds(name, lambda: 0.0, lambda _: 0).new(),
                    until=200.0,
                )
                for name in ("b1", "b2")
            )
            await self.store.claim_task(first, 100.0)
            self.assertEqual(await self.store.claim_task(second, 100.0), second)
            await self.store.write_tasks([Confirmed("foo", "d", second.task_id)])
            confirmed = evolve(second, is_confirmed=True)
            self.assertEqual(await self.store.claim_task(first, 100.0), confirmed)

        async def test_confirmed(self) -> None:
            """A claim is confirmed when its task is."""
            claim = Claim(app="foo", deduplication_id="d", task_id="t1", until=200.0)
            await self.store.claim_task(claim, 100.0)
            await self.store.write_tasks([T1, Confirmed("foo", "d", "t9")])
            self.assertFalse((await self.store.claim_task(claim, 100.0)).is_confirmed)
            await self.store.write_tasks([Confirmed("foo", "d", "t1")])
            self.assertTrue((await self.store.claim_task(claim, 100.0)).is_confirmed)

        async def test_new(self) -> None:
            """A task with a new id is written, and what comes of it in the same transaction."""
            new = Issued("t1", "foo", "q", 100.0, 1000.0, is_new=True)
            done = Outcome("t1", TaskState.SUCCESS, DONE, 101.0, 2000.0)
            self.assertEqual(await self.store.write_tasks([new, done]), frozenset())
            self.assertIs((await self.store.read_tasks(["t1"]))["t1"].state, TaskState.SUCCESS)

        async def test_revoked(self) -> None:
            """The newest revoked tasks are told."""
            issued = [Issued(f"t{number}", "foo", "q", 100.0, 1000.0) for number in range(4)]
            revoked = [Outcome(f"t{number}", TaskState.REVOKED, None, 101.0, 1000.0) for number in range(3)]
            await self.store.write_tasks([*issued, *revoked])
            self.assertEqual(await self.store.revoked_tasks(2), ("t2", "t1"))

        async def test_prune(self) -> None:
            """What has expired goes, a part at a time; a result counts from when it came."""
            issued = [Issued(f"t{number}", "foo", "q", 100.0, 1000.0) for number in range(5)]
            kept = Outcome("t0", TaskState.SUCCESS, DONE, 900.0, 2000.0)
            await self.store.write_tasks([*issued, kept, Outcome("t1", TaskState.STARTED, None, 900.0)])
            await self.store.claim_task(
                Claim(app="a", deduplication_id="d", task_id="t1", until=500.0), 100.0
            )
            self.assertEqual(await self.store.prune_tasks(1001.0, 3), 3)
            self.assertEqual(await self.store.prune_tasks(1001.0, 3), 1)
            left = await self.store.read_tasks([f"t{number}" for number in range(5)])
            self.assertEqual(set(left), {"t0"})
            self.assertEqual(await self.store.prune_tasks(2001.0, 3), 1)

        async def test_brokers(self) -> None:
            """Brokers are remembered for as long as anybody has asked for."""
            url = "amqp://me:s%20cret@broker//"
            await self.store.use_broker(url, 500.0)
            await self.store.use_broker(url, 300.0)
            await self.store.use_broker("redis://r/1", 600.0)
            self.assertEqual(await self.store.used_brokers(), {url: 500.0, "redis://r/1": 600.0})
            await self.store.prune_tasks(501.0, 10)
            self.assertEqual(await self.store.used_brokers(), {"redis://r/1": 600.0})

        async def due(self, before: float, *without: str, limit: int = 10, size: int = 1000) -> Due:
            found: Due = await self.store.due_tasks("b1", before, without, limit, size)
            return found

        async def test_held(self) -> None:
            """A task that is held comes back whole when it is due, the soonest first, until its release."""
            await self.store.write_tasks([T2, H2, T1, H1])
            self.assertEqual(await self.due(199.0), Due(next_at=200.0))
            self.assertEqual(await self.due(200.0), Due(tasks=(H1,)))
            self.assertEqual(await self.due(201.0), Due(tasks=(H1, H2)))
            await self.store.write_tasks([Released("t1"), Released("never")])
            self.assertEqual(await self.due(201.0), Due(tasks=(H2,)))
            self.assertEqual(await self.state("t1"), TaskState.PENDING)
            await self.store.write_tasks([Released("t2")])
            self.assertEqual(await self.due(201.0), Due())

        async def test_held_twice(self) -> None:
            """A task is held once, as it was first."""
            await self.store.write_tasks([T1, H1, evolve(H1, due_at=1.0), T1])
            await self.store.write_tasks([evolve(H1, due_at=2.0)])
            self.assertEqual(await self.due(300.0), Due(tasks=(H1,)))

        async def test_held_elsewhere(self) -> None:
            """What another branch holds is not this one's."""
            await self.store.write_tasks([T1, evolve(H1, branch="b2")])
            self.assertEqual(await self.due(300.0), Due())

        async def test_held_parts(self) -> None:
            """What is due comes in parts, by number and by size, and of each at least one task."""
            await self.store.write_tasks([T1, H1, T2, H2])
            self.assertEqual((await self.due(300.0, limit=1)).tasks, (H1,))
            self.assertEqual((await self.due(300.0, size=1)).tasks, (H1,))
            self.assertEqual((await self.due(300.0, size=len(H1.body) + len(H2.body) - 1)).tasks, (H1,))
            self.assertEqual((await self.due(300.0, size=len(H1.body) + len(H2.body))).tasks, (H1, H2))

        async def test_held_without(self) -> None:
            """Apps can be left out, and then it is told when the first task of those is due."""
            await self.store.write_tasks([T1, H1, T2, H2])
            self.assertEqual(await self.due(300.0, "foo"), Due(tasks=(H2,)))
            self.assertEqual(await self.due(200.5, "foo", "no"), Due(next_at=201.0, next_left_out=200.0))
            self.assertEqual(await self.due(300.0, "foo", "bar"), Due(next_left_out=200.0))

        async def test_postponed(self) -> None:
            """A task that is postponed is due then; one that is not held is not."""
            await self.store.write_tasks([T1, H1, T2, H2, Postponed("t1", 500.0), Postponed("never", 1.0)])
            self.assertEqual(await self.due(300.0), Due(tasks=(H2,)))
            self.assertEqual((await self.due(500.0)).tasks, (H2, evolve(H1, due_at=500.0)))

        async def test_held_settled(self) -> None:
            """Of what was revoked, has begun or is no task any more only the id is told."""
            await self.store.write_tasks([T1, H1, T2, H2, Outcome("t1", TaskState.STARTED, None, 110.0)])
            self.assertEqual(await self.due(300.0), Due(tasks=(H2,), settled=("t1",)))
            revoked = Outcome("t2", TaskState.REVOKED, None, 110.0, 2000.0)
            await self.store.write_tasks([revoked, Released("t1")])
            self.assertEqual(await self.due(300.0), Due(settled=("t2",)))
            await self.store.write_tasks([evolve(H1, id="t3")])
            self.assertEqual(set((await self.due(300.0)).settled), {"t2", "t3"})

        async def test_held_withdrawn(self) -> None:
            """A task that was withdrawn is not held."""
            await self.store.write_tasks([T1, H1, Withdrawn("t1")])
            self.assertEqual(await self.due(300.0), Due())

        async def test_held_kept(self) -> None:
            """What is held does not expire, and is kept for a while after it was released."""
            await self.store.write_tasks([T1, H1])
            self.assertEqual(await self.store.prune_tasks(1001.0, 10), 0)
            await self.store.write_tasks([Released("t1", 1500.0)])
            self.assertEqual(await self.store.prune_tasks(1499.0, 10), 0)
            self.assertEqual(await self.store.prune_tasks(1501.0, 10), 1)

        async def test_order(self) -> None:
            """Reads see the writes that were asked for before them."""
            writing = self.store.write_tasks([T1])
            found = await self.store.read_tasks(["t1"])
            self.assertEqual(set(found), {"t1"})
            await writing

        async def test_many(self) -> None:
            """Thousands of tasks are no matter."""
            ids = [f"{number:036}" for number in range(3000)]
            await self.store.write_tasks([Issued(one, "foo", "q", 1.0, 2.0) for one in ids])
            outcomes = [Outcome(one, TaskState.SUCCESS, DONE, 110.0, 2000.0) for one in ids]
            self.assertEqual(await self.store.write_tasks(outcomes), frozenset())
            found = await self.store.read_tasks(ids)
            self.assertEqual({one.state for one in found.values()}, {TaskState.SUCCESS})
            self.assertEqual(len(found), 3000)

    return TaskStoreTests
