"""The command `cyme`, over a branch in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from cyme import __version__
from cyme.client import Client, errors
from cyme.client.wire import Answer, Request
from cyme.commands.context import State, status_of
from cyme.commands.main import main
from tests.support.memoryclient import MemoryTransport

URL = "http://127.0.0.1:8000"

CLUSTER = """
apps:
  foo:
    broker: amqp://me:s3cret@127.0.0.1//
    queues: [tasks]
    instances:
      web: {count: 2, queues: [tasks], is_enabled: false}
"""


class CommandCase(SynchronousTestCase):
    """A test with the command and a branch in memory."""

    def setUp(self) -> None:
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.transport: Any = MemoryTransport(self)
        self.runner = CliRunner()

    def run_command(self, line: str, *more: str, text: str | None = None) -> Any:
        state = State()
        state._client = Client(URL, transport=self.transport)
        arguments = [*line.split(), *more]
        return self.runner.invoke(main, arguments, obj=state, input=text, catch_exceptions=False)

    def output(self, line: str, *more: str, status: int = 0, **options: Any) -> str:
        """What a command prints; it ends with this status."""
        result = self.run_command(line, *more, **options)
        self.assertEqual(result.exit_code, status, result.output)
        return str(result.output)

    def json(self, line: str, *more: str, status: int = 0) -> Any:
        return json.loads(self.output(line, *more, "--json", status=status))


class VerbsTests(CommandCase):
    """Each verb does what it says."""

    def test_apps(self) -> None:
        """Apps are added, listed, shown, changed and deleted."""
        self.assertIn("there is no app yet", self.output("apps"))
        self.assertEqual(self.output("apps add foo --pool solo"), "foo\n")
        self.output("apps add bar redis://127.0.0.1/3")
        lines = self.output("apps").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["NAME", "bar", "foo"])
        self.assertEqual(self.json("apps"), ["bar", "foo"])
        self.assertEqual(self.json("apps get bar")["broker"]["transport"], "redis")
        self.assertIn("pool:          solo\n", self.output("apps get foo"))
        self.assertEqual(self.output("apps delete bar"), "app bar is deleted\n")
        self.assertEqual(self.json("apps"), ["foo"])

    def test_instances(self) -> None:
        """Instances are added, listed over all apps or in one, changed and deleted."""
        self.output("apps add foo")
        self.output("-a foo queues add tasks")
        made = self.json("-a foo instances add w1 --disabled --max-concurrency 3 --queues tasks")
        self.assertEqual((made["max_concurrency"], made["queues"], made["is_enabled"]), (3, ["tasks"], False))
        self.output("-a foo instances add w2 --disabled --branch branch1")
        self.assertEqual(self.json("instances"), ["w1", "w2"])
        lines = self.output("instances --app foo").splitlines()
        self.assertEqual(lines[1].split()[:2], ["w1", "foo"])
        self.assertIn("tasks", lines[1])
        self.output("instances enable w1 w2")
        self.assertTrue(self.json("instances get w2")["is_enabled"])
        self.output("instances disable w1")
        self.output("instances restart w2 --nowait")
        self.assertEqual(self.json("instances autoscale w1 --max 5"), {"max": 5, "min": 1})
        self.assertEqual(self.output("instances delete w1 w2").count("is deleted"), 2)
        self.assertIn("there is no instance", self.output("instances"))

    def test_queues(self) -> None:
        """Queues are declared, listed, paused, resumed and deleted; what consumes from them, too."""
        self.output("apps add foo")
        self.output("-a foo queues add mail --exchange ex --options", '{"durable": true}')
        found = self.json("-a foo queues get mail")
        self.assertEqual((found["exchange"], found["options"]), ("ex", {"durable": True}))
        self.assertIn("direct", self.output("queues -a foo"))
        self.output("-a foo queues pause mail")
        self.assertTrue(self.json("-a foo queues get mail")["paused"])
        self.output("-a foo queues resume mail")
        self.output("-a foo instances add w1 --disabled")
        self.output("consumers add w1 mail")
        self.assertEqual(self.json("instances get w1")["queues"], ["mail"])
        self.output("-a foo consumers delete w1 mail")
        self.output("-a foo queues delete mail")
        self.assertEqual(self.json("queues -a foo"), [])
        self.output("-a foo queues add x --options", "{", status=2)
        self.output("-a foo queues add x --options", "[]", status=2)

    def test_purge(self) -> None:
        """A queue is emptied only when that was confirmed."""
        self.output("apps add foo")
        self.output("-a foo queues add mail")
        self.assertIn("Remove", self.output("-a foo queues purge mail", text="n\n", status=1))

    def test_branches(self) -> None:
        """Branches are listed, shown, cordoned and uncordoned."""
        self.assertEqual(self.json("branches"), ["branch1"])
        self.assertIn("branch1", self.output("branches"))
        self.output("branches cordon branch1")
        self.assertTrue(self.json("branches get branch1")["is_cordoned"])
        self.output("branches uncordon branch1")
        self.output("branches evacuate branch1", status=1)

    def test_tasks(self) -> None:
        """Requests and named tasks are submitted, asked about and revoked."""
        self.output("apps add foo")
        uuid = self.output("-a foo submit http://192.0.2.1/x?a=b -X PUT -d c=d --delay 50").strip()
        sent = next(one for one in self.transport.sent if one.path == "/foo/queue/")
        self.assertEqual((sent.method, sent.body), ("PUT", b"c=d"))
        self.assertIn(("Content-Type", "application/x-www-form-urlencoded"), sent.headers)
        self.assertEqual(self.output(f"-a foo query {uuid} --state"), "PENDING\n")
        self.assertEqual(self.output(f"-a foo query {uuid} --revoke"), "REVOKED\n")
        self.assertEqual(self.json(f"-a foo query {uuid}", status=5)["state"], "REVOKED")
        self.output(f"-a foo query {uuid} --wait 1", status=5)
        task = self.json("-a foo submit --task proj.add --args [1,2] --delay 50")
        self.assertEqual(task["task"], "proj.add")
        for wrong in (
            "",
            "http://h/ --task x",
            "--task x --args {}",
            "http://h/ -H x",
            "http://h/ -d @/no/file",
        ):
            self.output(f"-a foo submit {wrong}", status=2)

    def test_old_spellings(self) -> None:
        """The first Cyme's `type.action` works, with its options on either side."""
        self.output("apps.add foo")
        self.output("-a foo instances.add w1 --disabled")
        self.assertEqual(self.json("instances.all -a foo"), ["w1"])
        self.assertEqual(self.output("-F json apps.all"), '["foo"]\n')
        self.assertEqual(self.output("apps.all -F pprint"), "['foo']\n")
        self.assertEqual(self.output("-F jsonp apps.all"), '[\n    "foo"\n]\n')
        self.output("-a foo queues.add tasks ex topic key")
        self.assertEqual(self.json("-a foo queues.get tasks")["exchange_type"], "topic")
        self.output("-n -a foo consumers.add w1 tasks")
        self.assertEqual(self.json("instances.autoscale w1 4 2"), {"max": 4, "min": 2})
        self.output("instances.autoscale w1 4")
        self.output("start-all -a foo")
        self.assertTrue(self.json("instances.get w1")["is_enabled"])
        self.output("shutdown-all")
        self.assertFalse(self.json("instances.get w1")["is_enabled"])
        self.output("-a foo -n instances.delete w1")
        self.assertIn("/foo/instances/!/w1/", [one.path for one in self.transport.sent])
        self.assertIn("tokens", self.output("createsuperuser", status=1))
        self.assertIn("--local is gone", self.output("-L apps", status=2))
        self.assertIn("no effect", self.output("-l INFO -f x.log apps"))
        self.assertEqual(self.output("sh", text="print(client.all())\n").count("['foo']"), 1)

    def test_top_once(self) -> None:
        """Where there is no terminal, the screen is printed once."""
        self.output("apps add foo")
        self.output("-a foo instances add w1 --disabled")
        self.assertIn("w1", self.output("top"))
        self.assertEqual([one["name"] for one in self.json("top")["instances"]], ["w1"])

    def test_apply(self) -> None:
        """A file is shown as a plan, then done, and then there is nothing to do."""
        path = self.mktemp()
        with open(path, "w") as stream:
            stream.write(CLUSTER)
        planned = self.output(f"apply -f {path} --diff", status=5)
        self.assertEqual(self.output(f"apply -f {path} --dry-run").count("+ create"), 4)
        self.assertIn("amqp://me:***@127.0.0.1//", planned)
        self.assertEqual(self.json("apps"), [])
        done = self.output(f"apply -f {path}")
        self.assertIn("[4/4] create instance web-2 of app foo: done\n4 steps done\n", done)
        self.assertNotIn("s3cret", planned + done)
        self.assertEqual(self.json("instances"), ["web-1", "web-2"])
        self.assertEqual(self.output(f"apply -f {path}"), "nothing to do\n")
        self.assertEqual(self.output(f"apply -f {path} --diff"), "nothing to do\n")
        smaller = CLUSTER.replace("count: 2", "count: 1")
        found = self.output("apply -f -", text=smaller)
        self.assertIn("- delete instance web-2 of app foo", found)
        self.assertEqual(self.json("instances"), ["web-1"])
        self.assertIn(
            "apps: 'x' is not", self.output("apply -f -", text="x: 1", status=1).replace("the file", "apps")
        )

    def test_apply_fails(self) -> None:
        """A step that fails is named, and ends it."""
        text = "apps: {foo: {instances: {w1: {max_concurrency: 0}, w2: }}}"
        said = self.output("apply -f -", text=text, status=1)
        self.assertIn("step 2 of 3 failed: create instance w1 of app foo", said)
        self.assertEqual(self.json("instances"), [])


