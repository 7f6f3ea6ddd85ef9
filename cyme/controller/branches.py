"""The verbs of branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyme.errors import NoSuchBranch

if TYPE_CHECKING:
    from cyme.membership import Membership


class Branches:
    """Shows the live branches."""

    def __init__(self, presence: Membership) -> None:
        self._presence = presence

    def all(self) -> list[str]:
        """The ids of the live branches."""
        return list(self._presence.members())

    def get(self, id: str) -> dict[str, Any]:
        """What a live branch says of itself; see `Presence.heartbeat`.

        :raises NoSuchBranch: when there is no live branch of that id.
        """
        about = self._presence.about(id)
        if about is None:
            raise NoSuchBranch(id)
        return about
