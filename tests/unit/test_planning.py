"""The supervisor's judgement, as tables and as properties."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.exits import EXPLANATIONS, RULES, Reason
from cyme.limits import Resources
from cyme.planning import (
    BLANK,
    SILENT,
    AddConsumer,
    CancelConsumer,
    CleanUp,
    ConsumedQueue,
    Desired,
    Exit,
    Heard,
    History,
    Observed,
    Phase,
    Policy,
    Process,
    SetAutoscale,
    Start,
    State,
    Stop,
    after_exit,
    broker_returned,
    forgiven,
    plan,
    state_of,
)

NOW = 1_000_000.0
POLICY = Policy()
TASKS = ConsumedQueue(name="tasks", exchange="tasks", exchange_type="direct", routing_key="tasks")


def desired(**changes: Any) -> Desired:
    """An enabled instance `w1`."""
    values: dict[str, Any] = {
        "name": "w1",
        "app": "foo",
        "node": "w1@host",
        "broker": "amqp://broker//",
        "celery_app": "cyme.tasks",
    }
    return Desired(**{**values, **changes})


def process(**changes: Any) -> Process:
    """A running worker of `desired()`."""
    values: dict[str, Any] = {
        "pid": 4711,
        "started_at": NOW - 100,
        "fingerprint": desired().fingerprint,
        "phase": Phase.RUNNING,
    }
    return Process(**{**values, **changes})


def heard(**changes: Any) -> Heard:
    """What a worker that is as `desired()` says."""
    values: dict[str, Any] = {
        "pong_at": NOW - 1,
        "consumers": frozenset({"dq.w1"}),
        "autoscale": (1, 1),
    }
    return Heard(**{**values, **changes})


def observed(**changes: Any) -> Observed:
    """A worker that is as `desired()`, with its broker in reach."""
    values: dict[str, Any] = {"process": process(), "heard": heard(), "broker_up": True}
    return Observed(**{**values, **changes})


def takes(mebibytes: int) -> Resources:
    """What a worker takes that needs so much memory."""
    return Resources(rss=mebibytes << 20, cpu_seconds=1.0, at=NOW)


def steps(wanted: Desired | None, seen: Observed, history: History = BLANK, now: float = NOW) -> list[Any]:
    """The plan for `w1`."""
    return list(plan("w1", wanted, seen, history, now, POLICY))


class PlanTests(SynchronousTestCase):
    """`plan` answers each difference with the one step that removes it."""

    def test_nothing_to_do(self) -> None:
        """A worker that is as it is declared is left alone."""
        self.assertEqual(steps(desired(), observed()), [])

    def test_start(self) -> None:
        """An enabled instance without a process is started."""
        self.assertEqual(steps(desired(), observed(process=None, heard=SILENT)), [Start(desired())])

    def test_start_without_broker(self) -> None:
        """A worker is started while its broker is away: it waits for it by itself (F13)."""
        self.assertEqual(steps(desired(), observed(process=None, broker_up=False)), [Start(desired())])

    def test_no_start_in_backoff(self) -> None:
        """An instance in back-off is not started before its next attempt is due."""
        history = History(failures=3, next_attempt=NOW + 0.5)
        seen = observed(process=None)
        self.assertEqual(steps(desired(), seen, history), [])
        self.assertEqual(steps(desired(), seen, history, now=NOW + 0.5), [Start(desired())])

    def test_disabled(self) -> None:
        """The worker of a disabled instance is stopped, and none is started."""
        wanted = desired(is_enabled=False)
        self.assertEqual(steps(wanted, observed()), [Stop("w1", "disabled")])
        self.assertEqual(steps(wanted, observed(process=None)), [])

    def test_removed(self) -> None:
        """The worker of a deleted instance is stopped first and cleaned up after when it is gone."""
        self.assertEqual(steps(None, observed()), [Stop("w1", "removed")])
        self.assertEqual(steps(None, observed(process=None, leftovers=True)), [CleanUp("w1")])
        self.assertEqual(steps(None, observed(process=None)), [])

    def test_stopping_is_left_alone(self) -> None:
        """A worker that stops is neither corrected nor condemned: it answers no ping (F5)."""
        seen = observed(process=process(phase=Phase.STOPPING), heard=heard(missed=99, consumers=frozenset()))
        for wanted in (desired(), desired(is_enabled=False), desired(generation=1), None):
            self.assertEqual(steps(wanted, seen), [])

    def test_changed_start_arguments(self) -> None:
        """A change of what a worker is started with stops it, to be started anew."""
        for change in (
            {"broker": "redis://other/0"},
            {"celery_app": "proj.celery:app"},
            {"pool": "threads"},
            {"arguments": ("--max-tasks-per-child=5",)},
            {"extra_config": ("task_acks_late=true",)},
            {"generation": 1},
        ):
            [step] = steps(desired(**change), observed())
            self.assertIsInstance(step, Stop, change)
            self.assertFalse(step.failed, change)

    def test_limits_restart_nothing(self) -> None:
        """A limit that is set, changed or taken away leaves the worker as it is."""
        wanted = desired(max_memory=1 << 30, max_age=1e6, stall_timeout=60.0)
        self.assertEqual(wanted.fingerprint, desired().fingerprint)
        self.assertEqual(steps(wanted, observed()), [])

    def test_max_memory(self) -> None:
        """A worker over its limit of memory is replaced, whatever its broker does; the figures are said."""
        wanted = desired(max_memory=100 << 20)
        for seen, expected in (
            ({"resources": takes(101)}, True),
            ({"resources": takes(101), "broker_up": False}, True),
            ({"resources": takes(101), "process": process(phase=Phase.STARTING, started_at=NOW - 50)}, True),
            ({"resources": takes(101), "process": process(phase=Phase.STOPPING)}, False),
            ({"resources": takes(101), "may_replace": False}, False),
            ({"resources": takes(100)}, False),
            ({"resources": None}, False),
        ):
            found = steps(wanted, observed(**seen))
            self.assertEqual(bool(found), expected, seen)
            for step in found:
                reason = "it takes 101.0 MiB, over its max_memory of 100.0 MiB"
                self.assertEqual(step, Stop("w1", reason, cause=Reason.OVER_LIMIT, in_turn=True))
        self.assertEqual(steps(desired(), observed(resources=takes(1 << 20))), [])

    def test_memory_at_once(self) -> None:
        """A worker over its limit of memory before it has lived long enough has failed (F17)."""
        wanted = desired(max_memory=100 << 20)
        for age, failed in ((POLICY.stable_after - 0.1, True), (POLICY.stable_after, False)):
            seen = observed(process=process(started_at=NOW - age), resources=takes(200))
            [step] = steps(wanted, seen)
            self.assertEqual(step.failed, failed)

    def test_max_age(self) -> None:
        """A worker that runs is replaced when it is too old, but not while its broker is away."""
        wanted = desired(max_age=50.0)
        stop = [Stop("w1", "it is 100 s old, over its max_age of 50 s", in_turn=True)]
        for seen, expected in (
            ({}, stop),
            ({"process": process(started_at=NOW - 49.9)}, []),
            ({"process": process(phase=Phase.STARTING, started_at=NOW - 55)}, []),
            ({"process": process(phase=Phase.STOPPING)}, []),
            ({"broker_up": False}, []),
            ({"broker_up": None}, []),
            ({"may_replace": False}, []),
        ):
            self.assertEqual(steps(wanted, observed(**seen)), expected, seen)

    def test_waiting_for_its_turn(self) -> None:
        """A worker that waits to be replaced is corrected meanwhile."""
        wanted = desired(max_age=100.0, queues=(TASKS,))
        self.assertEqual(steps(wanted, observed(may_replace=False)), [AddConsumer("w1", TASKS)])

    def test_live_changes(self) -> None:
        """Queues and the range of a pool that can grow change without a restart."""
        wanted = desired(queues=(TASKS,), max_concurrency=4, min_concurrency=2)
        self.assertEqual(steps(wanted, observed()), [AddConsumer("w1", TASKS), SetAutoscale("w1", 4, 2)])

    def test_fixed_pool(self) -> None:
        """A pool that can't grow is never told to autoscale; its size is a start argument (F7)."""
        wanted = desired(pool="threads", max_concurrency=4)
        seen = observed(process=process(fingerprint=wanted.fingerprint), heard=heard(autoscale=None))
        self.assertEqual(steps(wanted, seen), [])
        [step] = steps(desired(pool="threads", max_concurrency=5), seen)
        self.assertIsInstance(step, Stop)

    def test_foreign_consumer(self) -> None:
        """A consumer that is not declared is cancelled, the private queue never."""
        seen = observed(heard=heard(consumers=frozenset({"dq.w1", "celery"})))
        self.assertEqual(steps(desired(), seen), [CancelConsumer("w1", "celery")])

    def test_lost_private_queue(self) -> None:
        """A private queue that somebody cancelled is consumed from again."""
        [step] = steps(desired(), observed(heard=heard(consumers=frozenset())))
        self.assertEqual((step.name, step.queue.name), ("w1", "dq.w1"))

    def test_quarantine(self) -> None:
        """A queue that the broker refused is left out, the others are not."""
        other = evolve(TASKS, name="other")
        seen = observed(quarantined=frozenset({"tasks"}))
        self.assertEqual(steps(desired(queues=(TASKS, other)), seen), [AddConsumer("w1", other)])

    def test_unknown_is_not_wrong(self) -> None:
        """What the worker did not tell is not corrected."""
        seen = observed(heard=heard(consumers=None, autoscale=None))
        self.assertEqual(steps(desired(queues=(TASKS,), max_concurrency=9), seen), [])

    def test_hold_off_after_failed_command(self) -> None:
        """After a command failed nothing is commanded until the hold-off is over."""
        history = History(retry_at=NOW + 1)
        self.assertEqual(steps(desired(queues=(TASKS,)), observed(), history), [])
        self.assertEqual(
            steps(desired(queues=(TASKS,)), observed(), history, NOW + 1), [AddConsumer("w1", TASKS)]
        )

    def test_no_commands_without_broker(self) -> None:
        """Nothing is commanded while the broker is away or not known."""
        for broker_up in (False, None):
            self.assertEqual(steps(desired(queues=(TASKS,)), observed(broker_up=broker_up)), [])


