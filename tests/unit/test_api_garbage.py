"""Generated nonsense at every route: always an answer, never a 500, never a change."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.forwarding import OPTIONS
from cyme.api.site import Limits, all_routes, make_site
from tests.support.httpmemory import Connection, request
from tests.support.memorybranch import memory_branch

CHANGING = ["PUT", "POST", "DELETE"]
METHODS = ["GET", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "M-SEARCH", "!"]
methods = st.sampled_from(CHANGING) | st.sampled_from(METHODS)
PATHS = sorted({path for route in all_routes(dict) for path in (*route.paths, *route.asynchronous_paths)})
QUEUEING = ["/<app>/queue/<queue>/<url>", "/<app>/queue/<url>", "/<app>/queue/", "/<app>/queue/<queue>/"]
PATHS += 3 * QUEUEING
KNOWN = sorted({parameter.name for route in all_routes(dict) for parameter in route.parameters} | {"url"})
UUID = "00000000-0000-8000-8000-000000000000"
SEGMENTS = {b"<app>": b"foo", b"<name>": b"w1", b"<queue>": b"tasks", b"<branch>": b"branch1"}
SEGMENTS |= {b"<task>": b"proj.add", b"<uuid>": UUID.encode(), b"<url>": b"http://m/x"}

#: Bytes that a request target may hold.
target_bytes = st.binary(max_size=20).map(
    lambda data: b"".join(b"%c" % byte if 0x21 <= byte < 0x7F else b"%%%02X" % byte for byte in data)
)
names = st.sampled_from([b"new", b"!", b"..", b"%00", b"", b"a" * 200, b"ping"]) | target_bytes


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """A route's path with names or nonsense in it, or nonsense alone; and a query string."""
    path = draw(st.sampled_from(PATHS)).encode()
    for segment, name in SEGMENTS.items():
        if segment in path:
            path = path.replace(segment, draw(st.just(name) | st.just(name) | names))
    if draw(st.integers(0, 3)) == 0:
        spellings = [path.rstrip(b"/"), path + b"/", b"/" + path, path.replace(b"/", b"/!/", 1)]
        path = draw(st.sampled_from(spellings))
    if draw(st.integers(0, 9)) == 0:
        path = draw(target_bytes)
    if draw(st.integers(0, 2)) == 0:
        path += b"?" + draw(fields)
    return path.replace(b" ", b"%20") or b"/"


values = st.sampled_from([b"", b"0", b"1", b"7", b"true", b"tasks", b"solo", b"%7B%7D"]) | target_bytes
fields = st.lists(st.tuples(st.sampled_from(KNOWN).map(str.encode) | target_bytes, values), max_size=3).map(
    lambda pairs: b"&".join(b"=".join(pair) for pair in pairs)
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.sampled_from(KNOWN) | st.text(), json_values, max_size=4)
json_bodies = (json_objects | json_values).map(lambda value: json.dumps(value).encode())
content_types = [b"application/json", b"application/x-www-form-urlencoded", b"text/plain", b"", b"\xff"]
bodies = st.tuples(st.sampled_from(content_types), json_bodies | fields | st.binary(max_size=50))
header_values = st.binary(max_size=20).map(lambda data: bytes(b for b in data if b not in b"\0\r\n"))
header_names = [b"Origin", b"Sec-Fetch-Site", b"Host", b"Accept", b"Cookie", b"Content-Encoding", b"X"]
header_names += [header.encode() for header in OPTIONS] + [b"Cyme-Forward-Host", b"Cyme-Forward-X", b"Cyme-"]
header_values = st.sampled_from([b"1", b"0", b"http://m/"]) | header_values
headers = st.lists(st.tuples(st.sampled_from(header_names), header_values), max_size=2)


class GarbageTests(SynchronousTestCase):
    """Requests that nobody in his senses would send."""

    def setUp(self) -> None:
        clock = Clock()
        branch = memory_branch(self, clock)
        self.branch = branch
        self.site = make_site(
            clock,
            branch.controller,
            limits=Limits(request_body=500), tokens=TokenFile(None),
            allowed_origins=["https://panel.example.org"],
            check_host=False,
            readiness=dict,
        )
        self.clock = clock

    def content(self) -> Any:
        """All that is declared, and how much is queued."""
        return self.branch.content(), len(self.branch.gateway.queued)

    def fill(self) -> Any:
        """Have one of each thing and nothing else; answer with what is declared."""
        # Nonsense may make sense, and cordon the only branch.
        assert request(self.site, "POST", "/branches/branch1/uncordon/").status == 200
        for app in request(self.site, "GET", "/").json:
            assert request(self.site, "DELETE", f"/{app}/").status == 200
        for target in ("/foo/", "/foo/queues/tasks/", "/foo/instances/w1/?queues=tasks"):
            assert request(self.site, "PUT", target).status in (200, 201)
        return self.content()

    def send(self, data: bytes) -> bytes:
        """The bytes that come back."""
        connection = Connection(self.site)
        connection.send(data)
        for _ in range(20):
            self.clock.advance(0)
        received = connection.received()
        connection.disconnect()
        return received

    def judge(self, method: str, received: bytes, before: Any) -> None:
        status = int(received.split(b" ", 2)[1])
        assert status in {200, 201, 202, 204, 400, 403, 404, 405, 409, 413, 501, 504}, received
        if status >= 400 or (method in ("GET", "HEAD", "OPTIONS") and status != 202):
            assert self.content() == before, f"{method} changed something: {received!r}"
        head, _, body = received.partition(b"\r\n\r\n")
        if status >= 400 and body:
            assert b"Content-Type: application/problem+json" in head, received
            assert json.loads(body)["status"] == status, received

    @given(methods, targets(), st.just([]) | headers, st.none() | st.none() | bodies)
    @settings(max_examples=400, deadline=None)
    def test_requests(
        self,
        method: str,
        target: bytes,
        more: list[tuple[bytes, bytes]],
        body: tuple[bytes, bytes] | None,
    ) -> None:
        """A request of nonsense gets an answer of the contract, and a refused one changes nothing."""
        before = self.fill()
        lines = [b"%s %s HTTP/1.1" % (method.encode(), target), b"Host: localhost"]
        lines += [b"%s: %s" % header for header in more]
        content = b""
        if body is not None:
            content = body[1]
            lines += [b"Content-Type: " + body[0], b"Content-Length: %d" % len(content)]
        self.judge(method, self.send(b"\r\n".join([*lines, b"", b""]) + content), before)

    @given(st.binary(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_bytes(self, data: bytes) -> None:
        """Bytes that are no request at all change nothing."""
        before = self.fill()
        self.send(data)
        answer = self.send(b"PUT /foo/?pool=solo HTTP/1.1\r\n" + data + b"\r\n")
        if b" 200 " not in answer.partition(b"\r\n")[0]:
            assert self.content() == before
