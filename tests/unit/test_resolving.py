"""From declarations to what a worker is started with."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.declarations import App, Instance, Queue
from cyme.supervisor.resolving import Defaults, resolve

DEFAULTS = Defaults(broker="amqp://b//", host="host")


class LimitsTests(SynchronousTestCase):
    """Limits of an instance, its app's where it has none."""

    def test_limits(self) -> None:
        """An instance's own limit comes before its app's; where neither has one there is none."""
        for name, low, high in (("max_memory", 1, 2), ("max_age", 1.0, 2.0), ("stall_timeout", 1.0, 2.0)):
            for own, of_app, expected in (
                (None, None, None),
                (low, None, low),
                (None, high, high),
                (low, high, low),
                (high, low, high),
            ):
                of_instance: dict[str, Any] = {name: own}
                app: dict[str, Any] = {name: of_app}
                found = resolve(
                    Instance(name="w1", app="foo", branch="b1", **of_instance),
                    App(name="foo", **app),
                    lambda queue: None,
                    DEFAULTS,
                )
                self.assertEqual(getattr(found, name), expected)


class QueuesTests(SynchronousTestCase):
    """What an instance consumes from."""

    def test_paused(self) -> None:
        """A queue that is paused, or is not declared, is left out."""
        queues = {
            "a": Queue(app="foo", name="a"),
            "b": Queue(app="foo", name="b", paused=True),
        }
        instance = Instance(name="w1", app="foo", branch="b1", queues=("a", "b", "c"))
        found = resolve(instance, App(name="foo"), queues.get, DEFAULTS)
        self.assertEqual([queue.name for queue in found.queues], ["a"])