class SilenceTests(SynchronousTestCase):
    """Silence condemns a worker only when nothing else explains it."""

    def test_one_lost_pong(self) -> None:
        """A worker that missed fewer questions than the policy says is left alone (F14)."""
        for misses in range(POLICY.misses):
            self.assertEqual(steps(desired(), observed(heard=heard(missed=misses))), [])

    def test_unresponsive(self) -> None:
        """A worker that missed enough questions in a row is stopped, and its life counts as failed."""
        [step] = steps(desired(), observed(heard=heard(missed=POLICY.misses)))
        self.assertTrue(step.failed)
        self.assertIn("unresponsive", step.reason)

    def test_broker_away(self) -> None:
        """While the broker is away silence means nothing (F13)."""
        for broker_up in (False, None):
            seen = observed(heard=heard(missed=99), broker_up=broker_up)
            self.assertEqual(steps(desired(), seen), [])

    def test_broker_back(self) -> None:
        """Nothing is concluded from silence until wait_after_broker_revived has passed (R88)."""
        seen = observed(heard=heard(missed=99), broker_revived_at=NOW)
        wait = POLICY.wait_after_broker_revived
        self.assertEqual(steps(desired(), seen, now=NOW + wait - 0.1), [])
        self.assertEqual(len(steps(desired(), seen, now=NOW + wait)), 1)

    def test_never_ponged(self) -> None:
        """A worker that does not answer within the start time-out is stopped as failed."""
        seen = observed(process=process(phase=Phase.STARTING, started_at=NOW), heard=SILENT)
        self.assertEqual(steps(desired(), seen, now=NOW + POLICY.start_timeout - 0.1), [])
        [step] = steps(desired(), seen, now=NOW + POLICY.start_timeout)
        self.assertTrue(step.failed)

    def test_started_before_broker_came_back(self) -> None:
        """The start time-out counts from when the broker came back, if that was later."""
        seen = observed(
            process=process(phase=Phase.STARTING, started_at=NOW - 500), heard=SILENT, broker_revived_at=NOW
        )
        self.assertEqual(steps(desired(), seen, now=NOW + POLICY.start_timeout - 0.1), [])


