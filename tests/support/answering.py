"""Simulated workers on a real broker: kombu's own mailbox, with the answers of the fakes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from kombu.connection import Connection
from kombu.pidbox import Mailbox

from tests.fakes.remote import Node


class AnsweringNodes:
    """Workers `NAME@HOST` that answer remote control; made and closed by blocking calls.

    :param mute: names of those that hear everything and never answer.
    """

    def __init__(self, url: str, names: Iterable[str], mute: Iterable[str] = ()) -> None:
        self.nodes = {
            name: Node(name, 1000 + index, {"dq." + name.partition("@")[0]})
            for index, name in enumerate([*names, *mute])
        }
        self._mute = frozenset(mute)
        self._stopping = threading.Event()
        self._connection = Connection(url)
        self._mailbox = Mailbox("celery", type="fanout", connection=self._connection)
        self._consumers = [self._listen(name) for name in self.nodes]
        self._drain(0.1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Disconnect all of them."""
        self._stopping.set()
        self._thread.join(5)
        self._connection.release()

    def _listen(self, name: str) -> Any:
        # kombu's Redis transport has one queue for each exchange on a channel.
        channel = self._connection.channel()
        node = self._mailbox.Node(name, channel=channel)

        def heard(body: dict[str, Any], message: Any) -> None:
            if name in self._mute or name not in (body["destination"] or [name]):
                return
            answer = self.nodes[name].answer(body["method"], body["arguments"])
            reply_to = body.get("reply_to")
            if reply_to is None:
                return
            node.reply({name: answer}, reply_to["exchange"], reply_to["routing_key"], body["ticket"])

        return node.listen(channel=channel, callback=heard)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._drain(0.05)

    def _drain(self, seconds: float) -> None:
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            pass
