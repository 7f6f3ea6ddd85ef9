"""The command line: what it takes, where else it looks, and what it refuses with which words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from cyme import __version__
from cyme.addresses import Address
from cyme.options import Options

#: Everything that a branch is told when nobody says anything.
DEFAULTS = {
    "id": None,
    "instance-dir": "/here/instances",
    "http": Address("tcp:8000:interface=127.0.0.1", "127.0.0.1"),
    "without-http": False,
    "insecure": False,
    "auth-token-file": None,
    "open-metrics": False,
    "request-rate": 100,
    "max-connections": 1000,
    "broker": None,
    "probe-broker": "amqp://guest:guest@127.0.0.1:5672//",
    "database": None,
    "label": (),
    "node-host": None,
    "loglevel": "info",
    "logfile": None,
    "log-format": "text",
    "sup-interval": 60.0,
    "evacuate-after": None,
    "wait-after-broker-revived": 35.0,
    "workers-on-exit": "stop",
    "warm-timeout": 60.0,
    "worker-loglevel": "INFO",
    "stall-limit": 0.0,
    "hang-limit": 45.0,
    "result-expires": 86400.0,
    "hold-over": 60.0,
    "max-request-body": 1024 * 1024,
    "allow-origin": (),
    "allow-target": (),
    "deny-target": (),
    "config": None,
}


def parse(*arguments: str, environment: Mapping[str, str] | None = None) -> Options:
    """Parse a command line, in an environment that is empty unless said otherwise."""
    options = Options(environment or {})
    options.parseOptions(arguments)
    return options


def values(options: Options) -> dict[str, Any]:
    """All values, with the folder that the tests happen to run in called `/here`."""
    here = os.getcwd()
    folder = options["instance-dir"].replace(here, "/here", 1)
    return dict(options) | {"instance-dir": folder}


class OptionsTests(SynchronousTestCase):
    """Command lines that are accepted."""

    def test_defaults(self) -> None:
        """Without arguments every option has its default, already as a value."""
        self.assertEqual(values(parse()), DEFAULTS)

    def test_default_settings(self) -> None:
        """Settings fill in what depends on the root folder."""
        settings = parse().settings
        self.assertEqual(settings.database, f"sqlite:///{os.path.abspath('instances')}/branch.db")
        self.assertEqual((settings.logfile, settings.is_daemon), (None, False))

    def test_address_first(self) -> None:
        """Options may follow the address, as the product document writes it."""
        options = parse(":8001", "-i", "branch1", "-D", "cyme/branch1/")
        self.assertEqual(options["http"], Address("tcp:8001:interface=127.0.0.1", "127.0.0.1"))
        self.assertEqual(options["id"], "branch1")
        self.assertEqual(options["instance-dir"], os.path.abspath("cyme/branch1"))

    def test_every_option(self) -> None:
        """Each option's text becomes its value."""
        cases: dict[str, tuple[str, Any]] = {
            "id": ("b.1_x-Y", "b.1_x-Y"),
            "instance-dir": ("/x/../y", "/y"),
            "http": ("unix:/a:mode=600", Address("unix:/a:mode=600")),
            "broker": ("redis://h/1", "redis://h/1"),
            "probe-broker": ("amqps://h//", "amqps://h//"),
            "database": ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
            "loglevel": ("WARNING", "warn"),
            "logfile": ("-", "-"),
            "log-format": ("JSON", "json"),
            "sup-interval": ("2.5", 2.5),
            "wait-after-broker-revived": ("0", 0.0),
            "workers-on-exit": ("leave", "leave"),
            "warm-timeout": ("600", 600.0),
            "worker-loglevel": ("debug", "DEBUG"),
            "stall-limit": ("0.1", 0.1),
            "hang-limit": ("30", 30.0),
            "result-expires": ("3600", 3600.0),
            "label": ("gpu=yes", ("gpu=yes",)),
            "node-host": ("left.example", "left.example"),
            "evacuate-after": ("90", 90.0),
            "hold-over": ("0.5", 0.5),
            "max-request-body": ("64k", 65536),
            "allow-origin": ("https://Panel.example:8443", ("https://panel.example:8443",)),
            "allow-target": ("*.example.com:8443", ("*.example.com:8443",)),
            "deny-target": ("10.0.0.0/8", ("10.0.0.0/8",)),
            "auth-token-file": ("/etc/cyme/tokens", "/etc/cyme/tokens"),
            "request-rate": ("0", 0),
            "max-connections": ("5", 5),
            "config": (os.devnull, os.devnull),
        }
        flags = {"without-http", "insecure", "open-metrics"}
        self.assertEqual(set(cases) | flags, set(DEFAULTS))
        for name, (text, value) in cases.items():
            self.assertEqual(parse(f"--{name}", text)[name], value, name)
        for name in flags:
            self.assertIs(parse(f"--{name}")[name], True, name)

    def test_short(self) -> None:
        """The short names are those of the first Cyme."""
        options = parse("-i", "x", "-D", "/y", "-b", "embedded", "-l", "error", "-f", "/z")
        self.assertEqual(
            [options[name] for name in ("id", "instance-dir", "broker", "loglevel", "logfile")],
            ["x", "/y", "embedded", "error", "/z"],
        )

    def test_repeated(self) -> None:
        """Origins add up; of other options the last one counts."""
        options = parse("--allow-origin=http://a", "--allow-origin=http://b", "-i", "a", "-i", "b")
        self.assertEqual((options["allow-origin"], options["id"]), (("http://a", "http://b"), "b"))

    def test_without_http(self) -> None:
        """Both spellings turn the HTTP server off, whatever the address."""
        for spelling in ("--without-http", "--without-httpd"):
            self.assertIsNone(parse(spelling, "0.0.0.0:80").settings.http)

    def test_insecure(self) -> None:
        """An address that others can reach is taken when it is asked for."""
        self.assertEqual(
            parse("--insecure", "0.0.0.0:80").settings.http, Address("tcp:80:interface=0.0.0.0", "0.0.0.0")
        )
        self.assertIsNotNone(parse("--auth-token-file=tokens", "0.0.0.0:80").settings.http)

    def test_precedence(self) -> None:
        """The command line beats the environment, which beats the file, which beats the default."""
        file = self.mktemp()
        Path(file).write_text(
            "[cyme]\nid = file\nbroker = redis://file\nloglevel = error\nsup_interval = 9\n"
        )
        environment = {"CYME_CONFIG": file, "CYME_ID": "environment", "CYME_BROKER": "redis://environment"}
        options = parse("--id=line", environment=environment)
        self.assertEqual(
            [options[name] for name in ("id", "broker", "loglevel", "sup-interval", "warm-timeout")],
            ["line", "redis://environment", "error", 9.0, 60.0],
        )

    def test_empty_is_not_given(self) -> None:
        """An empty variable or setting leaves the default."""
        file = self.mktemp()
        Path(file).write_text("[cyme]\nbroker =\nallow-origin =\n")
        options = parse(environment={"CYME_CONFIG": file, "CYME_ID": " ", "CYME_HTTP": ""})
        self.assertEqual(values(options), DEFAULTS | {"config": os.path.abspath(file)})

    def test_switch_in_environment(self) -> None:
        """Flags are true or false in the environment, and the command line turns them on."""
        self.assertIsNone(parse(environment={"CYME_WITHOUT_HTTP": "yes"}).settings.http)
        self.assertIsNotNone(parse(environment={"CYME_WITHOUT_HTTP": "0"}).settings.http)
        self.assertIsNone(parse("--without-http", environment={"CYME_WITHOUT_HTTP": "false"}).settings.http)