class HistoryTests(SynchronousTestCase):
    """`after_exit` decides how soon a worker is started again."""

    def exit(self, lived: float = 1.0) -> Exit:
        return Exit(status=1, signal=None, at=NOW, lived=lived, expected=False)

    def delays(self, count: int, jitter: float = 0.0) -> list[float]:
        history, found = BLANK, []
        for _ in range(count):
            history = after_exit(history, self.exit(), failed=True, jitter=jitter, policy=POLICY)
            found.append(max(0.0, history.next_attempt - NOW))
        return found

    def test_backoff(self) -> None:
        """The first failure is made good at once; then the wait doubles from 1 s to 60 s."""
        self.assertEqual(self.delays(9), [0, 1, 2, 4, 8, 16, 32, 60, 60])

    def test_jitter(self) -> None:
        """Jitter only lengthens: out of control means at most one start a minute."""
        self.assertEqual(self.delays(9, jitter=1.0)[-1], 75)

    def test_long_crash_loop(self) -> None:
        """A crash loop of any length keeps the longest wait."""
        self.assertEqual(self.delays(5000)[-1], 60)

    def test_long_life(self) -> None:
        """A life that was long enough makes the failures before it forgotten."""
        history = History(failures=7)
        after = after_exit(
            history, self.exit(lived=POLICY.stable_after), failed=True, jitter=0, policy=POLICY
        )
        self.assertEqual((after.failures, after.next_attempt <= NOW), (1, True))

    def test_wanted_stop(self) -> None:
        """A stop that was wanted leaves no failures behind."""
        after = after_exit(History(failures=7), self.exit(), failed=False, jitter=0, policy=POLICY)
        self.assertEqual((after.failures, after.next_attempt), (0, 0.0))

    def test_forgiven(self) -> None:
        """A user's request ends the back-off and keeps the reason of the last end."""
        history = History(failures=3, next_attempt=NOW + 50, retry_at=NOW + 5, last_exit=self.exit())
        self.assertEqual(forgiven(history), History(last_exit=self.exit()))


