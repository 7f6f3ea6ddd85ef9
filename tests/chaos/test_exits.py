"""How real workers end, and that each end is named and treated by its own rule."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Queue
from twisted.internet.threads import deferToThread

from cyme.exits import EXPLANATIONS, Reason
from tests.functional.branchcase import PROJECT, BranchTestCase
from tests.support.branch import STEADY
from tests.support.brokers import OnRabbitMQ
from tests.support.guarded import Guarded
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.waiting import eventually, when_ended

NODE = f"w1@{socket.gethostname()}"


class ExitsTestCase(BranchTestCase):
    """A branch whose instances end in ways of all kinds."""

    async def declare(self, app: dict[str, str] | None = None, **instance: Any) -> None:
        """Declare the app `foo` and its instance `w1`, and wait for nothing."""
        await self.ask("PUT", "/foo/", 201, form=app or {"celery_app": "proj.celery:app"})
        await self.ask("PUT", "/foo/instances/w1/", 201, json=instance)

    async def until_ended(self, reason: Reason, times: int = 1) -> Any:
        """Wait until `w1` has ended so often, always for this reason; its details."""

        async def look() -> Any:
            ends = await self.ends()
            self.assertGreaterEqual(len(ends), times)
            self.assertEqual({end["reason"] for end in ends}, {reason.value}, ends)
            details = await self.instance()
            self.assertEqual(details["last_exit"]["reason"], reason.value, details)
            return details

        return await eventually(look, 60.0)

    async def ends(self) -> list[Any]:
        """What the why-log tells of the ends of `w1`, first to last."""
        events = await self.ask("GET", "/foo/instances/w1/events/")
        return [event["details"] for event in events if event["kind"] == "ended"]

    def assert_problem(self, details: Any, reason: Reason) -> None:
        """The instance's problems name the reason and say what to do."""
        [problem] = [one for one in details["problems"] if one.startswith(f"{reason.value}: ")]
        self.assertIn(EXPLANATIONS[reason], problem)
        self.assertIn(EXPLANATIONS[reason], details["last_exit"]["explanation"])

    def wait_of(self, details: Any) -> float:
        """Seconds from the last end to the next attempt."""
        return float(details["next_attempt"] - details["last_exit"]["at"])


