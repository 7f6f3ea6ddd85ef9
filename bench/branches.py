"""A real branch: `twistd -n cyme` in a process and a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import tempfile
import time
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from machine import BIN, environment, import_project

import_project()

from tests.support.guarded import Guarded  # noqa: E402

#: The line by which a branch says that everything is up.
READY = re.compile(r"\[READY\] branch \S+ at (http\S+)")

#: Seconds that a start or a stop may take.
PATIENCE = 120.0


class Branch:
    """A branch, within a `with` block; it goes with its workers and its folder.

    :param broker: URL of its default broker.
    :param options: more of its options.
    :ivar url: of its HTTP server, once it runs.
    """

    def __init__(self, broker: str, *options: str) -> None:
        self.root = tempfile.mkdtemp(prefix="cyme-bench-")
        twistd = [os.path.join(BIN, "twistd"), "-n", "--pidfile=", "cyme"]
        own = ["-i", "bench", "-D", self.root, "--http", "127.0.0.1:0", "--broker", broker]
        self._argv = [*twistd, *own, *options]
        self._process: Guarded | None = None
        self._http: http.client.HTTPConnection | None = None
        self.url = ""

    def __enter__(self) -> Branch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        """Start it (again, with what it has stored); returns once it serves."""
        self._process = Guarded(self._argv, environment(), cwd=self.root, root=self.root)
        line = self._process.wait_for_line(lambda line: READY.search(line) is not None, PATIENCE)
        found = READY.search(line)
        assert found is not None
        self.url = found[1].rstrip("/")
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        self._http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)

    @property
    def pid(self) -> int:
        """The pid of the branch itself."""
        assert self._process is not None
        return self._process.pid

    def ask(self, method: str, path: str) -> Any:
        """Send a request and return the JSON that answers it.

        :raises RuntimeError: for an answer that tells an error.
        """
        assert self._http is not None
        self._http.request(method, path, headers={"Content-Length": "0"})
        answer = self._http.getresponse()
        body = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {body.decode(errors='replace')}")
        return json.loads(body)

    def create_running(self, path: str) -> dict[str, Any]:
        """Create an instance, wait until it runs, and return its details.

        :raises RuntimeError: when it does not run in time.
        """
        details: dict[str, Any] = self.ask("POST", f"{path}?wait=30")
        if details["state"] != "running":
            raise RuntimeError(f"{path}: {details}")
        return details

    def remove(self, *names: str) -> None:
        """Delete instances and wait until their workers, queues and folders are gone.

        :raises TimeoutError: when they are not in time.
        """
        for name in names:
            self.ask("DELETE", f"/instances/{name}/")
        deadline = time.monotonic() + PATIENCE
        # A folder goes last.
        while left := [name for name in names if os.path.exists(os.path.join(self.root, name))]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {PATIENCE:g} s there are still the folders of {left}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in good order, its workers first, and return when it has ended."""
        assert self._process is not None
        if self._http is not None:
            self._http.close()
        self._process.signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        self._process = None
