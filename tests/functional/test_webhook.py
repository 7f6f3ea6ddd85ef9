"""Requests that real workers make, and how branches hear of them."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from celery import Celery
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.functional.test_workers_celery import PROJECT
from tests.functional.webhookcase import FINAL, WebhookTestCase
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    Base = WebhookTestCase
else:
    Base = object


class Odd(Protocol):
    """What speaks neither HTTP nor TLS."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"SSH-2.0-odd\r\n")
        self.transport.loseConnection()


class OnRabbitMQ:
    """Workers on RabbitMQ."""

    def make_broker(self) -> str:
        return shared_rabbitmq().url(shared_rabbitmq().new_vhost())


class OnRedis(Base):
    """Workers on Redis, as the embedded broker is."""

    def make_broker(self) -> str:
        return self.redis.url()


class RequestMixin(Base):
    """What a target gets, and what the branch gets of its response."""

    async def test_methods(self) -> None:
        """The target gets verb, query, headers and body as given, and the branch its response."""
        await self.serve()
        body = bytes(range(256))
        self.target.answers["/x"] = (201, {"Content-Type": "text/plain", "X-One": "1"}, b"h\xc3\xa9")
        ids = {}
        for method in "GET HEAD POST PUT DELETE PATCH OPTIONS TRACE CONNECT".split():
            has_body = method in ("POST", "PUT", "PATCH", "DELETE")
            ids[method] = await self.queue(
                "/x?b=2&a=1&b=%2f+",
                method,
                headers=[["X-Mine", "one"], ["x-mine", "two"], ["Content-Type", "a/b"], ["Host", "other"]],
                body=body if has_body else None,
            )
        for method, task_id in ids.items():
            result = await self.result_of(task_id)
            self.assertEqual(result["status_code"], 201, method)
            self.assertEqual(result["url"], self.base + "/x?b=2&a=1&b=%2f+")
            self.assertEqual(result["headers"]["X-One"], "1")
            self.assertEqual(result["content"], "" if method in ("HEAD", "CONNECT") else "h\u00e9", method)
            self.assertIs(result["truncated"], False)
            self.assertEqual(self.names_of(task_id)[-1], "SUCCESS")
        seen = {each["method"]: each for each in self.target.seen}
        self.assertEqual(set(seen), set(ids))
        for method, each in seen.items():
            self.assertEqual(each["uri"], "/x?b=2&a=1&b=%2f+")
            self.assertEqual(each["body"], body if method in ("POST", "PUT", "PATCH", "DELETE") else b"")
            self.assertEqual(each["headers"]["x-mine"], ["one", "two"])
            self.assertEqual(each["headers"]["content-type"], ["a/b"])
            self.assertEqual(each["headers"]["host"], ["other"])
            self.assertIn("Cyme/", each["headers"]["user-agent"][0])

    async def test_failures(self) -> None:
        """What gets no response fails with a kind and a sentence, and nothing is sent where it may not be."""
        await self.serve()
        self.target.answers["/loop"] = (302, {"Location": "/loop"}, b"")
        self.target.answers["/away"] = (302, {"Location": "http://169.254.169.254/latest"}, b"")
        self.target.answers["/drip"] = (200, {}, b"")
        free: Any = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
        closed = free.getHost().port
        await free.stopListening()
        by_name = self.base.replace("127.0.0.1", "localhost") + "/never"
        port: Any = reactor.listenTCP(0, Factory.forProtocol(Odd), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        odd = port.getHost().port
        for url, options, kind, text in (
            (f"http://127.0.0.1:{closed}/", {}, "ConnectionFailed", "refused"),
            ("http://no-such-host.invalid/", {}, "HostNotFound", "no-such-host.invalid"),
            ("/hold", {"timeout": 0.5}, "TimedOut", "0.5 s"),
            ("/drip", {"timeout": 0.5}, "TimedOut", "0.5 s"),
            ("/loop", {"max_redirects": 3}, "TooManyRedirects", "more than 3"),
            ("/away", {}, "TargetRefused", "169.254.0.0/16"),
            ("http://2852039166/", {}, "TargetRefused", "169.254.0.0/16"),
            ("/never", {"deny": ["127.0.0.0/8"]}, "TargetRefused", "127.0.0.0/8"),
            (by_name, {"deny": ["127.0.0.0/8", "::1"]}, "TargetRefused", "of localhost is denied"),
            ("/never", {"allow": ["example.com"]}, "TargetRefused", "not among those"),
            (f"https://127.0.0.1:{odd}/", {}, "TlsFailed", "secure"),
            (f"http://127.0.0.1:{odd}/", {}, "ConnectionFailed", "no complete HTTP response"),
            ("/never", {"headers": [["X", "a\nB: c"]]}, "InvalidRequest", "header"),
        ):
            got = await self.failure_of(await self.queue(url, **options))
            self.assertEqual(got[0], kind, got)
            self.assertIn(text, got[1])
        self.assertNotIn("/never", [each["uri"] for each in self.target.seen])
        self.assertEqual(len([each for each in self.target.seen if each["uri"] == "/loop"]), 4)
        self.assertNotIn("Traceback", self.log())

    async def test_retries(self) -> None:
        """Attempts are repeated when the target says, seen as RETRY; the last response is the result."""
        await self.serve()
        self.target.answers["/busy"] = [(503, {"Retry-After": "1"}, b"no"), (200, {}, b"yes")]
        self.target.answers["/off"] = (502, {}, b"off")
        busy, off = await self.queue("/busy", retries=3), await self.queue("/off", retries=1)
        self.assertEqual((await self.result_of(busy))["content"], "yes")
        told = [each for each in self.states[busy] if each["status"] != "STARTED"]
        self.assertEqual([each["status"] for each in told], ["RETRY", "SUCCESS"])
        self.assertIn("503", told[0]["result"]["exc_message"][0])
        first, second = (each["at"] for each in self.target.seen if each["uri"] == "/busy")
        self.assertGreaterEqual(second - first, 0.9)
        self.assertEqual((await self.result_of(off))["status_code"], 502)
        self.assertEqual(len([each for each in self.target.seen if each["uri"] == "/off"]), 2)

    async def test_callbacks(self) -> None:
        """The end of a request is posted to its callback, which is tried again and calls nobody back."""
        await self.serve()
        self.target.answers["/told"] = [(503, {"Retry-After": "0"}, b""), (200, {}, b"")]
        good = await self.queue("/x", callback=self.base + "/told", failure_callback=self.base + "/never")
        result = await self.result_of(good)
        await self.target.when_seen(3)
        bad = await self.queue(
            "http://no-such-host.invalid/",
            callback=self.base + "/never",
            failure_callback=self.base + "/failed",
        )
        kind, message = await self.failure_of(bad)
        await self.target.when_seen(4)
        self.assertEqual([each["uri"] for each in self.target.seen], ["/x", "/told", "/told", "/failed"])
        for each in self.target.seen[1:]:
            self.assertEqual(each["method"], "POST")
            self.assertEqual(each["headers"]["content-type"], ["application/json"])
        self.assertEqual(
            json.loads(self.target.seen[2]["body"]), {"uuid": good, "state": "SUCCESS", "result": result}
        )
        self.assertEqual(
            json.loads(self.target.seen[3]["body"]),
            {"uuid": bad, "state": "FAILURE", "error": {"type": kind, "message": message}},
        )
        self.assertEqual(set(self.states), {good, bad})

    async def test_lost_process(self) -> None:
        """A request whose pool process is killed runs again, up to a cap; then it fails and says so."""
        await self.serve()
        task_id = await self.queue("/hold", max_deliveries=3)
        for number in (1, 2, 3):
            await self.target.when_seen(number)
            await self.kill_pool("w1")
        kind, message = await self.failure_of(task_id)
        self.assertEqual(kind, "TooManyDeliveries")
        self.assertIn("3 times", message)
        self.assertEqual(len(self.target.seen), 3)

    async def kill_pool(self, name: str) -> None:
        for pid in await self.pool_of(name):
            os.kill(pid, signal.SIGKILL)

    async def pool_of(self, name: str) -> list[int]:
        main = self.workers.processes()[name].pid
        with open(f"/proc/{main}/task/{main}/children") as file:
            return [int(pid) for pid in file.read().split()]

    async def test_revoked(self) -> None:
        """A request that is revoked while it is made ends, and its branch hears of that."""
        await self.serve()
        task_id = await self.queue("/hold", callback=self.base + "/never")
        await self.target.when_seen(1)
        await deferToThread(lambda: self.app.control.revoke(task_id, terminate=True))
        body = await self.end_of(task_id)
        self.assertEqual((body["status"], body["result"]["exc_type"]), ("REVOKED", "TaskRevokedError"))
        await self.result_of(await self.queue("/after"))
        self.assertEqual([each["uri"] for each in self.target.seen], ["/hold", "/after"])

    async def test_cut(self) -> None:
        """Content beyond the cap is cut and marked, and not waited for."""
        await self.serve()
        self.target.answers["/drip"] = (200, {}, b"")
        self.target.answers["/exact"] = (200, {"Content-Type": "a/b"}, b"\xff" * 10)
        cut, exact = await self.queue("/drip", max_response=3), await self.queue("/exact", max_response=10)
        result = await self.result_of(cut)
        self.assertEqual((result["content"], result["truncated"]), ("...", True))
        result = await self.result_of(exact)
        self.assertEqual(base64.b64decode(result["content"]["base64"]), b"\xff" * 10)
        self.assertIs(result["truncated"], False)

    async def test_redirect(self) -> None:
        """A redirect is followed as browsers do; the result tells the URL that answered."""
        await self.serve()
        self.target.answers["/303"] = (303, {"Location": "/end?x"}, b"")
        self.target.answers["/307"] = (307, {"Location": "/end?y"}, b"")
        for path, expected in (("/303", ("GET", b"")), ("/307", ("POST", b"a=b"))):
            result = await self.result_of(await self.queue(path, "POST", body=b"a=b"))
            self.assertEqual(result["url"], self.base + self.target.seen[-1]["uri"])
            self.assertEqual((self.target.seen[-1]["method"], self.target.seen[-1]["body"]), expected)

    async def test_proxies(self) -> None:
        """Proxies that the environment names are not used."""
        proxy = "http://127.0.0.1:9"
        self.workers = self.make_workers(http_proxy=proxy, HTTP_PROXY=proxy, all_proxy=proxy)
        await self.serve()
        self.assertEqual((await self.result_of(await self.queue("/x")))["content"], "ok")

    async def test_other_apps(self) -> None:
        """An app with a backend of its own, and one that ignores results, answer branches beside it."""
        redis = f"redis+socket://{self.redis.socket}?virtual_host=5"
        kinds = ((redis, False), (redis, True), (None, False), ("rpc://", False))
        for number, (backend, ignores) in enumerate(kinds):
            module = f"theirs{number}"
            (self.folder / f"{module}.py").write_text(
                "from celery import Celery\n"
                f"app = Celery({module!r}, backend={backend!r})\n"
                f"app.conf.task_ignore_result = {ignores}\n"
                "@app.task(name='add')\n"
                "def add(x, y):\n"
                "    return {'sum': x + y, 'set': {1}}if x == 2 else x + y\n"
                "@app.task(name='fail')\n"
                "def fail():\n"
                "    raise KeyError('what')\n"
            )
            self.workers = self.make_workers(PYTHONPATH=f"{self.folder}:{PROJECT}")
            name = f"w{number}"
            await self.serve(name, celery_app=module)
            queue = f"dq.{name}"
            request = await self.queue("/x", queue=queue)
            added = await self.send("add", {"x": 1, "y": 2}, queue)
            failed = await self.send("fail", {}, queue)
            unknown = await self.send("nobody.knows", {}, queue)
            self.assertEqual((await self.result_of(request))["content"], "ok")
            self.assertEqual(await self.result_of(added), 3)
            self.assertEqual(await self.failure_of(failed), ("KeyError", "what"))
            self.assertIn("KeyError: 'what'", self.states[failed][-1]["traceback"])
            self.assertEqual((await self.failure_of(unknown))[0], "NotRegistered")
            for task_id in (request, added, failed, unknown):
                names = [state for state in self.names_of(task_id) if state in FINAL]
                self.assertEqual(len(names), 1, (module, task_id))
            if backend == redis:
                theirs = Celery("theirs", backend=redis, set_as_current=False)
                self.addCleanup(theirs.close)
                state = await deferToThread(theirs.backend.get_state, added)
                self.assertEqual(state, "PENDING" if ignores else "SUCCESS")
                self.assertEqual(await deferToThread(theirs.backend.get_state, request), "PENDING")


class WebhookOnRabbitMQTests(OnRabbitMQ, RequestMixin, WebhookTestCase):
    """Requests over RabbitMQ."""

    async def test_killed_worker(self) -> None:
        """A request whose worker is killed with -9 is made again by another one, which counts it."""
        pid = await self.serve()
        task_id = await self.queue("/hold")
        await self.target.when_seen(1)
        os.kill(pid, signal.SIGKILL)
        await self.ended["w1"]
        await self.serve()
        await self.target.when_seen(2)
        held = self.target.held[-1]
        held.write(b"at last")
        held.finish()
        self.assertEqual((await self.result_of(task_id))["content"], "at last")

    async def test_hang_up(self) -> None:
        """A worker of another app that SIGHUP made start anew still makes requests."""
        self.workers = self.make_workers(PYTHONPATH=PROJECT)
        pid = await self.serve(celery_app="proj.celery:app")
        if not os.path.exists(os.path.join(os.path.dirname(sys.executable), "celery")):
            self.skipTest("Celery's console script is not installed beside Python")
        os.kill(pid, signal.SIGHUP)
        await eventually(lambda: self.log().count("w1@host ready") == 2, 60, "the second start")
        self.assertEqual((await self.result_of(await self.queue("/x")))["content"], "ok")


class WebhookOnRedisTests(OnRedis, RequestMixin, WebhookTestCase):
    """Requests over Redis."""

    async def test_broker_outage(self) -> None:
        """A result whose broker is away is sent when it is back."""
        await self.serve()
        task_id = await self.queue("/hold")
        await self.target.when_seen(1)
        await deferToThread(self.redis.kill)
        self.target.held[0].finish()
        await eventually(lambda: "does not take a message" in self.log(), 30, "the worker's complaint")
        await deferToThread(self.redis.start)
        self.assertEqual((await self.result_of(task_id))["content"], "")