class ExitsTests(OnRabbitMQ, ExitsTestCase):
    """Ends that need nothing special of the broker."""

    async def test_killed(self) -> None:
        """A worker that is killed with -9 was killed, by somebody, and is replaced without a wait."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGKILL)
        after = await self.until_replaced(before["pid"])
        self.assertEqual(after["last_exit"]["reason"], "killed")
        self.assertLess(after["started_at"] - after["last_exit"]["at"], 0.5)
        self.assertEqual(after["problems"], [])

    async def test_shut_down(self) -> None:
        """A worker that somebody shut down by remote control is named so, and runs again."""
        before = await self.create()
        await self.control("shutdown", destination=[NODE])
        after = await self.until_replaced(before["pid"])
        self.assertEqual((after["last_exit"]["reason"], after["last_exit"]["status"]), ("shut-down", 0))

    async def test_stopped(self) -> None:
        """A worker that was restarted on demand was stopped, which is no problem."""
        before = await self.create()
        await self.ask("POST", "/foo/instances/w1/restart/")
        after = await self.until_replaced(before["pid"])
        self.assertEqual((after["last_exit"]["reason"], after["failures"]), ("stopped", 0))
        self.assertEqual([end["reason"] for end in await self.ends()], ["stopped"])

    async def test_import_error(self) -> None:
        """An app that can't be imported waits a minute from the first time on; a restart ends the wait."""
        await self.declare({"celery_app": "no.such.module"})
        details = await self.until_ended(Reason.IMPORT_ERROR)
        self.assertEqual(details["state"], "backoff")
        self.assert_problem(details, Reason.IMPORT_ERROR)
        self.assertIn("No module named 'no'", details["last_exit"]["explanation"])
        self.assertEqual(details["last_exit"]["log"][0], "Traceback (most recent call last):")
        self.assertGreaterEqual(self.wait_of(details), 60.0)
        await self.ask("POST", "/foo/instances/w1/restart/")
        await self.until_ended(Reason.IMPORT_ERROR, times=2)

    async def test_module_of_an_app(self) -> None:
        """An app whose modules can't be imported is told apart as well as one that can't itself."""
        Path(self.branch.root, "shop.py").write_text(
            "from celery import Celery\napp = Celery('shop')\napp.conf.imports = ['os', 'no.such.tasks']\n"
        )
        await self.declare({"celery_app": "shop:app"})
        details = await self.until_ended(Reason.IMPORT_ERROR)
        self.assertIn("No module named 'no'", details["last_exit"]["explanation"])

    async def test_bad_arguments(self) -> None:
        """Arguments that Celery does not know are named with Celery's own complaint."""
        await self.declare(arguments="--no-such-option")
        details = await self.until_ended(Reason.BAD_ARGUMENTS)
        self.assert_problem(details, Reason.BAD_ARGUMENTS)
        self.assertIn("--no-such-option", details["last_exit"]["explanation"])
        self.assertGreaterEqual(self.wait_of(details), 60.0)

    async def test_own_pidfile(self) -> None:
        """A stale pid file of the instance's own keeps no worker from its start (F11)."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGSTOP)
        pidfile = Path(self.branch.root, "w1", "worker.pid")
        pidfile.write_text(f"{os.getpid()}\n")
        os.kill(before["pid"], signal.SIGKILL)
        after = await self.until_replaced(before["pid"])
        self.assertEqual(pidfile.read_text().strip(), str(after["pid"]))

    async def test_declaration_refused(self) -> None:
        """A consumer that somebody adds, and that the broker refuses, is what the worker died of (F3)."""
        before = await self.create()

        def declare() -> None:
            with Connection(self.celery_broker(self.branch)) as connection:
                exchange = Exchange("high", channel=connection.default_channel)
                queue = Queue("high", exchange, "high", queue_arguments={"x-max-priority": 5})
                queue(connection.default_channel).declare()

        await deferToThread(declare)
        await self.control("add_consumer", "high", destination=[NODE])
        await when_ended(before["pid"], 30.0)
        after = await self.until_replaced(before["pid"])
        self.assertEqual(after["last_exit"]["reason"], "declaration-refused")
        self.assertIn("x-max-priority", "\n".join(after["last_exit"]["log"]))

    async def test_broker_refused(self) -> None:
        """A wrong password is named and waits a minute, since nothing but a change of it helps."""
        url = self.celery_broker(self.branch).replace("guest:guest", "guest:wrong")
        await self.declare({"celery_app": "proj.celery:app", "broker": url})
        details = await self.until_ended(Reason.BROKER_REFUSED)
        self.assert_problem(details, Reason.BROKER_REFUSED)
        self.assertGreaterEqual(self.wait_of(details), 60.0)


class SteadyTests(OnRabbitMQ, ExitsTestCase):
    """Ends after which starts are tried steadily, and count for nothing."""

    command = "impatient"

    def assert_steady(self, details: Any) -> None:
        """The next attempt comes soon, with jitter."""
        self.assertTrue(STEADY <= self.wait_of(details) <= 2 * STEADY + 0.1, details)

    async def test_resource_locked(self) -> None:
        """While another worker has the node name, starts are tried steadily and count for nothing (F4)."""
        # The branch's own worker must not be first.
        other = self.start_plain_worker()
        await deferToThread(other.wait_for_line, lambda line: " ready." in line, 60.0)
        await self.declare()
        details = await self.until_ended(Reason.RESOURCE_LOCKED)
        self.assert_problem(details, Reason.RESOURCE_LOCKED)
        self.assertIn("RESOURCE_LOCKED", "\n".join(details["last_exit"]["log"]))
        self.assertEqual((details["state"], details["failures"]), ("backoff", 0))
        self.assert_steady(details)
        details = await self.until_ended(Reason.RESOURCE_LOCKED, times=2)
        self.assertEqual(details["failures"], 0)
        await deferToThread(other.kill)
        after = await self.until_state("running")
        self.assertEqual((after["problems"], after["failures"]), ([], 0))

    def start_plain_worker(self) -> Guarded:
        """Start a worker with the node name of `w1` as somebody does who knows nothing of branches."""
        argv = [sys.executable, "-m", "celery", "-A", "proj.celery:app", "worker", "-n", NODE, "-P", "solo"]
        url = self.celery_broker(self.branch)
        env = {name: value for name, value in os.environ.items() if not name.startswith("CYME_")}
        env |= {"PYTHONPATH": PROJECT, "TEST_ROOT_FOLDER": self.branch.root}
        env |= dict.fromkeys(("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), url)
        process = Guarded(
            [*argv, "-Q", "other", "--without-gossip", "--without-mingle", "--loglevel=INFO"],
            env,
            cwd=self.branch.root,
            root=self.branch.root,
        )
        self.addCleanup(process.kill)
        return process

    async def test_stale_pidfile(self) -> None:
        """A pid file of a living stranger is named, and tried again steadily while it comes back (F11)."""
        pidfile, stale = Path(self.branch.root, "w1", "worker.pid"), Path(self.path("stale"))
        stale.touch()
        # The branch removes the file before each start; this puts it back before Celery looks.
        Path(self.branch.root, "shop.py").write_text(
            f"import os, celery\napp = celery.Celery('shop')\n"
            f"if os.path.exists({str(stale)!r}):\n    open({str(pidfile)!r}, 'w').write('{os.getpid()}\\n')\n"
        )
        await self.declare({"celery_app": "shop:app"})
        # The first time it is tried again at once.
        details = await self.until_ended(Reason.STALE_PIDFILE, times=2)
        self.assertEqual((details["last_exit"]["status"], details["failures"]), (73, 0))
        self.assert_problem(details, Reason.STALE_PIDFILE)
        self.assert_steady(details)
        stale.unlink()
        after = await self.until_state("running")
        self.assertEqual(pidfile.read_text().strip(), str(after["pid"]))


class UnreachableTests(ExitsTestCase):
    """A broker that is away, and workers that don't wait for it."""

    def branch_broker(self) -> str:
        self.broker = breakable_rabbitmq()
        self.addCleanup(deferToThread, self.broker.mend)
        return self.broker.new_url()

    async def test_unreachable(self) -> None:
        """A worker that gave up on its broker is started again when the broker is back, and not before."""
        await deferToThread(self.broker.stop)
        await self.declare(extra_config="broker_connection_max_retries=0 broker_connection_retry=no")
        details = await self.until_ended(Reason.BROKER_UNREACHABLE)
        self.assert_problem(details, Reason.BROKER_UNREACHABLE)
        self.assertEqual((details["state"], details["failures"]), ("backoff", 0))
        await deferToThread(self.broker.start)
        after = await self.until_state("running", timeout=90.0)
        self.assertEqual(after["problems"], [])


