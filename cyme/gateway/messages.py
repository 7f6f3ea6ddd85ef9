"""Task messages as Celery's protocol 2 has them, and how they look on AMQP and on kombu's virtual transports.

Note [Templates]
~~~~~~~~~~~~~~~~
All messages for one queue are alike but for the task's id, the body, and perhaps times. What is
alike is put into bytes once, with placeholders as long as what takes their place, so that no
length in it changes. Building a message with py-amqp costs ten times as much.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from struct import pack
from typing import Any, Protocol

from attrs import frozen

from cyme.planning import ConsumedQueue

#: What results come back on, of a branch: a queue of the app's broker.
RESULTS = "cyme.results."

#: Takes the place of an id in a template; no id of ours, being of no version.
PLACEHOLDER = "cafe0000-dead-0000-beef-000000000000"

#: Class and method of `basic.publish`, and the flag `mandatory`.
_PUBLISH, _MANDATORY = (60, 40), 1

#: What frames end with.
_END = b"\xce"

# `json.dumps` makes an encoder for each call that wants anything unusual.
_encode = json.JSONEncoder(allow_nan=False).encode


@frozen(cache_hash=True)
class Kind:
    """What is alike in messages that share a template."""

    queue: ConsumedQueue
    task: str
    priority: int | None


@frozen(eq=False)
class Outgoing:
    """A task's message, but for how its broker's transport writes it down.

    :ivar body: JSON text in UTF-8.
    :ivar eta, expires: seconds since the epoch, or None.
    """

    task_id: str
    kind: Kind
    body: bytes
    eta: float | None
    expires: float | None


def body_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The body of a task's message.

    :raises TypeError, ValueError: for what is no JSON.
    """
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return _encode([list(args), dict(kwargs), embedded]).encode()


def headers_of(
    task_id: str, kind: Kind, origin: str, eta: float | None, expires: float | None
) -> dict[str, Any]:
    """The headers of a task's message. Arguments may be secret, and are not shown in them."""
    return {
        "lang": "py",
        "task": kind.task,
        "id": task_id,
        "shadow": None,
        "eta": moment(eta),
        "expires": moment(expires),
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "(...)",
        "kwargsrepr": "{...}",
        "origin": origin,
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def properties_of(task_id: str, kind: Kind, reply_to: str) -> dict[str, Any]:
    """The properties of a task's message, beside its content type and priority."""
    return {"correlation_id": task_id, "reply_to": reply_to, "delivery_mode": 2}


def moment(at: float | None) -> str | None:
    """A time as Celery has it.

    :raises ValueError: for one that no calendar has.
    """
    try:
        return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat()
    except (OverflowError, OSError) as problem:
        raise ValueError(str(problem)) from None


class IPrepares(Protocol):
    """What is used of kombu's AMQP channel."""

    def prepare_message(self, body: Any, **details: Any) -> Any: ...


class Frames:
    """Writes messages as AMQP frames, see Note [Templates].

    :param channel: kombu's, which knows how to put properties into bytes.
    :param number: the channel's.
    :param frame_max: bytes of the largest frame.
    """

    def __init__(self, channel: IPrepares, number: int, frame_max: int, reply_to: str, origin: str) -> None:
        self._channel = channel
        self._number = number
        self._chunk = frame_max - 8
        self._reply_to = reply_to
        self._origin = origin
        self._templates: dict[Kind, tuple[bytes, bytes]] = {}

    def of(self, message: Outgoing) -> list[bytes]:
        """The frames that publish a message."""
        kind = message.kind
        if message.eta is not None or message.expires is not None:
            method, properties = self._build(message.task_id, kind, message.eta, message.expires)
        else:
            found = self._templates.get(kind)
            if found is None:
                if len(self._templates) >= 1000:
                    self._templates.clear()
                found = self._templates[kind] = self._build(PLACEHOLDER, kind, None, None)
            method = found[0]
            properties = found[1].replace(PLACEHOLDER.encode(), message.task_id.encode())
        body, number = message.body, self._number
        header = pack(">HHQ", _PUBLISH[0], 0, len(body)) + properties
        frames = [method, pack(">BHI", 2, number, len(header)), header, _END]
        for start in range(0, len(body), self._chunk):
            part = body[start : start + self._chunk]
            frames += (pack(">BHI", 3, number, len(part)), part, _END)
        return frames

    def _build(
        self, task_id: str, kind: Kind, eta: float | None, expires: float | None
    ) -> tuple[bytes, bytes]:
        """The method's frame, and the properties."""
        exchange, routing_key = (text.encode() for text in (kind.queue.exchange, kind.queue.routing_key))
        method = b"".join(
            (
                pack(">HHH", *_PUBLISH, 0),
                pack(">B", len(exchange)) + exchange,
                pack(">B", len(routing_key)) + routing_key,
                pack(">B", _MANDATORY),
            )
        )
        frame = pack(">BHI", 1, self._number, len(method)) + method + _END
        message = self._channel.prepare_message(
            b"",
            priority=kind.priority,
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers_of(task_id, kind, self._origin, eta, expires),
            properties=properties_of(task_id, kind, self._reply_to),
        )
        return frame, message._serialize_properties()


class Texts:
    """Writes messages as kombu's virtual transports do, see Note [Templates]."""

    def __init__(self, reply_to: str, origin: str) -> None:
        self._reply_to = reply_to
        self._origin = origin
        self._templates: dict[Kind, list[str]] = {}

    def of(self, message: Outgoing, delivery_tag: str) -> str:
        """The text of a message."""
        body = b64encode(message.body).decode()
        if message.eta is not None or message.expires is not None:
            parts = self._build(message.kind, message.eta, message.expires)
        else:
            found = self._templates.get(message.kind)
            if found is None:
                if len(self._templates) >= 1000:
                    self._templates.clear()
                found = self._templates[message.kind] = self._build(message.kind, None, None)
            parts = found
        values = {"id": message.task_id, "tag": delivery_tag, "body": body}
        return "".join(values[part] if number % 2 else part for number, part in enumerate(parts))

    def _build(self, kind: Kind, eta: float | None, expires: float | None) -> list[str]:
        """The parts of the text: what is fixed, then the name of what comes next, in turns."""
        mark = f"<{PLACEHOLDER} %s>"
        properties = properties_of(mark % "id", kind, self._reply_to) | {
            "delivery_info": {"exchange": kind.queue.exchange, "routing_key": kind.queue.routing_key},
            "priority": kind.priority or 0,
            "body_encoding": "base64",
            "delivery_tag": mark % "tag",
        }
        text = json.dumps(
            {
                "body": mark % "body",
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": headers_of(mark % "id", kind, self._origin, eta, expires),
                "properties": properties,
            }
        )
        return re.split(f"<{PLACEHOLDER} ([a-z]+)>", text)
