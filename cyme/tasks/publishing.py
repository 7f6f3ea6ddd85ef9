"""How messages leave a worker: over connections of Cyme's own, confirmed by the broker.

Note [Confirmed before acknowledged]: a task's message is acknowledged when its result has been
published. A broker that dies between the two must not lose both, so the result (and likewise the
message of the next attempt) is published with confirmation, which Celery's own producers don't
ask for unless the user's app says so. Where a broker knows no confirmations, a command that
returned is one.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import current_task
from celery.exceptions import Reject
from celery.utils.log import get_logger
from kombu import Connection, Producer

logger = get_logger(__name__)

#: Seconds that a task waits for a broker that does not take its message: all the time that an
#: outage may last, since its message is no other worker's meanwhile.
PATIENCE = 3600.0
#: The same where no task runs: in the main process of a worker, which has more to do.
PATIENCE_OUTSIDE = 10.0
#: Seconds until a confirmation counts as missing.
CONFIRMATION = 30.0
#: Seconds between two tries.
PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0)


class Line:
    """One connection to the broker of an app.

    :param app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self.pid = os.getpid()
        # Without heartbeats: nobody would send them while no task runs.
        self._connection: Connection = app.connection_for_write(heartbeat=0)
        self._sure: Producer | None = None
        self._quick: Producer | None = None

    def send(self, body: str, *, sure: bool, **properties: Any) -> None:
        """Send a JSON text; with `sure`, return when the broker has it."""
        producer = self._confirming() if sure else self._plain()
        producer.publish(
            body,
            content_type="application/json",
            content_encoding="utf-8",
            confirm_timeout=CONFIRMATION,
            **properties,
        )

    def _plain(self) -> Producer:
        if self._quick is None:
            self._quick = Producer(self._connection.channel(), auto_declare=False)
        return self._quick

    def _confirming(self) -> Producer:
        if self._sure is None:
            channel = self._connection.channel()
            confirm = getattr(channel, "basic_publish_confirm", None)
            if confirm is None:
                self._sure = self._plain()
            else:
                # What py-amqp does itself where all channels of a connection shall confirm.
                channel.basic_publish = confirm
                self._sure = Producer(channel, auto_declare=False)
        return self._sure

    def close(self) -> None:
        """Let go of the connection, whatever state it is in."""
        try:
            self._connection.collect()
        except Exception:
            pass  # it was broken before


#: Lines that nobody uses at the moment, and the app that each is for. At most as many as tasks
#: run at once in this process.
_idle: list[tuple[Any, Line]] = []


def _take(app: Any) -> tuple[Line, bool]:
    """A line, and whether it is new."""
    while _idle:
        owner, line = _idle.pop()
        # What a parent process opened is its own; two must not write to it.
        if line.pid == os.getpid() and owner is app:
            return line, False
    return Line(app), True


def publish(app: Any, body: str, *, sure: bool = True, **properties: Any) -> None:
    """Publish a JSON text; it waits for a broker that is away.

    :param sure: wait for the confirmation; without it, what can't be sent at once is let go.
    :param properties: of `kombu.Producer.publish`: `exchange`, `routing_key`, `headers`, ...
    :raises Reject: when a task's patience is at its end: the task's own message shall not be
        acknowledged then, and is delivered again.
    :raises Exception: what the broker says, when that happens outside a task.
    """
    patience = PATIENCE if current_task else PATIENCE_OUTSIDE
    give_up = time.monotonic() + patience
    tries = 0
    while True:
        line, is_new = None, True
        try:
            line, is_new = _take(app)
            line.send(body, sure=sure, **properties)
        except Exception as problem:
            if line is not None:
                line.close()
            if not is_new:
                continue  # it was idle for long, and may have been closed meanwhile
            if not sure:
                logger.info("Not told to the branch: %r", problem)
                return
            if time.monotonic() >= give_up:
                if current_task:
                    raise Reject(problem, requeue=True) from problem
                raise
            logger.warning("The broker does not take a message, trying again: %r", problem)
            time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        else:
            _idle.append((app, line))
            return
