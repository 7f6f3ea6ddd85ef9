"""Tells branches how their tasks end, whatever the app does with results itself.

A message whose `reply_to` begins with `cyme.results.` wants its states in that queue, in the form
of Celery's `rpc://` backend. The app that runs it may have any backend, or ignore results, and
shall notice nothing: so this stands beside the backend, not in its place.

Note [Where results pass by]: all ends of a task, in the pool and in the worker's main process, go
through three methods of `celery.backends.base.Backend`, with the request and also when nothing is
to be stored. Celery's signals are no match: none comes when the app's own backend is away, nor
for each kind of end. For `STARTED` and `RETRY`, which may get lost, signals do.

Note [Started]: most tasks are over before anybody could ask how they are, and a message for each
that it has begun would cost as much as its result. So a task that is over within a moment is never
told to have started. The order of the two does not matter: a branch puts no state over a final one.
"""

from __future__ import annotations

import json
import os
from functools import partial, wraps
from typing import Any

from celery import signals, states
from celery.backends.base import Backend
from celery.exceptions import TaskRevokedError
from celery.utils.saferepr import saferepr

from cyme.tasks.alarms import alarms
from cyme.tasks.callbacks import call_back
from cyme.tasks.publishing import publish

#: How the names of the queues begin that are answered here.
QUEUES = "cyme.results."
#: The most characters of a traceback that are sent; the end says more than the beginning.
TRACEBACK = 65536

#: The longest message, in bytes: half of what a branch reads (`cyme.gateway.answers.LARGEST_ANSWER`).
LONGEST_TEXT = 16 * 1024 * 1024
#: Seconds for which a task runs before it is told that it has started.
STARTED_AFTER = 0.05

#: An attribute of requests that were answered, so that one run has one end; and of those that run
#: the alarm that will tell so.
_ANSWERED, _STARTING = "_cyme_answered", "_cyme_starting"
_INSTALLED = "_cyme_answers"


def install() -> None:
    """Answer from now on, in this process and its children."""
    if getattr(Backend, _INSTALLED, False):
        return
    setattr(Backend, _INSTALLED, True)
    done, failed, revoked = Backend.mark_as_done, Backend.mark_as_failure, Backend.mark_as_revoked

    @wraps(done)
    def mark_as_done(
        self: Any,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        *a: Any,
        **k: Any,
    ) -> Any:
        answered = answer(self.app, task_id, states.SUCCESS, result, request)
        return done(self, task_id, result, request, store_result and not (answered and is_rpc(self)), *a, **k)

    @wraps(failed)
    def mark_as_failure(
        self: Any,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        *a: Any,
        **k: Any,
    ) -> Any:
        answered = answer(self.app, task_id, states.FAILURE, exc, request, traceback)
        store_result = store_result and not (answered and is_rpc(self))
        return failed(self, task_id, exc, traceback, request, store_result, *a, **k)

    @wraps(revoked)
    def mark_as_revoked(
        self: Any,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        *a: Any,
        **k: Any,
    ) -> Any:
        answered = answer(self.app, task_id, states.REVOKED, TaskRevokedError(reason), request)
        return revoked(
            self, task_id, reason, request, store_result and not (answered and is_rpc(self)), *a, **k
        )

    Backend.mark_as_done = mark_as_done
    Backend.mark_as_failure = mark_as_failure
    Backend.mark_as_revoked = mark_as_revoked
    signals.task_prerun.connect(when_started, weak=False)
    signals.task_postrun.connect(when_over, weak=False)
    signals.task_retry.connect(when_retried, weak=False)


def is_rpc(backend: Any) -> bool:
    """Whether a backend would send to `reply_to` what was sent there just now."""
    return type(backend).__module__ == "celery.backends.rpc"


def when_started(sender: Any, task_id: str, **_: object) -> None:
    """Take Celery's signal that a task begins."""
    request = sender.request
    if reply_to(request) is not None:
        who = {"pid": os.getpid(), "hostname": request.hostname}
        told = partial(tell, sender.app, task_id, states.STARTED, who, request, sure=False)
        # See Note [Started].
        setattr(request, _STARTING, alarms("started").set(STARTED_AFTER, told))


def when_over(sender: Any, **_: object) -> None:
    """Take Celery's signal that a task is over, however."""
    _put_off_started(sender.request)


def _put_off_started(request: Any) -> None:
    alarm = getattr(request, _STARTING, None)
    if alarm is not None:
        alarm.put_off()


def when_retried(sender: Any, request: Any, reason: Any, **_: object) -> None:
    """Take Celery's signal that there will be another attempt."""
    _put_off_started(request)
    problem = getattr(reason, "exc", None) or reason
    tell(sender.app, request.id, states.RETRY, exception_as_json(problem), request, sure=False)


def answer(app: Any, task_id: str, state: str, result: Any, request: Any, traceback: Any = None) -> bool:
    """Tell the end of a task to who waits for it: its branch, and its callbacks.

    :param request: Celery's `Context`, or what passes for one; perhaps None.
    :return: whether the branch knows it now.
    """
    if request is None or getattr(request, _ANSWERED, False):
        return request is not None and reply_to(request) is not None
    _put_off_started(request)
    value = exception_as_json(result) if isinstance(result, BaseException) else result
    told = tell(app, task_id, state, value, request, traceback=traceback)
    call_back(app, task_id, state, value, request)
    setattr(request, _ANSWERED, True)
    return told


def reply_to(request: Any) -> str | None:
    """The queue of the branch that wants to know of a task; None for tasks of others."""
    name = getattr(request, "reply_to", None)
    return name if isinstance(name, str) and name.startswith(QUEUES) else None


def tell(
    app: Any,
    task_id: str,
    state: str,
    result: Any,
    request: Any,
    *,
    traceback: Any = None,
    sure: bool = True,
) -> bool:
    """Send one state of a task to its branch: whether there is one."""
    queue = reply_to(request)
    if queue is None:
        return False
    body = {
        "status": state,
        "result": result,
        "traceback": None if traceback is None else str(traceback)[-TRACEBACK:],
        "children": [],
        "date_done": app.now().isoformat() if state in states.READY_STATES else None,
        "task_id": task_id,
    }
    publish(
        app,
        as_text(body),
        sure=sure,
        exchange="",
        routing_key=queue,
        correlation_id=task_id,
        delivery_mode=2 if sure else 1,
    )
    return True


def exception_as_json(problem: BaseException) -> dict[str, Any]:
    """An exception as Celery's JSON has it."""
    kind = type(problem)
    return {"exc_type": kind.__qualname__, "exc_message": list(problem.args), "exc_module": kind.__module__}


def as_text(body: dict[str, Any]) -> str:
    """A result's JSON, which any language can read; values that JSON does not know are spelled out.

    The backend of the app may know more of them; a branch's answers are JSON. Of a result that is longer
    than branches take there is the beginning.
    """
    try:
        text = json.dumps(body, default=_spelled, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, a value that contains itself, not-a-number.
        text = None
    if text is None or len(text) > LONGEST_TEXT:
        return json.dumps({**body, "result": {"repr": saferepr(body["result"], 10000)}})
    return text


def _spelled(value: Any) -> Any:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
