"""Who somebody is, and what that allows."""

from __future__ import annotations

from enum import IntEnum

from attrs import frozen


class Scope(IntEnum):
    """How much is allowed; each holds those before it.

    `READ` looks at things, but at no passwords. `OPERATE` steers what is declared: starts, stops and
    scales workers, pauses queues, queues tasks and revokes them. `ADMIN` declares and deletes, and
    with that decides which programs run; and it has branches moved and stopped.
    """

    READ = 1
    OPERATE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As token files and errors write it."""
        return self.name.lower()


@frozen
class Principal:
    """Somebody who asks.

    :ivar name: of the token; None for everybody, where there are no tokens.
    :ivar app: the only app that is theirs, or None for all.
    """

    name: str | None
    scope: Scope
    app: str | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether something that needs a scope is allowed."""
        return self.scope >= scope

    @property
    def sees_secrets(self) -> bool:
        """Whether passwords are shown to them: whoever may set one may see it."""
        return self.scope is Scope.ADMIN


#: Whoever asks a branch without tokens.
ANYBODY = Principal(None, Scope.ADMIN)
