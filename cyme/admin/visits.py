"""Who looks at a page, what they may do, and what they sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from cyme.errors import NoSuchApp, Refused

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from cyme.interfaces import IController


class Scope(IntEnum):
    """What a visitor may do; each includes the ones before it."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


class NotAllowed(Refused):
    """Something that the visitor's token is not for."""

    def __init__(self, scope: str) -> None:
        super().__init__(scope)

    def sentence(self) -> str:
        return f"this needs a token with the scope {self.arguments[0]!r}"


@frozen(kw_only=True)
class Visitor:
    """Who looks.

    :ivar name: that of the token, or None where nobody needs one.
    :ivar app: the only app that they may see; None for all.
    :ivar proof: what each of their forms has to bring back.
    """

    name: str | None
    scope: Scope
    proof: str
    app: str | None = None

    @property
    def may_operate(self) -> bool:
        """Whether they may have things run, stop, wait and go on."""
        return self.scope >= Scope.OPERATE

    @property
    def may_administer(self) -> bool:
        """Whether they may add, change and remove things."""
        return self.scope >= Scope.ADMIN


class Visitors(Protocol):
    """Knows who sends a request."""

    @property
    def log_in_is_needed(self) -> bool:
        """Whether there are tokens, so that who has none sees nothing."""

    def visitor(self, request: Request) -> Visitor | None:
        """Who sends a request; None for somebody who has to log in first."""

    def check_proof(self, request: Request, visitor: Visitor, proof: str) -> None:
        """Refuse a form that was not made for this visitor.

        :raises CrossSite: then.
        """

    def log_in(self, request: Request, token: str) -> Any:
        """Let in who has a token, by cookies of the answer; answers with whether it is one, or a Deferred.

        :raises CymeError: when it may not even be tried now.
        """

    def log_out(self, request: Request) -> None:
        """Forget who sends a request."""


@frozen(kw_only=True)
class Visit:
    """One request for a page.

    :ivar names: the segments of the path that name something.
    :ivar query: the fields of the query string; of those that were given twice the last one.
    :ivar form: the fields of the body, each with all of its values; empty where none was posted.
    :ivar accepts_missing: whether it is a page that fetches itself anew, see `cyme.admin.live`.
    """

    request: Request
    clock: IReactorTime
    controller: IController
    visitor: Visitor
    names: Mapping[str, str] = field(factory=dict)
    query: Mapping[str, str] = field(factory=dict)
    form: Mapping[str, Sequence[str]] = field(factory=dict)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.seconds()

    @property
    def is_post(self) -> bool:
        """Whether a form was posted."""
        return self.request.method == b"POST"

    def asked(self, name: str) -> str | None:
        """A field of the query string; None where it is not given or empty."""
        return self.query.get(name) or None

    def given(self, name: str) -> str:
        """The last value of a field of the form; an empty text where there is none."""
        values = self.form.get(name)
        return values[-1] if values else ""

    def app(self, wanted: str | None = None) -> str | None:
        """The app that a list is of: the only one that the visitor may see, else the one they want.

        :raises NoSuchApp: when they want another one than they may see.
        """
        only = self.visitor.app
        if only is not None and wanted not in (None, only):
            raise NoSuchApp(str(wanted))
        return only or wanted

    def require(self, scope: Scope) -> None:
        """Refuse who may not do something.

        :raises NotAllowed: then.
        """
        if self.visitor.scope < scope:
            raise NotAllowed(scope.name.lower())

    def require_everything(self) -> None:
        """Refuse who may see one app only.

        :raises NotAllowed: then.
        """
        if self.visitor.app is not None:
            raise NotAllowed("of all apps")
