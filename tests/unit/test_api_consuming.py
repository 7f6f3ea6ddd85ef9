"""Consumers over HTTP: what is said of declarations that could not be tried."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from cyme.api.answers import UNTRIED, consuming


class ConsumingTests(SynchronousTestCase):
    """The answer to `PUT …/queues/QUEUE/`."""

    def body(self, tried: bool | None) -> bytes:
        request: Any = DummyRequest([b""])
        body = consuming(request, tried)
        self.assertEqual(request.responseCode, 201)
        return body

    def test_untried(self) -> None:
        """Where the transport has no declarations the answer says that none was tried."""
        self.assertIn(UNTRIED.encode(), self.body(False))

    def test_tried(self) -> None:
        """One that was tried, and one of a disabled instance, need no remark."""
        for tried in (True, None):
            self.assertEqual(self.body(tried), b'{"ok": "ok"}\n')
