"""A stream of tasks, each of which counts once its broker has confirmed it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery

#: Seconds that one message, or one connection, may take.
PATIENCE = 5.0

#: The longest that a task takes, in seconds.
LONGEST_TASK = 0.3


class TaskStream:
    """Sends `proj.celery.note` to one queue after the other, from a thread of its own.

    :param path: the file to which each task adds its number.
    :param pause: the longest time between two tasks, in seconds.
    :ivar acknowledged: the numbers of the tasks that the broker has confirmed.
    :ivar refused: how many were sent and never confirmed; they may be done or not.
    """

    def __init__(
        self, url: str, queues: Sequence[str], path: str, chance: random.Random, *, pause: float
    ) -> None:
        self.acknowledged: set[int] = set()
        self.refused = 0
        self._url = url
        self._queues = queues
        self._path = Path(path)
        self._chance = chance
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream of tasks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; blocks until the last one is confirmed or given up."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(4 * PATIENCE)

    def done(self) -> Counter[int]:
        """How often each task was done."""
        text = self._path.read_text() if self._path.exists() else ""
        return Counter(int(line) for line in text.split())

    def missing(self) -> set[int]:
        """The tasks that were acknowledged and not done so far."""
        return self.acknowledged - self.done().keys()

    # -- in the thread -------------------------------------------------------------

    def _run(self) -> None:
        app = Celery("stream", broker=self._url, set_as_current=False)
        app.conf.broker_transport_options = {
            "confirm_publish": True,
            "read_timeout": PATIENCE,
            "write_timeout": PATIENCE,
        }
        number = 0
        while not self._stopping.is_set():
            connection = app.connection_for_write(connect_timeout=PATIENCE)
            try:
                producer = app.amqp.Producer(connection)
                while not self._stopping.wait(self._chance.uniform(0, self._pause)):
                    number += 1
                    self._send(app, producer, number)
            except Exception:
                # The broker is away, or was when it was to confirm: this one does not count.
                self.refused += 1
                self._stopping.wait(0.5)
            finally:
                connection.collect(socket_timeout=0.1)
        app.close()

    def _send(self, app: Celery, producer: Any, number: int) -> None:
        app.send_task(
            "proj.celery.note",
            (str(self._path), number, self._chance.uniform(0, LONGEST_TASK)),
            queue=self._chance.choice(self._queues),
            producer=producer,
            ignore_result=True,
            delivery_mode=2,
            retry=False,
            confirm_timeout=PATIENCE,
        )
        self.acknowledged.add(number)
