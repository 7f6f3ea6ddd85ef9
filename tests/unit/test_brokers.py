"""Broker URLs: made, taken apart, checked and redacted."""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import from_regex, integers, text
from kombu.connection import Connection
from twisted.trial.unittest import SynchronousTestCase

from cyme.brokers import checked, each, from_parts, parts, redacted, scrubbed, transport_of
from cyme.errors import InvalidParameter

DEFAULT = "amqp://guest:guest@127.0.0.1:5672//"

#: What hides in a URL and must never show, in places where people put it.
WITH_SECRETS = (
    "amqp://user:s3cr3t@host:5672//",
    "amqp://user:s3cr3t@host",
    "amqp://:s3cr3t@host//",
    "amqp://user:a/s3cr3t@host//",
    "amqp://user:a@s3cr3t@host//",
    "amqp://user:a?s3cr3t@host//",
    "amqp://user:a#s3cr3t@host//",
    "amqp://user:a;s3cr3t@host//",
    "amqp://user:a;b://s3cr3t@host//",
    "amqp://user:s3cr3t;b://c@host//",
    "amqp://user:1/s3cr3t@host//",
    "amqp://user:[s3cr3t@host//",
    "amqp://a:s3cr3t@one//;amqp://b:s3cr3t@two//",
    "redis://:s3cr3t@host/0",
    "redis+socket://:s3cr3t@/path",
    "redis://host/0?password=s3cr3t&x=1",
    "redis://host/0?x=1&auth_token=s3cr3t",
    "user:s3cr3t@host",
    "nonsense:s3cr3t",
)


class FromPartsTests(SynchronousTestCase):
    """URLs from parts, and back."""

    def test_default(self) -> None:
        """What is not given has AMQP's usual value, spelled as everybody spells it."""
        self.assertEqual(from_parts("127.0.0.1"), DEFAULT)
        self.assertEqual(from_parts("127.0.0.1", None, "", "", ""), DEFAULT)

    @given(
        from_regex(r"\A[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?\Z"),
        integers(1, 65535),
        text(min_size=1),
        text(min_size=1),
        text(min_size=1),
    )
    def test_round_trip(self, hostname: str, port: int, userid: str, password: str, vhost: str) -> None:
        """Whatever text the parts are, the URL can be used, says the same, and kombu reads the same."""
        url = from_parts(hostname, port, userid, password, vhost)
        self.assertEqual(checked(url), url)
        said = parts(url)
        del said["url"]
        expected = {
            "hostname": hostname,
            "port": port,
            "userid": userid,
            "password": password,
            "virtual_host": vhost,
            "transport": "amqp",
        }
        self.assertEqual(said, expected)
        connection = Connection(url)
        for name in ("hostname", "port", "userid", "password", "virtual_host"):
            self.assertEqual(getattr(connection, name), expected[name])

    @given(text(min_size=1))
    def test_any_hostname(self, hostname: str) -> None:
        """A host name is taken and can be used, or refused."""
        try:
            url = from_parts(hostname)
        except InvalidParameter as refusal:
            self.assertEqual(refusal.parameter, "hostname")
        else:
            self.assertEqual(checked(url), url)

    def test_address(self) -> None:
        """An IPv6 address gets its brackets and is read without them."""
        url = from_parts("::1", 5673)
        self.assertEqual(url, "amqp://guest:guest@[::1]:5673//")
        self.assertEqual((parts(url)["hostname"], parts(checked(url))["port"]), ("::1", 5673))

    def test_refused(self) -> None:
        """Ports out of range, things that are no host, and half characters are refused by name."""
        for parameter, given_parts in (
            ("port", ("host", 0)),
            ("port", ("host", 65536)),
            ("hostname", ("a b",)),
            ("hostname", ("user@host",)),
            ("hostname", ("host:5672",)),
            ("password", ("host", 1, "u", "\ud800")),
        ):
            with self.assertRaises(InvalidParameter) as caught:
                from_parts(*given_parts)
            self.assertEqual(caught.exception.parameter, parameter)


