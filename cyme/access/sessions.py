"""Who has logged in to the pages, and what shows that a form came from one of them.

For the pages (`cyme.admin`): a login form takes a token, `Sessions.open` makes a session of whose it
is, and `cookie` is the `Set-Cookie` header that gives it to the browser. Each later request brings the
cookie back: `find` says whose it is, or that there is none any more. Every form carries the session's
`csrf` in a hidden field, and what a form asks for is done only if `is_csrf` says so. A branch without
tokens has no login: it opens a session for `ANYBODY` at the first page, for the sake of `csrf`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from attrs import frozen

from cyme.access.principals import ANYBODY, Principal

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: The name of the cookie.
COOKIE = "cyme-session"
#: Bytes of chance in a session's id and in its CSRF token.
RANDOM_BYTES = 32
#: Seconds after which a session ends that is not used.
IDLE = 12 * 3600.0
#: Seconds after which it ends in any case.
LASTS = 7 * 24 * 3600.0
#: The most sessions at once; of more, those that were used longest ago end.
SESSIONS_MOST = 10_000


@frozen
class Session:
    """One browser.

    :ivar id: the cookie's value; a secret.
    :ivar csrf: what its forms carry; a secret of the pages and the branch.
    :ivar opened_at: seconds since the epoch.
    """

    id: str
    csrf: str
    principal: Principal
    opened_at: float

    def is_csrf(self, given: str | None) -> bool:
        """Whether a form came from one of this session's pages; compared in constant time."""
        return compare_digest(self.csrf.encode(), (given or "").encode("utf-8", "surrogatepass"))


class Sessions:
    """The sessions of one branch, in memory: they end with it.

    :param token_bytes: see `secrets.token_bytes`.
    :param is_valid: whether somebody still has a token; a session ends with its token.
    """

    def __init__(
        self,
        clock: IReactorTime,
        token_bytes: Callable[[int], bytes],
        is_valid: Callable[[Principal], bool],
    ) -> None:
        self._clock = clock
        self._token_bytes = token_bytes
        self._is_valid = is_valid
        # Those used last are at the end.
        self._open: OrderedDict[str, tuple[Session, float]] = OrderedDict()

    def open(self, principal: Principal) -> Session:
        """A new session, with an id that nobody had before: a login never goes on with an old one."""
        now = self._clock.seconds()
        session = Session(self._random(), self._random(), principal, now)
        self._open[session.id] = (session, now)
        if len(self._open) > SESSIONS_MOST:
            self._open.popitem(last=False)
        return session

    def find(self, cookies: str | None) -> Session | None:
        """The session of a request.

        :param cookies: its `Cookie` header.
        """
        id = _read(cookies)
        # Looked up and not compared: who guesses ids learns nothing from how long it takes to miss
        # in a table whose order is random.
        session, used_at = self._open.get(id, (None, 0.0))
        if session is None:
            return None
        now = self._clock.seconds()
        if now > used_at + IDLE or now > session.opened_at + LASTS or not self._is_valid(session.principal):
            self.close(session)
            return None
        self._open[session.id] = (session, now)
        self._open.move_to_end(session.id)
        return session

    def close(self, session: Session) -> None:
        """End a session; no error if it has ended."""
        self._open.pop(session.id, None)

    def _random(self) -> str:
        return self._token_bytes(RANDOM_BYTES).hex()


def cookie(session: Session | None, *, is_secure: bool) -> str:
    """The `Set-Cookie` header that gives a browser its session, or (None) takes it away.

    :param is_secure: whether the request came by TLS.
    """
    kept = f"{session.id}" if session is not None else "; Max-Age=0"
    ends = "" if session is None or session.principal == ANYBODY else f"; Max-Age={LASTS:.0f}"
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={kept}{ends}; Path=/; HttpOnly; SameSite=Strict{secure}"


def _read(cookies: str | None) -> str:
    if not cookies or len(cookies) > 4096:
        return ""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
