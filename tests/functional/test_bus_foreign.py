"""The bus between branches, and messages that other clients send to it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlsplit

import amqp
from twisted.internet.threads import deferToThread

from cyme.bus.amqp.frames import BODY, HEADER, SPEC, frame, method_frame
from tests.contracts.bus import SOON
from tests.functional.buscase import BusCase, Peer, client_of
from tests.support.rabbitmq import shared_rabbitmq

PUBLISH = SPEC.classes.byname["basic"].methods.byname["publish"]

#: Headers as Celery and others send them.
HEADERS: tuple[dict[str, Any], ...] = (
    {},
    {"none": None},
    {"list": [1, "two", None, [3.0]]},
    {"float": 1.5},
    {"long": 1 << 40, "negative": -(1 << 40)},
    {"time": datetime(2026, 1, 1, tzinfo=timezone.utc)},
    {"decimal": Decimal("1.25")},
    {"table": {"in": {"a": {"table": True}}}},
    {"bool": False, "text": "grüße", "empty": ""},
    {"é" * 100: "x" * 60_000},
)

#: Field values by the letter of their type; RabbitMQ itself may refuse some.
FIELDS: dict[bytes, bytes] = {
    b"t": b"\x02",
    b"b": b"\xff",
    b"B": b"\xff",
    b"s": b"\xff\xfe",
    b"U": b"\xff\xfe",
    b"u": b"\xff\xfe",
    b"I": b"\xff" * 4,
    b"i": b"\xff" * 4,
    b"l": b"\xff" * 8,
    b"L": b"\xff" * 8,
    b"f": struct.pack(">f", float("nan")),
    b"d": struct.pack(">d", float("inf")),
    b"D": b"\xff" + b"\xff" * 4,
    b"T": b"\xff" * 8,
    b"V": b"",
    b"S": b"\x00\x00\x00\x02\xff\xfe",
    b"x": b"\x00\x00\x00\x02\xff\xfe",
    b"A": b"\x00\x00\x00\x02VV",
    b"F": b"\x00\x00\x00\x00",
}


def table_of(fields: bytes) -> bytes:
    return struct.pack(">I", len(fields)) + fields


def header_of(properties: bytes, size: int, flags: int = 1 << 13) -> bytes:
    """The payload of a content header; by default the only property is the table of headers."""
    return struct.pack(">HHQH", 60, 0, size, flags) + properties


def open_connection(url: str) -> Any:
    parts = urlsplit(url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}", "guest", "guest", virtual_host=parts.path[1:], confirm_publish=True
    )
    connection.connect()
    return connection


def publish(url: str, places: Iterable[tuple[str, str]], messages: Iterable[amqp.Message]) -> None:
    """Have another client publish messages, each to every place: exchange and routing key."""
    with open_connection(url) as connection:
        channel = connection.channel()
        for message in messages:
            for exchange, key in places:
                channel.basic_publish(message, exchange, key)


def publish_raw(url: str, key: str, headers: Iterable[bytes], body: bytes) -> int:
    """Publish messages with content headers as they are, each on a connection of its own.

    :return: how many the broker took.
    """
    taken = 0
    for header in headers:
        connection = open_connection(url)
        channel = connection.channel()
        send = connection.transport.write
        send(method_frame(channel.channel_id, PUBLISH, (0, "", key, False, False)))
        send(frame(HEADER, channel.channel_id, header))
        if body:
            send(frame(BODY, channel.channel_id, body))
        try:
            # The broker has looked at the message before it answers this.
            channel.exchange_declare("amq.direct", "direct", passive=True)
            taken += 1
            connection.close()
        except Exception:
            connection.collect()
    return taken


class ForeignTests(BusCase):
    """Whatever another client publishes, the connection survives and nothing comes again for ever."""

    async def world(self) -> tuple[str, Peer]:
        """A peer that takes work for `Instance`, and the broker's URL."""
        self.node = shared_rabbitmq()
        self.vhost = self.node.new_vhost()
        url = self.node.url(self.vhost)
        peer = await self.connected_peer(url)
        peer.bus.accept("Instance")
        await peer.bus.settled()
        return url, peer

    async def check(self, peer: Peer, client: Any) -> None:
        """The connection is the same, everything still works, and no queue holds anything."""
        await peer.bus.to_any("Instance", b"work", expires=SOON)
        got = [await peer.next()]
        while got[-1] != b"work":
            got.append(await peer.next())
        await peer.echo()
        self.assertIs(client_of(peer), client)
        self.assertEqual(peer.changes.pending, [])
        rows = await self.node.ctl("list_queues", "-p", self.vhost, "messages")
        self.assertEqual(rows, [["0"], ["0"]])

    async def test_header_types(self) -> None:
        """Headers of every type are no reason not to take a message."""
        url, peer = await self.world()
        client = client_of(peer)
        places = [("cyme.all", ""), ("", peer.bus.inbox), ("cyme.Instance", "w1"), ("", "cyme.any.Instance")]
        messages = [
            amqp.Message(
                b"%d" % number,
                application_headers=headers,
                content_type="text/plain",
                priority=3,
                correlation_id="é",
                timestamp=1767225600,
            )
            for number, headers in enumerate(HEADERS)
        ]
        await deferToThread(publish, url, places, messages)
        got = [await peer.next() for _ in range(len(places) * len(messages))]
        self.assertEqual(sorted(got), sorted(message.body for message in messages for _ in places))
        await self.check(peer, client)

    async def test_raw_fields(self) -> None:
        """Fields of each type that the broker lets pass are no reason not to take a message."""
        url, peer = await self.world()
        client = client_of(peer)
        headers = [header_of(table_of(b"\x01k" + letter + value), 4) for letter, value in FIELDS.items()]
        for queue in (peer.bus.inbox, "cyme.any.Instance"):
            taken = await deferToThread(publish_raw, url, queue, headers, b"body")
            self.assertGreaterEqual(taken, 12)
            self.assertEqual({await peer.next() for _ in range(taken)}, {b"body"})
        await self.check(peer, client)

    async def test_garbage(self) -> None:
        """Content headers of random bytes hurt at most who sends them."""
        url, peer = await self.world()
        client = client_of(peer)
        random = Random(5)
        headers = [header_of(random.randbytes(40), 0, random.randrange(1 << 16) & 0xFFFC) for _ in range(30)]
        headers += [header_of(table_of(random.randbytes(20)), 0) for _ in range(20)]
        headers += [header_of(table_of(b"\x01k" + bytes([letter]) + bytes(8)), 0) for letter in b"FAZ\x00"]
        headers += [header_of(table_of(b"\x01kA" + table_of(b"A" + table_of(b"V") * 3)), 0)]
        nested = b"\x01kV"
        for _ in range(500):
            nested = b"\x01kF" + table_of(nested)
        headers += [header_of(table_of(nested), 0)]
        for queue in (peer.bus.inbox, "cyme.any.Instance"):
            await deferToThread(publish_raw, url, queue, headers, b"")
        await self.check(peer, client)
        self.assertGreaterEqual(peer.bus.counts["dropped"], 2)

    async def test_bodies(self) -> None:
        """Bodies of any bytes and any number of frames arrive whole; one over the limit is dropped."""
        url, peer = await self.world()
        client = client_of(peer)
        bodies = [
            b"",
            b"x",
            b"text" * 40_000 + b"\xff\xfe" * 40_000,
            "é".encode() * 131_064,
            b"x" * (131_072 - 8),
            b"x" * (131_072 - 7),
            bytes(peer.bus.limit),
        ]
        places = [("", peer.bus.inbox), ("", "cyme.any.Instance")]
        await deferToThread(publish, url, places, [amqp.Message(body) for body in bodies])
        got = [await peer.next() for _ in range(2 * len(bodies))]
        self.assertEqual(sorted(map(len, got)), sorted(len(body) for body in bodies for _ in places))
        self.assertEqual(set(got), set(bodies))
        too_long = amqp.Message(bytes(peer.bus.limit + 1))
        await deferToThread(publish, url, places, [too_long])
        await self.check(peer, client)
        self.assertEqual(peer.bus.counts["dropped"], 2)
        self.assertIn("messages are dropped: malformed or too long", self.log_text())
