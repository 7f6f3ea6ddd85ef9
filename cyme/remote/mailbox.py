"""What is said over remote control, and through which exchanges and queues.

Names, properties and message formats are those of `kombu.pidbox` and `celery.app.control`
of Celery 5.7. Exchanges must be declared exactly as Celery does, or whoever comes second
is refused (406).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

BROADCAST = "celery.pidbox"
REPLIES = "reply.celery.pidbox"

#: Seconds after which brokers remove a reply queue that nobody consumes from, as Celery has it.
REPLY_QUEUE_EXPIRES = 10.0

#: The node name under which a line answers itself, see `Question.echo`.
ECHO = ""

#: A reply above this many bytes is dropped.
LARGEST_REPLY = 32 * 1024 * 1024


@frozen(eq=False)
class Envelope:
    """A question as it goes out.

    :ivar expires: seconds since the epoch.
    :ivar patience: seconds until then, when it was made.
    """

    exchange: str
    routing_key: str
    body: str
    headers: Mapping[str, Any]
    patience: float


@define(eq=False)
class Question:
    """One broadcast and the answers to it, which the line's thread fills in.

    :ivar missing: nodes that have not answered.
    """

    ticket: str
    missing: set[str]
    answers: dict[str, Any] = field(factory=dict)

    def take(self, text: str | bytes) -> bool:
        """Take in one reply, the JSON text of `{node: answer}`; whether it was the last.

        :raises ValueError, AttributeError: when it is none.
        """
        body = json.loads(text)
        for node, answer in body.items():
            if node in self.missing:
                self.missing.discard(node)
                self.answers[node] = answer
        return not self.missing


def question_envelope(
    command: str,
    arguments: Mapping[str, Any],
    nodes: Sequence[str],
    ticket: str,
    reply_key: str,
    *,
    now: float,
    timeout: float,
) -> Envelope:
    """A broadcast to `nodes`, as `kombu.pidbox.Mailbox` sends it.

    :param now: seconds since the epoch.
    :raises TypeError, ValueError: when the arguments are no JSON.
    """
    body = {
        "method": command,
        "arguments": dict(arguments),
        "destination": list(nodes),
        "pattern": None,
        "matcher": None,
        "ticket": ticket,
        "reply_to": {"exchange": REPLIES, "routing_key": reply_key},
    }
    # A Lamport clock of 0 leaves those of the workers as they are.
    return Envelope(BROADCAST, "", json.dumps(body), {"clock": 0, "expires": now + timeout}, timeout)


def command_envelope(command: str, arguments: Mapping[str, Any], *, now: float, timeout: float) -> Envelope:
    """A broadcast to every node, which nobody is to answer.

    :param now: seconds since the epoch.
    :raises TypeError, ValueError: when the arguments are no JSON.
    """
    body = {
        "method": command,
        "arguments": dict(arguments),
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    return Envelope(BROADCAST, "", json.dumps(body), {"clock": 0, "expires": now + timeout}, timeout)


def echo_envelope(ticket: str, reply_key: str, *, timeout: float) -> Envelope:
    """A message of the line to itself: if it arrives, the broker lives."""
    body = json.dumps({ECHO: {"ok": "echo"}})
    return Envelope(REPLIES, reply_key, body, {"clock": 0, "ticket": ticket}, timeout)


class Mailbox:
    """The exchanges and the reply queue on one channel; used by the line's thread alone.

    :param reply_key: the name of the reply queue's owner, like Celery's `oid`.
    :param take: called with the ticket and the JSON text of each reply.
    :param complain: called with what was wrong with a message that was dropped.
    """

    def __init__(
        self,
        channel: Any,
        reply_key: str,
        take: Callable[[str, str | bytes], None],
        complain: Callable[[str], None],
    ) -> None:
        self._take = take
        self._complain = complain
        broadcast = Exchange(BROADCAST, type="fanout", durable=False, delivery_mode="transient")
        replies = Exchange(REPLIES, type="direct", durable=False, delivery_mode="transient")
        broadcast(channel).declare()
        self._queue = Queue(
            f"{reply_key}.{REPLIES}",
            exchange=replies,
            routing_key=reply_key,
            durable=False,
            exclusive=True,
            auto_delete=True,
            expires=REPLY_QUEUE_EXPIRES,
        )(channel)
        self._producer = Producer(channel, auto_declare=False)
        # on_message gets messages undecoded: kombu's own decoding is never used on what workers send.
        self._consumer = Consumer(channel, [self._queue], no_ack=True, on_message=self._on_message)
        self._consumer.consume()

    def send(self, envelope: Envelope) -> None:
        """Publish; what goes wrong is wrong with the connection."""
        self._producer.publish(
            envelope.body,
            content_type="application/json",
            content_encoding="utf-8",
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            headers=dict(envelope.headers),
            delivery_mode="transient",
            # A worker that was frozen has nothing to do with what nobody waits for any more.
            expiration=max(envelope.patience, 1.0),
            retry=False,
        )

    def remove(self) -> None:
        """Delete the reply queue, with the traces that Redis would keep of it."""
        self._queue.delete()

    def _on_message(self, message: Any) -> None:
        """Hand one reply on; whatever is wrong with it stays here."""
        try:
            ticket = message.headers.get("ticket")
            if message.content_type != "application/json":
                self._complain(f"a reply is {message.content_type!r}, not application/json")
            elif not isinstance(ticket, str):
                self._complain("a reply has no ticket")
            elif len(message.body) > LARGEST_REPLY:
                self._complain(f"a reply has {len(message.body)} bytes")
            else:
                self._take(ticket, message.body)
        except Exception as problem:
            self._complain(f"a reply can't be read: {type(problem).__name__}")
