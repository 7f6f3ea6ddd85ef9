"""What tests of the webhook task have: a worker, a target that records, a branch's results."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection, Queue
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from cyme.targets import DEFAULT_DENY
from tests.functional.test_workers_celery import CeleryTestCase
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

    def render(self, request: Any) -> Any:
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
        path = request.path.decode()
        if path == "/hold":
            request.notifyFinish().addErrback(lambda _: None)
            self.held.append(request)
        for number, waiting in list(self._waiting):
            if len(self.seen) >= number:
                self._waiting.remove((number, waiting))
                waiting.callback(None)
        if path == "/hold":
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


class WebhookTestCase(CeleryTestCase):
    """A worker, a target, and the queue of results of a branch that is not there."""

    def make_broker(self) -> str:
        """The URL of a broker that no other test has."""
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.url = await deferToThread(self.make_broker)
        self.target = Recorder()
        port: Any = reactor.listenTCP(0, Site(self.target), interface="127.0.0.1")
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
            if getattr(request, "channel", None) is not None and not request.finished:
                request.loseConnection()
        await port.stopListening()

    def broker_url(self) -> str:
        return self.url

    def start(self, name: str = "w1", celery_app: str = "cyme.tasks", **values: Any) -> int:
        return super().start(name, celery_app, **values)

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
