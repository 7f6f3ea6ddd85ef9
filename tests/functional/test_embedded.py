"""The choice of the broker, and the embedded Redis, with real ones."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

from kombu import Connection
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.broker_choice import amqp_answers
from tests.support.branch import BranchProcess
from tests.support.ports import free_ports
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import when_ended


def nobody() -> str:
    """The URL of a port of loopback at which nobody listens."""
    return f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}//"


class ProbeTests(TestCase):
    """Whether an AMQP broker answers."""

    timeout = 120

    def test_rabbitmq(self) -> None:
        """RabbitMQ answers, and does not let a stranger in."""
        node = shared_rabbitmq()
        self.assertTrue(amqp_answers(node.url()))
        self.assertFalse(amqp_answers(node.url(password="wrong")))
        self.assertFalse(amqp_answers(node.url("no-such-vhost")))

    def test_nobody(self) -> None:
        """Nobody is no answer, and is known at once."""
        self.assertFalse(amqp_answers(nobody()))

    def test_silent(self) -> None:
        """What takes connections and says nothing is no broker."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            self.assertFalse(amqp_answers(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//"))


class ChoiceTests(TestCase):
    """Starts without `--broker`."""

    timeout = 180

    def broker(self, branch: BranchProcess) -> str:
        return json.loads(Path(branch.root, "branch.json").read_text())["broker"]

    async def test_found(self) -> None:
        """RabbitMQ that answers at the first start is used, said without its password, and remembered."""
        url = shared_rabbitmq().new_url()
        branch = BranchProcess(self, "--probe-broker", url)
        await branch.start()
        self.assertEqual(self.broker(branch), url)
        self.assertIn("found at the first start", branch.log_text())
        self.assertNotIn("guest:guest", branch.log_text())
        self.assertFalse(os.path.exists(os.path.join(branch.root, ".redis")))
        self.assertEqual(await branch.terminate(), 0)

        again = BranchProcess(self, "--probe-broker", nobody(), root=branch.root)
        await again.start()
        self.assertEqual(self.broker(again), url)
        self.assertIn("as the root folder remembers", again.log_text())

    async def test_none(self) -> None:
        """Without one the choice is the embedded Redis, also when there is one at a later start."""
        branch = BranchProcess(self, "--probe-broker", nobody())
        await branch.start()
        self.assertEqual(self.broker(branch), "embedded")
        self.assertIn("broker embedded (no --broker, and no AMQP broker answered", branch.log_text())
        self.assertEqual(await branch.terminate(), 0)

        again = BranchProcess(self, "--probe-broker", shared_rabbitmq().new_url(), root=branch.root)
        await again.start()
        self.assertEqual(self.broker(again), "embedded")

    async def test_explicit(self) -> None:
        """An explicit broker is used although nobody answers there, and although another was remembered."""
        away = nobody()
        branch = BranchProcess(self, broker="embedded")
        await branch.start()
        self.assertEqual(await branch.terminate(), 0)
        again = BranchProcess(self, broker=away, root=branch.root)
        await again.start()
        self.assertEqual(self.broker(again), away)


class EmbeddedTests(TestCase):
    """The server's life beside the branch's."""

    timeout = 180

    def redis_pid(self, branch: BranchProcess) -> int:
        return int(json.loads(Path(branch.root, ".redis", "redis.json").read_text())["pid"])

    def queue(self, branch: BranchProcess, *messages: str) -> list[str]:
        """Put messages into a queue by kombu, or take out what is there."""
        found = []
        with Connection(f"redis+socket://{branch.root}/.redis/redis.sock") as connection:
            queue = connection.SimpleQueue("q")
            for message in messages:
                queue.put(message)
            try:
                while not messages:
                    received = queue.get_nowait()
                    received.ack()
                    found.append(received.payload)
            except queue.Empty:
                pass
            queue.close()
        return found

    async def test_only_the_socket(self) -> None:
        """The server serves kombu on a socket that nobody else can reach, and has no TCP port."""
        branch = await BranchProcess(self, broker="embedded").start()
        folder = Path(branch.root, ".redis")
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual((folder / "redis.sock").stat().st_mode & 0o777, 0o700)
        await deferToThread(self.queue, branch, "1", "2")
        self.assertEqual(await deferToThread(self.queue, branch), ["1", "2"])
        listening = [
            line.split()
            for name in ("tcp", "tcp6")
            for line in Path(f"/proc/{self.redis_pid(branch)}/net/{name}").read_text().splitlines()[1:]
        ]
        own = {os.readlink(each) for each in Path(f"/proc/{self.redis_pid(branch)}/fd").iterdir()}
        self.assertEqual([line for line in listening if f"socket:[{line[9]}]" in own], [])

    async def test_adopted(self) -> None:
        """Redis outlives a killed branch with all that is in it, and the next start takes it over."""
        branch = await BranchProcess(self, broker="embedded").start()
        pid = self.redis_pid(branch)
        await deferToThread(self.queue, branch, "kept")
        await branch.kill()
        await branch.start()
        self.assertEqual(self.redis_pid(branch), pid)
        self.assertIn(f"adopted the embedded Redis, pid {pid}", branch.log_text())
        self.assertEqual(await deferToThread(self.queue, branch), ["kept"])
        ended = when_ended(pid, 60.0)
        self.assertEqual(await branch.terminate(), 0)
        await ended
        self.assertEqual(branch.left_over(), [])

    async def test_killed(self) -> None:
        """Redis that is killed is started again, with what was stored."""
        branch = await BranchProcess(self, broker="embedded").start()
        pid = self.redis_pid(branch)
        await deferToThread(self.queue, branch, "kept")
        os.kill(pid, signal.SIGKILL)
        await branch.wait_for_line("the embedded Redis is back")
        self.assertNotEqual(self.redis_pid(branch), pid)
        self.assertEqual(await deferToThread(self.queue, branch), ["kept"])
        self.assertEqual(await branch.terminate(), 0)
        self.assertEqual(branch.left_over(), [])

    async def test_kept_over_a_stop(self) -> None:
        """What was stored at a clean stop is there at the next start."""
        branch = await BranchProcess(self, broker="embedded").start()
        await deferToThread(self.queue, branch, "kept")
        self.assertEqual(await branch.terminate(), 0)
        await branch.start()
        self.assertEqual(await deferToThread(self.queue, branch), ["kept"])

    async def test_left(self) -> None:
        """With --workers-on-exit leave a stop leaves Redis to the next start."""
        branch = await BranchProcess(self, "--workers-on-exit", "leave", broker="embedded").start()
        pid = self.redis_pid(branch)
        self.assertEqual(await branch.terminate(), 0)
        self.assertEqual(branch.left_over(), [pid])
        await branch.start()
        self.assertEqual(self.redis_pid(branch), pid)
