"""`IGateway`: what is queued, collected, waited for and forgotten. See Note [What survives] in `ledger`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.errors import CymeError, GatewayAway, NoSuchTask
from cyme.gateway.answers import Answer
from cyme.gateway.brokers import Brokers
from cyme.gateway.collecting import Collector
from cyme.gateway.holding import Holding
from cyme.gateway.ledger import Ledger
from cyme.gateway.lines import CollectingLine, PublishingLine
from cyme.gateway.messages import RESULTS, Kind, Outgoing, body_of, moment
from cyme.gateway.publishing import Publisher
from cyme.gateway.revoking import MOST_REMEMBERED, Revocations
from cyme.gateway.waiting import RECENT_FOR, Waiting
from cyme.interfaces import IGateway
from cyme.queued import (
    Claim,
    Confirmed,
    Issued,
    Outcome,
    Released,
    TaskMessage,
    TaskState,
    TaskStatus,
    Withdrawn,
)
from cyme.taskids import TaskIds, is_of

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IRemoteControl, ITaskStore, IWorkers

#: Seconds for which a task is kept of which nothing is heard; longer if results are.
WEEK = 7 * 86400.0
#: Seconds for which a deduplication id holds.
DAY = 86400.0
#: Tasks that may be on their way to brokers and database at the same time, and bytes of their bodies.
MOST_ISSUING, MOST_ISSUING_BYTES = 5000, 256 * 1024 * 1024
#: Seconds for which results may wait for others before they are written, where they are fewer than that.
FEW_WITHIN, FEW = 0.005, 50
#: Seconds between two looks for what has expired, and how many tasks go at once: of the longest results,
#: 200 held the database up for a second.
PRUNE_INTERVAL, MOST_PRUNED = 60.0, 50
#: Seconds that connecting to a broker, or one synchronous call, may take.
CONNECT_TIMEOUT = 5.0


@define(eq=False)
class _Issuing:
    """A task that waits for its broker and for the database; both are waited for, whatever comes.

    :ivar over: called once, with what went wrong.
    """

    over: Callable[[Failure | None], None]
    missing: int = 2
    problem: Failure | None = None

    def done(self, result: Any) -> None:
        if isinstance(result, Failure) and self.problem is None:
            self.problem = result
        self.missing -= 1
        if not self.missing:
            self.over(self.problem)


@implementer(IGateway)
class Gateway(Service):
    """Queues tasks and keeps what comes of them.

    :param reactor: provides IReactorTime and IReactorFromThreads.
    :param host: this machine's name.
    :param default_broker: the URL of the broker of apps that name none.
    :param result_expires: seconds for which results are kept.
    :param hold_over: seconds; a task that is put off for longer is held, see Note [Held tasks] in `holding`.
    :param retry_policy: see `cyme.gateway.lines.Line`.
    :param getrandbits: see `cyme.taskids.TaskIds`.
    :param make_publisher: makes the session of a `PublishingLine` from one URL and the line;
        `make_collector` that of a `CollectingLine`. None for those that have threads.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        store: ITaskStore,
        catalogue: ICatalogue,
        remote: IRemoteControl,
        workers: IWorkers,
        *,
        branch_id: str,
        host: str,
        default_broker: Callable[[], str],
        result_expires: float,
        hold_over: float,
        retry_policy: Callable[[int], float],
        getrandbits: Callable[[int], int],
        make_publisher: Callable[[str, Any], Any] | None = None,
        make_collector: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._catalogue = catalogue
        self._branch_id = branch_id
        self._default_broker = default_broker
        self._result_expires = result_expires
        self._kept = max(WEEK, result_expires)
        self._ids = TaskIds(branch_id, reactor.seconds, getrandbits)
        self._ledger = Ledger(reactor, store)
        self._waiting = Waiting(reactor, self._ledger.read, min(RECENT_FOR, result_expires))
        self._issuing = self._bytes = 0
        self._none_issuing: list[Deferred[None]] = []
        self._claiming: dict[tuple[str, str], list[Deferred[str]]] = {}
        self._up = False
        results, origin = f"{RESULTS}{branch_id}", f"cyme@{host}"

        def publisher(url: str, line: Any) -> Any:
            return Publisher(reactor, url, line, CONNECT_TIMEOUT, results=results, origin=origin)

        def collector(url: str, line: Any) -> Any:
            return Collector(reactor, url, line, CONNECT_TIMEOUT, results=results)

        self._brokers = Brokers(
            reactor,
            store,
            kept=self._kept,
            make_publishing=lambda url: PublishingLine(
                reactor, url, make_publisher or publisher, retry_policy
            ),
            make_collecting=lambda url: CollectingLine(
                reactor, url, make_collector or collector, retry_policy, store=self._keep
            ),
        )
        self._holding = Holding(
            reactor,
            store,
            self._ledger,
            self._brokers,
            catalogue,
            branch_id=branch_id,
            broker_of=lambda named: named or default_broker(),
            hold_over=hold_over,
            kept=self._kept,
            result_expires=result_expires,
            hear=self._hear,
        )
        self._revocations = Revocations(remote, self._brokers_of_apps)
        self._remote = remote
        self._workers = workers
        self._pruning = LoopingCall(self._prune)
        self._pruning.clock = reactor
        self.serving = self._brokers.serving
        self.connecting = self._brokers.connecting

    # -- Service -------------------------------------------------------------------------

    def startService(self) -> Deferred[None]:
        """Begin to collect what has waited; fires when tasks can be queued. To be called once."""
        super().startService()
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._brokers.start()
        self._revocations.remember(reversed(await self._store.revoked_tasks(MOST_REMEMBERED)))
        self._remote.subscribe(self._revocations.broker_changed)
        self._workers.subscribe(ready=self._worker_serves, ended=lambda name, exit: None)
        self._catalogue.subscribe(lambda written: self._brokers.retain(self._brokers_of_apps()))
        self._up = True
        self._holding.start()
        self._pruning.start(PRUNE_INTERVAL).addErrback(
            lambda failure: self._log.failure("expired tasks are not removed any more", failure)
        )

    def stopService(self) -> Deferred[None]:
        """Finish what is under way; fires when it is written and all threads have ended."""
        super().stopService()
        self._up = False
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._pruning.running:
            self._pruning.stop()
        if self._issuing:
            none: Deferred[None] = Deferred()
            self._none_issuing.append(none)
            await none
        await self._holding.stop()
        self._waiting.close(lambda: GatewayAway("the branch stops"))
        await self._brokers.close()
        await self._ledger.when_idle()

    # -- IGateway: queue -------------------------------------------------------------------

    def queue(self, broker: str, message: TaskMessage) -> Deferred[str]:
        if not self._up:
            return fail(GatewayAway("the branch takes no tasks now: it is starting or stopping"))
        if self._issuing >= MOST_ISSUING or self._bytes >= MOST_ISSUING_BYTES:
            return fail(GatewayAway(f"{self._issuing} tasks are being queued already"))
        try:
            body = body_of(message.args, message.kwargs)
            for at in (message.eta, message.expires):
                # In a publisher's thread it would end the connection, with all that is on its way.
                moment(at)
        except (TypeError, ValueError):
            return fail()
        # Whoever asked may go away, and the task be queued all the same.
        answer: Deferred[str] = Deferred(lambda _: None)
        if message.deduplication_id is not None:
            self._queue_once(broker, message, message.deduplication_id, body, answer)
            return answer
        if self._holding.takes(message.eta):
            self._begin(body)
            held = Deferred.fromCoroutine(self._hold(broker, self._ids.new(), message, body))
            held.addBoth(lambda result: _answer(answer, result)).addBoth(lambda _: self._ended(body))
            return answer
        line = self._brokers.ready(broker)
        if line is not None:
            self._issue(line, self._ids.new(), message, body, answer)
        else:
            self._begin(body)
            prepared = Deferred.fromCoroutine(self._brokers.prepare(broker))

            def go_on(line: PublishingLine) -> None:
                self._issue(line, self._ids.new(), message, body, answer)

            def failed(failure: Failure) -> None:
                _answer(answer, self._database(failure))

            prepared.addCallbacks(go_on, failed).addBoth(lambda _: self._ended(body))
        return answer

    def _issue(
        self, line: PublishingLine, task_id: str, message: TaskMessage, body: bytes, answer: Deferred[str]
    ) -> None:
        """Write a task down and publish it; see Note [What survives]."""

        def over(problem: Failure | None) -> None:
            if problem is None:
                _answer(answer, task_id)
            else:
                self._waiting.withdrawn(task_id)
                self._ledger.write(Withdrawn(task_id)).addErrback(lambda _: None)
                _answer(answer, problem)
            self._ended(body)

        if line.reachable is False:
            _answer(answer, Failure(line.away()))
            return
        self._begin(body)
        issuing, issued = _Issuing(over), self._issued(task_id, message, is_new=True)
        self._waiting.queued(pending(issued))
        self._write(issued).addBoth(issuing.done)
        line.publish(self._outgoing(task_id, message, body)).addBoth(issuing.done)

    async def _hold(
        self, broker: str, task_id: str, message: TaskMessage, body: bytes, *more: Confirmed
    ) -> str:
        """Hold a task, see Note [Held tasks] in `holding`."""
        issued = self._issued(task_id, message, is_new=not more)
        try:
            await self._holding.hold(broker, issued, message, body, *more)
        except Exception:
            self._database(Failure()).raiseException()
        return task_id

    def _issued(self, task_id: str, message: TaskMessage, *, is_new: bool) -> Issued:
        now = self._reactor.seconds()
        expires_at = max(now, message.eta or 0.0) + self._kept
        return Issued(task_id, message.app, message.queue.name, now, expires_at, is_new)

    @staticmethod
    def _outgoing(task_id: str, message: TaskMessage, body: bytes) -> Outgoing:
        kind = Kind(message.queue, message.task, message.priority)
        return Outgoing(task_id, kind, body, message.eta, message.expires)

    def _write(self, change: Issued | Confirmed) -> Deferred[Any]:
        return self._ledger.write(change).addErrback(self._database)

    def _database(self, failure: Failure) -> Failure:
        """What a caller hears of a database that fails."""
        if failure.check(CymeError):
            return failure
        self._log.failure("a task can't be stored", failure)
        return Failure(GatewayAway("the database can't be written; the branch's log says why"))

    # -- with a deduplication id ---------------------------------------------------------------

    def _queue_once(
        self, broker: str, message: TaskMessage, deduplication_id: str, body: bytes, answer: Deferred[str]
    ) -> None:
        """Queue a task unless there is one; those who ask for it at the same time have one answer."""
        key = (message.app, deduplication_id)
        if key in self._claiming:
            self._claiming[key].append(answer)
            return
        self._claiming[key] = [answer]
        self._begin(body)

        def over(result: Any) -> None:
            for one in self._claiming.pop(key):
                _answer(one, result)
            self._ended(body)

        Deferred.fromCoroutine(self._claim_and_queue(broker, message, deduplication_id, body)).addBoth(over)

    async def _claim_and_queue(
        self, broker: str, message: TaskMessage, deduplication_id: str, body: bytes
    ) -> str:
        now = self._reactor.seconds()
        is_held = self._holding.takes(message.eta)
        # Of one that is put off for days there is no second one before it is made.
        until = max(now, message.eta or 0.0) + DAY
        wanted = Claim(
            app=message.app, deduplication_id=deduplication_id, task_id=self._ids.new(), until=until
        )
        line = self._brokers.ready(broker)
        try:
            claim = await self._store.claim_task(wanted, now)
            if line is None and not claim.is_confirmed and not is_held:
                line = await self._brokers.prepare(broker)
        except Exception:
            self._database(Failure()).raiseException()
            raise
        task_id = claim.task_id
        if claim.is_confirmed:
            return task_id
        confirmed = Confirmed(message.app, deduplication_id, task_id)
        known = await self._ledger.read(task_id)
        if known is None or known.state is TaskState.PENDING:
            if is_held:
                return await self._hold(broker, task_id, message, body, confirmed)
            assert line is not None
            await self._write(self._issued(task_id, message, is_new=False))
            await line.publish(self._outgoing(task_id, message, body))
        await self._write(confirmed)
        return task_id

    # -- IGateway: the rest --------------------------------------------------------------------

    def status(self, task_id: str) -> Deferred[TaskStatus]:
        if not is_of(task_id, self._branch_id):
            return fail(NoSuchTask(task_id))

        recent = self._waiting.recent(task_id)
        if recent is not None:
            return succeed(recent)

        def found(status: TaskStatus | None) -> TaskStatus:
            if status is None:
                raise NoSuchTask(task_id)
            return status

        return self._ledger.read(task_id).addCallback(found)

    def recent(self, limit: int, app: str | None) -> Deferred[tuple[TaskStatus, ...]]:
        return self._store.recent_tasks(self._branch_id, limit, app)

    def wait(self, task_id: str, timeout: float) -> Deferred[TaskStatus]:
        if not is_of(task_id, self._branch_id):
            return fail(NoSuchTask(task_id))
        return self._waiting.wait(task_id, timeout)

    def revoke(self, task_id: str) -> Deferred[TaskStatus]:
        return Deferred.fromCoroutine(self._revoke(task_id))

    async def _revoke(self, task_id: str) -> TaskStatus:
        status = await self.status(task_id)
        if status.state.is_final:
            return status
        now = self._reactor.seconds()
        revoked = Outcome(task_id, TaskState.REVOKED, None, now, now + self._result_expires)
        self._holding.drop(task_id)
        written = self._ledger.write(revoked, Released(task_id))
        self._waiting.hear(revoked)
        try:
            await written
        except Exception:
            # It is not revoked after all; what it is, the database says.
            self._waiting.withdrawn(task_id)
            self._database(Failure()).raiseException()
        # A result may have come before it.
        status = await self.status(task_id)
        if status.state is TaskState.REVOKED:
            self._revocations.add(task_id)
        return status

    # -- what comes back -----------------------------------------------------------------------

    def _keep(self, answers: list[Answer]) -> Deferred[None]:
        """Write down what workers say, and tell those who wait."""
        now = self._reactor.seconds()
        until = now + self._result_expires
        outcomes = [
            Outcome(one.task_id, one.state, one.text, now, until if one.state.is_final else None)
            for one in answers
        ]
        # Who waits for one is told now: the database's thread shall not be in the way of that.
        within = FEW_WITHIN if len(outcomes) < FEW else 0.0
        written = self._ledger.write(*outcomes, within=within).addCallback(self._kept_all)
        for outcome in outcomes:
            self._hear(outcome)
        return written

    def _hear(self, outcome: Outcome) -> None:
        try:
            self._waiting.hear(outcome)
        except Exception:
            self._log.failure("who waits for task {task} can't be told", task=outcome.id)

    def _kept_all(self, unknown: frozenset[str]) -> None:
        if unknown:
            self._log.warn(
                "results for {count} tasks that were never issued, or have expired, were dropped: {tasks}",
                count=len(unknown),
                tasks=", ".join(sorted(unknown)[:5]),
            )

    def _worker_serves(self, name: str) -> None:
        instance = self._catalogue.instance(name)
        app = None if instance is None else self._catalogue.app(instance.app)
        if instance is not None and app is not None:
            self._revocations.again(instance.broker or app.broker or self._default_broker())

    def _brokers_of_apps(self) -> set[str]:
        return {app.broker or self._default_broker() for app in self._catalogue.apps()}

    # -- what expires --------------------------------------------------------------------------

    def _prune(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._prune_all()).addErrback(
            lambda failure: self._log.failure("expired tasks can't be removed", failure)
        )

    async def _prune_all(self) -> None:
        self._brokers.retain(self._brokers_of_apps())
        while self._up and await self._store.prune_tasks(self._reactor.seconds(), MOST_PRUNED) == MOST_PRUNED:
            pass

    # -- counting ------------------------------------------------------------------------------

    def _begin(self, body: bytes) -> None:
        self._issuing += 1
        self._bytes += len(body)

    def _ended(self, body: bytes) -> None:
        self._issuing -= 1
        self._bytes -= len(body)
        if not self._issuing:
            none, self._none_issuing = self._none_issuing, []
            for one in none:
                one.callback(None)


def pending(issued: Issued) -> TaskStatus:
    """The status of a task of which nothing was heard."""
    return TaskStatus(
        id=issued.id,
        app=issued.app,
        queue=issued.queue,
        state=TaskState.PENDING,
        created_at=issued.created_at,
    )


def _answer(waiting: Deferred[str], result: str | Failure) -> None:
    """Fire a Deferred, whose owner may have cancelled it."""
    if not waiting.called:
        waiting.callback(result)


__all__ = ["Gateway"]
