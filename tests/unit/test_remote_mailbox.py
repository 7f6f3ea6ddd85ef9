"""What goes over the wire, held against kombu's and Celery's own doing, in memory."""

from __future__ import annotations

import json
import os
from typing import Any

from celery.app.amqp import Queues
from hypothesis import given
from hypothesis.strategies import booleans, fixed_dictionaries, integers, none, one_of, text
from kombu.connection import Connection
from kombu.pidbox import Mailbox as KombuMailbox
from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import BrokerAway, InvalidDeclaration
from cyme.planning import ConsumedQueue
from cyme.remote.errands import declare, delete_queue, worker_queue
from cyme.remote.mailbox import LARGEST_REPLY, Mailbox, Question, echo_envelope, question_envelope
from cyme.remote.sessions import describe
from cyme.remote.wires import Wakeup


class MailboxTests(SynchronousTestCase):
    """A mailbox beside kombu's, over kombu's transport in memory."""

    def setUp(self) -> None:
        self.connection = Connection(f"memory://{self.id()}")
        self.addCleanup(self.connection.release)
        self.replies: list[tuple[str, Any]] = []
        self.complaints: list[str] = []
        self.mailbox = Mailbox(self.connection.channel(), "key", self.take, self.complaints.append)
        self.heard: list[dict[str, Any]] = []

    def take(self, ticket: str, body: str | bytes) -> None:
        self.replies.append((ticket, json.loads(body)))

    def drain(self) -> None:
        try:
            while True:
                self.connection.drain_events(timeout=0.01)
        except TimeoutError:
            return

    def worker(self, name: str) -> None:
        """Have a node of kombu's own, which obeys `echo`."""
        node = KombuMailbox("celery", type="fanout", connection=self.connection).Node(name, state={})

        def echo(state: Any, **arguments: Any) -> Any:
            self.heard.append(arguments)
            return {"ok": arguments}

        node.handler(echo)
        node.channel = self.connection.channel()
        node.listen(channel=node.channel)

    def ask(self, *nodes: str, **arguments: Any) -> None:
        self.mailbox.send(question_envelope("echo", arguments, nodes, "ticket", "key", now=5.0, timeout=3.0))

    def test_question_and_answer(self) -> None:
        """kombu's own nodes understand a question, and their answers are understood."""
        self.worker("w1@host")
        self.worker("w2@host")
        self.ask("w1@host", queue="tasks", durable=False)
        self.drain()
        self.assertEqual(self.heard, [{"queue": "tasks", "durable": False}])
        self.assertEqual(
            self.replies, [("ticket", {"w1@host": {"ok": {"queue": "tasks", "durable": False}}})]
        )

    def test_same_message_as_kombu(self) -> None:
        """A question has the very body and headers that kombu would send."""
        sent: list[Any] = []
        producer = self.connection.Producer()
        producer.publish = lambda body, **options: sent.append((body, options["headers"]))
        mailbox = KombuMailbox("celery", type="fanout", connection=self.connection)
        mailbox._publish("m", {"a": 1}, ["w"], reply_ticket="t", timeout=3.0, producer=producer)
        [(body, headers)] = sent
        key = body["reply_to"]["routing_key"]
        envelope = question_envelope("m", {"a": 1}, ["w"], "t", key, now=0.0, timeout=3.0)
        self.assertEqual(json.loads(envelope.body), body)
        self.assertEqual(envelope.headers.keys(), headers.keys())

    def test_same_entities_as_kombu(self) -> None:
        """Exchanges and the reply queue are declared as kombu declares them."""
        theirs = KombuMailbox("celery", type="fanout", connection=self.connection, reply_queue_expires=10.0)
        queue, ours = theirs.get_reply_queue(), self.mailbox._queue
        for attribute in ("durable", "exclusive", "auto_delete", "expires", "message_ttl", "queue_arguments"):
            self.assertEqual(getattr(ours, attribute), getattr(queue, attribute), attribute)
        self.assertEqual(ours.exchange, queue.exchange)
        self.assertEqual(ours.name, "key.reply.celery.pidbox")
        self.assertEqual(self.connection.default_channel.typeof("celery.pidbox").type, "fanout")

    def test_echo(self) -> None:
        """An echo comes back to its sender."""
        self.mailbox.send(echo_envelope("ticket", "key", timeout=1.0))
        self.drain()
        self.assertEqual(self.replies, [("ticket", {"": {"ok": "echo"}})])

    def test_garbage(self) -> None:
        """What is no reply is dropped with a complaint, and the next reply is taken."""
        good = {"content_type": "application/json", "headers": {"ticket": "t"}}
        for body, properties in (
            (b"\x80\x04N.", {**good, "content_type": "application/x-python-serialize"}),
            (b"{}", {**good, "headers": {}}),
            (b"{}", {**good, "headers": {"ticket": [1]}}),
            (b"{", good),
            (b"\xff\xfe\x00", good),
            (b" " * (LARGEST_REPLY + 1), good),
        ):
            before = len(self.complaints)
            self.publish(body, **properties)
            self.assertEqual(len(self.complaints), before + 1, body[:20])
        self.publish(b'{"w": 1}', **good)
        self.assertEqual(self.replies, [("t", {"w": 1})])

    def publish(self, body: bytes, **properties: Any) -> None:
        producer = self.connection.Producer()
        producer.publish(
            body,
            exchange="reply.celery.pidbox",
            routing_key="key",
            content_encoding="binary",
            **properties,
        )
        self.drain()

    def test_no_reply_mapping(self) -> None:
        """A reply that is JSON and no mapping of nodes is told apart."""
        with self.assertRaises(AttributeError):
            Question("t", {"w"}).take("[1]")


