"""Real Celery workers, over a private Redis."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from celery import Celery
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import tests.support
from cyme.errors import NoDump
from cyme.planning import Desired, Exit
from cyme.workers.launcher import ProcessLauncher
from cyme.workers.service import Workers
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, when_ended

#: The folder of the user's own project, see `tests/support/project`.
PROJECT = str(Path(tests.support.__file__).parent / "project")


class CeleryTestCase(TestCase):
    """A branch's workers, and Redis for a broker."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.root = self.folder / "root"
        self.root.mkdir()
        self.redis = await deferToThread(RedisServer)
        self.addCleanup(self.redis.close)
        self.serving: dict[str, Deferred[None]] = {}
        self.ended: dict[str, Deferred[Exit]] = {}
        self.workers = self.make_workers()

    def broker_url(self) -> str:
        """The broker of the workers."""
        return self.redis.url()

    def make_workers(self, **env: str) -> Workers:
        workers = Workers(
            reactor,
            ProcessLauncher(reactor),
            self.root,
            celery_loglevel="INFO",
            env={**os.environ, "PYTHONPATH": PROJECT, **env},
        )
        workers.subscribe(ready=self.heard_ready, ended=self.heard_end)
        self.addCleanup(self.end, workers)
        return workers

    async def end(self, workers: Workers) -> None:
        # Celery takes more than a second to stop, however much in a hurry.
        for process in workers.processes().values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended meanwhile
        await workers.stop_all()
        workers.release()

    def heard_ready(self, name: str) -> None:
        self.serving[name].callback(None)

    def heard_end(self, name: str, exit: Exit) -> None:
        if name in self.ended:
            self.ended[name].callback(exit)

    def start(self, name: str = "w1", celery_app: str = "proj.celery:app", **values: Any) -> int:
        """Start a worker; its pid."""
        self.serving[name], self.ended[name] = Deferred(), Deferred()
        return self.workers.start(
            Desired(
                name=name,
                app="foo",
                node=f"{name}@host",
                broker=self.broker_url(),
                celery_app=celery_app,
                **values,
            )
        ).pid

    async def serve(self, name: str = "w1", **values: Any) -> int:
        """Start a worker and wait until it says that it serves; its pid."""
        pid = self.start(name, **values)
        self.ended[name].addCallback(lambda exit: self.fail(f"{exit}: {self.log(name)}"))
        await self.serving[name]
        self.ended[name] = Deferred()
        return pid

    def log(self, name: str = "w1") -> str:
        return (self.root / name / "worker.log").read_text()

    def celery(self) -> Celery:
        app = Celery("user", broker=self.redis.url(), set_as_current=False)
        self.addCleanup(app.close)
        return app

    async def ask(self, command: str, name: str = "w1") -> Any:
        """Ask a worker by `celery inspect`; its answer."""
        inspect = self.celery().control.inspect([f"{name}@host"], timeout=5.0, limit=1)
        answer = await deferToThread(getattr(inspect, command))
        return answer[f"{name}@host"]

    async def run_task(self, task: str, *arguments: Any) -> None:
        app = self.celery()
        await deferToThread(lambda: app.send_task(task, arguments, queue="dq.w1", ignore_result=True))

    async def file(self, name: str) -> str:
        """Wait for a file that a task writes; its text."""
        path = self.folder / name
        await eventually(path.exists, 60, f"the file {name}")
        return path.read_text()


