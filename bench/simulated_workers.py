"""Any number of simulated Celery workers in one process, to be asked by remote control.

Each has a control queue of its own, as a real worker has, so that the broker has the same work;
and answers `ping`, `stats` and `active_queues` with what a real prefork worker (Celery 5.7) says that
consumes from its private queue only. Frames are taken apart and put together by hand, and all
answers to what one read brought are written at once: the time that is measured with them belongs
to the broker and to who asks.

Writes `ready` when all of them can be asked. Each line on standard input, whatever it says, is
answered with the number of broadcasts that have come since the last. Lives until its standard
input is closed.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from machine import Children, environment
from pidbox import BROADCAST, connect, declare_exchanges

#: The part of node names behind `@`.
HOST = "simulated"

# Frames of AMQP 0-9-1: type, channel, size; payload; end.
_FRAME = struct.Struct("!BHI")
_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_DELIVER = b"\x00\x3c\x00\x3c"
#: The properties of an answer: content type and encoding, headers, delivery mode, priority.
_FLAGS = 0xF800


def instance_names(count: int) -> list[str]:
    """The names of the instances whose workers are simulated."""
    return [f"worker-{number}" for number in range(count)]


def node_of(name: str) -> str:
    """The node name of an instance's worker."""
    return f"{name}@{HOST}"


# -- what they say ------------------------------------------------------------


def pong(name: str, pid: int) -> Any:
    return {"ok": "pong"}


def active_queues(name: str, pid: int) -> Any:
    queue = f"dq.{name}"
    exchange = {"name": queue, "type": "direct", "arguments": None, "durable": True, "passive": False}
    exchange |= {"auto_delete": False, "delivery_mode": None, "no_declare": False}
    answer: dict[str, Any] = {"name": queue, "exchange": exchange, "routing_key": queue}
    answer |= dict.fromkeys(["queue_arguments", "binding_arguments", "consumer_arguments"])
    answer |= {"durable": True, "exclusive": False, "auto_delete": False, "no_ack": False, "alias": None}
    answer |= {"bindings": []}
    answer |= dict.fromkeys(["no_declare", "expires", "message_ttl", "max_length"])
    answer |= dict.fromkeys(["max_length_bytes", "max_priority"])
    return [answer]


def stats(name: str, pid: int) -> Any:
    writes = {"total": 1234, "avg": "1.00", "all": "1.00", "raw": "1234", "strategy": "fair"}
    writes |= {"inqueues": {"total": 1, "active": 0}}
    pool = {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 1}
    pool |= {"processes": [pid + 1], "max-tasks-per-child": "N/A", "put-guarded-by-semaphore": False}
    pool |= {"timeouts": [0, 0], "writes": writes}
    broker = {"hostname": "127.0.0.1", "userid": "guest", "virtual_host": "/", "port": 5672}
    broker |= {"insist": False, "ssl": False, "transport": "amqp", "connect_timeout": 4}
    broker |= {"transport_options": {}, "login_method": "PLAIN", "uri_prefix": None, "heartbeat": 120.0}
    broker |= {"failover_strategy": "round-robin", "alternates": [], "credential_provider": None}
    used = ["ixrss", "idrss", "isrss", "nswap", "msgsnd", "msgrcv", "nsignals"]
    rusage = {"utime": 0.326989, "stime": 0.036332, "maxrss": 45592, "minflt": 11262, "majflt": 1}
    rusage |= {"inblock": 616, "oublock": 24, "nvcsw": 64, "nivcsw": 957, **dict.fromkeys(used, 0)}
    return {
        "total": {"tasks.add": 1234},
        "pid": pid,
        "clock": "815",
        "uptime": 3600,
        "pool": pool,
        "autoscaler": {"max": 1, "min": 1, "current": 1, "qty": 0},
        "broker": broker,
        "prefetch_count": 1,
        "rusage": rusage,
    }


ANSWERS = {"ping": pong, "active_queues": active_queues, "stats": stats}


# -- how they say it ----------------------------------------------------------


def frame(kind: int, payload: bytes) -> bytes:
    """A frame on channel 1."""
    return _FRAME.pack(kind, 1, len(payload)) + payload + _END


def short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def publish_frame(exchange: str, routing_key: str) -> bytes:
    """`basic.publish` (60, 40)."""
    return frame(_METHOD, struct.pack("!HHH", 60, 40, 0) + short(exchange) + short(routing_key) + b"\0")


def header_frame(size: int, ticket: str) -> bytes:
    """The header of an answer of `size` bytes."""
    text = ticket.encode()
    table = short("ticket") + b"S" + struct.pack("!I", len(text)) + text
    table += short("clock") + b"I" + struct.pack("!i", 815)
    properties = short("application/json") + short("utf-8")
    properties += struct.pack("!I", len(table)) + table + b"\x01\0"
    return frame(_HEADER, struct.pack("!HHQH", 60, 0, size, _FLAGS) + properties)