class PartsTests(SynchronousTestCase):
    """URLs taken apart."""

    def test_order(self) -> None:
        """The parts come in the order of the product document, then what was added to it."""
        self.assertEqual(
            list(parts(DEFAULT)),
            ["hostname", "port", "userid", "password", "virtual_host", "transport", "url"],
        )

    def test_defaults(self) -> None:
        """What a URL leaves out is filled in as its transport has it."""
        for url, port, userid, vhost in (
            ("amqp://host", 5672, "guest", "/"),
            ("amqp://host/", 5672, "guest", "/"),
            ("amqp://host//", 5672, "guest", "/"),
            ("amqp://u@host:1/v", 1, "u", "v"),
            ("amqps://host", 5671, "guest", "/"),
            ("redis://host", 6379, None, "0"),
            ("rediss://host:1/3", 1, None, "3"),
            ("mongodb://host/db", None, None, "db"),
        ):
            said = parts(url)
            self.assertEqual(
                (said["hostname"], said["port"], said["userid"], said["virtual_host"]),
                ("host", port, userid, vhost),
                url,
            )

    def test_socket(self) -> None:
        """A Redis server on a unix socket has no host and no port."""
        said = parts("redis+socket:///run/redis.sock?virtual_host=2")
        self.assertEqual(
            said,
            {
                "hostname": None,
                "port": None,
                "userid": None,
                "password": None,
                "virtual_host": "2",
                "transport": "redis+socket",
                "url": "redis+socket:///run/redis.sock?virtual_host=2",
            },
        )

    def test_several(self) -> None:
        """Of several URLs the first is taken apart, and all are shown."""
        said = parts("amqp://a:x@one//;amqp://b:y@two//")
        self.assertEqual((said["hostname"], said["userid"]), ("one", "a"))
        self.assertEqual(said["url"], "amqp://a:***@one//;amqp://b:***@two//")
        self.assertEqual(each("amqp://a:x@one//;amqp://b:y@two//")[1], "amqp://b:y@two//")

    @given(text())
    def test_anything(self, url: str) -> None:
        """No text makes it fail."""
        parts(url)
        redacted(url)
        transport_of(url)

    def test_secrets(self) -> None:
        """The URL that is shown never holds a password, well-formed or not."""
        for url in WITH_SECRETS:
            self.assertNotIn("s3cr3t", redacted(url), url)
            self.assertNotIn("s3cr3t", parts(url)["url"], url)

    def test_nothing_to_hide(self) -> None:
        """A URL without a password is shown as it is."""
        for url in (
            "amqp://host:5672//",
            "amqp://[::1]:5672//",
            "redis+socket:///a/b@c.sock",
            "redis://host/0",
        ):
            self.assertEqual(redacted(url), url)

    def test_scrubbed(self) -> None:
        """What somebody says about a broker is freed of its password, in both spellings."""
        url = "amqp://user:s3cr3t%2Fword@host//"
        self.assertEqual(scrubbed("tried s3cr3t/word and s3cr3t%2Fword", url), "tried *** and ***")


class CheckedTests(SynchronousTestCase):
    """URLs that can't be used."""

    def test_accepted(self) -> None:
        """What Celery and Cyme can use is returned as it is."""
        for url in (
            DEFAULT,
            "amqps://user:password@host/vhost",
            "redis://:password@host:6379/1",
            "rediss://host",
            "redis+socket:///run/redis.sock",
            "redis+socket://:password@/run/redis.sock?virtual_host=1",
            "amqp://one//;amqp://two//",
            "amqp://[::1]:5672//",
            "mongodb://host/db",
        ):
            self.assertEqual(checked(url), url)

    def test_refused(self) -> None:
        """What can't be used is refused with a reason that helps."""
        for url, reason in (
            ("", "must be a URL"),
            ("host:5672", "must be one URL"),
            ("ampq://host//", "amqp"),
            ("kombu.transport.pyamqp:Transport://host", "must be one URL"),
            ("memory://", "inside one process"),
            ("filesystem://", "loses tasks"),
            ("sqs://key:secret@", "broadcast"),
            ("amqp://", "host name is missing"),
            ("amqp://:5672//", "host name is missing"),
            ("amqp://host:port//", "port can't be read"),
            ("amqp://host:0//", "from 1 to 65535"),
            ("amqp://host:65536//", "port can't be read"),
            ("amqp://ho st//", "white space"),
            ("amqp://host//\n", "white space"),
            ("redis://host/one", "number of a database"),
            ("redis+socket://", "path of the socket"),
            ("redis+socket://host/path", "path of the socket"),
            ("redis+tcp://host", "redis+socket"),
            ("amqp://one//;two", "must be one URL"),
            ("amqp://one//;redis://two/", "same transport"),
            ("amqp://one//;", "must be one URL"),
        ):
            with self.assertRaises(InvalidParameter, msg=url) as caught:
                checked(url)
            self.assertEqual(caught.exception.parameter, "broker")
            self.assertIn(reason, caught.exception.problem, url)

    def test_secrets(self) -> None:
        """A refusal never quotes a password."""
        for url in WITH_SECRETS:
            try:
                checked(url)
            except InvalidParameter as refusal:
                self.assertNotIn("s3cr3t", str(refusal), url)

    @given(text())
    def test_anything(self, text: str) -> None:
        """Any text is taken or refused."""
        for url in (text, f"amqp://{text}", f"redis://host/{text}"):
            try:
                checked(url)
            except InvalidParameter:
                continue