class ServingTests(CeleryTestCase):
    """Workers of all kinds come up and serve."""

    async def test_own_app(self) -> None:
        """A worker of Cyme's own app says that it serves, and then answers."""
        pid = await self.serve(celery_app="cyme.tasks")
        stats = await self.ask("stats")
        self.assertEqual(stats["pid"], pid)
        self.assertEqual((stats["autoscaler"]["max"], stats["autoscaler"]["min"]), (1, 1))
        self.assertEqual([queue["name"] for queue in await self.ask("active_queues")], ["dq.w1"])

    async def test_files(self) -> None:
        """A worker's files are in its folder, which its owner alone may enter."""
        pid = await self.serve()
        folder = self.root / "w1"
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual((folder / "worker.pid").read_text().strip(), str(pid))
        self.assertIn("w1@host ready", self.log())
        self.assertNotIn("\033", self.log())
        stopped = await self.workers.stop("w1")
        self.assertEqual((stopped.status, stopped.expected), (0, True))
        self.assertTrue(list(folder.glob("worker.statedb*")))

    async def test_broker_of_the_project(self) -> None:
        """The broker that a branch gives wins over all that a project says of its own."""
        (self.folder / "stubborn.py").write_text(
            "from celery import Celery\n"
            "app = Celery('stubborn', broker='amqp://nobody@192.0.2.1//')\n"
            "app.conf.broker_read_url = app.conf.broker_write_url = 'amqp://nobody@192.0.2.2//'\n"
        )
        self.workers = self.make_workers(PYTHONPATH=str(self.folder), BROKER_URL="amqp://nobody@192.0.2.3//")
        await self.serve(celery_app="stubborn")
        self.assertEqual((await self.ask("ping")), {"ok": "pong"})

    async def test_settings(self) -> None:
        """Arguments and settings of the user's reach the worker, and it waits for its broker for ever."""
        await self.serve(
            arguments=("--prefetch-multiplier", "7"),
            extra_config=("worker.max_tasks_per_child=5", "task_acks_late=yes"),
            max_concurrency=3,
            min_concurrency=2,
        )
        conf = await self.ask("conf")
        self.assertEqual((conf["worker_max_tasks_per_child"], conf["task_acks_late"]), (5, True))
        self.assertIsNone(conf["broker_connection_max_retries"])
        stats = await self.ask("stats")
        self.assertEqual((stats["autoscaler"]["max"], stats["autoscaler"]["min"]), (3, 2))
        self.assertEqual(stats["prefetch_count"], 7 * 3)

    async def test_settings_of_the_users(self) -> None:
        """What the user says about the broker's outages is left to the user."""
        await self.serve(extra_config=("broker.connection_max_retries=9",))
        self.assertEqual((await self.ask("conf"))["broker_connection_max_retries"], 9)

    async def test_pools(self) -> None:
        """Pools that can't grow have a fixed size and no autoscaler."""
        for name, pool in (("w1", "threads"), ("w2", "solo")):
            await self.serve(name, pool=pool, max_concurrency=2)
            self.assertNotIn("autoscaler", await self.ask("stats", name))

    async def test_working_directory(self) -> None:
        """A folder `cyme` in the working directory, as `-D cyme/branch1` makes, does no harm."""
        (self.folder / "cyme" / "branch1").mkdir(parents=True)
        (self.folder / "local.py").write_text("from celery import Celery\napp = Celery('local')\n")
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        self.start("w1", celery_app="cyme.tasks")
        self.start("w2", celery_app="local")
        os.chdir(before)
        await self.serving["w1"]
        await self.serving["w2"]

    async def test_inheritance(self) -> None:
        """What a task starts inherits neither descriptors nor what Cyme told the worker about itself."""
        (self.folder / "nosy.py").write_text(
            "import os, subprocess\n"
            "from celery import Celery\n"
            "app = Celery('nosy')\n"
            "@app.task\n"
            "def look(path):\n"
            "    with open(path + '.part', 'w') as file:\n"
            "        subprocess.run(['sh', '-c', 'env; ls -l /proc/self/fd'], stdout=file, close_fds=False)\n"
            "    os.rename(path + '.part', path)\n"
        )
        self.workers = self.make_workers(PYTHONPATH=str(self.folder), CYME_AUTH="secret")
        await self.serve(celery_app="nosy")
        await self.run_task("nosy.look", str(self.folder / "seen"))
        seen = await self.file("seen")
        self.assertNotIn("CYME_", seen)
        self.assertNotIn(" 3 -> pipe", seen)

    async def test_no_such_app(self) -> None:
        """A worker whose app can't be imported ends, and its last line says which."""
        self.start(celery_app="no.such.module")
        exit = await self.ended["w1"]
        self.assertEqual((exit.status, exit.expected), (1, False))
        lines = await self.workers.log_tail("w1", 1)
        self.assertEqual(lines, ("Unable to load the Celery app no.such.module",))

    async def test_bad_argument(self) -> None:
        """A worker that does not understand its arguments ends, and says so."""
        self.start(arguments=("--no-such-option",))
        self.assertEqual((await self.ended["w1"]).status, 2)
        self.assertIn("--no-such-option", self.log())