class RuleTests(SynchronousTestCase):
    """Each reason has its own rule."""

    def after(self, *reasons: Reason, lived: float = 1.0, jitter: float = 0.0) -> tuple[list[float], History]:
        """The waits after lives that ended so, one after the other, and the history at last."""
        history, waits = BLANK, []
        for reason in reasons:
            exit = Exit(status=1, signal=None, at=NOW, lived=lived, expected=False)
            history = after_exit(history, exit, failed=True, jitter=jitter, policy=POLICY, reason=reason)
            waits.append(history.next_attempt - NOW)
        return waits, history

    def test_waits(self) -> None:
        """The waits after four short lives in a row, and what they count for, by reason."""
        growing, steady, long = [0, 1, 2, 4], [5] * 4, [60] * 4
        table = {
            Reason.SHUT_DOWN: (growing, 4),
            Reason.KILLED: (growing, 4),
            Reason.CRASHED: (growing, 4),
            Reason.UNKNOWN: (growing, 4),
            Reason.UNRESPONSIVE: (growing, 4),
            Reason.STALLED: (growing, 4),
            Reason.DEAF: (growing, 4),
            Reason.OVER_LIMIT: (growing, 4),
            Reason.CONSUMER_TIMEOUT: (growing, 4),
            Reason.DECLARATION_REFUSED: (growing, 4),
            Reason.OUT_OF_MEMORY: ([1, 1, 2, 4], 4),
            Reason.NOT_STARTED: ([1, 1, 2, 4], 4),
            Reason.RESOURCE_LOCKED: (steady, 0),
            Reason.BROKER_UNREACHABLE: (steady, 0),
            Reason.STALE_PIDFILE: ([0, 5, 5, 5], 0),
            Reason.IMPORT_ERROR: (long, 4),
            Reason.BAD_ARGUMENTS: (long, 4),
            Reason.BROKER_REFUSED: (long, 4),
        }
        self.assertEqual({*table, Reason.STOPPED}, set(Reason))
        for reason, (waits, failures) in table.items():
            found, history = self.after(*[reason] * 4)
            self.assertEqual((found, history.failures, history.reason), (waits, failures, reason))

    def test_every_reason(self) -> None:
        """Every reason has a rule and an explanation in whole sentences."""
        self.assertEqual((set(RULES), set(EXPLANATIONS)), (set(Reason), set(Reason)))
        for reason, text in EXPLANATIONS.items():
            self.assertTrue(text[0].isupper() and text.endswith("."), reason)

    def test_steady_jitter(self) -> None:
        """Steady starts of many instances come apart: between five and ten seconds."""
        self.assertEqual(self.after(Reason.RESOURCE_LOCKED, jitter=1.0)[0], [10])

    def test_not_counted(self) -> None:
        """What counts for nothing neither adds to the failures before it nor makes them forgotten."""
        waits, history = self.after(
            Reason.CRASHED, Reason.CRASHED, Reason.RESOURCE_LOCKED, Reason.STALE_PIDFILE, Reason.CRASHED
        )
        self.assertEqual((waits, history.failures), ([0, 1, 5, 5, 2], 3))

    def test_long_life(self) -> None:
        """After a life that was long enough a stale pid file is tried at once again, memory is not."""
        stale = [Reason.STALE_PIDFILE] * 3
        self.assertEqual(self.after(*stale, lived=POLICY.stable_after)[0], [0, 0, 0])
        self.assertEqual(self.after(Reason.OUT_OF_MEMORY, lived=POLICY.stable_after)[0], [1])

    def test_awaits_broker(self) -> None:
        """A worker that gave up on its broker is not started while that is known to be away."""
        _, history = self.after(Reason.BROKER_UNREACHABLE)
        later = NOW + 3600
        for broker_up, expected in ((False, []), (None, [Start(desired())]), (True, [Start(desired())])):
            seen = observed(process=None, broker_up=broker_up)
            self.assertEqual(steps(desired(), seen, history, later), expected)
        away = observed(process=None, broker_up=False)
        self.assertIs(state_of(desired(), away, history, later, POLICY), State.BACKOFF)
        self.assertEqual(steps(desired(), away, forgiven(history)), [Start(desired())])

    def test_broker_returned(self) -> None:
        """A broker that comes back ends the wait of who waited for it, of nobody else."""
        for reason in Reason:
            _, history = self.after(reason, reason)
            seen = observed(process=None)
            starts = steps(desired(), seen, broker_returned(history)) == [Start(desired())]
            self.assertEqual(starts, reason in (Reason.BROKER_UNREACHABLE, Reason.BROKER_REFUSED), reason)

    @given(st.lists(st.sampled_from(sorted(set(Reason) - {Reason.STOPPED})), max_size=30), st.floats(0, 1))
    @example(reasons=[Reason.STALE_PIDFILE, Reason.CRASHED, Reason.STALE_PIDFILE], jitter=0.0)
    def test_bounds(self, reasons: list[Reason], jitter: float) -> None:
        """Whatever happens, nobody waits over 75 s, and no three short lives in a row go without a wait."""
        waits, _ = self.after(*reasons, jitter=jitter)
        self.assertTrue(all(0 <= wait <= 75 for wait in waits))
        self.assertNotIn((0, 0, 0), list(zip(waits, waits[1:], waits[2:], strict=False)))


