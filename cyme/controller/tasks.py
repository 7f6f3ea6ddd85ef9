"""The verbs of tasks: requests and named Celery tasks, queued on an app's broker and asked about afterwards.

Note [The default queue]
~~~~~~~~~~~~~~~~~~~~~~~~
Who names no queue means the app's default queue, which is called as Celery calls its own:
`celery`. It is an ordinary declaration. The first request that needs it makes it and has every
instance of the app consume from it, in one transaction: there it shows, and can be cancelled for
each. Instances that are added later without a word about queues consume from it too, as Celery's
workers do. Where an app's user has declared it before, who consumes from it is the user's choice.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from cyme.brokers import redacted
from cyme.controller.deferring import returns_deferred
from cyme.controller.instances import WAIT_MOST
from cyme.controller.parameters import seconds, text, whole
from cyme.declarations import Declaration, Queue
from cyme.errors import (
    InvalidParameter,
    InvalidTarget,
    NoSuchApp,
    NoSuchQueue,
    NoSuchTask,
    TargetDenied,
)
from cyme.naming import DEFAULT_QUEUE, is_queue_name
from cyme.planning import consumed
from cyme.queued import TaskMessage, TaskStatus
from cyme.targets import Rule, TargetRefused, check_target, parse_rules, parse_url

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.controller.issued import IssuedTasks
    from cyme.interfaces import ICatalogue, IGateway

#: The Celery task that makes requests.
WEBHOOK = "cyme.tasks.webhook"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
#: Seconds for one attempt at a request, unless it says otherwise; and the most.
REQUEST_WITHIN = 60.0
#: A message is acknowledged after its request, and RabbitMQ gives what was not within half an hour to
#: somebody else (`consumer_timeout`).
TIMEOUT_MOST = 1500.0
RETRIES_MOST = 100
#: The longest that a task may be put off, in seconds.
DELAY_MOST = 7 * 86_400.0
#: Bytes of a response that are kept, and redirects that are followed.
RESPONSE_MOST = 1024 * 1024
REDIRECTS_MOST = 10
#: How often a request may be begun again, beyond its retries, because a worker died with it.
MORE_DELIVERIES = 3
PRIORITY_MOST = 255
#: Targets' hosts of which it is remembered that they may be requested.
MOST_PERMITTED = 1000


@frozen
class Rules:
    """Which targets requests may have; see `cyme.targets`.

    :ivar allow: the texts of rules; so `deny`.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


#: Every target may be requested.
NO_RULES = Rules()


