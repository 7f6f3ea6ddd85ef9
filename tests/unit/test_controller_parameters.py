"""What is allowed: names, parameters, queue options, worker arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.names import app_name, instance_name, queue_name
from cyme.controller.parameters import (
    boolean,
    concurrency,
    known,
    queue_names,
    seconds,
    start_changes,
    text,
    whole,
)
from cyme.controller.queueoptions import exchange_type, queue_options, short_string
from cyme.controller.workerarguments import checked_arguments
from cyme.errors import InvalidName, InvalidParameter

NAN = float("nan")
INFINITY = float("inf")


class TablesTestCase(SynchronousTestCase):
    """Tables of what is allowed and what is not."""

    def allows(self, check: Callable[[Any], object], *values: Any) -> None:
        """Each value passes, and comes out as it is."""
        for value in values:
            self.assertEqual(check(value), value)

    def refuses(self, check: Callable[[Any], object], *values: Any, saying: str = "") -> None:
        """Each value is refused; the sentence holds `saying`."""
        for value in values:
            with self.assertRaises((InvalidName, InvalidParameter), msg=f"{value!r:.80}") as caught:
                check(value)
            self.assertIn(saying, str(caught.exception))
            self.assertTrue(len(str(caught.exception)) < 1000)
            str(caught.exception).encode()


class NamesTests(TablesTestCase):
    """Names of apps, instances and queues."""

    def test_plain(self) -> None:
        """Apps and instances are called by letters, digits and a few signs."""
        for check in (app_name, instance_name):
            self.allows(check, "a", "A", "0", "a.b-c_d", "branchy", "x" * 128, "dq.foo", "foo.branch.db")
            self.refuses(
                check,
                *("", "!", ".", "..", ".a", "-a", "_a", "a/b", "../a", "a b", "a\n", "\na", "a\0", "é", "１"),
                *("x" * 129, "x" * 100_000, "a@b", "a%n", "a,b", "\ud800", "{a}"),
            )
            self.refuses(check, None, 5, b"a", ["a"], True)

    def test_reserved_apps(self) -> None:
        """An app can't be called like a route at the root, but an instance can."""
        names = "admin branches events instance instances metrics openapi.json ping queries query queue"
        names += " queues ready"
        self.refuses(app_name, *names.split(), saying="another route")
        self.allows(instance_name, *names.split())
        self.allows(app_name, "Admin", "admin2", "tasks")

    def test_reserved_instances(self) -> None:
        """An instance's folder can't be called like the branch's own files."""
        self.refuses(instance_name, "branch.db", "branch.lock", "branch.", saying="'branch.'")
        self.allows(app_name, "branch.db")

    def test_queues(self) -> None:
        """Queue names may hold any printable character but a slash, up to 255 bytes."""
        self.allows(queue_name, "tasks", "t2", "a b", "ümläut", "a,b", "dq.w1", "!a", "x" * 255, "ü" * 127)
        self.refuses(
            queue_name,
            *("", "/", "a/b", "a\n", "\t", "a\0b", "\x7f", "\u200b", "\ud800", "x" * 256, "ü" * 128, "!"),
        )
        self.refuses(queue_name, None, 5, b"a", ["a"])

    @given(st.text())
    def test_any_text(self, name: str) -> None:
        """Any text is either a name as it is, or refused."""
        for check in (app_name, instance_name, queue_name):
            try:
                self.assertEqual(check(name), name)
            except InvalidName as refusal:
                str(refusal).encode()