class WorkerQueueTests(SynchronousTestCase):
    """The queue that is tried, and the one that a worker makes."""

    @given(
        text(min_size=1),
        text(),
        text(min_size=1),
        fixed_dictionaries(
            {},
            optional={
                "durable": booleans(),
                "auto_delete": booleans(),
                "exchange_durable": booleans(),
                "queue_durable": booleans(),
                "exclusive": booleans(),
                "expires": one_of(none(), integers(1, 9)),
                "message_ttl": integers(1, 9),
                "max_priority": integers(1, 9),
                "binding_key": text(),
                "queue_arguments": fixed_dictionaries({"x-max-length": integers()}),
                "exchange_arguments": fixed_dictionaries({"x": text()}),
                "delivery_mode": integers(1, 2),
            },
        ),
    )
    def test_same_as_celery(self, name: str, exchange: str, key: str, options: dict[str, Any]) -> None:
        """Whatever the options, it equals what Celery makes of the command `add_consumer`."""
        ours = worker_queue(
            ConsumedQueue(
                name=name,
                exchange=exchange,
                exchange_type="topic",
                routing_key=key,
                options=json.dumps(options),
            )
        )
        theirs = Queues().select_add(
            name, exchange=exchange, exchange_type="topic", routing_key=key, **options
        )
        self.assertEqual(ours.as_dict(recurse=True), theirs.as_dict(recurse=True))

    def test_unknown_option(self) -> None:
        """An option that Celery would silently ignore is refused, with those that there are."""
        with self.assertRaises(InvalidDeclaration) as caught:
            worker_queue(self.queue('{"durabel": true}'))
        self.assertIn("'durabel'", str(caught.exception))
        self.assertIn("durable", str(caught.exception))

    def test_nothing_to_declare(self) -> None:
        """Where declarations mean nothing no connection is made, but options are looked at."""
        self.assertFalse(declare("redis://192.0.2.1/0", self.queue("{}"), 5.0))
        with self.assertRaises(InvalidDeclaration):
            declare("redis://192.0.2.1/0", self.queue('{"durabel": true}'), 5.0)

    def test_unusable_broker(self) -> None:
        """A broker that can't be used is away, for the reason that its URL gives."""
        with self.assertRaises(BrokerAway) as caught:
            delete_queue("memory://", "dq.w1", 5.0)
        self.assertIn("inside one process", str(caught.exception))

    def queue(self, options: str) -> ConsumedQueue:
        return ConsumedQueue(
            name="tasks", exchange="tasks", exchange_type="direct", routing_key="tasks", options=options
        )


class WakeupTests(SynchronousTestCase):
    """Waking a thread that waits."""

    def setUp(self) -> None:
        self.wakeup = Wakeup()
        self.addCleanup(self.wakeup.close)
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.writer)

    def test_rung_before(self) -> None:
        """A ring before the wait ends it at once, however often it rang, and the next wait waits."""
        self.wakeup.ring()
        self.wakeup.ring()
        self.assertFalse(self.wakeup.wait([self.reader], 3600))
        self.assertFalse(self.wakeup.wait([self.reader], 0))
        os.close(self.reader)

    def test_others(self) -> None:
        """What can be read among the others is told."""
        os.write(self.writer, b"x")
        self.wakeup.ring()
        self.assertTrue(self.wakeup.wait([self.reader], 3600))
        os.close(self.reader)

    def test_closed_descriptor(self) -> None:
        """A descriptor that was closed is an error, not a wait that returns for ever."""
        os.close(self.reader)
        with self.assertRaises(OSError):
            self.wakeup.wait([self.reader], 3600)

    def test_closed(self) -> None:
        """Ringing after the end does nothing."""
        self.wakeup.close()
        self.wakeup.ring()
        self.wakeup.close()
        os.close(self.reader)


class DescribeTests(SynchronousTestCase):
    """What is said about errors."""

    def test_secrets(self) -> None:
        """An error that quotes the password is quoted without it, in one line of bounded length."""
        error = OSError("no access\nfor user:s3cr3t" + "." * 1000)
        said = describe(error, "amqp://user:s3cr3t@host//")
        self.assertTrue(said.startswith("no access for user:***"))
        self.assertEqual(len(said), 500)

    def test_silent_error(self) -> None:
        """An error without words is called by its name."""
        self.assertEqual(describe(TimeoutError(), "amqp://host//"), "TimeoutError")
