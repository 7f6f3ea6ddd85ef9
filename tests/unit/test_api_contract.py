"""The HTTP contract, over the fake controller and over the real one."""

from __future__ import annotations

from tests.contracts.httpapi import make_http_api_tests
from tests.fakes.controller import FakeController
from tests.support.memorybranch import memory_branch


class FakeControllerHttpTests(make_http_api_tests(lambda test, clock: FakeController())):  # type: ignore[misc]
    """The API over the fake controller."""


class ControllerHttpTests(  # type: ignore[misc]
    make_http_api_tests(lambda test, clock: memory_branch(test, clock).controller)
):
    """The API over the real controller."""