class ParametersTests(TablesTestCase):
    """Types and ranges."""

    def test_known(self) -> None:
        """Parameters that are None are not given; one that is unknown is named, and what is known."""
        self.assertEqual(known({"a": 1, "b": None, "c": ""}, ("a", "b", "c")), {"a": 1, "c": ""})
        with self.assertRaises(InvalidParameter) as caught:
            known({"colour": None}, ("max", "min"))
        self.assertEqual(caught.exception.parameter, "colour")
        self.assertIn("max, min", str(caught.exception))

    def test_text(self) -> None:
        """Text is text that a database, a process and UTF-8 can bear."""
        self.allows(lambda value: text("p", value, 5), "", "a", "ü" * 5, "a\nb")
        self.refuses(lambda value: text("p", value, 5), "x" * 6, "\0", "\ud800", None, 5, b"a", [], {}, True)

    def test_whole(self) -> None:
        """A whole number is one in its range, and no truth value."""
        self.allows(lambda value: whole("p", value, 1, 5), 1, 5)
        self.refuses(lambda value: whole("p", value, 1, 5), 0, 6, 10**30, -1, 1.0, "1", True, None, NAN, [1])

    def test_seconds(self) -> None:
        """A time is a number from nothing to its limit."""
        self.allows(lambda value: seconds("p", value, 60), 0, 0.5, 60)
        self.refuses(lambda value: seconds("p", value, 60), -1, 60.1, NAN, INFINITY, "1", True, None)

    def test_limits(self) -> None:
        """Limits are bytes and seconds; 0 takes one away."""
        given = {"max_memory": 300 << 20, "max_age": 60, "stall_timeout": 0.5}
        self.assertEqual(start_changes(given), given)
        none = dict.fromkeys(given)
        self.assertEqual(start_changes(dict.fromkeys(given, 0)), none)
        self.refuses(lambda value: start_changes({"max_memory": value}), -1, 1.5, "1M", True, 1 << 51)
        for parameter in ("max_age", "stall_timeout"):
            for wrong in (-1, 1.1e8, NAN, "1", True):
                self.refuses(lambda value, name=parameter: start_changes({name: value}), wrong)

    def test_boolean(self) -> None:
        """A truth value is no number and no text."""
        self.allows(lambda value: boolean("p", value), True, False)
        self.refuses(lambda value: boolean("p", value), 0, 1, "true", None, [])

    def test_concurrency(self) -> None:
        """The range of a pool holds one process at least, and does not stand on its head."""
        for most, least in ((1, 1), (1, 0), (5, 3), (10_000, 0), (10_000, 10_000)):
            concurrency(most, least)
        wrong: list[Any] = [
            (1, 2),
            (0, 0),
            (0, 1),
            (-1, -1),
            (1, -1),
            (5, 6),
            (10_001, 1),
            ("1", 1),
            (1, 1.0),
        ]
        for most, least in wrong:
            self.assertRaises(InvalidParameter, concurrency, most, least)
        with self.assertRaises(InvalidParameter) as caught:
            concurrency(1, 4, max_parameter="max", min_parameter="min")
        self.assertEqual(caught.exception.parameter, "min")
        self.assertIn("max", str(caught.exception))

    def test_queue_names(self) -> None:
        """A list of queues names each once, in order."""
        self.assertEqual(queue_names("queues", ["b", "a", "b"]), ("b", "a"))
        self.assertEqual(queue_names("queues", []), ())
        self.refuses(
            lambda value: queue_names("queues", value), "a,b", ["a/b"], [1], [""], None, 5, {"a": 1}, b"a"
        )