class ConsumerTimeoutTests(ExitsTestCase):
    """A broker that gives up waiting for acknowledgements."""

    command = "impatient"
    options = ("--sup-interval", "1", "--warm-timeout", "10")

    def branch_broker(self) -> str:
        self.broker = breakable_rabbitmq()
        # Channels that are opened from now on give up after 3 s, and look every second.
        before = self.set_times("[3000, 1000]")
        self.addCleanup(self.set_times, before)
        self.url = self.broker.new_url()
        return self.url

    def celery_broker(self, branch: Any) -> str:
        return self.url

    def set_times(self, milliseconds: str) -> str:
        """Set for how long the broker waits for an acknowledgement and how often it looks; what it was."""
        [[before]] = self.broker.ctl_now(
            "eval",
            "[begin {ok, Before} = application:get_env(rabbit, Name), "
            "application:set_env(rabbit, Name, Value), Before end || "
            f"{{Name, Value}} <- lists:zip([consumer_timeout, channel_tick_interval], {milliseconds})].",
        )
        return before

    async def test_consumer_timeout(self) -> None:
        """A task that was too slow may end, though its worker is unresponsive; then that is replaced."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        before = await self.create()
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w1")
        await self.file("task.begun")

        async def named() -> Any:
            details = await self.instance()
            self.assertTrue(any(one.startswith("consumer-timeout: ") for one in details["problems"]), details)
            return details

        details = await eventually(named, 60.0)
        self.assertEqual((details["state"], details["pid"]), ("unresponsive", before["pid"]))
        # Long after the misses that condemn others it is left alone.
        checks = self.checks()
        await eventually(lambda: self.checks() >= checks + 5, 60.0, "four checks that it misses")
        self.assertEqual((await self.instance())["pid"], before["pid"])
        Path(self.path("go")).touch()
        await self.file("task.ended")
        after = await self.until_replaced(before["pid"])
        [end] = await self.ends()
        # Celery's status, or none: now and then it waits for ever for the broker to say that its channel is
        # closed (py-amqp asks without a time-out), and is killed then.
        self.assertEqual((end["reason"], end["status"] in (1, None)), ("consumer-timeout", True))
        self.assertEqual(after["last_exit"]["reason"], "consumer-timeout")

    def checks(self) -> int:
        """How many full checks have begun, one after the other."""
        return self.branch.log_text().count("wake-up")
