"""Requests from curl, through a real branch, a broker and a worker, to a server that records them."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.ports import free_ports
from tests.support.recorder import Recorder

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")


class QueueingTests:
    """What holds on every broker."""

    recorder: Recorder

    async def setUp(self: Any) -> None:
        await super().setUp()  # type: ignore[misc]
        self.recorder = Recorder(self)
        self.target = f"http://127.0.0.1:{self.recorder.port}"

    async def curl(self: Any, *arguments: str, path: str) -> tuple[int, dict[str, str], Any]:
        """Run curl; the status, headers in lower case, and JSON body of the answer."""

        def run() -> str:
            argv = ["curl", "-s", "-S", "-i", "-g", "-m", "60", "--path-as-is", *arguments]
            done = subprocess.run(
                [*argv, self.branch.url.rstrip("/") + path],
                capture_output=True,
                check=True,
                stdin=subprocess.DEVNULL,
            )
            return done.stdout.decode("latin-1")

        head, _, body = (await deferToThread(run)).replace("\r\n", "\n").rpartition("\n\n")
        head = head.rpartition("HTTP/1.1 ")[2]
        lines = head.split("\n")[1:]
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        return int(head.split()[0]), headers, json.loads(body) if body.startswith("{") else None

    async def queue(self: Any, *arguments: str, path: str) -> Any:
        """Queue a request with curl and wait for its result, which must be a success; what was recorded."""
        status, headers, _ = await self.curl(*arguments, path=path)
        self.assertEqual(status, 202, headers)
        before = len(self.recorder.requests)
        result = await self.ask("GET", headers["location"] + "wait/?timeout=60")
        self.assertEqual(result["state"], "SUCCESS", result)
        self.assertEqual(result["result"]["status_code"], 200, result)
        self.assertGreaterEqual(len(self.recorder.requests), before)
        return result["result"], self.recorder.requests[-1]

    async def test_verbs(self: Any) -> None:
        """Each verb arrives with its query, body, type and forwarded headers as they were sent."""
        await self.create()
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        body = self.path("body")
        content = bytes(range(256)) * 8
        with open(body, "wb") as file:
            file.write(content)
        selector = "/a%2Fb//c/../%FF?b=1&a=%20+2&b=&&a"
        for method in METHODS:
            how = ["-I"] if method == "HEAD" else ["-X", method]
            sends = [] if method == "HEAD" else ["--data-binary", f"@{body}", "-H", "Content-Type: x/y; z=1"]
            more = ["-H", "Cyme-Forward-X-Token: a  b", "-H", "X-Mine: 1"]
            for queue in ("tasks/", ""):
                result, request = await self.queue(
                    *how, *sends, *more, path=f"/foo/queue/{queue}{self.target}{selector}"
                )
                self.assertEqual((request.method, request.target), (method, selector))
                self.assertEqual(request.header("x-token"), "a  b")
                self.assertIsNone(request.header("x-mine"))
                self.assertEqual(result["url"], self.target + selector)
                if method != "HEAD":
                    self.assertEqual((request.body, request.header("content-type")), (content, "x/y; z=1"))
                    # What comes behind the answer to CONNECT is a tunnel's (RFC 9110, 9.3.6).
                    content_of = {"CONNECT": ("", "recorded")}.get(method, ("recorded",))
                    self.assertIn(result["content"], content_of, method)

    async def test_spellings(self: Any) -> None:
        """However the URL is spelled, and whatever the size of the body, the target gets the same."""
        await self.create()
        url = f"{self.target}/x?a=1&b=2&a=3"
        large = self.path("large")
        content = os.urandom(1 << 20)
        with open(large, "wb") as file:
            file.write(content)
        sends = ("-X", "PUT", "--data-binary", f"@{large}", "-H", "Content-Type: a/b", "-H", "Expect:")
        for path in (url, url.replace("://", ":/"), quote(url, safe=""), f"?url={quote(url, safe='')}"):
            _, request = await self.queue(*sends, path=f"/foo/queue/{path}")
            self.assertEqual((request.method, request.target), ("PUT", "/x?a=1&b=2&a=3"))
            self.assertEqual(request.body, content)
        with open(large, "ab") as file:
            file.write(b"x")
        status, _, problem = await self.curl(*sends, path=f"/foo/queue/{url}")
        self.assertEqual((status, problem["status"]), (413, 413))

    async def test_document(self: Any) -> None:
        """The document's example: a form with a space, and a query, to a queue."""
        await self.create()
        path = f"/foo/queue/{self.target}/import_user?x=1"
        _, request = await self.queue("-X", "POST", "-d", "username=George Costanza", path=path)
        self.assertEqual((request.target, request.body), ("/import_user?x=1", b"username=George Costanza"))
        self.assertEqual(request.header("content-type"), "application/x-www-form-urlencoded")

    async def test_failure(self: Any) -> None:
        """A target that is not there is a failure as data, also over `wait`; a denied one is refused."""
        await self.create()
        path = f"/foo/queue/http://127.0.0.1:{free_ports(1)[0]}/"
        _, headers, _ = await self.curl("-H", "Cyme-Timeout: 5", path=path)
        result = await self.ask("GET", headers["location"] + "wait/")
        self.assertEqual((result["result"], result["state"]), (None, "FAILURE"))
        self.assertEqual(set(result["error"]), {"type", "message"})
        status, _, problem = await self.curl(path="/foo/queue/http://169.254.169.254/latest/meta-data/")
        self.assertEqual(status, 403)
        self.assertIn("169.254.0.0/16", problem["detail"])

    async def test_deduplication(self: Any) -> None:
        """Requests with one id are made once, and have one UUID."""
        await self.create()
        path = f"/foo/queue/{self.target}/"
        asked = [self.curl("-H", "Cyme-Deduplication-Id: order/7", path=path) for _ in range(3)]
        uuids = {(await one)[2]["uuid"] for one in asked}
        self.assertEqual(len(uuids), 1)
        await self.ask("GET", f"/foo/query/{uuids.pop()}/wait/")
        self.assertEqual(len(self.recorder.requests), 1)

    async def test_killed(self: Any) -> None:
        """What was answered with 202 when the branch is killed is made, and its result is there later."""
        await self.create()
        accepted: dict[str, str] = {}
        enough: Deferred[None] = Deferred()

        async def stream(number: int) -> None:
            for step in range(1000):
                name = f"/{number}-{step}"
                try:
                    answer = await self.http.post(f"/foo/queue/{self.target}{name}", timeout=20)
                except Exception:
                    return
                self.assertEqual(answer.status, 202, answer.text)
                accepted[name] = answer.json["uuid"]
                if len(accepted) >= 25 and not enough.called:
                    enough.callback(None)

        streams = [Deferred.fromCoroutine(stream(number)) for number in range(5)]
        await enough
        await self.branch.kill()
        await gatherResults(streams)
        await self.start()
        for name, task_id in accepted.items():
            result = await self.ask("GET", f"/foo/query/{task_id}/wait/")
            self.assertEqual(result["state"], "SUCCESS", (name, result))
        self.assertLessEqual(set(accepted), {request.target for request in self.recorder.requests})

    async def test_without_worker(self: Any) -> None:
        """Without a worker a task waits; what is revoked is not made when one comes."""
        await self.ask("PUT", "/foo/", 201)
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        places = []
        for name in ("no", "yes"):
            _, headers, _ = await self.curl(path=f"/foo/queue/tasks/{self.target}/{name}")
            places.append(headers["location"])
        waited = await self.ask("GET", places[0] + "wait/?timeout=0.2", 202)
        self.assertEqual(waited, {"result": None, "state": "PENDING"})
        self.assertEqual((await self.ask("DELETE", places[0]))["state"], "REVOKED")
        await self.create(queues=["tasks"])
        self.assertEqual((await self.ask("GET", places[1] + "wait/"))["state"], "SUCCESS")
        self.assertEqual([request.target for request in self.recorder.requests], ["/yes"])

    async def test_named_task(self: Any) -> None:
        """A task of the user's own application is queued by its name, and its end is told."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        await self.create()
        sent = await self.ask(
            "POST", "/foo/task/proj.celery.leave/", 202, json={"args": [self.path("a"), "hello"]}
        )
        result = await self.ask("GET", f"/foo/query/{sent['uuid']}/wait/")
        self.assertEqual(result["state"], "SUCCESS", result)
        self.assertTrue((await self.file("a")).startswith("hello "))


class QueueingOnRabbitMQTests(OnRabbitMQ, QueueingTests, BranchTestCase):
    """Requests over RabbitMQ."""


class QueueingOnEmbeddedTests(OnEmbedded, QueueingTests, BranchTestCase):
    """Requests over the embedded Redis."""
