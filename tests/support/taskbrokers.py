"""How tests see what a gateway publishes, and answer it: plain kombu, blocking."""

from __future__ import annotations

import json
from typing import Any

from kombu.connection import Connection
from kombu.messaging import Producer

from cyme.queued import TaskError, TaskState


def result_body(
    task_id: str, state: TaskState, result: Any = None, error: TaskError | None = None
) -> dict[str, Any]:
    """A result as a worker of Celery 5.7 sends it over `rpc://`."""
    if error is not None:
        result = {"exc_type": error.type, "exc_message": [error.message], "exc_module": "builtins"}
    return {
        "task_id": task_id,
        "status": state.value,
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": "2026-01-01T00:00:00+00:00",
    }


class TaskBroker:
    """A broker as a worker sees it.

    :ivar taken: the messages that were taken from the broker so far: (headers, properties, body).
    """

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self.taken: list[tuple[dict[str, Any], dict[str, Any], Any]] = []

    def take(self, queue: str) -> list[tuple[dict[str, Any], dict[str, Any], Any]]:
        """Take all messages that are in a queue now; those that were taken ever."""
        channel = self._connection.channel()
        try:
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                message = channel.message_to_python(message)
                self.taken.append((message.headers, message.properties, json.loads(message.body)))
        except self._connection.channel_errors:
            # There is no such queue.
            pass
        else:
            channel.close()
        return self.taken

    def answer(self, queue: str, *bodies: dict[str, Any]) -> None:
        """Send results."""
        with self._connection.channel() as channel:
            producer = Producer(channel, auto_declare=False)
            for body in bodies:
                producer.publish(
                    json.dumps(body),
                    content_type="application/json",
                    content_encoding="utf-8",
                    exchange="",
                    routing_key=queue,
                    correlation_id=body["task_id"],
                    delivery_mode=2,
                )

    def garbage(self, queue: str) -> None:
        """Send what no worker would."""
        with self._connection.channel() as channel:
            producer = Producer(channel, auto_declare=False)
            for body, content_type in (
                ("{", "application/json"),
                ("cos", "application/x-python-serialize"),
                ('{"task_id": "\\ud800", "status": "SUCCESS"}', "application/json"),
            ):
                producer.publish(
                    body,
                    content_type=content_type,
                    content_encoding="utf-8",
                    exchange="",
                    routing_key=queue,
                    delivery_mode=2,
                )

    def delete(self, queue: str) -> None:
        """Delete a queue."""
        with self._connection.channel() as channel:
            channel.queue_delete(queue)

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue."""
        try:
            with self._connection.channel() as channel:
                count: int = channel.queue_declare(queue, passive=True).message_count
                return count
        except self._connection.channel_errors:
            # To Redis an empty queue does not exist.
            return 0

    def close(self) -> None:
        self._connection.release()
