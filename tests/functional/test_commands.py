"""The command `cyme` as a person runs it."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import time
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.commands.doctor.facts import BrokerFacts
from cyme.commands.doctor.gathering import ask_broker
from tests.functional.branchcase import BranchTestCase
from tests.support.branch import BIN, clean_environment
from tests.support.brokers import OnEmbedded
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.waiting import eventually

#: Seconds that a command may take.
WITHIN = 90.0


class CommandCase(BranchTestCase):
    """A test with a real branch, and the real command."""

    def environment(self, **more: str) -> dict[str, str]:
        return {**clean_environment(), "CYME_URL": self.branch.url, "TERM": "xterm", **more}

    def start_command(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [os.path.join(BIN, "cyme"), *arguments],
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

        def end() -> None:
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    async def run_command(self, line: str, status: int = 0) -> str:
        """Run a command to its end; what it has printed."""
        process = self.start_command(*shlex.split(line))
        out, err = await deferToThread(process.communicate, timeout=WITHIN)
        self.assertEqual(process.returncode, status, (line, out, err))
        self.assertNotIn("Traceback", err)
        self.errors = err
        return str(out)

    async def json(self, line: str, status: int = 0) -> Any:
        return json.loads(await self.run_command(f"{line} --json", status))


class CommandTests(OnEmbedded, CommandCase):
    """The command over a branch of its own."""

    async def test_session(self) -> None:
        """A worker is made, watched live on the whole screen, followed and removed; the branch goes away."""
        await self.run_command("apps add foo")
        await self.run_command("-a foo queues add tasks")
        made = await self.json("-a foo instances add w1 --queues tasks --wait 60")
        self.assertEqual(made["state"], "running")
        self.assertIn("running", await self.run_command("instances"))
        health = await self.json("instances health w1")
        self.assertEqual(health["verdict"], "ok")
        self.assertEqual(set(await self.json("consumers list w1")), {"dq.w1", "tasks"})
        self.assertIn("ready.", await self.run_command("instances log w1"))
        outcome = await self.json(f"-a foo submit {self.branch.url}ping/ -q tasks --wait 60")
        self.assertEqual(outcome["result"]["status_code"], 200)
        await self.run_command("-a foo submit --task no.such -q tasks --wait 60", 5)
        rollout = await self.json("apps restart foo --wait 60")
        self.assertEqual(rollout["state"], "finished")

        screen = await deferToThread(self.top)
        self.assertIn("w1", screen)
        self.assertIn("running", screen)

        following = self.start_command("events", "-f", "--json", "--since", "0")
        first = json.loads(await deferToThread(following.stdout.readline))  # type: ignore[union-attr]
        self.assertEqual(first["kind"], "app-created")
        following.send_signal(signal.SIGINT)
        await deferToThread(following.communicate, timeout=WITHIN)
        self.assertEqual(following.returncode, 130)

        found = await self.json(f"doctor --all -D {self.branch.root}")
        self.assertEqual([one for one in found if one["level"] == "problem"], [], found)
        self.assertTrue(any(one["what"].startswith("Redis ") for one in found), found)
        self.assertTrue(any("held by process" in one["what"] for one in found), found)

        await self.run_command("instances health nope", 4)
        self.assertEqual(self.errors, "cyme: there is no instance 'nope'\n")
        await self.run_command("instances.delete w1")
        await self.branch.kill()
        await self.run_command("apps delete foo", 3)
        self.assertIn(f"is there a branch at {self.branch.url}?", self.errors)

    def top(self) -> str:
        """What `cyme top` draws on a terminal until it shows an instance; then it is told to quit."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [os.path.join(BIN, "cyme"), "top", "--interval", "0.2"],
            env=self.environment(LINES="30", COLUMNS="120"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        drawn = b""
        end = time.monotonic() + 30.0
        try:
            while time.monotonic() < end:
                ready, _, _ = select.select([master], [], [], 0.5)
                if ready:
                    try:
                        drawn += os.read(master, 65_536)
                    except OSError:
                        break  # the other end is closed
                if b"w1" in drawn and process.poll() is None:
                    os.write(master, b"sq")
            self.assertEqual(process.wait(10), 0, drawn)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(master)
        return drawn.decode(errors="replace")

    async def test_completion(self) -> None:
        """Shells can ask what comes next."""

        def ask(**more: str) -> str:
            command = [os.path.join(BIN, "cyme")]
            done = subprocess.run(
                command, env=self.environment(**more), capture_output=True, text=True, timeout=WITHIN
            )
            return done.stdout

        script = await deferToThread(lambda: ask(_CYME_COMPLETE="zsh_source"))
        self.assertIn("#compdef cyme", script)
        words = {"COMP_WORDS": "cyme inst", "COMP_CWORD": "1", "_CYME_COMPLETE": "bash_complete"}
        self.assertIn("instances", await deferToThread(lambda: ask(**words)))


class DoctorTests(TestCase):
    """What `cyme doctor` hears from a real RabbitMQ."""

    async def test_alarm(self) -> None:
        """A node that is short of memory takes no messages, which is told until it has some."""
        node = breakable_rabbitmq()
        self.addCleanup(node.ctl, "set_vm_memory_high_watermark", "0.6")
        url = node.new_url()

        async def asked() -> BrokerFacts:
            return await deferToThread(ask_broker, url)

        found = await asked()
        self.assertEqual((found.product, found.problem, found.alarm), ("RabbitMQ", None, None))
        await node.ctl("set_vm_memory_high_watermark", "0.000001")
        self.assertTrue((await asked()).alarm)
        await node.ctl("set_vm_memory_high_watermark", "0.6")

        async def is_over() -> bool:
            return (await asked()).alarm is None

        await eventually(is_over, 30.0)
        self.assertEqual(await node.ctl("-q", "list_queues", "-p", url.rpartition("/")[2], "name"), [])