class StartParametersTests(TablesTestCase):
    """How a worker is started."""

    def test_nothing(self) -> None:
        """Nothing given changes nothing."""
        self.assertEqual(start_changes({}), {})
        self.assertEqual(start_changes({"queues": ["a"], "is_enabled": True}), {})

    def test_host(self) -> None:
        """With a host name alone, the other parts of a broker are AMQP's usual ones."""
        self.assertEqual(start_changes({"hostname": "w1"}), {"broker": "amqp://guest:guest@w1:5672//"})

    def test_parts(self) -> None:
        """The parts of a broker make its URL."""
        parts = {"hostname": "w1", "port": 5673, "userid": "me", "password": "p@ss", "virtual_host": "v"}
        self.assertEqual(start_changes(parts), {"broker": "amqp://me:p%40ss@w1:5673/v"})

    def test_without_host(self) -> None:
        """Without a host name the other parts of a broker mean nothing, but have to be right."""
        self.assertEqual(start_changes({"port": 1, "userid": "a", "password": "b", "virtual_host": "c"}), {})
        self.refuses(start_changes, {"port": 0}, {"port": "5672"}, {"userid": 5}, {"password": "\0"})

    def test_url(self) -> None:
        """A broker's URL is taken as it is, if Cyme can use it."""
        for url in ("amqp://me:pw@mq.example:5673/v", "redis://localhost:6379/1", "redis+socket:///r.sock"):
            self.assertEqual(start_changes({"broker": url}), {"broker": url})
        self.refuses(start_changes, {"broker": "no url"}, {"broker": 5}, {"broker": "memory://"})

    def test_url_and_host(self) -> None:
        """A broker is given by its URL or by its parts, not by both."""
        self.refuses(start_changes, {"broker": "amqp://a//", "hostname": "b"}, saying="hostname")
        url = "amqp://guest:guest@a:5672//"
        self.assertEqual(start_changes({"broker": url, "port": 5}), {"broker": url})

    def test_celery_app(self) -> None:
        """A Celery app is a dotted path, perhaps with an attribute."""
        good = ("proj", "proj.celery", "proj.celery:app", "_p.c1:a.b", "cyme.tasks")
        self.allows(lambda value: start_changes({"celery_app": value})["celery_app"], *good)
        bad = (
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a:",
            ":a",
            "a:b:c",
            "a b",
            "a/b",
            "-n",
            "1a",
            "a;b",
            "é",
            "a\n",
            5,
        )
        self.refuses(lambda value: start_changes({"celery_app": value}), *bad)

    def test_pool(self) -> None:
        """A pool is one that Celery has."""
        pools = ("prefork", "processes", "threads", "solo", "eventlet", "gevent")
        self.allows(lambda value: start_changes({"pool": value})["pool"], *pools)
        self.refuses(lambda value: start_changes({"pool": value}), "", "Prefork", "custom", "a:b", 5, None)

    def test_arguments(self) -> None:
        """Arguments that are not Cyme's own are taken as they are."""
        self.allows(
            lambda value: checked_arguments("arguments", value),
            *("", "-E", "-l DEBUG", "--loglevel=DEBUG", "-Ofair", "-O fair", "-EB", "--purge"),
            *(
                "--time-limit 30 --soft-time-limit=20",
                "--max-tasks-per-child 5",
                "-I 'a, b'",
                "-lQ",
                "-IPandas",
            ),
            *("--prefetch-multiplier 1", "--without-heartbeat", "-s /tmp/n", "--schedule=c", "--uid 5"),
        )

    def test_own_arguments(self) -> None:
        """Arguments that Cyme gives itself are refused with what to use in their place."""
        cases = {
            "-n x": "names the node",
            "--hostname x": "names the node",
            "--hostname=x": "names the node",
            "-nx": "names the node",
            "-Enx": "names the node",
            "-Q a": "/queues/QUEUE/",
            "--queues=a": "/queues/QUEUE/",
            "-X a": "stop consuming",
            "--exclude-queues a": "stop consuming",
            "--pidfile=a": "folder",
            "--logfile a": "folder",
            "-f a": "folder",
            "--statedb=a": "folder",
            "-S a": "folder",
            "--workdir /": "folder",
            "--autoscale 4,1": "max_concurrency",
            "--concurrency=4": "max_concurrency",
            "-c 4": "max_concurrency",
            "-c4": "max_concurrency",
            "-P solo": "pool",
            "--pool=solo": "pool",
            "-b amqp://": "broker",
            "--broker=amqp://": "broker",
            "-A proj": "celery_app",
            "--app=proj": "celery_app",
            "-D": "process itself",
            "--detach": "process itself",
            "-ED": "process itself",
            "--executable x": "process itself",
            "--help": "no worker",
            "--version": "no worker",
            "-E '-n' x": "names the node",
            "-- a=b": "extra_config",
            "-E broker_url=amqp://": "hostname",
        }
        for value, saying in cases.items():
            self.refuses(lambda words: checked_arguments("arguments", words), value, saying=saying)
        self.refuses(lambda words: start_changes({"arguments": words}), "'", "a\\", 'a "b', 5, "\0")

    def test_settings(self) -> None:
        """Settings are keys with values; those that would change the broker are refused."""
        self.allows(
            lambda value: start_changes({"extra_config": value})["extra_config"],
            *(
                "",
                "a=b",
                "a=b c=d",
                "a='b c'",
                "worker_prefetch_multiplier=1",
                "a=",
                "a==b",
                "worker.x=1",
                ".x=1",
            ),
        )
        self.refuses(
            lambda value: start_changes({"extra_config": value}), "a", "=b", "a b", "-n=x", "a-b=c", "'", 5
        )
        brokers = ("broker_url", "BROKER_URL", "broker.url", "broker_read_url", "broker_write_url", "broker")
        cases = {**dict.fromkeys(brokers, "hostname"), "worker_enable_remote_control": "remote control"}
        for key, saying in cases.items():
            self.refuses(lambda value: start_changes({"extra_config": value}), f"{key}=x", saying=saying)


