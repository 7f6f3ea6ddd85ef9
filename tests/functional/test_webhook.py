"""Requests that real workers make, and how branches hear of them."""

from __future__ import annotations

import base64
import json
import os
import signal
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection, Queue
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from cyme.targets import DEFAULT_DENY
from tests.functional.test_workers_celery import PROJECT, CeleryTestCase
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import eventually

#: What a branch that wants results names its queue.
RESULTS = "cyme.results.branch1"

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


class Recorder(Resource):
    """A target: keeps what it is asked, and answers as its table says."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []
        self.held: list[Request] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []
        #: Path -> status, headers, content; a list of them is used up from its beginning.
        self.answers: dict[str, Any] = {}

    def render(self, request: Request) -> Any:
        self.seen.append(
            {
                "method": request.method.decode(),
                "uri": request.uri.decode(),
                "headers": {
                    name.decode().lower(): [value.decode("latin-1") for value in values]
                    for name, values in request.requestHeaders.getAllRawHeaders()
                },
                "body": request.content.read(),
                "at": reactor.seconds(),
            }
        )
        for number, waiting in list(self._waiting):
            if len(self.seen) >= number:
                self._waiting.remove((number, waiting))
                waiting.callback(None)
        path = request.path.decode()
        if path == "/hold":
            request.notifyFinish().addErrback(lambda _: None)
            self.held.append(request)
            return NOT_DONE_YET
        answer = self.answers.get(path, (200, {}, b"ok"))
        if isinstance(answer, list):
            answer = answer.pop(0)
        status, headers, content = answer
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name, value)
        if path == "/drip":
            self.drip(request)
            return NOT_DONE_YET
        return content

    def drip(self, request: Request) -> None:
        """A byte now and then, without an end."""
        call = LoopingCall(request.write, b".")
        request.notifyFinish().addErrback(lambda _: call.stop())
        call.clock = reactor
        call.start(0.1)

    def when_seen(self, number: int) -> Deferred[None]:
        """Fire when there were so many requests."""
        waiting: Deferred[None] = Deferred()
        if len(self.seen) >= number:
            waiting.callback(None)
        else:
            self._waiting.append((number, waiting))
        return waiting


class Odd(Protocol):
    """What speaks neither HTTP nor TLS."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"SSH-2.0-odd\r\n")
        self.transport.loseConnection()


class OnRabbitMQ:
    """Workers on RabbitMQ."""

    def broker(self) -> str:
        return shared_rabbitmq().url(shared_rabbitmq().new_vhost())


class OnRedis:
    """Workers on Redis, as the embedded broker is."""

    def broker(self) -> str:
        return self.redis.url()


