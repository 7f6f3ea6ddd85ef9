"""Errors as answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cyme import errors
from cyme.access.tokenfile import TokenFile
from cyme.api import problems
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Response, request

#: One error of each class that has no subclass, and the status that the contract gives it.
EXAMPLES: dict[errors.CymeError, int] = {
    errors.InvalidParameter("p", "is wrong"): 400,
    errors.InvalidName("app", "a", "is wrong"): 400,
    errors.MalformedBody("it is wrong"): 400,
    problems.MalformedRequest("it is wrong"): 400,
    errors.InvalidDeclaration("q", "is wrong"): 400,
    errors.CrossSite("it is wrong"): 403,
    errors.NoSuchApp("a"): 404,
    errors.NoSuchInstance("i"): 404,
    errors.NoSuchQueue("q", "a"): 404,
    errors.NotConsuming("i", "q"): 404,
    errors.NoSuchBranch("b"): 404,
    errors.NoSuchRollout("a"): 404,
    problems.NoSuchRoute("/a"): 404,
    problems.MethodRefused("BREW", "/a", ("GET",)): 405,
    errors.NameTaken("i", "a"): 409,
    errors.NoProcess("i"): 409,
    errors.RolloutRuns("a", "1"): 409,
    errors.DeclarationMismatch("q", "differs"): 409,
    errors.BodyTooLarge(10): 413,
    errors.RemoteFailure("b", "1234"): 500,
    errors.CannotStart("no"): 500,
    errors.CannotBeAsynchronous(): 501,
    errors.BrokerAway("amqp://", "refused"): 503,
    errors.BusAway(): 503,
    errors.NoRoute("Instance", "i"): 503,
    problems.NotReady({"broker": "refused"}): 503,
    problems.TooManyStreams(100): 503,
    errors.NoReply("Instance", "i", 1.0): 504,
    errors.NoDump("i", 1.0, "it is frozen"): 504,
}

ABSTRACT = {errors.CymeError, errors.Refused}


def all_errors(kind: type[errors.CymeError] = errors.CymeError) -> Iterator[type[errors.CymeError]]:
    """The class and all under it."""
    yield kind
    for under in kind.__subclasses__():
        yield from all_errors(under)


class StatusTests(SynchronousTestCase):
    """The table of statuses."""

    def test_every_error_has_a_row(self) -> None:
        """Every error that users may read has a status of its own or of a kind that it is."""
        without = {
            kind
            for kind in all_errors()
            if kind.__module__.startswith("cyme.")
            and kind not in ABSTRACT
            and not any(issubclass(kind, row) for row, _ in problems.STATUSES)
        }
        self.assertEqual(without, set())

    def test_statuses(self) -> None:
        """Each error has the status that the contract promises."""
        for error, status in EXAMPLES.items():
            self.assertEqual(problems.status_of(error), status, repr(error))

    def test_strangers(self) -> None:
        """What is no error of Cyme has none."""
        for error in (ValueError("x"), errors.CymeError("x"), KeyboardInterrupt()):
            self.assertIsNone(problems.status_of(error))


class AnswerTests(SynchronousTestCase):
    """Errors that handlers raise, over HTTP."""

    def setUp(self) -> None:
        self.controller = FakeController()
        self.readiness: Any = dict
        self.site = make_site(
            Clock(),
            self.controller,
            limits=Limits(request_body=1000), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=lambda: self.readiness(),
        )

    def fail_with(self, error: Exception) -> Response:
        """The answer when a verb's Deferred fails."""
        self.controller.failure = error
        return request(self.site, "PUT", "/foo/?password=secret")

    def raise_(self, error: Exception) -> Response:
        """The answer when a verb raises."""

        def broken() -> Any:
            raise error

        self.readiness = broken
        return request(self.site, "GET", "/ready/")

    def test_documents(self) -> None:
        """Every error is described as RFC 9457 says, and for clients of the first Cyme."""
        for error, status in EXAMPLES.items():
            for answer in (self.fail_with(error), self.raise_(error)):
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.header("Content-Type"), "application/problem+json")
                self.assertEqual(answer.json["status"], status)
                self.assertEqual(answer.json["detail"], str(error))
                self.assertEqual(answer.json["nok"], [str(error)])
                self.assertTrue(answer.json["title"])
                self.assertTrue(answer.json["type"].startswith("urn:cyme:"))
                self.assertEqual(answer.header("Retry-After") is not None, status == 503)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_allow(self) -> None:
        """A refused method comes with those that are served."""
        answer = self.raise_(problems.MethodRefused("BREW", "/a", ("GET", "HEAD")))
        self.assertEqual(answer.header("Allow"), "GET, HEAD")

    def test_incident(self) -> None:
        """An error that nobody foresaw is told by an id alone, and the log has it under that id."""
        for fail in (self.fail_with, self.raise_):
            answer = fail(RuntimeError("secret"))
            self.assertEqual((answer.status, answer.json["status"]), (500, 500))
            self.assertNotIn(b"secret", answer.body)
            self.assertNotIn(b"Traceback", answer.body)
            self.assertIn(answer.json["incident"], answer.json["detail"])
            (logged,) = self.flushLoggedErrors(RuntimeError)
            self.assertEqual(str(logged.value), "secret")

    def test_incident_in_log(self) -> None:
        """The log entry names the incident, the method and the path, and no parameters."""
        events: list[Any] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        answer = self.fail_with(RuntimeError("out of luck"))
        self.flushLoggedErrors(RuntimeError)
        (text,) = [formatEvent(event) for event in events if "incident" in event]
        self.assertIn(answer.json["incident"], text)
        self.assertIn("PUT /foo/", text)
        self.assertNotIn("secret", text)

    def test_answer_that_is_no_json(self) -> None:
        """A verb that answers with what JSON can't say is an incident too."""
        self.controller.branches.all = lambda: [object()]  # type: ignore[method-assign,list-item]
        self.assertEqual(request(self.site, "GET", "/branches/").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_head(self) -> None:
        """A refused `HEAD` has the header of a problem, and no body."""
        answer = request(self.site, "HEAD", "/no/")
        self.assertEqual((answer.status, answer.body), (404, b""))
        answer = request(self.site, "HEAD", "/a%2Fb/")
        self.assertEqual((answer.status, answer.body), (400, b""))
