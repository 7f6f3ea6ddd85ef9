"""Routes of queue declarations."""

from __future__ import annotations

from cyme.access import Scope
from cyme.api import answers
from cyme.api.parameters import Object, Parameter, Text
from cyme.api.routing import DELETE, READ, WRITE, Route

#: AMQP's short strings: names of exchanges and routing keys have at most 255 bytes.
_SHORT = Text(255)

DECLARATION_PARAMETERS = (
    Parameter(name="exchange", kind=_SHORT, description="the exchange; the queue's name without it"),
    Parameter(name="exchange_type", kind=_SHORT, description="the type of the exchange; direct without it"),
    Parameter(name="routing_key", kind=_SHORT, description="the routing key; the queue's name without it"),
    Parameter(
        name="options",
        kind=Object(),
        description="options of the queue, exchange and binding, as kombu's entry_to_queue takes them",
    ),
)


ROUTES = (
    Route(
        paths=("/<app>/queues/",),
        methods=READ,
        summary="the names of an app's queue declarations",
        verb=lambda controller, app: controller.queues.all(app),
        answer=answers.listing,
        answers=((200, "the names"),),
    ),
    Route(
        paths=("/<app>/queues/<queue>/",),
        methods=READ,
        summary="a queue declaration, and how many messages and consumers its broker counts",
        verb=lambda controller, app, queue: controller.queues.inspect(app, queue),
        answer=answers.document,
        answers=((200, "the declaration; null for what its broker can't count"),),
    ),
    Route(
        paths=("/<app>/queues/<queue>/",),
        asynchronous_paths=("/<app>/queues/!/<queue>/",),
        methods=WRITE,
        summary="declare a queue, or change its declaration",
        parameters=DECLARATION_PARAMETERS,
        verb=lambda controller, app, queue, **given: controller.queues.add(app, queue, **given),
        answer=answers.added,
        scheduled=answers.scheduled_addition,
        answers=((201, "the new declaration"), (200, "the declaration, which existed")),
    ),
    Route(
        paths=("/<app>/queues/<queue>/",),
        asynchronous_paths=("/<app>/queues/!/<queue>/",),
        methods=DELETE,
        summary="delete a queue declaration; every instance stops consuming from it",
        verb=lambda controller, app, queue: controller.queues.delete(app, queue),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is forgotten"),),
    ),
    Route(
        paths=("/<app>/queues/<queue>/pause/",),
        asynchronous_paths=("/<app>/queues/!/<queue>/pause/",),
        methods=WRITE,
        summary="have no instance consume from a queue, until it is resumed",
        scope=Scope.OPERATE,
        verb=lambda controller, app, queue: controller.queues.pause(app, queue),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is declared so"),),
    ),
    Route(
        paths=("/<app>/queues/<queue>/resume/",),
        asynchronous_paths=("/<app>/queues/!/<queue>/resume/",),
        methods=WRITE,
        summary="have the instances consume again from a queue that was paused",
        scope=Scope.OPERATE,
        verb=lambda controller, app, queue: controller.queues.resume(app, queue),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is declared so"),),
    ),
    Route(
        paths=("/<app>/queues/<queue>/purge/",),
        asynchronous_paths=("/<app>/queues/!/<queue>/purge/",),
        methods=WRITE,
        summary="remove the messages that wait in a queue",
        verb=lambda controller, app, queue: controller.queues.purge(app, queue),
        answer=answers.document,
        scheduled=answers.scheduled,
        answers=((200, "how many they were"),),
    ),
)
