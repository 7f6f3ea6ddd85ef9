"""Who looks at a page, what they may do, and what they sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from cyme.access import Principal, Scope
from cyme.api.access import require
from cyme.api.problems import Forbidden
from cyme.errors import NoSuchApp
from cyme.narration import redacted

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from cyme.interfaces import IController


@frozen(kw_only=True)
class Visitor:
    """Who looks.

    :ivar proof: what each of their forms has to bring back; an empty text where it can bring nothing.
    """

    principal: Principal
    proof: str

    @property
    def name(self) -> str | None:
        """The name of their token, or None where nobody needs one."""
        return self.principal.name

    @property
    def app(self) -> str | None:
        """The only app that they may see; None for all."""
        return self.principal.app

    @property
    def may_operate(self) -> bool:
        """Whether they may have things run, stop, wait and go on."""
        return self.principal.allows(Scope.OPERATE)

    @property
    def may_administer(self) -> bool:
        """Whether they may add, change and remove things."""
        return self.principal.allows(Scope.ADMIN)


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

    def log_in(self, request: Request, token: str) -> Deferred[bool]:
        """Let in who has a token, by cookies of the answer; fires with whether it is one.

        :raises TooOften: when their address has guessed too often.
        """

    def log_out(self, request: Request) -> None:
        """Forget who sends a request."""


@frozen(kw_only=True)
class Visit:
    """One request for a page.

    :ivar names: the segments of the path that name something.
    :ivar query: the fields of the query string; of those that were given twice the last one.
    :ivar form: the fields of the body, each with all of its values; empty where none was posted.
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

        :raises Forbidden: then.
        """
        require(self.visitor.principal, scope, None)

    def require_everything(self) -> None:
        """Refuse who may see one app only.

        :raises Forbidden: then.
        """
        if self.visitor.app is not None:
            raise Forbidden(f"the token {self.visitor.name} is for the app {self.visitor.app!r} alone")

    def shown(self, value: Any) -> Any:
        """Something as this visitor may see it: without passwords, unless they may set them."""
        return value if self.visitor.principal.sees_secrets else redacted(value)


def comes_from_elsewhere(request: Request) -> bool:
    """Whether a link of another site was followed, see Note [Links from elsewhere] in
    `cyme.admin.session_visitors`."""
    sites = request.requestHeaders.getRawHeaders("Sec-Fetch-Site", [])
    return any(site.lower() in ("cross-site", "same-site") for site in sites)
