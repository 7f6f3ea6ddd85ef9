"""Visitors of a branch without tokens: everybody who can reach it may do everything.

A form must have been made for the browser that posts it all the same: the guard refuses what browsers
say comes from another site, and this what an old one does not say. The browser is known by a random
cookie; the proof in its forms is made of that with a secret that lives as long as the branch does.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest, new
from typing import TYPE_CHECKING, Any

from cyme.admin.visits import Scope, Visitor
from cyme.errors import CrossSite

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.web.server import Request

COOKIE = b"cyme_visit"
#: Characters that a cookie has, as many as `new_name` makes at most.
LENGTH_MOST = 128


class OpenVisitors:
    """Lets everybody in; see `cyme.admin.visits.Visitors`.

    :param secret: nobody else knows it.
    :param new_name: makes a name that nobody guesses.
    """

    log_in_is_needed = False

    def __init__(self, secret: bytes, new_name: Callable[[], str]) -> None:
        self._secret = secret
        self._new_name = new_name

    def visitor(self, request: Request) -> Visitor:
        name = request.getCookie(COOKIE) or b""
        if not name.isalnum() or len(name) > LENGTH_MOST:
            name = self._new_name().encode("ascii")
            request.addCookie(COOKIE, name, path=b"/admin/", httpOnly=True, sameSite=b"strict")
        proof = new(self._secret, name, sha256).hexdigest()
        return Visitor(name=None, scope=Scope.ADMIN, proof=proof)

    def check_proof(self, request: Request, visitor: Visitor, proof: str) -> None:
        if not compare_digest(proof.encode("utf-8", "replace"), visitor.proof.encode("ascii")):
            raise CrossSite(
                "this form is from another visit, or from before the branch was started again;"
                " go back, reload the page and try again"
            )

    def log_in(self, request: Request, token: str) -> Any:
        return True

    def log_out(self, request: Request) -> None:
        pass
