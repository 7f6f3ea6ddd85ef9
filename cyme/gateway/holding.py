"""Tasks that are put off: held here until they are due, and published then.

Note [Held tasks]
~~~~~~~~~~~~~~~~~
A message that Celery is to run later stays with a worker, unacknowledged, until then: after half an
hour RabbitMQ closes the worker's channel (consumer_timeout), after an hour Redis has the task run on
another worker too (visibility time-out), and meanwhile it takes up memory there. So the message of a
task that is put off for longer than a short while is written into the branch's database, with the task's
row in one transaction. The 202 follows the commit. It is refused while the broker is away all the same, for
a broker that is wrong is found out by who asks, not a week later.

In memory there is the time at which the next one is due, and no more than one batch of those that are due.
A task is published to the broker that its app has by then, with confirmation, and its row is removed after
that, with those of its batch in one transaction. What could not be published is due again a little later.
One that has expired meanwhile is REVOKED, as a worker would do it; so is one whose app was deleted.

Between the confirm and the commit a kill leaves a message that is out and a row that says it is not; so
does a confirm that got lost with its connection. The rule is this: what has a row is published,
with the same id, unless something was heard of its task; and before a broker is published to, the
results that had waited there are collected, for a few seconds. So none is lost. One runs twice only if

- the branch was killed, or the connection lost, in those milliseconds, and
- no worker had begun the task by the time at which that branch looked again, seconds later, or a worker's
  word that it had (which is not confirmed) got lost.

No broker could tell the second message from the first. A row that can't be removed because the
database fails is remembered, and nothing more is published before it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.errors import Away, CymeError
from cyme.gateway.messages import Kind, Outgoing
from cyme.queued import (
    Confirmed,
    Due,
    Held,
    Issued,
    Outcome,
    Postponed,
    Released,
    TaskChange,
    TaskMessage,
    TaskState,
    Withdrawn,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.gateway.brokers import Brokers
    from cyme.gateway.ledger import Ledger
    from cyme.interfaces import ICatalogue, ITaskStore

#: Tasks of one batch, and bytes of their bodies.
MOST_DUE, MOST_DUE_BYTES = 200, 4 * 1024 * 1024
#: Seconds after which a task is due again that could not be published.
AGAIN = 10.0
#: Seconds between two looks at what is due on a broker that is away, or after the database failed.
LOOK_AGAIN = 1.0


class Holding:
    """Holds tasks and publishes them when they are due, see Note [Held tasks].

    :param broker_of: the URL of the broker of an app that names this one, or none.
    :param hold_over: seconds; what is put off for longer is held.
    :param kept: seconds for which a task of which nothing is heard is kept.
    :param result_expires: seconds for which results are kept.
    :param hear: called with what becomes of a task here, when that is being written.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        store: ITaskStore,
        ledger: Ledger,
        brokers: Brokers,
        catalogue: ICatalogue,
        *,
        branch_id: str,
        broker_of: Callable[[str | None], str],
        hold_over: float,
        kept: float,
        result_expires: float,
        hear: Callable[[Outcome], None],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._ledger = ledger
        self._brokers = brokers
        self._catalogue = catalogue
        self._branch_id = branch_id
        self._broker_of = broker_of
        self._hold_over = hold_over
        self._kept = kept
        self._result_expires = result_expires
        self._hear = hear
        self._up = self._busy = False
        self._call: IDelayedCall | None = None
        #: When to look next, asked for during a look.
        self._asked = inf
        #: Tasks that were revoked since the present look began.
        self._dropped: set[str] = set()
        #: What was decided, and could not be written yet.
        self._unwritten: list[TaskChange] = []
        self._complained: set[str] = set()
        self._idle: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to publish what is due."""
        self._up = True
        self._look_at(self._reactor.seconds())

    def stop(self) -> Deferred[None]:
        """Publish nothing more; fires when what is on its way is written."""
        self._up = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if not self._busy:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def takes(self, eta: float | None) -> bool:
        """Whether a task is to be held that may be run from `eta` on, seconds since the epoch."""
        return eta is not None and eta > self._reactor.seconds() + self._hold_over

    async def hold(
        self, broker: str, issued: Issued, message: TaskMessage, body: bytes, *more: Confirmed
    ) -> None:
        """Hold a task, if its broker can be reached now.

        :param more: is written with it.
        :raises BrokerAway: when it can't.
        :raises Exception: any, when it can't be stored.
        """
        await self._brokers.reach(broker)
        assert message.eta is not None
        held = Held(
            id=issued.id,
            branch=self._branch_id,
            app=message.app,
            due_at=message.eta,
            queue=message.queue,
            task=message.task,
            priority=message.priority,
            expires=message.expires,
            body=body,
        )
        try:
            await self._ledger.write(issued, held, *more)
        except Exception:
            # A commit whose answer was lost may have happened.
            self._ledger.write(Withdrawn(issued.id)).addErrback(lambda _: None)
            raise
        self._look_at(held.due_at)

    def drop(self, task_id: str) -> None:
        """A task is being revoked: if it is held and not on its way yet, it stays here."""
        if self._busy:
            self._dropped.add(task_id)

    # -- looking ---------------------------------------------------------------------------

    def _look_at(self, at: float) -> None:
        """Look for what is due at a time, unless that is done earlier."""
        if not self._up or at == inf:
            return
        if self._busy:
            self._asked = min(self._asked, at)
            return
        if self._call is not None:
            if self._call.getTime() <= at:
                return
            self._call.cancel()
        self._call = self._reactor.callLater(max(0.0, at - self._reactor.seconds()), self._begin)

    def _begin(self) -> None:
        self._call = None
        self._busy, self._asked = True, inf

        def failed(failure: Failure) -> float:
            self._log.failure("what is due can't be published now", failure)
            return self._reactor.seconds() + LOOK_AGAIN

        Deferred.fromCoroutine(self._look()).addErrback(failed).addCallback(self._ended)

    def _ended(self, again_at: float) -> None:
        self._busy = False
        self._dropped.clear()
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)
        self._look_at(min(again_at, self._asked))

    async def _look(self) -> float:
        """Publish a batch of what is due; answers when to look again."""
        # Behind all that is being written by now, so that what follows reads it.
        await self._write()
        apps = {one.name: self._broker_of(one.broker) for one in self._catalogue.apps()}
        away = {broker for broker in set(apps.values()) if self._brokers.is_heard(broker) is False}
        without = frozenset(app for app, broker in apps.items() if broker in away)
        now = self._reactor.seconds()
        due = await self._store.due_tasks(self._branch_id, now, without, MOST_DUE, MOST_DUE_BYTES)
        if not due.tasks and not due.settled:
            left_out = inf if due.next_left_out is None else max(due.next_left_out, now + LOOK_AGAIN)
            return min(left_out, inf if due.next_at is None else due.next_at)
        return self._reactor.seconds() + (0.0 if await self._deal_with(due, apps) else LOOK_AGAIN)

    async def _deal_with(self, due: Due, apps: Mapping[str, str]) -> bool:
        """Do what is to be done with tasks that are due; whether there was anything."""
        self._unwritten += (Released(task_id) for task_id in due.settled)
        now = self._reactor.seconds()
        by_broker: dict[str, list[Held]] = {}
        without_app: dict[str, list[Held]] = {}
        for one in due.tasks:
            if one.id in self._dropped:
                continue
            if one.app not in apps:
                without_app.setdefault(one.app, []).append(one)
            elif one.expires is not None and one.expires <= now:
                self._end(one, TaskState.REVOKED, "TaskRevokedError", "expired")
            else:
                by_broker.setdefault(apps[one.app], []).append(one)
        for app, tasks in without_app.items():
            self._app_is_gone(app, tasks)
        decided = len(self._unwritten)
        if decided:
            # Brokers may take their time.
            await self._write()
        sending = [Deferred.fromCoroutine(self._send(broker, tasks)) for broker, tasks in by_broker.items()]
        outcomes: list[tuple[bool, Any]] = await DeferredList(sending, consumeErrors=True)
        for _, result in outcomes:
            if isinstance(result, Failure):
                self._log.failure("tasks that are due can't be published now", result)
        decided += len(self._unwritten)
        await self._write()
        return decided > 0

    async def _write(self) -> None:
        await self._ledger.write(*self._unwritten)
        self._unwritten.clear()

    # -- what becomes of tasks ---------------------------------------------------------------

    async def _send(self, broker: str, tasks: list[Held]) -> None:
        """Publish tasks; what becomes of each is to be written. Nothing where the broker is not heard yet."""
        line = self._brokers.ready(broker) or await self._brokers.prepare(broker)
        if not self._brokers.is_heard(broker):
            return
        sent = [one for one in tasks if one.id not in self._dropped]
        publishing = [line.publish(outgoing(one)) for one in sent]
        outcomes: list[tuple[bool, Any]] = await DeferredList(publishing, consumeErrors=True)
        now = self._reactor.seconds()
        problems: list[BaseException | None] = []
        for one, (_, result) in zip(sent, outcomes, strict=True):
            if not isinstance(result, Failure):
                self._unwritten.append(Released(one.id, now + self._kept))
                continue
            problem = result.value
            if isinstance(problem, CymeError) and not isinstance(problem, Away):
                # The queue can't be made as it was declared, and so it will be.
                self._end(one, TaskState.FAILURE, type(problem).__name__, str(problem))
                continue
            problems.append(problem)
            self._unwritten.append(Postponed(one.id, now + AGAIN))
        if problems:
            self._log.warn(
                "{count} tasks are due and can't be published now: {problem}",
                count=len(problems),
                problem=str(problems[0]),
            )

    def _app_is_gone(self, app: str, tasks: list[Held]) -> None:
        """Revoke the tasks of an app that was deleted; one whose declaration can't be read may come back."""
        if any(one.key == (app,) for one in self._catalogue.tombstones("app")):
            self._log.warn(
                "the app {app} was deleted: {count} tasks of it that were put off are revoked",
                app=app,
                count=len(tasks),
            )
            for one in tasks:
                self._end(one, TaskState.REVOKED, "TaskRevokedError", "the app was deleted")
            return
        if app not in self._complained:
            self._complained.add(app)
            self._log.error("tasks of the app {app} are due, and there is no such app; they wait", app=app)
        self._unwritten += (Postponed(one.id, self._reactor.seconds() + AGAIN) for one in tasks)

    def _end(self, held: Held, state: TaskState, kind: str, message: str) -> None:
        """A task is never published."""
        now = self._reactor.seconds()
        text = json.dumps({"result": None, "error": {"type": kind, "message": message}})
        outcome = Outcome(held.id, state, text, now, now + self._result_expires)
        self._unwritten += (outcome, Released(held.id))
        self._hear(outcome)


def outgoing(held: Held) -> Outgoing:
    """The message of a task that is due."""
    kind = Kind(held.queue, held.task, held.priority)
    return Outgoing(held.id, kind, held.body, None, held.expires)
