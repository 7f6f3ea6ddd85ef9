"""What ended workers held is put back, when and on which broker."""

from __future__ import annotations

from cyme.declarations import Instance
from cyme.supervisor.restoring import MOST_AT_ONCE, PATIENCE, PAUSE
from tests.unit.test_supervisor import BROKER, SupervisorTestCase


class RestoringTests(SupervisorTestCase):
    """The supervisor's part in it."""

    def end(self, name: str = "w1") -> str:
        """Have a worker end; its incarnation."""
        pid = self.workers.processes()[name].pid
        self.workers.end(name, signal=9)
        return f"boot/{pid}/1"

    def test_ended(self) -> None:
        """What a worker held is restored once, a moment after it ended, though its successor lives."""
        self.start()
        self.run_instance()
        incarnation = self.end()
        self.assertEqual(self.remote.restored, [])
        self.turn(PAUSE + 0.1)
        self.assertEqual(self.remote.restored, [(BROKER, (incarnation,))])
        self.turn(200)
        self.assertEqual(len(self.remote.restored), 1)

    def test_ended_before(self) -> None:
        """What is left of processes that ended while no branch was there is restored at the start."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.workers.has_ended = [("w1", "boot/1/1"), ("w1", "boot/2/2"), ("stranger", "boot/3/3")]
        self.start()
        self.turn(PAUSE + 0.1)
        self.assertEqual(self.remote.restored, [(BROKER, ("boot/1/1", "boot/2/2"))])

    def test_broker_away(self) -> None:
        """A broker that is away gets it when it is back; not for ever."""
        self.start()
        self.run_instance()
        self.remote.broker_down(BROKER)
        incarnation = self.end()
        self.turn(PAUSE + 0.1)
        self.assertEqual(self.remote.restored, [])
        self.remote.broker_up(BROKER)
        self.assertEqual(self.remote.restored, [(BROKER, (incarnation,))])
        self.remote.broker_down(BROKER)
        self.turn(10)
        self.end()
        self.clock.pump([10.0] * int(PATIENCE / 10 + 10))
        self.remote.broker_up(BROKER)
        self.assertEqual(len(self.remote.restored), 1)

    def test_many(self) -> None:
        """What many held is restored in several goes."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.workers.has_ended = [("w1", f"boot/1/{number}") for number in range(MOST_AT_ONCE + 1)]
        self.start()
        self.turn(PAUSE + 0.1)
        self.assertEqual([len(holders) for _, holders in self.remote.restored], [MOST_AT_ONCE, 1])

    def test_stop(self) -> None:
        """While the branch stops nothing is put off."""
        self.start()
        self.run_instance()
        self.declare(Instance(name="w2", app="foo", branch="b1"))
        self.turn(0.1)
        first = self.end("w1")
        self.supervisor.stopService()
        self.assertEqual(self.remote.restored, [(BROKER, (first,))])
        second = self.end("w2")
        self.assertEqual(self.remote.restored[1:], [(BROKER, (second,))])
