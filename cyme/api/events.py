"""Routes of the why-log: what happened on this branch, and why; as a list, or live as a stream."""

from __future__ import annotations

from cyme.api import answers
from cyme.api.parameters import Parameter, Whole
from cyme.api.routing import READ, Route

PARAMETERS = (
    Parameter(name="since", kind=Whole(0, 2**63 - 1), description="the id of the last event that is known"),
    Parameter(name="limit", kind=Whole(1, 1000), description="the most events of a list; 100 without it"),
)

ROUTES = (
    Route(
        paths=("/events/",),
        methods=READ,
        parameters=PARAMETERS,
        summary="what happened on this branch, the oldest first; live with `Accept: text/event-stream`",
        verb=lambda controller, **params: controller.events.read(**params),
        follow=lambda controller, **params: controller.events.follow(**params),
        answer=answers.events,
        answers=((200, "the events"), (503, "a stream more than this branch serves at once")),
    ),
    Route(
        paths=(
            "/<app>/instances/<name>/events/",
            "/<app>/instance/<name>/events/",
            "/instances/<name>/events/",
        ),
        methods=READ,
        parameters=PARAMETERS,
        summary="what happened to an instance, the oldest first; live with `Accept: text/event-stream`",
        verb=lambda controller, name, app=None, **params: controller.events.read(app, name, **params),
        follow=lambda controller, name, app=None, **params: controller.events.follow(app, name, **params),
        answer=answers.events,
        answers=((200, "the events"), (503, "a stream more than this branch serves at once")),
    ),
)
