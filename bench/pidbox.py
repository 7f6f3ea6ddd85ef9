"""Celery's remote control by py-amqp alone: a kept connection, one reply queue, little work.

This is what the programs here take for the limit of what a client can do, and by which they
see when a worker first answers.
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import amqp

BROADCAST = "celery.pidbox"
REPLIES = "reply.celery.pidbox"

#: Seconds between two pings to a worker that is starting.
PING_EVERY = 0.01


def connect(url: str) -> amqp.Connection:
    """An open connection to an `amqp://` URL, without heartbeats."""
    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        heartbeat=0,
    )
    connection.connect()
    return connection


def declare_exchanges(channel: Any) -> None:
    """Declare the two exchanges as Celery does, or whoever comes second is refused."""
    channel.exchange_declare(BROADCAST, "fanout", durable=False, auto_delete=False)
    channel.exchange_declare(REPLIES, "direct", durable=False, auto_delete=False)


class Pidbox:
    """A client that waits for the answers to one question at a time; everything blocks."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)
        self._channel = self._connection.channel()
        declare_exchanges(self._channel)
        self._key = str(uuid4())
        queue = self._channel.queue_declare(exclusive=True).queue
        self._channel.queue_bind(queue, REPLIES, self._key)
        self._channel.basic_consume(queue, no_ack=True, callback=self._take)
        self._tickets: set[str] = set()
        self._answers: dict[str, Any] = {}

    def close(self) -> None:
        """Close the connection, which removes the reply queue."""
        self._connection.close()

    def round(self, command: str, nodes: list[str], limit: float = 30.0) -> dict[str, Any]:
        """Broadcast a command to `nodes` and wait until all have answered.

        :raises TimeoutError: when some have not within `limit` seconds.
        """
        self._begin()
        self._ask(command, nodes, exchange=BROADCAST, routing_key="")
        deadline = time.monotonic() + limit
        while len(self._answers) < len(nodes):
            self._receive(deadline - time.monotonic())
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._answers)} of {len(nodes)} have answered {command}")
        return self._answers

    def first_pong(self, node: str, limit: float = 60.0) -> float:
        """Ping a worker every `PING_EVERY` until it answers: when it did, by `time.monotonic`.

        The pings go straight into the worker's queue, as long as it has none to nobody:
        others are not woken by them.

        :raises TimeoutError: when it has not answered within `limit` seconds.
        """
        self._begin()
        deadline = time.monotonic() + limit
        while (now := time.monotonic()) < deadline:
            self._ask("ping", [node], exchange="", routing_key=f"{node}.celery.pidbox")
            until = now + PING_EVERY
            while (left := until - time.monotonic()) > 0:
                self._receive(left)
                if node in self._answers:
                    return time.monotonic()
        raise TimeoutError(f"{node} has not answered a ping within {limit:g} s")

    def remove_queue(self, name: str) -> None:
        """Delete a queue and the exchange that Celery names after it."""
        self._channel.queue_delete(name)
        self._channel.exchange_delete(name)

    def _begin(self) -> None:
        """What comes from now on answers a new question; answers to earlier ones don't count."""
        self._tickets = set()
        self._answers = {}

    def _ask(self, command: str, nodes: list[str], *, exchange: str, routing_key: str) -> None:
        ticket = str(uuid4())
        self._tickets.add(ticket)
        body = {
            "method": command,
            "arguments": {},
            "destination": nodes,
            "pattern": None,
            "matcher": None,
            "ticket": ticket,
            "reply_to": {"exchange": REPLIES, "routing_key": self._key},
        }
        message = amqp.Message(
            json.dumps(body),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=1,
            application_headers={"clock": 0, "expires": 0},
        )
        self._channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    def _receive(self, seconds: float) -> None:
        try:
            self._connection.drain_events(timeout=max(seconds, 0.0001))
        except TimeoutError:
            pass

    def _take(self, message: Any) -> None:
        if message.headers.get("ticket") in self._tickets:
            self._answers.update(json.loads(message.body))