class ConsumerTimeoutTests(SynchronousTestCase):
    """A silent worker whose broker closed its channel runs its tasks to their end (F12)."""

    def seen(self, **changes: Any) -> Observed:
        values: dict[str, Any] = {
            "heard": heard(missed=99),
            "ailment": Reason.CONSUMER_TIMEOUT,
            "ailing_since": NOW,
        }
        return observed(**{**values, **changes})

    def test_left_alone(self) -> None:
        """It is unresponsive and left alone until its grace is over; then it is stopped for that reason."""
        grace = POLICY.consumer_timeout_grace
        self.assertEqual(steps(desired(), self.seen(), now=NOW + grace - 1), [])
        self.assertIs(state_of(desired(), self.seen(), BLANK, NOW + 1, POLICY), State.UNRESPONSIVE)
        [step] = steps(desired(), self.seen(), now=NOW + grace)
        self.assertEqual((step.failed, step.cause), (True, Reason.CONSUMER_TIMEOUT))

    def test_named_early(self) -> None:
        """It is unresponsive from its first miss on, or from its adoption."""
        for phase, missed in ((Phase.RUNNING, 1), (Phase.STARTING, 0)):
            seen = self.seen(heard=heard(missed=missed), process=process(phase=phase))
            self.assertIs(state_of(desired(), seen, BLANK, NOW, POLICY), State.UNRESPONSIVE)
            self.assertEqual(steps(desired(), seen), [])

    def test_asked_for(self) -> None:
        """What a user asks for is done all the same."""
        self.assertEqual(steps(desired(is_enabled=False), self.seen()), [Stop("w1", "disabled")])

    def alone(self, wanted: Desired, *, processes: int = 1, at: float = NOW + 1) -> Observed:
        """Its processes are counted, after it was found to ail."""
        measured = Resources(rss=1 << 20, cpu_seconds=1.0, processes=processes, at=at)
        return self.seen(resources=measured, process=process(fingerprint=wanted.fingerprint))

    def test_hangs(self) -> None:
        """One whose pool is gone runs no task: if it has not ended then, it is stopped at once."""
        [step] = steps(desired(), self.alone(desired()), now=NOW + 2)
        self.assertEqual((step.failed, step.cause, step.dumps), (True, Reason.CONSUMER_TIMEOUT, True))
        self.assertIn("its tasks have ended", step.reason)

    def test_may_run_tasks(self) -> None:
        """It is left alone while its pool lives or was not counted, and where the main process runs tasks."""
        self.assertEqual(steps(desired(), self.alone(desired(), processes=2), now=NOW + 2), [])
        self.assertEqual(steps(desired(), self.alone(desired(), at=NOW - 1), now=NOW + 2), [])
        for pool in ("solo", "threads"):
            wanted = desired(pool=pool)
            self.assertEqual(steps(wanted, self.alone(wanted), now=NOW + 2), [])


