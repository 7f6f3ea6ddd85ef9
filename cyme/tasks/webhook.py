"""The task that makes a queued request.

It imports no HTTP library before it runs: workers are ready sooner, and those that never get
such a task never need one.

Note [Counted deliveries]: the message is acknowledged after the run, and given back by a worker
whose pool process was lost, so no crash loses the task. A request that kills its workers must not
go on to do so for ever, and brokers tell of a message only *that* it was delivered before. So who
gets one that was publishes a copy that says how often, and drops the original; the copy runs. A
crash between the two leaves both: then the request may run twice at the same time, once more
than without the crash, and both copies go on counting, so it ends all the same. A worker that is
lost gives back also what it had not begun; such a message counts as delivered too.
"""

from __future__ import annotations

import random
import time
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Retry

from cyme.tasks import answering, holding
from cyme.tasks.backoff import RETRIED, TELLING, delay, retry_after
from cyme.tasks.failures import NotNow, RequestFailed, TooManyDeliveries
from cyme.tasks.messages import WEBHOOK, put_again

#: Deliveries that a message has when it does not say.
MAX_DELIVERIES = 5

answering.install()
holding.install()


@shared_task(  # type: ignore[untyped-decorator]
    name=WEBHOOK,
    # Not the class that the user's app may give its tasks: what that does is for those.
    base=Task,
    bind=True,
    throws=(RequestFailed,),
    # The branch gets it; it is nothing for the results of the user's app.
    ignore_result=True,
    store_errors_even_if_ignored=False,
    serializer="json",
    max_retries=None,
    rate_limit=None,
    acks_late=True,
    acks_on_failure_or_timeout=True,
    reject_on_worker_lost=True,
    # What responses say is not for logs.
    resultrepr_maxsize=32,
)
def webhook(self: Any, request: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Make a request.

    :param request: see `cyme.tasks.requesting.attempt`.
    :param options: `timeout`, `retries`, `max_response`, `max_redirects`, `allow`, `deny`,
        `callback`, `failure_callback`, `deliveries`, `max_deliveries`.
    :return: `{"status_code", "url", "headers", "content", "truncated"}`.
    :raises RequestFailed: when there is no response.
    """
    count_delivery(self, options)
    from cyme.tasks.requesting import attempt

    may_retry = self.request.retries < int(options.get("retries") or 0)
    asked = None
    try:
        response = attempt(request, options)
    except RequestFailed as problem:
        if not (may_retry and problem.is_retried):
            raise
        failure = problem
    else:
        status = response.status_code
        if not (may_retry and status in RETRIED):
            return response.as_json()
        if status in TELLING:
            asked = retry_after(response.header("Retry-After"), time.time())
        failure = NotNow(f"the target answered {status}")
    wait = delay(self.request.retries, random.random(), asked)
    # What `Task.retry` does, except that the message is confirmed and the queue is left alone.
    put_again(self.app, self.request, options, retries=self.request.retries + 1, countdown=wait)
    raise Retry(exc=failure, when=wait)


def count_delivery(task: Any, options: dict[str, Any]) -> None:
    """Go on if the message is delivered for the first time; see Note [Counted deliveries].

    :raises Ignore: when a copy runs in its place.
    :raises TooManyDeliveries: when it was delivered often enough.
    """
    if not (task.request.delivery_info or {}).get("redelivered"):
        return
    deliveries = int(options.get("deliveries") or 0) + 1
    if deliveries >= int(options.get("max_deliveries") or MAX_DELIVERIES):
        raise TooManyDeliveries(
            f"the request was delivered {deliveries} times, and each time the worker that had it was lost"
        )
    put_again(task.app, task.request, {**options, "deliveries": deliveries}, retries=task.request.retries)
    raise Ignore(f"delivered again; a copy that counts {deliveries} runs in its place")
