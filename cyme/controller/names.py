"""What things may be called (http-api.md, "Names")."""

from __future__ import annotations

from cyme.errors import InvalidName
from cyme.naming import BRANCH_FILES, QUEUE_NAME_MOST, is_plain_name, is_queue_name

_NAME_TAKES = "takes 1 to 128 of the characters A-Z a-z 0-9 . _ - and begins with a letter or a digit"

#: An app's name is the first part of a path: these are other routes, now or later.
RESERVED_APPS = frozenset(
    {
        "admin",
        "branches",
        "events",
        "favicon.ico",
        "instance",
        "instances",
        "metrics",
        "openapi.json",
        "ping",
        "queries",
        "query",
        "queue",
        "queues",
        "ready",
        "robots.txt",
        "static",
    }
)


def app_name(name: object) -> str:
    """An app's name.

    :raises InvalidName: when it can't be one.
    """
    checked = _plain("app", name)
    if checked in RESERVED_APPS:
        raise InvalidName("app", checked, "is the name of another route; choose another one")
    return checked


def instance_name(name: object) -> str:
    """An instance's name.

    :raises InvalidName: when it can't be one.
    """
    checked = _plain("instance", name)
    if checked.startswith(BRANCH_FILES):
        problem = f"must not begin with '{BRANCH_FILES}'; the branch's own files do"
        raise InvalidName("instance", checked, problem)
    return checked


def queue_name(name: object) -> str:
    """A queue's name.

    :raises InvalidName: when it can't be one.
    """
    checked = _text("queue", name)
    if not is_queue_name(checked):
        problem = f"takes 1 to {QUEUE_NAME_MOST} bytes of printable characters other than '/'"
        raise InvalidName("queue", checked[:100], problem)
    if checked == "!":
        raise InvalidName("queue", checked, "makes a request asynchronous in a path; choose another one")
    return checked


def _plain(kind: str, name: object) -> str:
    checked = _text(kind, name)
    if not is_plain_name(checked):
        raise InvalidName(kind, checked[:100], _NAME_TAKES)
    return checked


def _text(kind: str, name: object) -> str:
    if not isinstance(name, str):
        raise InvalidName(kind, str(name)[:100], "is not text")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidName(kind, ascii(name[:100]), "is not UTF-8") from None
    return name