class AdoptedTests(SynchronousTestCase):
    """A worker that is older than the branch."""

    def test_time_to_answer(self) -> None:
        """The start time-out of a worker that was adopted counts from when the branch began to listen."""
        seen = observed(
            process=process(phase=Phase.STARTING, started_at=NOW - 5000), heard=SILENT, supervised_since=NOW
        )
        self.assertEqual(steps(desired(), seen, now=NOW + POLICY.start_timeout - 0.1), [])
        self.assertEqual(len(steps(desired(), seen, now=NOW + POLICY.start_timeout)), 1)


class StateTests(SynchronousTestCase):
    """`state_of` names how an instance is."""

    def assert_state(
        self, expected: State, wanted: Desired | None, seen: Observed, history: History = BLANK
    ) -> None:
        self.assertIs(state_of(wanted, seen, history, NOW, POLICY), expected)

    def test_states(self) -> None:
        """Each state has its situation."""
        gone = observed(process=None, heard=SILENT)
        self.assert_state(State.DISABLED, desired(is_enabled=False), gone)
        self.assert_state(State.STOPPED, desired(), gone)
        self.assert_state(State.BACKOFF, desired(), gone, History(failures=2, next_attempt=NOW + 1))
        self.assert_state(State.RUNNING, desired(), observed())
        self.assert_state(State.STARTING, desired(), observed(process=process(phase=Phase.STARTING)))
        self.assert_state(State.STOPPING, desired(), observed(process=process(phase=Phase.STOPPING)))
        self.assert_state(State.UNKNOWN, desired(), observed(broker_up=False))
        self.assert_state(State.UNRESPONSIVE, desired(), observed(heard=heard(missed=POLICY.misses)))

    def test_one_lost_pong(self) -> None:
        """A worker that missed one question is still running."""
        self.assert_state(State.RUNNING, desired(), observed(heard=heard(missed=1)))

    def test_not_heard_since_revival(self) -> None:
        """A worker that was not heard since its broker came back is unknown."""
        self.assert_state(State.UNKNOWN, desired(), observed(broker_revived_at=NOW - 0.5))
        self.assert_state(State.RUNNING, desired(), observed(broker_revived_at=NOW - 2))


