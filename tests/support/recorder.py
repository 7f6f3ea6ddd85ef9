"""A web server that records each request as it came, byte for byte."""

from __future__ import annotations

import socket
import threading
from typing import Any

from attrs import frozen
from twisted.trial.unittest import TestCase


@frozen
class Recorded:
    """A request as it came.

    :ivar headers: names in lower case, values, in order.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None for none."""
        values = [value for one, value in self.headers if one == name.lower()]
        return ", ".join(values) if values else None


class Recorder:
    """Answers everything with 200 and closes; ends with the test.

    :ivar port: where it listens, on the loopback interface.
    :ivar requests: what came, in order.
    """

    def __init__(self, test: TestCase) -> None:
        self.requests: list[Recorded] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        test.addCleanup(self._end)

    def _end(self) -> None:
        # A thread that waits for a connection is not woken by `close`.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, connection: Any) -> None:
        stream = connection.makefile("rb")
        method, target, _ = stream.readline().decode("latin-1").split(" ")
        headers = []
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        length = int(dict(headers).get("content-length", "0"))
        self.requests.append(Recorded(method, target, headers, stream.read(length)))
        body = b"" if method == "HEAD" else b"recorded"
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nX-Many: a\r\nX-Many: b\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 8\r\nConnection: close\r\n\r\n" + body
        )