class QueueOptionsTests(TablesTestCase):
    """Options of queue declarations."""

    def test_all(self) -> None:
        """Each option takes what kombu takes."""
        options = {
            "alias": "a",
            "auto_delete": False,
            "binding_arguments": {"x-match": "all", "n": 1, "deep": [{"a": None, "b": 1.5, "c": True}]},
            "binding_key": "k",
            "consumer_arguments": {"x-priority": 10},
            "delivery_mode": 2,
            "durable": True,
            "exchange_arguments": {},
            "exchange_auto_delete": True,
            "exchange_durable": False,
            "exclusive": False,
            "expires": 1800,
            "max_length": 100,
            "max_length_bytes": 2**40,
            "max_priority": 10,
            "message_ttl": 0.5,
            "no_ack": False,
            "no_declare": True,
            "queue_arguments": {"x-queue-type": "quorum"},
            "queue_auto_delete": False,
            "queue_durable": True,
        }
        self.assertEqual(json.loads(queue_options(options)), options)
        self.assertEqual(queue_options({}), "{}")
        self.assertEqual(queue_options({"durable": True, "alias": "x"}), '{"alias": "x", "durable": true}')

    def test_types(self) -> None:
        """A value of another type, or out of range, is refused by the option's name."""
        cases: list[dict[str, Any]] = [
            {"durable": "yes"},
            {"durable": 1},
            {"durable": None},
            {"no_ack": 0},
            {"delivery_mode": 3},
            {"delivery_mode": True},
            {"delivery_mode": "lazy"},
            {"delivery_mode": [1]},
            {"expires": 0},
            {"expires": "1"},
            {"expires": -1},
            {"expires": True},
            {"expires": 10**12},
            {"message_ttl": -0.1},
            {"message_ttl": NAN},
            {"max_length": 1.5},
            {"max_length": -1},
            {"max_length_bytes": 2**63},
            {"max_priority": 0},
            {"max_priority": 256},
            {"max_priority": 5.0},
            {"alias": 5},
            {"alias": "x" * 256},
            {"binding_key": "\0"},
            {"queue_arguments": []},
            {"queue_arguments": "x"},
            {"queue_arguments": {"n": 2**63}},
            {"queue_arguments": {"n": INFINITY}},
            {"queue_arguments": {"x" * 256: 1}},
            {"queue_arguments": {1: 1}},
            {"queue_arguments": {"a": "\ud800"}},
            {"queue_arguments": {"a": object()}},
            {"consumer_arguments": json.loads('{"a": ' * 20 + "1" + "}" * 20)},
        ]
        for options in cases:
            self.refuses(queue_options, options, saying=f"'{next(iter(options))}'")

    def test_unknown(self) -> None:
        """An option that kombu does not know is refused, with those that it does."""
        self.refuses(queue_options, {"colour": "blue"}, {"Durable": True}, {"": 1}, {5: 1}, saying="durable")

    def test_parameters_of_their_own(self) -> None:
        """What has a parameter of its own is no option."""
        for name in ("exchange", "exchange_type", "routing_key"):
            self.refuses(queue_options, {name: "x"}, saying="parameter of its own")

    def test_bindings(self) -> None:
        """Bindings are objects of kombu's that JSON has no form for."""
        self.refuses(queue_options, {"bindings": [{"exchange": "a"}]}, {"bindings": []}, saying="binding_key")

    def test_shape(self) -> None:
        """Options are an object of a sensible size."""
        self.refuses(queue_options, None, [], "{}", 5, True)
        self.refuses(queue_options, {"queue_arguments": {"a": "x" * 100_000}}, saying="at most")

    def test_exchange_type(self) -> None:
        """An exchange is of one of AMQP's types, or of a plug-in's."""
        self.allows(exchange_type, "direct", "topic", "fanout", "headers", "x-delayed-message")
        self.refuses(exchange_type, "", "Direct", "nonsense", "x-", "x-a b", "direct\n", 5, None)

    def test_short_string(self) -> None:
        """Exchange and routing key fit AMQP's short string."""
        self.allows(lambda value: short_string("exchange", value), "", "a/b", "#", "ü" * 127, "a b")
        self.refuses(
            lambda value: short_string("exchange", value), "x" * 256, "ü" * 128, "a\nb", 5, None, "\ud800"
        )

    @given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.integers() | st.text()))
    def test_any(self, options: dict[str, Any]) -> None:
        """Any object is either taken as JSON, or refused."""
        try:
            words = queue_options(options)
        except InvalidParameter as refusal:
            str(refusal).encode()
        else:
            self.assertEqual(json.loads(words), options)