class EndTests(CeleryTestCase):
    """How workers end, and what survives."""

    async def test_killed(self) -> None:
        """A worker that was killed takes its pool with it and can be replaced at once."""
        pid = await self.serve()
        pool = [int(one) for one in (await self.ask("stats"))["pool"]["processes"]]
        os.kill(pid, signal.SIGKILL)
        exit = await self.ended["w1"]
        self.assertEqual((exit.status, exit.signal, exit.expected), (None, signal.SIGKILL, False))
        self.assertNotEqual(await self.serve(), pid)
        for one in pool:
            await when_ended(one, 10)

    async def test_warm(self) -> None:
        """A worker that is stopped finishes its task first."""
        await self.serve()
        await self.run_task("proj.celery.wait_for", str(self.folder / "task"), str(self.folder / "go"))
        await self.file("task.begun")
        stopped = self.workers.stop("w1")
        await eventually(lambda: "Warm shutdown" in self.log(), 30, "the warm shutdown")
        (self.folder / "go").touch()
        self.assertEqual((await stopped).status, 0)
        self.assertTrue((self.folder / "task.ended").exists())

    async def test_cold(self) -> None:
        """A worker that is in a hurry to stop gives its task back, and another one runs it."""
        await self.serve()
        await self.run_task("proj.celery.wait_for", str(self.folder / "task"), str(self.folder / "go"))
        first = await self.file("task.begun")
        stopped = self.workers.stop("w1")
        self.workers.hurry()
        await stopped
        (self.folder / "go").touch()
        self.assertFalse((self.folder / "task.ended").exists())
        await self.serve()
        self.assertNotEqual((await self.file("task.ended")).split()[1], first.split()[1])

    async def test_adopted(self) -> None:
        """A worker that was let go is adopted by the next life, stopped and replaced as before."""
        pid = await self.serve()
        before = self.workers.processes()["w1"]
        self.workers.release()
        self.workers = self.make_workers()
        self.assertEqual(await self.workers.adopt(["w1", "w2"]), ("w1",))
        after = self.workers.processes()["w1"]
        self.assertEqual((after.pid, after.fingerprint, after.adopted), (pid, before.fingerprint, True))
        self.assertApproximates(after.started_at, before.started_at, 2)
        self.assertEqual(await self.ask("ping"), {"ok": "pong"})
        exit = await self.workers.stop("w1")
        self.assertEqual((exit.status, exit.signal, exit.expected), (None, None, True))
        await self.serve()

    async def test_adopted_is_killed(self) -> None:
        """The end of an adopted worker is noticed at once."""
        pid = await self.serve()
        self.workers.release()
        self.workers = self.make_workers()
        await self.workers.adopt(["w1"])
        os.kill(pid, signal.SIGKILL)
        self.assertFalse((await self.ended["w1"]).expected)

    async def test_stale_pid_file(self) -> None:
        """A pid file that an earlier worker left does not keep the next one from starting."""
        await self.serve()
        await self.workers.stop("w1")
        # The pid of a living process: Celery itself would refuse to start.
        (self.root / "w1" / "worker.pid").write_text(f"{os.getpid()}\n")
        await self.serve()

    async def test_hang_up(self) -> None:
        """SIGHUP makes Celery start anew in the same process, which stays the branch's worker."""
        pid = await self.serve()
        if not os.path.exists(os.path.join(os.path.dirname(sys.executable), "celery")):
            self.skipTest("Celery's console script is not installed beside Python")
        os.kill(pid, signal.SIGHUP)
        await eventually(lambda: self.log().count("w1@host ready") == 2, 60, "the second start")
        self.assertEqual((await self.ask("stats"))["pid"], pid)
        self.assertEqual((await self.workers.stop("w1")).status, 0)

    async def test_remove(self) -> None:
        """What a worker left is removed, and nothing else."""
        await self.serve()
        await self.workers.stop("w1")
        (self.root / "other").touch()
        await self.workers.remove_folder("w1")
        self.assertEqual(os.listdir(self.root), ["other"])


class DumpTests(CeleryTestCase):
    """The stacks that workers print."""

    async def test_pools(self) -> None:
        """Workers of every pool show their main process; a task's stack is seen where it runs there."""
        for name, pool in (("w1", "prefork"), ("w2", "threads"), ("w3", "solo")):
            pid = await self.serve(name, pool=pool)
            task, until = str(self.folder / name), str(self.folder / "never")
            app = self.celery()
            arguments = (task, until)
            await deferToThread(
                app.send_task, "proj.celery.wait_for", arguments, queue=f"dq.{name}", ignore_result=True
            )
            await self.file(f"{name}.begun")
            stacks = await self.workers.dump(name, 10.0)
            self.assertIn("MainThread\n", stacks)
            self.assertEqual("in wait_for" in stacks, pool != "prefork", stacks)
            self.assertNotIn(until, stacks)
            self.assertEqual(self.workers.processes()[name].pid, pid)
            self.assertFalse(Path(f"{task}.ended").exists())

    async def test_starting(self) -> None:
        """A worker that is still starting is not ended by the question."""
        pid = self.start()
        self.assertIn("MainThread", await self.workers.dump("w1", 30.0))
        await self.serving["w1"]
        self.assertEqual(self.workers.processes()["w1"].pid, pid)

    async def test_frozen(self) -> None:
        """A worker that is frozen prints nothing in time, and that is why."""
        pid = await self.serve()
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        with self.assertRaisesRegex(NoDump, "stopped, by SIGSTOP"):
            await self.workers.dump("w1", 0.5)
        os.kill(pid, signal.SIGCONT)
        self.assertIn("MainThread", await self.workers.dump("w1", 10.0))