class Question:
    """One broadcast, as it is asked of all workers."""

    def __init__(self, body: bytes) -> None:
        text = json.loads(body)
        self.command: str = text["method"]
        self.nodes = frozenset(text["destination"] or ())
        self.ticket: str = text["ticket"]
        self._publish = publish_frame(text["reply_to"]["exchange"], text["reply_to"]["routing_key"])
        self._headers: dict[int, bytes] = {}

    def frames(self, answer: bytes) -> tuple[bytes, ...]:
        """The frames that bring an answer; those that answers have in common are made once."""
        size = len(answer)
        header = self._headers.get(size)
        if header is None:
            header = self._headers[size] = header_frame(size, self.ticket)
        return self._publish, header, _FRAME.pack(_BODY, 1, size), answer, _END


class Fleet:
    """All simulated workers, on one connection."""

    def __init__(self, url: str, count: int) -> None:
        self._connection = connect(url)
        channel = self._connection.channel()
        assert channel.channel_id == 1
        declare_exchanges(channel)
        self._answers: dict[str, dict[str, bytes]] = {command: {} for command in ANSWERS}
        for number, name in enumerate(instance_names(count)):
            node = node_of(name)
            for command, answer in ANSWERS.items():
                text = json.dumps({node: answer(name, 100_000 + 10 * number)})
                self._answers[command][node] = text.encode()
            queue = f"{node}.{BROADCAST}"
            channel.queue_declare(queue, exclusive=True, auto_delete=True, nowait=True)
            channel.queue_bind(queue, BROADCAST, nowait=True)
            channel.basic_consume(queue, consumer_tag=node, no_ack=True, nowait=True)
        # The answer to a last question shows that all before it is done.
        channel.queue_declare(exclusive=True)
        self.socket = self._connection.transport.sock
        self.socket.setblocking(True)
        self._received = bytearray()
        self._node = ""
        self._body = b""
        self._missing = 0
        self._asked: tuple[bytes, Question] | None = None
        self._tickets: set[str] = set()

    def broadcasts(self) -> int:
        """How many have come since this was asked last."""
        tickets, self._tickets = self._tickets, set()
        return len(tickets)

    def serve(self) -> bool:
        """Answer what has come; False when the broker has hung up."""
        data = self.socket.recv(1 << 20)
        self._received += data
        answers: list[bytes] = []
        for kind, payload in self._frames():
            if kind == _METHOD:
                # Past the class and the method the consumer tag comes first.
                self._node = payload[5 : 5 + payload[4]].decode() if payload[:4] == _DELIVER else ""
            elif kind == _HEADER:
                self._missing, self._body = int.from_bytes(payload[4:12], "big"), b""
            elif kind == _BODY and self._node:
                self._body += payload
                self._missing -= len(payload)
                if not self._missing:
                    answers += self._answer(self._node, self._body)
        if answers:
            self.socket.sendall(b"".join(answers))
        return bool(data)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Take the whole frames out of what was received."""
        start, size = 0, len(self._received)
        while size - start > _FRAME.size:
            kind, _, length = _FRAME.unpack_from(self._received, start)
            end = start + _FRAME.size + length + 1
            if end > size:
                break
            yield kind, bytes(self._received[start + _FRAME.size : end - 1])
            start = end
        del self._received[:start]

    def _answer(self, node: str, body: bytes) -> tuple[bytes, ...]:
        if self._asked is None or self._asked[0] != body:
            self._asked = (body, Question(body))
        question = self._asked[1]
        self._tickets.add(question.ticket)
        if question.nodes and node not in question.nodes:
            return ()
        return question.frames(self._answers[question.command][node])


def start(children: Children, url: str, count: int) -> subprocess.Popen[Any]:
    """Start simulated workers in a process of their own; returns when they can be asked."""
    argv = [sys.executable, os.path.abspath(__file__), "--broker", url, "--count", str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None, "text": True}
    process = children.start(argv, environment(), **pipes)
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the simulated workers have not started")
    return process


def broadcasts(process: subprocess.Popen[Any]) -> int:
    """How many broadcasts have reached simulated workers since this was asked last."""
    process.stdin.write("?\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--broker", metavar="URL", required=True, help="amqp://USER:PASSWORD@HOST:PORT/VHOST")
    parser.add_argument("--count", type=int, default=1000, help="how many workers (1000)")
    options = parser.parse_args()
    fleet = Fleet(options.broker, options.count)
    selector = selectors.DefaultSelector()
    selector.register(fleet.socket, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not sys.stdin:
                if not fleet.serve():
                    return
            elif not sys.stdin.readline():
                return
            else:
                print(fleet.broadcasts(), flush=True)


if __name__ == "__main__":
    main()
