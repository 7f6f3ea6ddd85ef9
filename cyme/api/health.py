"""Routes that say whether the branch lives and whether it can work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cyme.api import answers
from cyme.api.problems import NotReady
from cyme.api.routing import READ, Route

#: What is away -> what is wrong with it; empty when the branch can do all of its work.
Readiness = Callable[[], Mapping[str, str]]


def routes(readiness: Readiness) -> tuple[Route, ...]:
    """The routes, which ask `readiness` at each request."""

    def ready(_: object) -> Mapping[str, str]:
        away = readiness()
        if away:
            raise NotReady(away)
        return {"ok": "ready"}

    return (
        Route(
            paths=("/ping/",),
            methods=READ,
            summary="whether the branch lives",
            is_common=True,
            verb=lambda controller: {"ok": "pong"},
            answer=answers.document,
            answers=((200, "it does"),),
        ),
        Route(
            paths=("/ready/",),
            methods=READ,
            summary="whether the branch has all that it needs",
            is_common=True,
            verb=ready,
            answer=answers.document,
            answers=((200, "it has"), (503, "what is away")),
        ),
    )
