"""The HTTP contract, over the fake controller and over the real one."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.facade import Controller
from tests.contracts.httpapi import make_http_api_tests
from tests.fakes.controller import FakeController
from tests.support.memorybranch import memory_branch


class FakeControllerHttpTests(make_http_api_tests(lambda test, clock: FakeController())):  # type: ignore[misc]
    """The API over the fake controller."""


def real_controller(test: SynchronousTestCase, clock: Clock) -> Controller:
    """The real controller, on nothing but memory."""
    return memory_branch(test, clock).controller


class ControllerHttpTests(make_http_api_tests(real_controller)):  # type: ignore[misc]
    """The API over the real controller."""
