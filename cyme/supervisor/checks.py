"""Full checks and rounds of questions: how the supervisor learns what nobody told it.

A full check reads the database again, looks for what deleted instances left, and asks the
workers of each broker one round of questions: three broadcasts for each broker, however many
workers there are (failure-modes F24).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.errors import BrokerAway, DatabaseAway
from cyme.planning import Desired, Phase, Policy
from cyme.supervisor.counting import Counting
from cyme.supervisor.hearing import interrogated, missed
from cyme.supervisor.questions import ANSWER_TIMEOUT
from cyme.supervisor.reasons import LINES_READ, ailment_of
from cyme.supervisor.resolving import brokers_of, limits_of
from cyme.vitals import Pulse

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, IRemoteControl, IWorkers
    from cyme.supervisor.delays import Delays
    from cyme.supervisor.questions import Questions
    from cyme.supervisor.world import World

#: Seconds until workers that did not answer a round are asked again.
ASK_AGAIN_AFTER = 5.0
#: Seconds for which what was found out about an instance's health counts as fresh.
FRESH = 1.0
#: Looks at a worker's progress within the time after which it would count as stalled.
LOOKS_PER_STALL = 4
#: Seconds for which what was deleted is remembered: a branch that was away so long, and comes
#: back, brings nothing to life.
TOMBSTONES_LIVE = 30 * 24 * 3600.0


class Checks:
    """Finds out how things are and says which instances to look at.

    :param look_at: called with the names of instances that are to be looked at.
    :param passed: called with the seconds that each full check took, for the metrics.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        workers: IWorkers,
        remote: IRemoteControl,
        world: World,
        questions: Questions,
        delays: Delays,
        *,
        policy: Policy,
        look_at: Callable[[Iterable[str]], None],
        passed: Callable[[float], None],
    ) -> None:
        self._passed = passed
        self._clock = clock
        self._catalogue = catalogue
        self._workers = workers
        self._remote = remote
        self._world = world
        self._questions = questions
        self._delays = delays
        self._policy = policy
        self._look_at = look_at
        # Thousands of answers are taken in a bit at a time: the reactor never waits for all.
        self._cooperator = Cooperator(scheduler=lambda call: delays.later(0, call))
        self._counting = Counting(clock, workers, remote, world, delays, look_at=look_at, run=self._run)
        self._to_ask_again: set[str] = set()
        self._examining: dict[str, Deferred[None]] = {}
        self._pulse = Pulse()
        self._under_way: Deferred[None] | None = None
        self._once_more = False
        self._stopped = False
        # Whether the database could not be read at the last full check, so that it is said once.
        self._unread = False

    def full(self) -> Deferred[None]:
        """Start a full check, or have the one under way followed by another.

        :return: fires when the check that is under way has ended; never fails.
        """
        if self._under_way is not None:
            self._once_more = True
            return self._under_way
        self._log.info("{{Supervisor}} wake-up")
        check = self._run(self._examine())
        if not check.called:
            self._under_way = check
            check.addBoth(self._ended)
        return check

    def interrogate(self, desired: Desired) -> None:
        """Ask one worker the questions of a round."""
        self._run(self._round(desired.broker, [desired]))

    def examine(self, desired: Desired) -> Deferred[None]:
        """Find out how one worker is, unless that is known already.

        :return: fires when as much is known as can be, within some seconds; never fails.
        """
        name = desired.name
        under_way = self._examining.get(name)
        done: Deferred[None] = Deferred()
        if under_way is None:
            if self._clock.seconds() < self._world.track(name).examined_at + FRESH:
                return succeed(None)
            under_way = self._run(self._look_closely(desired))
            if not under_way.called:
                self._examining[name] = under_way
                under_way.addBoth(self._forget_examination, name)

        def pass_on(result: None) -> None:
            done.callback(None)

        under_way.addCallback(pass_on)
        return done

    def _forget_examination(self, _: Any, name: str) -> None:
        del self._examining[name]

    async def _look_closely(self, desired: Desired) -> None:
        asked = self._run(self._round(desired.broker, [desired], closely=True))
        counted = self._run(self._counting.count_all_of(desired))
        await gatherResults([asked, counted])
        self._world.track(desired.name).examined_at = self._clock.seconds()

    def watch_stalls(self) -> None:
        """Ask those workers what moves in them for which that is limited and due."""
        processes = self._workers.processes()
        due: dict[str, list[Desired]] = defaultdict(list)
        for instance in self._catalogue.instances():
            app = self._catalogue.app(instance.app)
            if instance.name in processes and app is not None and limits_of(instance, app)[2]:
                desired = self._world.desired(instance.name)
                if desired is not None and self._is_due(desired):
                    due[desired.broker].append(desired)
        for broker, asked in due.items():
            self._run(self._round(broker, asked))

    def _is_due(self, desired: Desired) -> bool:
        progress = self._world.track(desired.name).heard.progress
        if desired.stall_timeout is None:
            return False
        wait = desired.stall_timeout / LOOKS_PER_STALL
        return progress is None or self._clock.seconds() >= progress.at + wait

    def stop(self) -> None:
        """Give up what is under way and begin nothing more."""
        self._stopped = True
        if self._under_way is not None:
            self._under_way.cancel()

    def broker_revived(self, broker: str) -> None:
        """Ask every few seconds while silence means nothing, until each worker has answered."""
        revived_at = self._remote.revived_at(broker)
        if self._stopped or revived_at is None or not self._holding(broker):
            return
        silent = [
            one
            for one in self._world.living().get(broker, ())
            if (self._world.track(one.name).heard.pong_at or 0.0) < revived_at
        ]
        if silent:
            self._run(self._round(broker, silent))
            self._delays.later(ASK_AGAIN_AFTER, self.broker_revived, broker)

    def _ended(self, _: Any) -> None:
        self._under_way = None
        if self._once_more and not self._stopped:
            self._once_more = False
            self.full()

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; the value changes with each part of a full check."""
        return self._pulse.signs("the supervisor's full check")

    async def _examine(self) -> None:
        begun = self._clock.seconds()
        with self._pulse.busy():
            await self._examine_parts()
        self._passed(self._clock.seconds() - begun)

    async def _examine_parts(self) -> None:
        await self._read_up()
        for name in await self._workers.folders(self._world.deleted()):
            self._world.track(name).leftovers = True
        self._pulse.beat()
        everyone = self._world.all_desired()
        self._remote.retain(brokers_of(one for one in everyone if one.is_enabled))
        living = self._world.living()
        await gatherResults([self._run(self._round(broker, asked)) for broker, asked in living.items()])
        for broker, asked in living.items():
            if not self._holding(broker):
                self._run(self._counting.count_oldest(broker, asked))
        for tracked in self._world.tracked().values():
            tracked.quarantined.clear()
        declared = {one.name for one in everyone}
        self._look_at(declared | self._world.tracked().keys() | self._workers.processes().keys())

    async def _read_up(self) -> None:
        """Take over what the database says; workers are looked after also when it can't be read."""
        try:
            await self._catalogue.refresh()
            self._pulse.beat()
            await self._catalogue.prune(self._clock.seconds() - TOMBSTONES_LIVE)
        except DatabaseAway as problem:
            if not self._unread:
                self._log.error("{{Supervisor}} {problem}; going on with what is known", problem=str(problem))
            self._unread = True
        except CancelledError:
            raise
        except Exception:
            self._log.failure("{{Supervisor}} the database can't be read; going on with what is known")
        else:
            if self._unread:
                self._log.info("{{Supervisor}} the database is there again")
            self._unread = False
        self._pulse.beat()

    async def _round(self, broker: str, asked: Sequence[Desired], *, closely: bool = False) -> None:
        """Ask the workers of one broker and take note of what they say, and of who is silent.

        :param closely: whether all are asked what moves in them, not only those for which that is
            limited. Such a question is somebody's curiosity: silence is then asked about again
            before it counts.
        """
        if not asked or not self._remote.reachable(broker):
            return
        nodes = [one.node for one in asked]
        # A worker that ended meanwhile leaves its answer to nobody: its successor has said nothing.
        before = self._workers.processes()
        watched = [one.node for one in asked if closely or one.stall_timeout is not None]
        try:
            pings, queues, stats, active, reserved = await self._questions.round(
                broker,
                dict.fromkeys(("ping", "active_queues", "stats"), nodes)
                | dict.fromkeys(("active", "reserved"), watched),
            )
        except BrokerAway:
            return
        self._pulse.beat()
        now = self._clock.seconds()
        silent: list[str] = []

        def take_note() -> Iterator[None]:
            living = self._workers.processes()
            for one in asked:
                was, now_there = before.get(one.name), living.get(one.name)
                if was is None or now_there is None or was.pid != now_there.pid:
                    continue
                tracked = self._world.track(one.name)
                answers = [replies.get(one.node) for replies in (queues, stats, active, reserved)]
                if one.node in pings or any(answer is not None for answer in answers):
                    tracked.heard = interrogated(tracked.heard, now, *answers)
                    tracked.ailment = None
                elif self._should_have_answered(one):
                    if not closely:
                        tracked.heard = missed(tracked.heard)
                    silent.append(one.name)
                yield None

        await self._cooperator.coiterate(take_note())
        await self.examine_logs(silent)
        self._look_at([one.name for one in asked])
        again = set(silent) - self._to_ask_again
        if again and not self._stopped:
            self._log.info("{{Supervisor}} no answer from {names}", names=sorted(again)[:10])
            self._to_ask_again |= again
            self._delays.later(ASK_AGAIN_AFTER, self._ask_again, broker, again)

    def examine_logs(self, names: Iterable[str]) -> Deferred[Any]:
        """Before silent workers are condemned, see whether their logs say what they suffer from."""
        return gatherResults([self._run(self._examine_silent(name)) for name in names])

    async def _examine_silent(self, name: str) -> None:
        tracked = self._world.track(name)
        if tracked.ailment is not None or tracked.heard.missed >= self._policy.misses:
            return
        before = tracked.heard.pong_at
        read = self._workers.log_tail(name, LINES_READ)
        ailment = ailment_of(await read.addTimeout(ANSWER_TIMEOUT, self._clock))
        lives = name in self._workers.processes()
        if ailment is not None and lives and tracked.heard.pong_at == before:
            tracked.ailment, tracked.ailing_since = ailment, self._clock.seconds()
            self._log.warn("{{Supervisor}} {name} suffers from {what}", name=name, what=ailment.value)

    def _ask_again(self, broker: str, names: set[str]) -> None:
        self._to_ask_again -= names
        again = [one for one in self._world.living().get(broker, ()) if one.name in names]
        self._run(self._round(broker, again))

    def _should_have_answered(self, desired: Desired) -> bool:
        """Whether silence is a miss.

        A worker that still starts is pinged by its ladder; a solo worker answers nothing
        while a task runs (failure-modes F7); after an outage everybody gets time to reconnect.
        """
        process = self._workers.processes().get(desired.name)
        running = process is not None and process.phase is Phase.RUNNING
        return running and desired.pool != "solo" and not self._holding(desired.broker)

    def _holding(self, broker: str) -> bool:
        """Whether the broker came back so recently that silence means nothing."""
        revived_at = self._remote.revived_at(broker)
        if revived_at is None:
            return False
        return self._clock.seconds() < revived_at + self._policy.wait_after_broker_revived

    def _run(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Run a coroutine whose failure is logged and goes no further."""

        def note(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self._log.failure("{{Supervisor}} a check failed", failure)

        return Deferred.fromCoroutine(work).addErrback(note)
