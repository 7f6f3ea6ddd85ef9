"""Routes of the branches of the cluster."""

from __future__ import annotations

from cyme.api import answers
from cyme.api.routing import READ, Route

ROUTES = (
    Route(
        paths=("/branches/",),
        methods=READ,
        summary="the ids of the live branches",
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
)