class EndsTests(CommandCase):
    """How commands end, and what they say then."""

    def test_not_there(self) -> None:
        """What does not exist is status 4, with the branch's words on standard error."""
        self.assertEqual(self.output("instances get nope", status=4), "cyme: there is no instance 'nope'\n")

    def test_refused(self) -> None:
        """What the branch refuses is status 1."""
        self.assertIn("app name", self.output("apps add", "a b", status=1))

    def test_usage(self) -> None:
        """What makes no sense is status 2, before anything is asked."""
        for line in ("nope", "instances nope", "-a foo instances autoscale w1 many", "instances add w1"):
            self.assertEqual(self.run_command(line).exit_code, 2, line)
        self.assertEqual(self.transport.sent, [])

    def test_unreached(self) -> None:
        """A branch that is away is status 3, and the way to name another is told."""

        class Away:
            def send(self, request: Request, timeout: float) -> Answer:
                raise errors.Unreachable(request.method, URL, "refused")

        self.transport = Away()
        said = self.output("apps add foo", status=3)
        self.assertIn("refused", said)
        self.assertIn("CYME_URL", said)

    def test_interrupted(self) -> None:
        """Ctrl-C is status 130, without a traceback."""

        class Interrupted:
            def send(self, request: Request, timeout: float) -> Answer:
                raise KeyboardInterrupt

        self.transport = Interrupted()
        self.assertEqual(self.output("apps", status=130).strip(), "")

    def test_statuses(self) -> None:
        """Each kind of error has its status."""
        cases = [
            (errors.TimedOut("GET", URL, "late"), 3),
            (errors.MalformedAnswer("GET", URL, "?"), 3),
            (errors.NoSuchTask(404, "x"), 4),
            (errors.Conflict(409, "x"), 1),
            (errors.Unavailable(503, "x"), 1),
            (errors.TaskFailed("u", {}), 5),
            (errors.NotFinished("u", "PENDING", 1), 5),
        ]
        for error, status in cases:
            self.assertEqual(status_of(error), status)

    def test_token(self) -> None:
        """The token comes from the file that was named, else from the environment."""
        path = self.mktemp()
        with open(path, "w") as stream:
            stream.write("s3cret\nmore\n")
        state = State()
        self.assertIsNone(state.token())
        os.environ["CYME_TOKEN"] = "other"
        self.assertEqual(state.token(), "other")
        state.token_file = path
        self.assertEqual(state.token(), "s3cret")
        state.token_file = path + "x"
        self.assertRaises(click.UsageError, state.token)

    def test_environment(self) -> None:
        """URL and app come from the environment, too."""
        os.environ.update(CYME_URL="http://h:1", CYME_APP="foo")
        state = State()
        self.assertEqual(
            (state.url, state.require_app(), state.client.url), ("http://h:1", "foo", "http://h:1")
        )

    def test_colours(self) -> None:
        """Colours are for terminals, and not where NO_COLOR is set."""
        self.output("apps add foo")
        self.output("-a foo instances add w1 --disabled")
        state = State()
        state._client = Client(URL, transport=self.transport)
        for environment, expected in ({}, True), ({"NO_COLOR": "1"}, False):
            os.environ.update(environment)
            found = self.runner.invoke(main, ["instances"], obj=state, color=True)
            self.assertEqual("\x1b[" in found.output, expected)
        os.environ.pop("NO_COLOR")
        self.assertNotIn("\x1b[", self.output("instances"))


def walk(command: click.Command, path: str = "cyme") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from walk(inner, f"{path} {name}")


class HelpTests(CommandCase):
    """The help."""

    def test_version(self) -> None:
        """The version is Cyme's."""
        self.assertEqual(self.output("--version"), f"cyme v{__version__}\n")

    def test_every_command(self) -> None:
        """Every command says what it does, has examples, and they are command lines that it takes."""
        commands = {path: command for path, command in walk(main) if not command.hidden}
        self.assertGreater(len(commands), 40)
        for path, command in commands.items():
            text = self.output(f"{path.partition(' ')[2]} --help")
            self.assertIn("Examples:", text, path)
            self.assertTrue(command.help, path)

    def test_statuses(self) -> None:
        """The help of all tells the exit statuses."""
        text = self.output("--help")
        for status in ("0", "1", "2", "3", "4", "5", "130"):
            self.assertRegex(text, rf"\n +{status}  \w")

    def test_parameters(self) -> None:
        """No two parameters of a command have one name."""
        for path, command in walk(main):
            names = [parameter.name for parameter in command.params]
            self.assertEqual(len(set(names)), len(names), path)
