"""Where connections of the webhook task go, with a resolver and sockets that do as told."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.targets import TargetRefused, parse_rules, parse_url
from cyme.tasks import failures
from cyme.tasks.connecting import Deadline, connect
from cyme.tasks.failures import ConnectionFailed, HostNotFound, RequestFailed, TimedOut
from cyme.tasks.requesting import attempt, read_request, request_headers

DENY = parse_rules(["169.254.0.0/16", "::1"])


class FakeSocket:
    """A socket that knows where it was connected to, and where it says that it is.

    :cvar peers: address that is connected to -> what `getpeername` says, or an exception.
    """

    peers: dict[str, Any] = {}
    made: list[FakeSocket] = []

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self.connected: Any = None
        self.is_closed = False
        self.sent = b""
        self.made.append(self)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setsockopt(self, *_: object) -> None:
        pass

    def connect(self, address: tuple[Any, ...]) -> None:
        self.connected = address[0]
        if isinstance(self.peers.get(address[0]), Exception):
            raise self.peers[address[0]]

    def getpeername(self) -> tuple[str, int]:
        return (self.peers.get(self.connected, self.connected), 80)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True


class ConnectTests(SynchronousTestCase):
    """Only what may be reached is connected to."""

    def setUp(self) -> None:
        FakeSocket.made, FakeSocket.peers = [], {}
        self.patch(socket, "socket", FakeSocket)
        self.patch(socket, "getaddrinfo", self.resolve)
        self.addresses: list[str] = []
        self.questions: list[str] = []
        self.deadline = Deadline(60.0)
        self.addCleanup(self.deadline.close)

    def resolve(self, host: str, port: int, family: int = 0, kind: int = 0) -> list[Any]:
        self.questions.append(host)
        if not self.addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, kind, 0, "", (each, port)) for each in self.addresses]

    def connect(self, url: str = "http://name/", allow: tuple[str, ...] = ()) -> Any:
        return connect(parse_url(url), parse_rules(allow), DENY, self.deadline)

    def test_allowed(self) -> None:
        """A name is resolved once and its first address connected to."""
        self.addresses = ["192.0.2.1", "192.0.2.2"]
        self.assertEqual(self.connect().connected, "192.0.2.1")
        self.assertEqual(self.questions, ["name"])
        self.assertEqual(len(FakeSocket.made), 1)

    def test_denied(self) -> None:
        """An address that is denied is not even connected to."""
        for address in ("169.254.169.254", "::ffff:169.254.169.254", "::1"):
            self.addresses = [address]
            self.assertRaises(TargetRefused, self.connect)
        self.assertEqual(FakeSocket.made, [])

    def test_mixed(self) -> None:
        """Of several addresses only those are tried that may be reached."""
        self.addresses = ["169.254.169.254", "192.0.2.1"]
        self.assertEqual(self.connect().connected, "192.0.2.1")
        self.assertEqual(len(FakeSocket.made), 1)

    def test_peer(self) -> None:
        """A connection that has another address than was asked for is closed before it gets a byte."""
        self.addresses = ["192.0.2.1"]
        FakeSocket.peers = {"192.0.2.1": "169.254.169.254"}
        self.assertRaises(TargetRefused, self.connect)
        (sock,) = FakeSocket.made
        self.assertEqual((sock.is_closed, sock.sent), (True, b""))

    def test_rebinding(self) -> None:
        """A name that is harmless at first is refused by the address that it has when it is used."""
        self.addresses = ["192.0.2.1"]
        self.connect()
        self.addresses = ["169.254.169.254"]
        self.assertRaises(TargetRefused, self.connect)
        request: Any = {"method": "GET", "url": "http://name/", "headers": [], "body": None}
        self.assertRaises(failures.TargetRefused, attempt, request, {"deny": ["169.254.0.0/16"]})

    def test_allowed_ranges(self) -> None:
        """Where ranges are allowed, the address decides."""
        self.addresses = ["192.0.2.1"]
        self.connect(allow=("192.0.2.0/24",))
        self.assertRaises(TargetRefused, self.connect, allow=("198.51.100.0/24",))

    def test_unreachable(self) -> None:
        """One address after the other is tried; the last problem is told."""
        self.addresses = ["192.0.2.1", "192.0.2.2"]
        FakeSocket.peers = {"192.0.2.1": ConnectionRefusedError(111, "Connection refused")}
        self.assertEqual(self.connect().connected, "192.0.2.2")
        FakeSocket.peers["192.0.2.2"] = TimeoutError("timed out")
        self.assertRaises(TimedOut, self.connect)
        FakeSocket.peers["192.0.2.2"] = OSError(113, "No route to host")
        caught = self.assertRaises(ConnectionFailed, self.connect)
        self.assertEqual(str(caught), "no connection to name: No route to host")
        self.assertTrue(all(sock.is_closed for sock in FakeSocket.made[2:]))

    def test_not_found(self) -> None:
        """A host without an address is told by name."""
        caught = self.assertRaises(HostNotFound, self.connect, "http://no.such.host/")
        self.assertIn("no.such.host", str(caught))

    def test_over(self) -> None:
        """No time, no connection."""
        self.addresses = ["192.0.2.1"]
        self.deadline = Deadline(0.0)
        self.assertRaises(TimedOut, self.connect)


class RequestTests(SynchronousTestCase):
    """What a request is made of."""

    def read(self, **values: Any) -> Any:
        return read_request({"method": "GET", "url": "http://m/", "headers": [], "body": None, **values})

    def test_headers(self) -> None:
        """Headers are those given; how a message is sent, the sender says."""
        given = [["X", "1"], ["x", "2"], ["Content-Length", "9"], ["transfer-encoding", "a"], ["U", "\u20ac"]]
        headers = request_headers(self.read(headers=given, url="http://a%40b:c@m:81/"))
        self.assertEqual(headers.getlist("X"), ["1", "2"])
        self.assertEqual(headers["Host"], "m:81")
        self.assertEqual(headers["Authorization"], "Basic YUBiOmM=")
        self.assertEqual(headers["U"], "\u20ac".encode().decode("latin-1"))
        self.assertNotIn("Content-Length", headers)
        self.assertNotIn("Transfer-Encoding", headers)
        own = request_headers(self.read(headers=[["host", "h"], ["AUTHORIZATION", "a"]], url="http://u:p@m/"))
        self.assertEqual((own.getlist("Host"), own.getlist("Authorization")), (["h"], ["a"]))

    def test_bad(self) -> None:
        """What is no request is a failure, not a crash."""
        for values in (
            *({"body": "%%%"}, {"body": 3}, {"headers": [["a"]]}, {"headers": 3}),
            *({"url": "ftp://m/"}, {"url": "http://\ud800/"}),
        ):
            self.assertRaises((RequestFailed, TargetRefused), self.read, **values)
        request = {"method": "GET", "url": "http://m/"}
        for options in ({"timeout": "x"}, {"allow": ["http://m/"]}, {"max_response": None}):
            self.assertRaises(RequestFailed, attempt, request, options)
