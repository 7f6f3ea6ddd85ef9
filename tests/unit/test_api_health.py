"""Health over HTTP: what a load balancer sees."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.answers import HEALTHY
from cyme.api.site import Limits, make_site
from cyme.supervisor.health import Verdict
from tests.fakes.controller import FakeController
from tests.support.httpmemory import request


class HealthTests(SynchronousTestCase):
    """The status of a verdict."""

    def test_sick(self) -> None:
        """Health that is not well is 503, with the evidence in its body and not as a problem."""
        controller = FakeController()
        clock = Clock()
        site = make_site(
            clock,
            controller,
            limits=Limits(request_body=1024), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )
        self.successResultOf(controller.apps.add("foo"))
        self.successResultOf(controller.instances.add("foo", "w1", is_enabled=False))
        answer = request(site, "GET", "/foo/instances/w1/health/")
        self.assertEqual((answer.status, answer.json["verdict"]), (503, "disabled"))
        self.assertEqual(answer.header("Content-Type"), "application/json")

    def test_vocabulary(self) -> None:
        """The verdicts that are well are words of the vocabulary."""
        self.assertLessEqual(HEALTHY, {verdict.value for verdict in Verdict})
