"""What workers are started with."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cyme.workers.command import worker_argv, worker_env
from cyme.workers.folders import Files
from tests.contracts.workers import desired

FILES = Files(Path("/root folder/w1"))


class ArgvTests(SynchronousTestCase):
    """The command line."""

    def test_whole(self) -> None:
        """All of a worker's command line, its own first, then what the user adds, settings last."""
        worker = desired(
            max_concurrency=4,
            min_concurrency=2,
            arguments=("--time-limit", "30"),
            extra_config=("worker.prefetch_multiplier=2",),
        )
        self.assertEqual(
            worker_argv(worker, FILES, "DEBUG"),
            (
                *("celery", "-A", "cyme.tasks", "worker", "-n", "w1@host", "-Q", "dq.w1"),
                *("--pool=prefork", "--autoscale=4,2"),
                "--pidfile=/root folder/w1/worker.pid",
                "--logfile=/root folder/w1/worker.log",
                "--statedb=/root folder/w1/worker.statedb",
                *("--loglevel=DEBUG", "--without-gossip", "--without-mingle"),
                *("--time-limit", "30"),
                *("broker_connection_max_retries=(json)null", "broker_connection_retry_on_startup=yes"),
                "worker.prefetch_multiplier=2",
            ),
        )

    def test_size(self) -> None:
        """Only pools that can grow are scaled; the others get all their processes at once."""
        for pool, size in (
            ("prefork", "--autoscale=4,2"),
            ("processes", "--autoscale=4,2"),
            ("threads", "--concurrency=4"),
            ("solo", "--concurrency=4"),
            ("gevent", "--concurrency=4"),
            ("eventlet", "--concurrency=4"),
        ):
            argv = worker_argv(desired(pool=pool, max_concurrency=4, min_concurrency=2), FILES, "INFO")
            sizes = [one for one in argv if one.startswith(("--autoscale", "--concurrency"))]
            self.assertEqual((sizes, f"--pool={pool}" in argv), ([size], True))

    def test_no_secret(self) -> None:
        """The broker's password is not on the command line."""
        self.assertNotIn("secret", " ".join(worker_argv(desired(), FILES, "INFO")))


class EnvTests(SynchronousTestCase):
    """The environment."""

    def test_broker(self) -> None:
        """All that Celery takes the broker from names the broker, whatever was inherited."""
        env = worker_env({"CELERY_BROKER_READ_URL": "amqp://other", "BROKER_URL": "amqp://other"}, desired())
        self.assertEqual(
            env,
            {
                "CELERY_BROKER_URL": "amqp://user:secret@broker//",
                "CELERY_BROKER_READ_URL": "amqp://user:secret@broker//",
                "CELERY_BROKER_WRITE_URL": "amqp://user:secret@broker//",
            },
        )

    def test_inherited(self) -> None:
        """A worker inherits the branch's environment, less what is the branch's own."""
        inherited = {
            "PATH": "/bin",
            "PYTHONPATH": "/project",
            "CYME_BROKER": "amqp://secret",
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "LISTEN_FDS": "1",
        }
        before = dict(inherited)
        env = worker_env(inherited, desired())
        kept = {name: value for name, value in env.items() if not name.startswith("CELERY_")}
        self.assertEqual(kept, {"PATH": "/bin", "PYTHONPATH": "/project"})
        self.assertEqual(inherited, before)
