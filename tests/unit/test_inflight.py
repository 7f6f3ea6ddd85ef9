"""Counting the HTTP requests that are being answered."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from cyme.inflight import InFlight


class Slow(Resource):
    """Answers when the test says so."""

    isLeaf = True

    def render(self, request: DummyRequest) -> int:
        return NOT_DONE_YET


class InFlightTests(SynchronousTestCase):
    """Requests that are under way, and the wait for their end."""

    def setUp(self) -> None:
        self.ended: list[str] = []
        self.resource = InFlight(Slow(), lambda: self.ended.append("streams"))

    def begin(self) -> DummyRequest:
        request = DummyRequest([b""])
        self.assertEqual(self.resource.render(request), NOT_DONE_YET)
        return request

    def test_none(self) -> None:
        """Nothing is waited for when nothing is under way."""
        self.successResultOf(self.resource.none())
        self.begin().finish()
        self.successResultOf(self.resource.none())

    def test_endless(self) -> None:
        """Answers that would never end are ended before the others are waited for."""
        self.begin()
        self.assertNoResult(self.resource.none())
        self.assertEqual(self.ended, ["streams"])

    def test_all(self) -> None:
        """The last request that ends, ends the wait."""
        first, second = self.begin(), self.begin()
        waiting = self.resource.none()
        first.finish()
        self.assertNoResult(waiting)
        second.finish()
        self.successResultOf(waiting)

    def test_client_gone(self) -> None:
        """A client that went away is not waited for."""
        request = self.begin()
        waiting = self.resource.none()
        request.processingFailed(Failure(ConnectionLost()))
        self.successResultOf(waiting)

    def test_given_up(self) -> None:
        """A wait that was given up does no harm to the others."""
        request = self.begin()
        first, second = self.resource.none(), self.resource.none()
        first.addErrback(lambda failure: None)
        first.cancel()
        request.finish()
        self.successResultOf(second)
