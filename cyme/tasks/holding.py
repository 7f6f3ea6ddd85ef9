"""Has a worker on Redis write into the messages that it holds that it is the one.

See Note [Who holds what on Redis] in `cyme.holders`. This hooks into kombu where a message comes
from its queue, and where one is put back.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import Any

from cyme.holders import incarnation, mark, unmark

_INSTALLED = "_cyme_marks"


def install() -> None:
    """Mark what this process fetches from now on, if its broker is a Redis.

    Children that it forks do so in its name: they end with it.
    """
    broker = os.environ.get("CELERY_BROKER_URL", "")
    # `redis`, `rediss`, `redis+socket`, `sentinel`; for others the library may not be installed.
    if broker.startswith(("redis", "sentinel")):
        from kombu.transport.redis import Channel

        hook(Channel, own_incarnation())


def own_incarnation() -> str:
    """The incarnation of this process, as a branch reads it in `/proc` too."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        start_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return incarnation(file.read().strip(), os.getpid(), start_ticks)


def hook(channel_class: Any, holder: str) -> None:
    """Have the channels of a class mark what is delivered and has to be acknowledged."""
    if getattr(channel_class, _INSTALLED, False):
        return
    setattr(channel_class, _INSTALLED, True)
    consume, restore = channel_class.basic_consume, channel_class._do_restore_message

    @wraps(consume)
    def basic_consume(self: Any, queue: str, *arguments: Any, **options: Any) -> Any:
        consuming = consume(self, queue, *arguments, **options)
        no_ack = options.get("no_ack", arguments[0] if arguments else False)
        # What comes by publish/subscribe is in no list that it could go back to.
        if not no_ack and queue not in self._fanout_queues:
            deliver = self.connection._callbacks[queue]

            def deliver_marked(message: dict[str, Any]) -> Any:
                priority = self._get_message_priority(message, reverse=False)
                mark(message, holder, self._q_for_pri(queue, priority))
                return deliver(message)

            self.connection._callbacks[queue] = deliver_marked
        return consuming

    @wraps(restore)
    def restore_unmarked(self: Any, payload: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        unmark(payload)
        return restore(self, payload, *arguments, **options)

    channel_class.basic_consume = basic_consume
    channel_class._do_restore_message = restore_unmarked
