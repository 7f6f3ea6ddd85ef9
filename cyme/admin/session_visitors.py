"""Visitors by their sessions: who has logged in with a token, or anybody where there are no tokens.

Note [Links from elsewhere]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
The session's cookie is never sent along when a link on another site is followed (`SameSite=Strict`).
Who comes that way seems to have no session, and must not be given a new one: it would take the place of
the one that their other pages have, whose forms would then be refused. So they are shown the login, from
where a link goes on; or, where nobody needs to log in, the page with forms that can't be sent yet. It is
taken over with ones that can as soon as it fetches itself anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

from cyme.access import ANYBODY
from cyme.access.sessions import cookie
from cyme.admin.visits import Visitor, comes_from_elsewhere
from cyme.api.problems import TooOften, Unauthenticated
from cyme.errors import CrossSite

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from cyme.access.sessions import Session, Sessions
    from cyme.api.access import Access, HasTokens


class SessionVisitors:
    """Knows visitors by their sessions; see `cyme.admin.visits.Visitors`.

    :param file: what the token file says now.
    :param access: knows whose a token is, and slows those who guess.
    """

    def __init__(self, clock: IReactorTime, sessions: Sessions, file: HasTokens, access: Access) -> None:
        self._clock = clock
        self._sessions = sessions
        self._file = file
        self._access = access

    @property
    def log_in_is_needed(self) -> bool:
        return self._file.tokens is not None

    def visitor(self, request: Request) -> Visitor | None:
        session = self._session(request)
        if session is not None:
            return Visitor(principal=session.principal, proof=session.csrf)
        if self.log_in_is_needed:
            return None
        if comes_from_elsewhere(request):
            return Visitor(principal=ANYBODY, proof="")
        session = self._sessions.open(ANYBODY)
        self._give(request, session)
        return Visitor(principal=ANYBODY, proof=session.csrf)

    def check_proof(self, request: Request, visitor: Visitor, proof: str) -> None:
        session = self._session(request)
        if session is None or not session.is_csrf(proof):
            raise CrossSite(
                "this form is from another visit, or from before the branch was started again;"
                " go back, reload the page and try again"
            )

    def log_in(self, request: Request, token: str) -> Deferred[bool]:
        try:
            principal = self._access.holder(request, token)
        except Unauthenticated as problem:
            return deferLater(self._clock, problem.wait, bool)
        except TooOften:
            return fail()
        before = self._session(request)
        if before is not None:
            self._sessions.close(before)
        self._give(request, self._sessions.open(principal))
        return succeed(True)

    def log_out(self, request: Request) -> None:
        session = self._session(request)
        if session is not None:
            self._sessions.close(session)
        self._give(request, None)

    # -- inside -------------------------------------------------------------------------

    def _session(self, request: Request) -> Session | None:
        headers = request.requestHeaders.getRawHeaders("Cookie", [])
        return self._sessions.find("; ".join(headers))

    def _give(self, request: Request, session: Session | None) -> None:
        request.responseHeaders.addRawHeader("Set-Cookie", cookie(session, is_secure=request.isSecure()))