class WebhookTestCase(CeleryTestCase):
    """A worker, a target, and the queue of results of a branch that is not there."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.url = await deferToThread(self.broker)
        self.target = Recorder()
        port = reactor.listenTCP(0, Site(self.target), interface="127.0.0.1")
        self.addCleanup(self.close_target, port)
        self.base = f"http://127.0.0.1:{port.getHost().port}"
        self.app = Celery("caller", broker=self.url, set_as_current=False)
        self.addCleanup(self.app.close)
        self.connection = Connection(self.url)
        self.addCleanup(self.connection.release)
        await deferToThread(self.declare)
        self.states: dict[str, list[dict[str, Any]]] = {}

    def declare(self) -> None:
        Queue(RESULTS, durable=True, no_declare=False)(self.connection.default_channel).declare()

    async def close_target(self, port: Any) -> None:
        for request in self.target.held:
            if not request._disconnected and not request.finished:
                request.transport.abortConnection()
        await port.stopListening()

    def start(self, name: str = "w1", celery_app: str = "cyme.tasks", **values: Any) -> int:
        # `Desired.broker` is made from this.
        self.redis_url = self.redis.url
        self.redis.url = lambda: self.url  # type: ignore[method-assign]
        try:
            return super().start(name, celery_app, **values)
        finally:
            self.redis.url = self.redis_url  # type: ignore[method-assign]

    async def queue(self, url: str, method: str = "GET", queue: str = "dq.w1", **values: Any) -> str:
        """Queue a request as a branch does; the task's id."""
        request = {
            "method": method,
            "url": url if "://" in url else self.base + url,
            "headers": values.pop("headers", []),
            "body": values.pop("body", None),
        }
        if request["body"] is not None:
            request["body"] = base64.b64encode(request["body"]).decode()
        options = {
            **{"timeout": 60.0, "retries": 0, "max_response": 1048576, "max_redirects": 10},
            **{"allow": [], "deny": list(DEFAULT_DENY), "callback": None, "failure_callback": None},
            **{"deliveries": 0, "max_deliveries": 3, **values},
        }
        return await self.send("cyme.tasks.webhook", {"request": request, "options": options}, queue)

    async def send(self, task: str, kwargs: dict[str, Any], queue: str = "dq.w1") -> str:
        task_id = str(uuid4())
        await deferToThread(self.publish, task, task_id, kwargs, queue)
        return task_id

    def publish(self, task: str, task_id: str, kwargs: dict[str, Any], queue: str) -> None:
        message = self.app.amqp.as_task_v2(task_id, task, kwargs=kwargs, reply_to=RESULTS, ignore_result=None)
        # As a caller in another language makes it: without the header.
        headers = {key: value for key, value in message.headers.items() if key != "ignore_result"}
        producer = self.connection.Producer(auto_declare=False)
        producer.publish(
            json.dumps(message.body),
            content_type="application/json",
            content_encoding="utf-8",
            exchange="",
            routing_key=queue,
            headers=headers,
            delivery_mode=2,
            **message.properties,
        )

    def read_results(self) -> None:
        channel = self.connection.default_channel
        while True:
            message = channel.basic_get(RESULTS, no_ack=False)
            if message is None:
                return
            if not hasattr(message, "payload"):
                message = channel.message_to_python(message)
            body = json.loads(message.body)
            self.assertEqual(message.properties["correlation_id"], body["task_id"])
            self.assertEqual(message.content_type, "application/json")
            if body["status"] in FINAL:
                self.assertEqual(message.properties.get("delivery_mode"), 2)
            self.states.setdefault(body["task_id"], []).append(body)
            message.ack()

    async def end_of(self, task_id: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for a task's end; the message that tells it."""

        async def look() -> Any:
            await deferToThread(self.read_results)
            return [body for body in self.states.get(task_id, ()) if body["status"] in FINAL]

        try:
            return (await eventually(look, timeout, f"the end of {task_id}"))[0]
        except AssertionError:
            raise AssertionError(f"no end: {self.states.get(task_id)}\n{self.log()}") from None

    async def result_of(self, task_id: str) -> dict[str, Any]:
        body = await self.end_of(task_id)
        self.assertEqual(body["status"], "SUCCESS", body)
        return body["result"]

    async def failure_of(self, task_id: str) -> tuple[str, str]:
        body = await self.end_of(task_id)
        self.assertEqual(body["status"], "FAILURE", body)
        self.assertTrue(body["result"]["exc_module"])
        (message,) = body["result"]["exc_message"]
        return body["result"]["exc_type"], message

    def names_of(self, task_id: str) -> list[str]:
        """The states that a task had, in their order."""
        return [body["status"] for body in self.states[task_id]]


class RequestMixin:
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
        free = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
        closed = free.getHost().port
        await free.stopListening()
        by_name = self.base.replace("127.0.0.1", "localhost") + "/never"
        port = reactor.listenTCP(0, Factory.forProtocol(Odd), interface="127.0.0.1")
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
        self.assertEqual([s for s in self.names_of(busy) if s != "STARTED"], ["RETRY", "SUCCESS"])
        self.assertIn("503", self.states[busy][1]["result"]["exc_message"][0])
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
            await self.workers.stop(name)


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


class WebhookOnRedisTests(OnRedis, RequestMixin, WebhookTestCase):
    """Requests over Redis."""