# -- properties ---------------------------------------------------------------------

queue_names = st.sampled_from(["tasks", "mail", "images", "celery"])
queue_sets = st.frozensets(queue_names)
ranges = st.tuples(st.integers(1, 5), st.integers(0, 5)).map(lambda pair: (max(pair), min(pair)))


@st.composite
def wishes(draw: Any) -> Desired | None:
    """What an instance should be."""
    if draw(st.integers(0, 5)) == 0:
        return None
    most, least = draw(ranges)
    return desired(
        is_enabled=draw(st.booleans()),
        generation=draw(st.integers(0, 1)),
        max_concurrency=most,
        min_concurrency=least,
        queues=tuple(evolve(TASKS, name=name) for name in sorted(draw(queue_sets))),
    )


@st.composite
def worlds(draw: Any) -> Observed:
    """What may be seen of an instance whose broker can be reached."""
    if draw(st.booleans()):
        return observed(process=None, heard=SILENT, leftovers=draw(st.booleans()))
    lives = process(
        phase=draw(st.sampled_from([Phase.RUNNING, Phase.STOPPING])),
        fingerprint=draw(st.sampled_from([desired().fingerprint, "another"])),
    )
    said = heard(
        consumers=draw(queue_sets) | draw(st.sampled_from([frozenset({"dq.w1"}), frozenset()])),
        autoscale=draw(ranges),
        missed=draw(st.integers(0, 5)),
    )
    return observed(process=lives, heard=said, leftovers=True)


def apply(seen: Observed, step: Any) -> Observed:
    """What an obedient world makes of a step."""
    if isinstance(step, Start):
        wanted = step.desired
        said = heard(
            consumers=frozenset({wanted.private_queue}),
            autoscale=(wanted.max_concurrency, wanted.min_concurrency),
        )
        lives = process(fingerprint=wanted.fingerprint)
        return evolve(seen, process=lives, heard=said, leftovers=True)
    if isinstance(step, Stop):
        return evolve(seen, process=None, heard=SILENT)
    if isinstance(step, CleanUp):
        return evolve(seen, leftovers=False)
    if isinstance(step, SetAutoscale):
        return evolve(seen, heard=evolve(seen.heard, autoscale=(step.maximum, step.minimum)))
    consumers = seen.heard.consumers or frozenset()
    if isinstance(step, AddConsumer):
        consumers |= {step.queue.name}
    else:
        consumers -= {step.queue}
    return evolve(seen, heard=evolve(seen.heard, consumers=consumers))


class ConvergenceTests(SynchronousTestCase):
    """Carrying out plans leads to the declared state, from wherever it starts."""

    @given(wishes(), worlds())
    def test_converges(self, wanted: Desired | None, seen: Observed) -> None:
        """Some rounds of planning and obeying end in a world for which nothing is planned."""
        if seen.process is not None and seen.process.phase is Phase.STOPPING:
            seen = evolve(seen, process=None, heard=SILENT)
        for _ in range(4):
            todo = plan("w1", wanted, seen, BLANK, NOW, POLICY)
            if not todo:
                break
            for step in todo:
                seen = apply(seen, step)
        self.assertEqual(plan("w1", wanted, seen, BLANK, NOW, POLICY), ())
        if wanted is None or not wanted.is_enabled:
            self.assertIsNone(seen.process)
            self.assertFalse(wanted is None and seen.leftovers)
        else:
            names = {queue.name for queue in wanted.queues} | {"dq.w1"}
            self.assertEqual(seen.heard.consumers, names)
            self.assertEqual(seen.heard.autoscale, (wanted.max_concurrency, wanted.min_concurrency))

    @given(wishes(), worlds())
    def test_never_two_workers(self, wanted: Desired | None, seen: Observed) -> None:
        """A start is never planned while a process of that name lives."""
        todo = plan("w1", wanted, seen, BLANK, NOW, POLICY)
        if seen.process is not None:
            self.assertFalse([step for step in todo if isinstance(step, Start)])
