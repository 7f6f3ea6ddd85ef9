"""What is done later in a worker, and what is put off."""

from __future__ import annotations

import os
import queue
import threading
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.tasks import alarms as module
from cyme.tasks import answering
from cyme.tasks.alarms import MOST_PUT_OFF, Alarm, Alarms, alarms

#: Seconds after which something that has to come counts as missing.
PATIENCE = 10.0


class AlarmsTests(SynchronousTestCase):
    """One thread does what is to be done later, in the order of its time."""

    def setUp(self) -> None:
        self.rung: queue.Queue[Any] = queue.Queue()
        self.alarms = Alarms()

    def test_order(self) -> None:
        """What is sooner is done sooner, also when it was set later."""
        self.alarms.set(0.3, lambda: self.rung.put("late"))
        self.alarms.set(0.0, lambda: self.rung.put("soon"))
        self.assertEqual([self.rung.get(timeout=PATIENCE) for _ in range(2)], ["soon", "late"])

    def test_one_thread(self) -> None:
        """All are rung by one thread, which is not that of who sets them."""
        for _ in range(3):
            self.alarms.set(0.0, lambda: self.rung.put(threading.get_ident()))
        idents = {self.rung.get(timeout=PATIENCE) for _ in range(3)}
        self.assertEqual(len(idents), 1)
        self.assertNotIn(threading.get_ident(), idents)

    def test_put_off(self) -> None:
        """What was put off is not done."""
        self.alarms.set(0.05, lambda: self.rung.put("never")).put_off()
        self.alarms.set(0.1, lambda: self.rung.put("at last"))
        self.assertEqual(self.rung.get(timeout=PATIENCE), "at last")
        self.assertTrue(self.rung.empty())

    def test_failure(self) -> None:
        """What fails is logged, and keeps nothing after it from being done."""
        problems: list[str] = []
        self.patch(module.logger, "exception", problems.append)
        self.alarms.set(0.0, lambda: 1 / 0)
        self.alarms.set(0.01, lambda: self.rung.put("done"))
        self.assertEqual(self.rung.get(timeout=PATIENCE), "done")
        self.assertEqual(len(problems), 1)

    def test_bound(self) -> None:
        """What was put off does not pile up until its time comes."""
        kept = self.alarms.set(3600.0, lambda: None)
        for _ in range(10 * MOST_PUT_OFF):
            self.alarms.set(3600.0, lambda: None).put_off()
        self.assertLessEqual(len(self.alarms._alarms), 2 * MOST_PUT_OFF)
        self.assertIn(kept, self.alarms._alarms)

    def test_forked(self) -> None:
        """A process has alarms of its own, whatever its parent had."""
        mine = alarms("a test")
        self.addCleanup(module._alarms.pop, "a test")
        self.assertIs(alarms("a test"), mine)
        self.assertIsNot(alarms("another"), mine)
        self.addCleanup(module._alarms.pop, "another")
        parent = os.getpid() - 1
        mine.pid = parent
        self.assertIsNot(alarms("a test"), mine)


class StartedTests(SynchronousTestCase):
    """Who runs for longer than a moment is told to have started."""

    def setUp(self) -> None:
        self.set: list[Alarm] = []
        self.told: list[str] = []
        self.patch(answering, "publish", lambda app, text, **_: self.told.append(text))
        self.patch(answering, "call_back", lambda *_: None)
        self.request = SimpleNamespace(id="t1", reply_to="cyme.results.b", hostname="w@h")
        self.app = SimpleNamespace(now=lambda: SimpleNamespace(isoformat=lambda: "now"))
        self.task = SimpleNamespace(request=self.request, app=self.app)

    def begin(self) -> Alarm:
        """Begin the task; the alarm that it sets."""

        def set_alarm(seconds: float, action: Any) -> Alarm:
            self.set.append(Alarm(seconds, action))
            return self.set[-1]

        self.patch(answering, "alarms", lambda purpose: SimpleNamespace(set=set_alarm))
        answering.when_started(self.task, "t1")
        return self.set[-1]

    def test_long(self) -> None:
        """A task that still runs after a moment is told to have started."""
        alarm = self.begin()
        self.assertEqual((alarm.when, self.told), (answering.STARTED_AFTER, []))
        alarm.ring()
        self.assertEqual(len(self.told), 1)
        self.assertIn('"status": "STARTED"', self.told[0])

    def test_short(self) -> None:
        """Of a task that is over before that, only its end is told."""
        alarm = self.begin()
        answering.answer(self.app, "t1", "SUCCESS", {}, self.request)
        alarm.ring()
        self.assertEqual(len(self.told), 1)
        self.assertIn('"status": "SUCCESS"', self.told[0])

    def test_without_an_end(self) -> None:
        """A task that is over without an end of its own is not told to have started."""
        alarm = self.begin()
        answering.when_over(self.task)
        alarm.ring()
        self.assertEqual(self.told, [])

    def test_others(self) -> None:
        """For a task that no branch asks about no alarm is set."""
        self.request.reply_to = "celery's own"
        self.patch(answering, "alarms", lambda purpose: self.fail("an alarm"))
        answering.when_started(self.task, "t1")
        self.assertEqual(self.told, [])
