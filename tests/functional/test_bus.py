"""The bus between branches, on a real RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from cyme.bus.amqp.bus import AMQPBus
from cyme.interfaces import IMessageBus
from tests.contracts.bus import make_bus_tests
from tests.support.rabbitmq import shared_rabbitmq


def amqp_cluster(case: TestCase) -> Callable[[], IMessageBus]:
    url = shared_rabbitmq().new_url()
    return lambda: AMQPBus(reactor, url, name="test", retry_policy=lambda _: 0.1)


class AMQPBusContractTests(make_bus_tests(amqp_cluster)):  # type: ignore[misc]
    """A bus over RabbitMQ is a message bus."""
