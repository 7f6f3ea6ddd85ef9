"""Routes of applications: create, configure, read and delete them."""

from __future__ import annotations

from cyme.api import answers, schemas
from cyme.api.parameters import Parameter, Seconds, Size, Text, Whole
from cyme.api.routing import DELETE, READ, WRITE, Route
from cyme.naming import MEMORY_MOST, SECONDS_MOST

#: How a worker is started; an app's values are the defaults of its instances.
START_PARAMETERS = (
    Parameter(
        name="hostname",
        kind=Text(255),
        description="the broker's host; without it, the next four count for nothing",
    ),
    Parameter(name="port", kind=Whole(1, 65535), description="the broker's port"),
    Parameter(name="userid", kind=Text(255), description="who logs in to the broker"),
    Parameter(name="password", kind=Text(), description="the password for that"),
    Parameter(
        name="virtual_host",
        kind=Text(255),
        description="the broker's virtual host",
        aliases=("vhost",),
    ),
    Parameter(name="broker", kind=Text(), description="the broker as a URL, as Celery has them"),
    Parameter(name="celery_app", kind=Text(), description="the Celery app, as `celery -A` takes it"),
    Parameter(name="pool", kind=Text(255), description="the pool, as `celery worker -P` takes it"),
    Parameter(
        name="arguments",
        kind=Text(),
        description="more `celery worker` arguments, with shell quoting",
    ),
    Parameter(
        name="extra_config",
        kind=Text(),
        description="settings of the workers as key=value, with shell quoting",
    ),
    Parameter(
        name="max_memory",
        kind=Size(MEMORY_MOST),
        description="the memory of a worker with its children above which it is replaced; 0 for no limit",
    ),
    Parameter(
        name="max_age",
        kind=Seconds(SECONDS_MOST),
        description="the age at which a worker is replaced; 0 for no limit",
    ),
    Parameter(
        name="stall_timeout",
        kind=Seconds(SECONDS_MOST),
        description="how long reserved work may wait without progress until a worker is stalled; 0 for ever",
    ),
)

ROUTES = (
    Route(
        paths=("/",),
        methods=READ,
        summary="the names of all apps",
        narrows=True,
        verb=lambda controller, app=None: [one for one in controller.apps.all() if app in (None, one)],
        answer=answers.listing,
        answers=((200, "the names"),),
    ),
    Route(
        paths=("/",),
        asynchronous_paths=("/!/",),
        methods=WRITE,
        summary="create an app with a generated name",
        parameters=START_PARAMETERS,
        shape=schemas.APP,
        verb=lambda controller, **given: controller.apps.add(None, **given),
        answer=answers.added,
        scheduled=answers.scheduled_addition,
        answers=((201, "the new app"),),
    ),
    Route(
        paths=("/<app>/",),
        methods=READ,
        summary="the configuration of an app",
        shape=schemas.APP,
        verb=lambda controller, app: controller.apps.get(app),
        answer=answers.document,
        answers=((200, "the app"),),
    ),
    Route(
        paths=("/<app>/",),
        asynchronous_paths=("/!/<app>/",),
        methods=WRITE,
        summary="create an app, or change its configuration",
        parameters=START_PARAMETERS,
        shape=schemas.APP,
        verb=lambda controller, app, **given: controller.apps.add(app, **given),
        answer=answers.added,
        scheduled=answers.scheduled_addition,
        answers=((201, "the new app"), (200, "the app, which existed")),
    ),
    Route(
        paths=("/<app>/",),
        asynchronous_paths=("/!/<app>/",),
        methods=DELETE,
        summary="delete an app with its instances and queue declarations",
        verb=lambda controller, app: controller.apps.delete(app),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is forgotten"),),
    ),
)
