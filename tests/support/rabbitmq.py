"""Private RabbitMQ nodes: own folder, own ports, own epmd; nothing of the machine's is touched."""

from __future__ import annotations

import atexit
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.guarded import Ended, Guarded
from tests.support.ports import free_ports

#: Seconds that a node may take to start; it takes five to seven on an idle machine.
START_TIMEOUT = 90.0

#: Seconds that one `rabbitmqctl` command may take; it takes half a second on an idle machine.
CTL_TIMEOUT = 60.0

#: Virtual hosts are made in lots: making one costs as much as making this many.
LOT = 8

#: Debian's `/usr/sbin/rabbitmq-server` changes to the user `rabbitmq`, who can't use our folder;
#: what it wraps is here.
SCRIPTS = "/usr/lib/rabbitmq/bin"


def _script(name: str) -> str:
    """Find one of RabbitMQ's programs.

    :raises RuntimeError: when RabbitMQ is not installed.
    """
    path = os.pathsep.join([SCRIPTS, os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(
            "the functional tests need RabbitMQ: `make test` installs it from Debian's packages, "
            "or run `apt-get install rabbitmq-server`"
        )
    return found


class RabbitMQ:
    """A RabbitMQ node; started when made, gone with all it held after `close`.

    All methods but `ctl` block.

    :param conf: lines of `rabbitmq.conf`.
    :param first: a node that lives at least as long, whose cluster this one joins.
    """

    def __init__(self, conf: str = "", first: RabbitMQ | None = None) -> None:
        self._conf = conf
        self._first = first
        self._server_script = _script("rabbitmq-server")
        self._ctl_script = _script("rabbitmqctl")
        self._folder = tempfile.mkdtemp(prefix="cyme-rabbitmq-")
        self._vhosts: list[str] = []
        self._numbers = itertools.count(1)
        self._epmd: Guarded | None = None
        self._server: Guarded | None = None
        atexit.register(self.close)
        for attempt in range(3):
            self._choose_ports()
            try:
                self.start()
                break
            except Ended as problem:
                # Somebody took a port between our choice and our use of it.
                self.kill()
                if attempt == 2 or "eaddrinuse" not in str(problem):
                    self.close()
                    raise
        if first is not None:
            for step in (("stop_app",), ("reset",), ("join_cluster", first.node), ("start_app",)):
                self.ctl_now(*step)

    def _choose_ports(self) -> None:
        self.port, self._distribution_port, self._epmd_port = free_ports(3)
        first = self._first
        # Nodes of a cluster find each other by one epmd, and know each other by the cookie in HOME.
        home = self._folder if first is None else first._folder
        if first is not None:
            self._epmd_port = first._epmd_port
        self.node = "cyme@localhost" if first is None else f"cyme{self.port}@localhost"
        tools = random.randrange(20000, 32000)
        folder = self._folder
        for name, text in (("environment", ""), ("plugins", "[].\n"), ("rabbitmq.conf", self._conf)):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": home,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": os.path.join(folder, "environment"),
            "RABBITMQ_CONFIG_FILE": os.path.join(folder, "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(folder, "plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": os.path.join(folder, "generated"),
            "RABBITMQ_MNESIA_BASE": os.path.join(folder, "database"),
            "RABBITMQ_LOG_BASE": os.path.join(folder, "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": os.path.join(folder, "pid"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(tools),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(tools + 500),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
        }

    def start(self) -> None:
        """Start the node (again), on the same ports, with what it had stored durably.

        :raises Ended: when it does not start.
        """
        if self._first is None and (self._epmd is None or self._epmd.status is not None):
            # Started by us so that it ends with us: left to itself Erlang starts one that stays.
            epmd = shutil.which("epmd") or "/usr/bin/epmd"
            self._epmd = Guarded([epmd], self._environ, cwd=self._folder, root=self._folder)
        self._server = Guarded([self._server_script], self._environ, cwd=self._folder, root=self._folder)
        self._server.wait_for_line(lambda line: "Server startup complete" in line, START_TIMEOUT)

    def stop(self) -> None:
        """Stop the node in good order; `start` brings it back."""
        if self._server is not None:
            self._server.signal(signal.SIGTERM)
            self._server.wait(30.0)

    def kill(self) -> None:
        """Kill the node with -9; `start` brings it back."""
        if self._server is not None:
            self._server.kill()

    def freeze(self) -> None:
        """Stop its processes: connections stay open, nothing answers; `thaw` undoes it."""
        if self._server is not None:
            self._server.signal(signal.SIGSTOP, group=True)

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._server is not None:
            self._server.signal(signal.SIGCONT, group=True)

    def mend(self) -> None:
        """Make up for `stop`, `kill` and `freeze`, as far as they were done; no error if none was."""
        self.thaw()
        if self._server is None or self._server.status is not None:
            self.start()

    def close_connections(self, vhost: str) -> None:
        """Close every client's connection to a virtual host; they may come back at once."""
        self.ctl_now("close_all_connections", "-p", vhost, "by an operator")

    def close(self) -> None:
        """End the node for good and remove its folder."""
        for process in (self._server, self._epmd):
            if process is not None:
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def log_text(self) -> str:
        """What the node has logged since its last start."""
        return "" if self._server is None else self._server.log_text()

    def url(self, vhost: str = "/", *, userid: str = "guest", password: str = "guest") -> str:
        """The `amqp://` URL of a virtual host."""
        return f"amqp://{userid}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def new_vhost(self) -> str:
        """The name of a virtual host that nobody else has."""
        if not self._vhosts:
            names = [f"test-{next(self._numbers)}" for _ in range(LOT)]
            listed = ", ".join(f'<<"{name}">>' for name in names)
            self.ctl_now(
                "eval",
                'lists:foreach(fun(V) -> rabbit_vhost:add(V, <<"tests">>), '
                "rabbit_auth_backend_internal:set_permissions("
                '<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>, <<"tests">>) end, '
                f"[{listed}]).",
            )
            self._vhosts = names
        return self._vhosts.pop(0)

    def new_url(self) -> str:
        """The URL of a new virtual host."""
        return self.url(self.new_vhost())

    def ctl(self, *arguments: str) -> Deferred[list[list[str]]]:
        """Run `rabbitmqctl` without blocking, see `ctl_now`."""
        return deferToThread(self.ctl_now, *arguments)

    def ctl_now(self, *arguments: str) -> list[list[str]]:
        """Run `rabbitmqctl ARGUMENTS` and return its rows, each a list of columns, without headers.

        :raises RuntimeError: with its output when it fails.
        """
        command = arguments[0]
        tables = ["--no-table-headers"] if command.startswith("list_") else []
        done = subprocess.run(
            [self._ctl_script, "-q", *arguments, *tables],
            env=self._environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CTL_TIMEOUT,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return [line.split("\t") for line in done.stdout.splitlines() if line]


_shared: list[RabbitMQ] = []
_breakable: list[RabbitMQ] = []


def shared_rabbitmq() -> RabbitMQ:
    """The node of this test run, started at the first call; use `new_vhost` and never stop it.

    A test that stops or kills its broker takes `breakable_rabbitmq`.
    """
    if not _shared:
        _shared.append(RabbitMQ())
    return _shared[0]


def breakable_rabbitmq() -> RabbitMQ:
    """A second node, which a test may stop, kill and freeze; its cleanup is `mend`.

    One for all such tests: they run one after the other in a process, and a new node takes seconds.
    """
    if not _breakable:
        _breakable.append(RabbitMQ())
    return _breakable[0]
