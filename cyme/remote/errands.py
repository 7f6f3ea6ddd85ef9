"""What is done to a broker on a connection of its own, thrown away afterwards; all of it blocks.

A broker answers a declaration that it does not like by closing the channel, or the whole
connection. On a throw-away one that does no harm (failure-modes F3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.entity import Queue

from cyme.brokers import AMQP, checked, each, redacted, scrubbed, transport_of
from cyme.errors import BrokerAway, DeclarationMismatch, InvalidDeclaration, InvalidParameter
from cyme.planning import QueueCount
from cyme.remote.sessions import describe, lost_errors
from cyme.remote.wires import connect, release

if TYPE_CHECKING:
    from cyme.planning import ConsumedQueue

#: Reply codes of AMQP 0-9-1.
_CONNECTION_FORCED, _NOT_FOUND, _RESOURCE_LOCKED, _PRECONDITION_FAILED = 320, 404, 405, 406

#: What Celery's `Queue.from_dict` understands beside the attributes of `kombu.Queue`.
_MORE_OPTIONS = frozenset(
    {
        "binding_key",
        "delivery_mode",
        "durable",
        "auto_delete",
        "exchange_durable",
        "exchange_auto_delete",
        "exchange_arguments",
        "queue_durable",
        "queue_auto_delete",
    }
)

#: Attributes of `kombu.Queue` that JSON can't express, or that name what has a parameter of its own.
_NO_OPTIONS = frozenset({"name", "exchange", "routing_key", "alias", "bindings", "on_declared"})

#: The names that a queue declaration's options may have.
OPTIONS = frozenset(name for name, _ in Queue.attrs) - _NO_OPTIONS | _MORE_OPTIONS


def declare(broker: str, consumed: ConsumedQueue, timeout: float) -> bool:
    """Declare a queue as a worker would; see `IRemoteControl.declare`."""
    queue = worker_queue(consumed)
    if transport_of(broker) not in AMQP:
        return False
    with connected(broker, timeout) as connection:
        try:
            queue(connection.channel()).declare()
        except Exception as error:
            code, words = _reply_code(error), describe(error, broker)
            if _exists_otherwise(code, words):
                raise DeclarationMismatch(consumed.name, words) from None
            if code == _CONNECTION_FORCED or (not code and isinstance(error, lost_errors(connection))):
                raise
            # With a code they are the broker's words. Without, it is a value that AMQP can't
            # carry or that kombu trips over.
            problem = words if code else scrubbed(repr(error), broker)
            raise InvalidDeclaration(consumed.name, problem) from None
    return True


def worker_queue(consumed: ConsumedQueue) -> Queue:
    """The queue that a worker of Celery 5.7 makes of an `add_consumer` command.

    See `celery.app.amqp.Queues.add_compat`.

    :raises InvalidDeclaration: when its options are none. A worker would ignore an unknown one.
    """
    options = json.loads(consumed.options)
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise InvalidDeclaration(
            consumed.name, f"there is no option {unknown[0]!r}; there are {', '.join(sorted(OPTIONS))}"
        )
    try:
        queue: Queue = Queue.from_dict(
            consumed.name,
            **{
                **options,
                "exchange": consumed.exchange,
                "exchange_type": consumed.exchange_type,
                "routing_key": consumed.routing_key,
            },
        )
        return queue
    except Exception as error:
        raise InvalidDeclaration(consumed.name, repr(error)) from None


def count(broker: str, queues: Sequence[str], timeout: float) -> dict[str, QueueCount | None] | None:
    """What the broker counts of queues; see `IRemoteControl.count`."""
    if transport_of(broker) not in AMQP:
        return None
    counts: dict[str, QueueCount | None] = {}
    with connected(broker, timeout) as connection:
        channel = connection.channel()
        for queue in queues:
            try:
                found = channel.queue_declare(queue, passive=True)
            except connection.channel_errors as error:
                # The broker has closed the channel over it.
                channel = connection.channel()
                if _reply_code(error) not in (_NOT_FOUND, _RESOURCE_LOCKED):
                    raise
                counts[queue] = None
            else:
                counts[queue] = QueueCount(found.message_count, found.consumer_count)
    return counts


def purge(broker: str, queue: str, timeout: float) -> int:
    """Remove the messages that wait in a queue; see `IRemoteControl.purge`."""
    with connected(broker, timeout) as connection:
        try:
            return int(connection.channel().queue_purge(queue) or 0)
        except connection.channel_errors as error:
            if _reply_code(error) != _NOT_FOUND:
                raise
            return 0


def delete_queue(broker: str, name: str, timeout: float) -> None:
    """Delete a queue, and the exchange of the same name if it is an instance's own.

    See `IRemoteControl.delete_queue`.
    """
    with connected(broker, timeout) as connection:
        if transport_of(broker) in AMQP:
            _delete_on_amqp(connection, name)
        else:
            _delete_elsewhere(connection.channel(), name)


def _delete_on_amqp(connection: Any, name: str) -> None:
    for what in ("queue", "exchange") if name.startswith("dq.") else ("queue",):
        channel = connection.channel()
        try:
            getattr(channel, f"{what}_delete")(name)
        except connection.channel_errors as error:
            # RabbitMQ never says this, other brokers may, and then close the channel.
            if _reply_code(error) != _NOT_FOUND:
                raise


def _delete_elsewhere(channel: Any, name: str) -> None:
    """Delete a queue on a transport where bindings are entries in a table.

    kombu only removes the bindings that this connection made: so it makes them all again.
    """
    channel.exchange_declare(name, "direct")
    keys = {row[0] for row in channel.get_table(name) if row[-1] == name}
    for key in keys | {name}:
        channel.queue_bind(name, name, key)
    channel.queue_delete(name)


def _exists_otherwise(code: int, words: str) -> bool:
    """Whether the broker says that a queue exists and is not as declared.

    RabbitMQ has one code for "inequivalent arg", which is that, and "invalid arg".
    """
    return code == _RESOURCE_LOCKED or (
        code == _PRECONDITION_FAILED and ("inequivalent" in words or "invalid" not in words)
    )


def _reply_code(error: Exception) -> int:
    """The broker's reply code in an error of py-amqp's; 0 when the broker did not speak."""
    return getattr(error, "reply_code", 0) or 0


@contextmanager
def connected(broker: str, timeout: float) -> Iterator[Any]:
    """A connection to the first of a broker's URLs that answers, while it lasts.

    :raises BrokerAway: when none answers, or when the connection is lost.
    """
    connection = _connect_to_any(broker, timeout)
    try:
        yield connection
    except lost_errors(connection) as error:
        raise BrokerAway(redacted(broker), describe(error, broker)) from None
    finally:
        release(connection)


def _connect_to_any(broker: str, timeout: float) -> Any:
    problem = ""
    try:
        checked(broker)
    except InvalidParameter as error:
        raise BrokerAway(redacted(broker), error.problem) from None
    for url in each(broker):
        try:
            return connect(url, timeout)
        except Exception as error:
            problem = describe(error, broker)
    raise BrokerAway(redacted(broker), problem)
