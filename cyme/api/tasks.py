"""Routes of named tasks, and of what comes of every task that was queued."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from attrs import frozen

from cyme.access import Scope
from cyme.api import answers, jsontext
from cyme.api.instances import MOST_WAIT
from cyme.api.parameters import Object, Parameter, Seconds, Text, Whole
from cyme.api.routing import DELETE, READ, Route

#: The longest that a task may be put off, in seconds.
_DELAY_MOST = 7 * 86_400.0


@frozen
class List:
    """A JSON list; in a query or a form it is given as its JSON text."""

    takes = f"a JSON list, at most {jsontext.MOST_DEPTH} levels deep"

    def from_text(self, text: str) -> list[Any]:
        return self.from_json(jsontext.loads(text))

    def from_json(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError
        return value


@frozen
class Moment:
    """A time as ISO 8601 has it; without an offset it is UTC."""

    takes = "a time in ISO 8601, like 2030-01-31T12:00:00Z"

    def from_text(self, text: str) -> datetime:
        # Python 3.10 does not know `Z`. A query string has made a space of a plus sign.
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace(" ", "+"))
        if not 2000 < found.year < 9000:
            raise ValueError
        return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)

    def from_json(self, value: Any) -> datetime:
        if not isinstance(value, str):
            raise ValueError
        return self.from_text(value)


@frozen
class Expiry:
    """A number of seconds from now, or a time."""

    most: float

    @property
    def takes(self) -> str:
        return f"a number of seconds from 0 to {self.most:g}, or {Moment.takes}"

    def from_text(self, text: str) -> float | datetime:
        try:
            return Seconds(self.most).from_text(text)
        except ValueError:
            return Moment().from_text(text)

    def from_json(self, value: Any) -> float | datetime:
        return Moment().from_text(value) if isinstance(value, str) else Seconds(self.most).from_json(value)


PARAMETERS = (
    Parameter(name="args", kind=List(), description="the task's positional arguments"),
    Parameter(name="kwargs", kind=Object(), description="the task's keyword arguments"),
    Parameter(name="queue", kind=Text(255), description="where it goes; the app's default queue without it"),
    Parameter(name="countdown", kind=Seconds(_DELAY_MOST), description="how long it must wait at least"),
    Parameter(name="eta", kind=Moment(), description="a time before which it must not be run"),
    Parameter(
        name="expires",
        kind=Expiry(1e8),
        description="how long, or until when, it may be run",
    ),
    Parameter(name="priority", kind=Whole(0, 255), description="its priority, as the broker takes it"),
)

_WAIT = Parameter(
    name="timeout",
    kind=Seconds(MOST_WAIT),
    description="how long to wait for the result before answering; 60 without it",
)

ROUTES = (
    Route(
        paths=("/<app>/task/<task>/",),
        methods=("POST", "PUT"),
        summary="queue a Celery task of the app by its name",
        parameters=PARAMETERS,
        scope=Scope.OPERATE,
        verb=lambda controller, app, task, **given: controller.tasks.send(app, task, **given),
        answer=answers.queued_task,
        answers=((202, "the broker has it, or the branch until it is due"),),
    ),
    Route(
        paths=("/<app>/query/<uuid>/state/",),
        methods=READ,
        summary="how far a task is",
        passes_on=True,
        verb=lambda controller, app, uuid: controller.tasks.state(app, uuid),
        answer=answers.document,
        answers=((200, "its state"),),
    ),
    Route(
        paths=("/<app>/query/<uuid>/result/",),
        methods=READ,
        summary="what came of a task",
        passes_on=True,
        verb=lambda controller, app, uuid: controller.tasks.result(app, uuid),
        answer=answers.document,
        answers=((200, "its result, null while there is none"),),
    ),
    Route(
        paths=("/<app>/query/<uuid>/wait/",),
        methods=READ,
        summary="what came of a task, as soon as it has ended",
        parameters=(_WAIT,),
        passes_on=True,
        verb=lambda controller, app, uuid, **given: controller.tasks.wait(app, uuid, **given),
        answer=answers.waited,
        answers=((200, "its result"), (202, "its state, when the time is over")),
        is_cancelled=True,
    ),
    Route(
        paths=("/<app>/query/<uuid>/",),
        methods=DELETE,
        summary="revoke a task: it is not run, unless it runs already",
        scope=Scope.OPERATE,
        verb=lambda controller, app, uuid: controller.tasks.revoke(app, uuid),
        answer=answers.document,
        answers=((200, "it is; or it had ended, as its state says"),),
    ),
)
