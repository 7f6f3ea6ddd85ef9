"""What a service manager is told, in systemd's protocol (sd_notify(3)).

One datagram for each message, `NAME=VALUE` lines, to the socket that NOTIFY_SOCKET names. Without
one nothing is sent. A manager that does not listen is no matter: messages are lost, never waited for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from twisted.logger import Logger

#: Seconds that a stop asks for, again and again while it goes on.
STOP_GRANT = 30.0


class ServiceManager:
    """Tells systemd, or whatever has started this process, how it is.

    :param environment: where it says how it is to be told; read by `open`, since only then is it
        clear which process is the service.
    :param getpid: gives this process's id.
    """

    _log = Logger()

    def __init__(self, environment: Mapping[str, str], *, getpid: Callable[[], int] = os.getpid) -> None:
        self._environment = environment
        self._getpid = getpid
        self._socket: socket.socket | None = None
        self._describe: Callable[[], str] | None = None
        self._said = ""
        self._wants_signs = False
        self._stopping = False

    def open(self) -> float | None:
        """Begin; to be called in the process that serves.

        :return: the seconds within which it wants each sign of life, None when it wants none.
        """
        address = self._environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            # In the abstract namespace (unix(7)).
            address = "\0" + address[1:]
        elif not address.startswith("/"):
            return None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._address = address
        seconds = self._watchdog_seconds()
        self._wants_signs = seconds is not None
        return seconds

    def ready(self, describe: Callable[[], str]) -> None:
        """The start is complete.

        :param describe: says in a line how the service is; asked at each `turn`.
        """
        if self._socket is None:
            return
        self._describe = describe
        self._said = describe()
        self._send("READY=1", f"STATUS={_line(self._said)}")

    def turn(self) -> None:
        """Everything was looked at, and lives."""
        lines = ["WATCHDOG=1"] if self._wants_signs else []
        if self._stopping:
            lines.append(f"EXTEND_TIMEOUT_USEC={round(STOP_GRANT * 1e6)}")
        elif self._describe is not None:
            status = self._describe()
            if status != self._said:
                self._said = status
                lines.append(f"STATUS={_line(status)}")
        self._send(*lines)

    def stopping(self, status: str) -> None:
        """A stop has begun; it takes as long as each `turn` asks for."""
        self._stopping = True
        self._send("STOPPING=1", f"STATUS={_line(status)}", f"EXTEND_TIMEOUT_USEC={round(STOP_GRANT * 1e6)}")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _watchdog_seconds(self) -> float | None:
        microseconds = self._environment.get("WATCHDOG_USEC", "")
        pid = self._environment.get("WATCHDOG_PID", "")
        if not (microseconds.isascii() and microseconds.isdecimal()) or int(microseconds) == 0:
            return None
        if pid and pid != str(self._getpid()):
            # Meant for another process, from which this one has it by inheritance.
            return None
        return int(microseconds) / 1e6

    def _send(self, *lines: str) -> None:
        if self._socket is None or not lines:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError as problem:
            self._log.debug("the service manager can't be told: {problem}", problem=str(problem))


def _line(text: str) -> str:
    return " ".join(text.split())
