"""Signs of life: who is silent, and for how long."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from cyme.threads import Threads
from cyme.vitals import Pulse, Silence, Vitals


class PulseTests(SynchronousTestCase):
    """What a component shows of its progress."""

    def test_idle(self) -> None:
        """Who has nothing to do shows nothing."""
        pulse = Pulse()
        pulse.beat()
        self.assertEqual(pulse.signs("it"), {})

    def test_busy(self) -> None:
        """Who is busy shows something else after each progress, also when one of two ends."""
        pulse = Pulse()
        with pulse.busy():
            shown = [pulse.signs("it")["it"]]
            pulse.beat()
            shown.append(pulse.signs("it")["it"])
            with pulse.busy():
                self.assertEqual(pulse.signs("it")["it"], shown[-1])
            shown.append(pulse.signs("it")["it"])
        self.assertEqual(len(set(shown)), 3)
        self.assertEqual(pulse.signs("it"), {})

    def test_during(self) -> None:
        """Somebody is busy until a Deferred fires or fails, whose result goes on."""
        pulse = Pulse()
        work: Deferred[int] = Deferred()
        waited = pulse.during(work)
        self.assertEqual(list(pulse.signs("it")), ["it"])
        work.callback(7)
        self.assertEqual((self.successResultOf(waited), pulse.signs("it")), (7, {}))
        self.failureResultOf(pulse.during(fail(KeyError("x"))), KeyError)
        self.assertEqual(pulse.signs("it"), {})


class VitalsTests(SynchronousTestCase):
    """Who counts as dead."""

    def setUp(self) -> None:
        self.vitals = Vitals()
        self.shown: dict[str, object] = {}
        self.vitals.watch(lambda: self.shown, 10.0)

    def test_silent(self) -> None:
        """Who shows the same for longer than the limit is named, with the time."""
        self.shown["it"] = 1
        self.assertEqual([self.vitals.look(4.0) for _ in range(3)], [None] * 3)
        self.assertEqual(self.vitals.look(4.0), Silence("it", 12.0))

    def test_progress(self) -> None:
        """Who makes progress now and then lives, and so does who was idle in between."""
        for turn in range(10):
            self.shown = {"it": turn // 2, "other": 1} if turn % 3 else {"it": turn // 2}
            self.assertIsNone(self.vitals.look(6.0))

    def test_one_of_many(self) -> None:
        """One that is silent is found among others that are not."""
        for turn in range(2):
            self.shown = {"it": turn, "other": 1}
            self.assertIsNone(self.vitals.look(6.0))
        self.shown = {"it": 2, "other": 1}
        self.assertIsNone(self.vitals.look(4.0))
        self.assertEqual(self.vitals.look(1.0), Silence("other", 11.0))

    def test_own_limits(self) -> None:
        """Each has its own limit."""
        self.vitals.watch(lambda: {"impatient": 1}, 0.0)
        self.shown["it"] = 1
        self.assertIsNone(self.vitals.look(5.0))
        self.assertEqual(self.vitals.look(5.0), Silence("impatient", 5.0))

    def test_failing(self) -> None:
        """A sign that can't be had ends nobody, hides nobody else, and is logged once."""

        def broken() -> Any:
            raise RuntimeError("a bug")

        vitals = Vitals()
        vitals.watch(broken, 1.0)
        vitals.watch(lambda: {"it": 1}, 1.0)
        self.assertIsNone(vitals.look(1.0))
        self.assertEqual(vitals.look(2.0), Silence("it", 2.0))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_clear(self) -> None:
        """Nothing is looked at any more after that."""
        self.shown["it"] = 1
        self.vitals.look(1.0)
        self.vitals.clear()
        self.assertIsNone(self.vitals.look(100.0))


class FakePool:
    """A thread pool whose threads do something when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def getThreadPool(self) -> FakePool:
        return self

    def callInThreadWithCallback(self, done: Any, function: Any, *arguments: Any, **keywords: Any) -> None:
        self.waiting.append(lambda: done(True, function(*arguments, **keywords)))

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        function(*arguments)

    def run_one(self) -> None:
        self.waiting.pop(0)()


class ThreadsTests(SynchronousTestCase):
    """The reactor's thread pool."""

    def setUp(self) -> None:
        self.pool = FakePool()
        self.threads = Threads(self.pool)

    def test_run(self) -> None:
        """What was run fires with its result."""
        ran = self.threads.run(lambda: 7)
        self.assertNoResult(ran)
        self.pool.run_one()
        self.assertEqual(self.successResultOf(ran), 7)

    def test_exhausted(self) -> None:
        """A pool that runs nothing shows the same at each look, with one attempt under way."""
        first = self.threads.signs()
        self.assertEqual(self.threads.signs(), first)
        self.assertEqual(len(self.pool.waiting), 1)
        self.pool.run_one()
        self.assertNotEqual(self.threads.signs(), first)

    def test_slow(self) -> None:
        """A pool that gets on, if slowly, with a long queue shows that it does."""
        for _ in range(5):
            self.threads.run(lambda: None)
        shown = []
        for _ in range(5):
            shown.append(self.threads.signs()["the reactor's thread pool"])
            self.pool.run_one()
        self.assertEqual(len(set(shown)), 5)