class RefusalTests(SynchronousTestCase):
    """Command lines that are refused."""

    def refused(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        return str(self.assertRaises(UsageError, parse, *arguments, environment=environment))

    def test_values(self) -> None:
        """A bad value is refused with the option's name and the reason."""
        cases = {
            (
                "--id=a b",
            ): "--id: 'a b' is not a name: letters, digits, '.', '_' and '-', at most 128, a letter"
            " or digit first",
            ("--id=.x",): "--id: '.x' is not a name",
            ("--sup-interval=soon",): "--sup-interval: 'soon' is not a number of seconds of at least 0.1",
            ("--sup-interval=0",): "--sup-interval: '0' is not a number of seconds of at least 0.1",
            ("--sup-interval=nan",): "--sup-interval: 'nan' is not",
            ("--label=gpu",): "--label: 'gpu' is not a label NAME=VALUE",
            ("--label=gpu=yes", "--label=gpu=no"): "--label: gpu has two values, yes and no",
            ("--node-host=a@b",): "--node-host: 'a@b' is not a name",
            ("--evacuate-after=0",): "--evacuate-after: '0' is not a number of seconds of at least 1",
            ("--hold-over=901",): "--hold-over: '901' is not a number of seconds from 0 to 900",
            ("--warm-timeout=-1",): "--warm-timeout: '-1' is not a number of seconds of at least 0",
            ("--warm-timeout=inf",): "--warm-timeout: 'inf' is not",
            ("--loglevel=loud",): "--loglevel: 'loud' is not one of debug, info, warn, error, critical",
            ("--log-format=xml",): "--log-format: 'xml' is not one of text, json",
            ("--workers-on-exit=kill",): "--workers-on-exit: 'kill' is not one of stop, leave",
            (
                "--worker-loglevel=x",
            ): "--worker-loglevel: 'x' is not one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
            (
                "--max-request-body=lots",
            ): "--max-request-body: 'lots' is not a number of bytes, like 1048576,",
            ("--max-request-body=0",): "--max-request-body: '0' is not",
            (
                "--allow-origin=example.org",
            ): "--allow-origin: 'example.org' is not an origin: http://HOST[:PORT]",
            ("--allow-target=10.0.0.1/8",): "--allow-target: '10.0.0.1/8' is no target rule",
            ("--deny-target=http://a",): "--deny-target: 'http://a' is no target rule",
            ("--allow-origin=https://a/x",): "--allow-origin: 'https://a/x' is not an origin",
            ("--broker=localhost",): "--broker: must be one URL or several",
            ("--broker=nosuch://x",): "--broker: there is no transport 'nosuch'",
            ("--probe-broker=redis://x",): "--probe-broker: this is not a URL that begins with amqp://",
            ("--database=branch.db",): "--database: this is not a URL",
            ("--http=host:port",): "--http: 'port' is not a port: a number from 0 (any free one) to 65535",
            (":65536",): "address :65536: '65536' is not a port",
            ("a", "b"): "one address at most, not 2: a b",
            (":1", "--http=:2"): "either --http or the address :1, not both",
            ("--insecure=1",): "option --insecure must not have an argument",
            ("--nope",): "option --nope not recognized",
            ("--id",): "option --id requires argument",
        }
        for arguments, words in cases.items():
            self.assertIn(words, self.refused(*arguments), arguments)

    def test_open_address(self) -> None:
        """An address that other machines can reach is refused with what that would mean."""
        for address in ("0.0.0.0:8000", "example.org", "[::]:8000", "tcp:8000", "ssl:443:interface=10.0.0.1"):
            text = self.refused(address)
            self.assertIn("anyone who can reach it can start processes: --auth-token-file", text, address)
        self.assertIn("--http: other machines can reach every address", self.refused("tcp:8000"))

    def test_no_password(self) -> None:
        """A refusal never repeats what may hold a password."""
        for option in ("broker", "probe-broker", "database"):
            self.assertNotIn("hunter2", self.refused(f"--{option}=me:hunter2@h"))

    def test_environment(self) -> None:
        """A bad variable is named."""
        text = self.refused(environment={"CYME_SUP_INTERVAL": "x"})
        self.assertEqual(text, "CYME_SUP_INTERVAL: 'x' is not a number of seconds of at least 0.1")

    def test_missing_file(self) -> None:
        """A configuration file that can't be read is named with the reason."""
        text = self.refused("--config=/nonexistent/cyme.conf")
        self.assertEqual(
            text, "the configuration file /nonexistent/cyme.conf can't be read: No such file or directory"
        )


class HelpTests(SynchronousTestCase):
    """What the options say of themselves."""

    def test_help(self) -> None:
        """The help names every option, its environment variable and its default, and has examples."""
        text = str(Options({}))
        words = " ".join(text.split())
        for name in DEFAULTS:
            self.assertIn(f"--{name}", text)
            self.assertIn(f"(CYME_{name.replace('-', '_').upper()})", words)
        for phrase in (
            "[default: instances/]",
            "[default: 127.0.0.1:8000]",
            "[default: 60]",
            "[default: 1M]",
            "twistd -n cyme :8001 -i branch1 -D cyme/branch1/",
        ):
            self.assertIn(phrase, words)
        self.assertTrue(all(len(line) <= 80 for line in text.splitlines()), "wider than a terminal")

    def test_version(self) -> None:
        """The version is Cyme's."""
        said: list[str] = []
        self.patch(__import__("builtins"), "print", said.append)
        ended = self.assertRaises(SystemExit, parse, "--version")
        self.assertEqual((said, ended.code), ([f"cyme v{__version__}"], 0))


class TwistdTests(SynchronousTestCase):
    """Options as twistd's sub-command."""

    def under(self, *arguments: str, **told: Any) -> Options:
        """Options whose parent was told something."""
        options = Options({})
        options.parent = TwistedOptions()
        options.parent.update({"nodaemon": 1} | told)
        options.parseOptions(arguments)
        return options

    def test_daemon(self) -> None:
        """A daemon logs to a file in its root folder, and keeps its own word if it was given one."""
        settings = self.under("-D", "/r", nodaemon=0).settings
        self.assertEqual((settings.logfile, settings.is_daemon), ("/r/branch.log", True))
        self.assertEqual(self.under("-f", "/x", nodaemon=0).settings.logfile, "/x")

    def test_daemon_without_output(self) -> None:
        """A daemon refuses to log to standard output, which it has none of."""
        refusal = self.assertRaises(UsageError, self.under, "-f", "-", nodaemon=0)
        self.assertIn("--logfile: a daemon has no standard output", str(refusal))

    def test_twistds_logfile(self) -> None:
        """The log file that twistd was told is used when the branch was told none."""
        self.assertEqual(self.under(logfile="/t").settings.logfile, "/t")
        self.assertEqual(self.under("-f", "/x", logfile="/t").settings.logfile, "/x")
        self.assertIsNone(self.under(logfile="-").settings.logfile)