class Tasks:
    """Queues tasks, tells how they are, and revokes them.

    :param issued: tells of tasks that were queued, here or elsewhere.
    :param default_broker: gives the URL of the broker of apps that name none.
    :param rules: which targets requests may have; workers check them again.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        gateway: IGateway,
        issued: IssuedTasks,
        default_broker: Callable[[], str],
        rules: Rules,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._gateway = gateway
        self._issued = issued
        self._default_broker = default_broker
        self._rules = rules
        self._allow: tuple[Rule, ...] = parse_rules(rules.allow)
        self._deny: tuple[Rule, ...] = parse_rules(rules.deny)
        # Most requests are for few hosts.
        self._permitted: set[tuple[str, str, int]] = set()

    # -- queueing -----------------------------------------------------------------------

    @returns_deferred
    async def request(
        self,
        app: str,
        queue: str | None,
        *,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = REQUEST_WITHIN,
        retries: int = 0,
        delay: float = 0.0,
        deduplication_id: str | None = None,
        callback: str | None = None,
        failure_callback: str | None = None,
    ) -> dict[str, Any]:
        """Have a worker of an app make an HTTP request.

        :param queue: None for the default queue, see Note [The default queue].
        :param headers: in order, repeated where there are several of one name.
        :param timeout: seconds for one attempt.
        :param retries: how many more attempts may be made.
        :param delay: seconds before which it must not be made.
        :param deduplication_id: of requests of the app with one id within a day, only the first is made.
        :param callback: a URL that the result is posted to; `failure_callback`, likewise a failure.
        :return: fires, once it is queued, with `{"uuid", "url", "queue", "method", "broker"}`.
        :raises NoSuchApp, NoSuchQueue: when there is none.
        :raises InvalidTarget: when there can be no request to a URL.
        :raises TargetDenied: when the branch may not have it requested.
        :raises InvalidParameter: when something else can't be.
        :raises Away, Conflict, InvalidDeclaration: see `IGateway.queue`; nothing is queued.
        """
        if method not in METHODS:
            raise InvalidParameter("method", f"takes one of {', '.join(sorted(METHODS))}")
        shown = self._checked(url)
        for name, one in (("callback", callback), ("failure_callback", failure_callback)):
            if one is not None:
                self._checked_callback(name, one)
        if seconds("timeout", timeout, TIMEOUT_MOST) <= 0:
            raise InvalidParameter("timeout", "takes more than 0 seconds")
        retries = whole("retries", retries, 0, RETRIES_MOST)
        put_off = seconds("delay", delay, DELAY_MOST)
        declared = await self._queue(app, queue)
        request = {
            "method": method,
            "url": url,
            "headers": [list(header) for header in headers],
            "body": None if body is None else b64encode(body).decode("ascii"),
        }
        options = {
            "timeout": timeout,
            "retries": retries,
            "max_response": RESPONSE_MOST,
            "max_redirects": REDIRECTS_MOST,
            "allow": list(self._rules.allow),
            "deny": list(self._rules.deny),
            "callback": callback,
            "failure_callback": failure_callback,
            "deliveries": 0,
            "max_deliveries": retries + MORE_DELIVERIES,
        }
        message = TaskMessage(
            app=app,
            queue=consumed(declared),
            task=WEBHOOK,
            kwargs={"request": request, "options": options},
            eta=self._clock.seconds() + put_off if put_off else None,
            deduplication_id=deduplication_id,
        )
        broker = self._broker(app)
        task_id = await self._gateway.queue(broker, message)
        return {
            "uuid": task_id,
            "url": shown,
            "queue": _shown(declared),
            "method": method,
            "broker": redacted(broker),
        }

    @returns_deferred
    async def send(
        self,
        app: str,
        task: str,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        priority: int | None = None,
    ) -> dict[str, Any]:
        """Have a worker of an app run one of its Celery tasks.

        :param task: Celery's name of it; whether workers know it, only they can tell.
        :param args: JSON-able; so `kwargs`.
        :param queue: None for the default queue, see Note [The default queue].
        :param countdown: seconds before which it must not be run.
        :param eta: a time before which it must not be run, with its zone.
        :param expires: seconds, or a time with its zone, after which it must not be run.
        :return: fires, once it is queued, with `{"uuid", "task", "queue", "broker"}`.
        :raises NoSuchApp, NoSuchQueue: when there is none.
        :raises InvalidParameter: when something can't be.
        :raises Away, Conflict, InvalidDeclaration: see `IGateway.queue`; nothing is queued.
        """
        if not is_queue_name(task):
            raise InvalidParameter("task", "takes 1 to 255 bytes of printable characters other than '/'")
        if countdown is not None and eta is not None:
            raise InvalidParameter("countdown", "can't be given together with 'eta'")
        now = self._clock.seconds()
        earliest = None if eta is None else eta.timestamp()
        if countdown is not None:
            earliest = now + seconds("countdown", countdown, DELAY_MOST)
        if earliest is not None and earliest > now + DELAY_MOST:
            raise InvalidParameter("eta", f"takes a time within {DELAY_MOST / 86_400:g} days from now")
        latest = None
        if expires is not None:
            latest = expires.timestamp() if isinstance(expires, datetime) else now + expires
            if latest <= now:
                raise InvalidParameter("expires", "takes a time that is still to come")
        if priority is not None:
            whole("priority", priority, 0, PRIORITY_MOST)
        declared = await self._queue(app, None if queue is None else text("queue", queue))
        message = TaskMessage(
            app=app,
            queue=consumed(declared),
            task=task,
            args=args,
            kwargs=kwargs or {},
            eta=earliest,
            expires=latest,
            priority=priority,
        )
        broker = self._broker(app)
        task_id = await self._gateway.queue(broker, message)
        return {"uuid": task_id, "task": task, "queue": _shown(declared), "broker": redacted(broker)}

    # -- asking afterwards --------------------------------------------------------------

    @returns_deferred
    async def state(self, app: str, task_id: str) -> dict[str, Any]:
        """Fire with `{"state"}` of a task.

        :raises NoSuchApp, NoSuchTask: when there is none.
        """
        return {"state": (await self._status(app, task_id)).state.value}

    @returns_deferred
    async def result(self, app: str, task_id: str) -> dict[str, Any]:
        """Fire with `{"result", "state"}` of a task, and the `error` of one that failed.

        :raises NoSuchApp, NoSuchTask: when there is none.
        """
        return _outcome(await self._status(app, task_id))

    @returns_deferred
    async def wait(self, app: str, task_id: str, *, timeout: float = 60.0) -> tuple[bool, dict[str, Any]]:
        """Fire with whether a task has ended, and its result as by `result`; as soon as it has.

        Cancelling it leaves nothing behind.

        :param timeout: seconds after which it fires in any case.
        :raises NoSuchApp, NoSuchTask: when there is none.
        """
        within = seconds("timeout", timeout, WAIT_MOST)
        status = await self._status(app, task_id)
        if not status.state.is_final:
            status = await self._issued.wait(task_id, within)
        return status.state.is_final, _outcome(status)

    @returns_deferred
    async def revoke(self, app: str, task_id: str) -> dict[str, Any]:
        """Have a task not run, unless it does already; fires with `{"ok", "state"}`.

        :raises NoSuchApp, NoSuchTask: when there is none.
        """
        await self._status(app, task_id)
        return {"ok": "ok", "state": (await self._issued.revoke(task_id)).state.value}

    # -- inside -------------------------------------------------------------------------

    async def _status(self, app: str, task_id: str) -> TaskStatus:
        self._require_app(app)
        status = await self._issued.status(task_id)
        if status.app != app:
            raise NoSuchTask(task_id)
        return status

    async def _queue(self, app: str, name: str | None) -> Queue:
        self._require_app(app)
        queue = self._catalogue.queue(app, DEFAULT_QUEUE if name is None else name)
        if queue is None and name is not None:
            raise NoSuchQueue(name, app)
        return queue or await self._declare_default(app)

    async def _declare_default(self, app: str) -> Queue:
        """Make an app's default queue, see Note [The default queue]."""

        def decide() -> Iterator[Declaration]:
            self._require_app(app)
            there = self._catalogue.queue(app, DEFAULT_QUEUE)
            yield there or Queue(app=app, name=DEFAULT_QUEUE)
            if there is None:
                for instance in self._catalogue.instances(app):
                    if DEFAULT_QUEUE not in instance.queues:
                        yield evolve(instance, queues=(*instance.queues, DEFAULT_QUEUE))

        queue, *_ = await self._catalogue.change(decide)
        assert isinstance(queue, Queue)
        return queue

    def _checked(self, url: str) -> str:
        """The URL as it may be shown, if it may be requested."""
        try:
            target = parse_url(url)
        except TargetRefused as problem:
            raise InvalidTarget(str(problem)) from None
        if target.origin not in self._permitted:
            try:
                check_target(target, self._allow, self._deny)
            except TargetRefused as problem:
                raise TargetDenied(str(problem)) from None
            if len(self._permitted) >= MOST_PERMITTED:
                self._permitted.clear()
            self._permitted.add(target.origin)
        return url if target.userinfo is None and "#" not in url else target.url

    def _checked_callback(self, name: str, url: str) -> None:
        try:
            self._checked(url)
        except InvalidTarget as problem:
            raise InvalidParameter(name, str(problem)) from None

    def _broker(self, app: str) -> str:
        there = self._catalogue.app(app)
        return (there.broker if there is not None else None) or self._default_broker()

    def _require_app(self, app: str) -> None:
        if self._catalogue.app(app) is None:
            raise NoSuchApp(app)


def _shown(queue: Queue) -> dict[str, Any]:
    """The declaration of a queue, as far as it says where a message goes."""
    return {
        "name": queue.name,
        "exchange": queue.exchange,
        "exchange_type": queue.exchange_type,
        "routing_key": queue.routing_key,
        "options": None if queue.options is None else json.loads(queue.options),
    }


def _outcome(status: TaskStatus) -> dict[str, Any]:
    outcome: dict[str, Any] = {"result": status.result, "state": status.state.value}
    if status.error is not None:
        outcome["error"] = {"type": status.error.type, "message": status.error.message}
    return outcome
