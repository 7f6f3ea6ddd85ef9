"""The brokers that the same functional tests run on: each a mixin for a TestCase."""

from __future__ import annotations

from typing import Any

from tests.support.rabbitmq import shared_rabbitmq


class OnRabbitMQ:
    """A virtual host of RabbitMQ that no other test has."""

    vhost = ""

    def branch_broker(self) -> str:
        """What the branch gets as `--broker`."""
        self.vhost = shared_rabbitmq().new_vhost()
        return shared_rabbitmq().url(self.vhost)

    def celery_broker(self, branch: Any) -> str:
        """The URL under which other Celery programs reach the branch's default broker."""
        return shared_rabbitmq().url(self.vhost)


class OnEmbedded:
    """The embedded broker: the branch's own Redis."""

    def branch_broker(self) -> str:
        return "embedded"

    def celery_broker(self, branch: Any) -> str:
        return f"redis+socket://{branch.root}/.redis/redis.sock"
