"""Private PostgreSQL servers: own folder, own port; nothing of the machine's is touched."""

from __future__ import annotations

import atexit
import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

from tests.support.guarded import Ended, Guarded
from tests.support.ports import free_ports

#: Seconds that a server may take to start; it takes a tenth on an idle machine.
START_TIMEOUT = 60.0
#: Seconds that a folder may take to be made; it takes two on an idle machine.
INIT_TIMEOUT = 120.0
#: What the server runs as where the tests run as root, which PostgreSQL refuses; Debian's package makes it.
USER = "postgres"
PASSWORD = "s3cret"


def _program(name: str) -> str:
    """Find one of PostgreSQL's programs, of the newest version there is.

    :raises RuntimeError: when PostgreSQL is not installed.
    """
    found = shutil.which(name) or max(
        glob.glob(f"/usr/lib/postgresql/*/bin/{name}"),
        key=lambda path: int(path.split("/")[4]),
        default=None,
    )
    if found is None:
        raise RuntimeError(
            "the functional tests need PostgreSQL: `make test` installs it from Debian's packages, "
            "or run `apt-get install postgresql`"
        )
    return found


class PostgreSQL:
    """A PostgreSQL server; started when made, gone with all it held after `close`. All methods block."""

    def __init__(self) -> None:
        self._server: Guarded | None = None
        self._numbers = itertools.count(1)
        self._folder = tempfile.mkdtemp(prefix="cyme-postgresql-")
        atexit.register(self.close)
        self._data = os.path.join(self._folder, "data")
        self._as_user: list[str] = []
        if os.getuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            groups = f"--regid={user.pw_gid}"
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", groups, "--clear-groups"]
        secret = os.path.join(self._folder, "password")
        with open(secret, "w") as file:
            file.write(PASSWORD)
        made = subprocess.run(
            [*self._as_user, _program("initdb"), "-D", self._data, "-U", "cyme", "-E", "UTF8"]
            + ["--no-locale", "--no-sync", "--auth=scram-sha-256", f"--pwfile={secret}"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INIT_TIMEOUT,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}{made.stdout}")
        for attempt in range(3):
            (self.port,) = free_ports(1)
            try:
                self.start()
                return
            except Ended as problem:
                # Somebody took the port between our choice and our use of it.
                if attempt == 2 or "ddress already in use" not in str(problem):
                    self.close()
                    raise

    def start(self) -> None:
        """Start the server (again), on the same port, with what it had stored.

        :raises Ended: when it does not start.
        """
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            # What a killed server had committed is there again all the same: the machine lives on.
            "fsync": "off",
        }
        pairs = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        self._server = Guarded(
            [*self._as_user, _program("postgres"), "-D", self._data, *pairs],
            cwd=self._folder,
            root=self._folder,
        )
        self._server.wait_for_line(lambda line: "ready to accept connections" in line, START_TIMEOUT)

    def stop(self) -> None:
        """Stop the server, breaking every connection; `start` brings it back."""
        if self._server is not None:
            self._server.signal(signal.SIGINT)
            self._server.wait(30.0)

    def kill(self) -> None:
        """Kill the server with -9; `start` brings it back."""
        if self._server is not None:
            self._server.kill()

    def mend(self) -> None:
        """Make up for `stop` and `kill`, as far as they were done."""
        if self._server is None or self._server.status is not None:
            self.start()

    def close(self) -> None:
        """End the server for good and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql://cyme:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_url(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        subprocess.run(
            [_program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "cyme", name],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            capture_output=True,
            timeout=INIT_TIMEOUT,
        )
        return self.url(name)


_shared: list[PostgreSQL] = []
_breakable: list[PostgreSQL] = []


def shared_postgresql() -> PostgreSQL:
    """The server of this test run, started at the first call; use `new_url` and never stop it."""
    if not _shared:
        _shared.append(PostgreSQL())
    return _shared[0]


def breakable_postgresql() -> PostgreSQL:
    """A second server, which a test may stop and kill; its cleanup is `mend`."""
    if not _breakable:
        _breakable.append(PostgreSQL())
    return _breakable[0]
