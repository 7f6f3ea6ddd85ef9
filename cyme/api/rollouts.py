"""Routes of rolling restarts."""

from __future__ import annotations

from cyme.access import Scope
from cyme.api import answers
from cyme.api.instances import MOST_CONCURRENCY, MOST_WAIT
from cyme.api.parameters import Parameter, Seconds, Whole
from cyme.api.routing import DELETE, READ, WRITE, Route

_PATHS = ("/<app>/restart/",)
_ASYNCHRONOUSLY = ("/!/<app>/restart/", "/<app>/restart/!/")

PARAMETERS = (
    Parameter(
        name="parallel",
        kind=Whole(1, MOST_CONCURRENCY),
        description="how many instances may be under way at a time; 1 without it",
    ),
    Parameter(
        name="timeout",
        kind=Seconds(86_400.0),
        description="how long each instance may take to be back; the rest is left alone when one is not",
    ),
    Parameter(
        name="wait",
        kind=Seconds(MOST_WAIT),
        description="how long to wait for the end before answering; 60 without it",
    ),
)

ROUTES = (
    Route(
        paths=_PATHS,
        methods=READ,
        summary="the last rolling restart of an app, and how far it has come",
        verb=lambda controller, app: controller.rollouts.get(app),
        answer=answers.document,
        answers=((200, "the rolling restart"),),
    ),
    Route(
        paths=_PATHS,
        asynchronous_paths=_ASYNCHRONOUSLY,
        methods=WRITE,
        summary="restart an app's instances, the next only when the one before it is back",
        parameters=PARAMETERS,
        scope=Scope.OPERATE,
        verb=lambda controller, app, **given: controller.rollouts.begin(app, **given),
        answer=answers.document,
        scheduled=answers.scheduled,
        answers=((200, "the rolling restart, as it is at its end or at the end of the wait"),),
        awaits=True,
    ),
    Route(
        paths=_PATHS,
        asynchronous_paths=_ASYNCHRONOUSLY,
        methods=DELETE,
        summary="call a rolling restart off: nothing further is restarted",
        scope=Scope.OPERATE,
        verb=lambda controller, app: controller.rollouts.call_off(app),
        answer=answers.document,
        scheduled=answers.scheduled,
        answers=((200, "the rolling restart, as it is left"),),
    ),
)
