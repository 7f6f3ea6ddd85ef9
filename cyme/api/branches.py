"""Routes of the branches of the cluster."""

from __future__ import annotations

from typing import Any

from cyme.api import answers
from cyme.api.routing import READ, WRITE, Answer, Route


def _action(action: str, summary: str, answer: Answer, described: str) -> Route:
    def verb(controller: Any, branch: str) -> Any:
        return getattr(controller.branches, action)(branch)

    return Route(
        paths=(f"/branches/<branch>/{action}/",),
        asynchronous_paths=(f"/branches/!/<branch>/{action}/",),
        methods=WRITE,
        summary=summary,
        verb=verb,
        answer=answer,
        scheduled=answers.scheduled,
        answers=((200, described),),
    )


ROUTES = (
    Route(
        paths=("/branches/",),
        methods=READ,
        summary="the ids of the live branches",
        is_common=True,
        verb=lambda controller: controller.branches.all(),
        answer=answers.listing,
        answers=((200, "the ids"),),
    ),
    Route(
        paths=("/branches/<branch>/",),
        methods=READ,
        summary="a branch: where it is and how it is",
        verb=lambda controller, branch: controller.branches.get(branch),
        answer=answers.document,
        answers=((200, "the branch"),),
    ),
    _action(
        "cordon",
        "have a branch take no new instances, also after it is started again",
        answers.document,
        "what was asked of the branch",
    ),
    _action(
        "uncordon",
        "have a branch take new instances again; a drain of it ends where it is",
        answers.document,
        "what was asked of the branch",
    ),
    _action(
        "drain",
        "have a branch take no new instances and move those that it has to others, one after another",
        answers.document,
        "it is asked for, durably; `draining` says how far it is",
    ),
    _action(
        "evacuate",
        "give the instances of a branch that is away to live ones",
        answers.document,
        "who has which, and what is left",
    ),
    _action("shutdown", "stop a branch in good order, as SIGTERM does", answers.done, "it is about to stop"),
)
