"""Who sends a request, by its headers, and whether a route is for them."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.address import UNIXAddress

from cyme.access.principals import ANYBODY, Principal, Scope
from cyme.access.throttle import Guesses, Rates
from cyme.addresses import is_loopback
from cyme.api.problems import Forbidden, TooOften, Unauthenticated
from cyme.asking import Asker

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from cyme.access.tokens import Tokens
    from cyme.api.routing import Route

#: What needs no token where `--open-metrics` is given.
OPEN_PATHS = frozenset({b"/ping", b"/ready", b"/metrics"})
#: Whoever asks for one of these without a token.
PASSER_BY = Principal(None, Scope.READ)
#: The longest header that is looked at, in bytes.
HEADER_MOST = 4096


class HasTokens(Protocol):
    """What is used of `cyme.access.tokenfile.TokenFile`."""

    @property
    def tokens(self) -> Tokens | None: ...


class Access:
    """Finds out who sends a request.

    :param file: what the token file says now.
    :param rate: requests a second that one address may send, this machine's own excepted; 0 is no limit.
    :param open_metrics: whether `OPEN_PATHS` need no token.
    """

    def __init__(self, clock: IReactorTime, file: HasTokens, *, rate: float, open_metrics: bool) -> None:
        self._file = file
        self._open_metrics = open_metrics
        self._guesses = Guesses(clock)
        self._rates = Rates(clock, rate) if rate else None

    def principal(self, request: Request) -> Principal:
        """Who sends a request.

        :raises TooOften: when their address has sent too many.
        :raises Unauthenticated: when there are tokens, and they have none that is right.
        """
        self.check_rate(request)
        if self._file.tokens is None:
            return ANYBODY
        if self._open_metrics and request.path.rstrip(b"/") in OPEN_PATHS:
            return PASSER_BY
        token = _token(request)
        if token is None:
            raise Unauthenticated("it needs a token: Authorization: Bearer TOKEN, or Basic, as the password")
        return self.holder(request, token)

    def check_rate(self, request: Request) -> None:
        """Refuse a request of an address that has sent too many.

        :raises TooOften: then.
        """
        if self._rates is None:
            return
        address = address_of(request)
        if address is not None and not is_loopback(address) and not self._rates.allows(address):
            raise TooOften("this address sends more requests a second than --request-rate allows")

    def holder(self, request: Request, token: str) -> Principal:
        """Who has a token that came in a request.

        :raises TooOften: when their address has guessed too often.
        :raises Unauthenticated: when nobody has it; says how long the answer is to be put off.
        """
        tokens = self._file.tokens
        found = None if tokens is None else tokens.find(token)
        if found is None:
            wait = self._guesses.failed(address_of(request) or "unix")
            if wait is None:
                raise TooOften("this address has sent too many wrong tokens")
            raise Unauthenticated("its token is not one of this branch's", wait)
        return found


def admit(principal: Principal, route: Route, names: dict[str, str]) -> dict[str, str]:
    """The names of a path, narrowed to the only app of somebody who has but one.

    :raises Forbidden: when the route, or that app, is not for them.
    """
    require(principal, route.needs, names.get("app"))
    if principal.app is None or "app" in names or route.is_common:
        return names
    if not route.is_narrowed:
        raise Forbidden(f"the token {principal.name} is for the app {principal.app!r} alone")
    return {**names, "app": principal.app}


def require(principal: Principal, scope: Scope, app: str | None) -> None:
    """Refuse what is not for somebody.

    :param app: whose it is, or None.
    :raises Forbidden: then.
    """
    if not principal.allows(scope):
        has = f"has {principal.scope.word}" if principal.name else "is missing"
        raise Forbidden(f"this needs the scope {scope.word}, and the token {principal.name or ''} {has}")
    if None not in (principal.app, app) and app != principal.app:
        raise Forbidden(f"the token {principal.name} is for the app {principal.app!r} alone")


def principal_of(request: Request) -> Principal:
    """Who sends a request, as the site has found out."""
    principal: Principal = getattr(request, "principal", ANYBODY)
    return principal


def asker_of(request: Request) -> Asker:
    """Who sends a request, as the why-log names them: token and address."""
    where = f"http {address_of(request) or ''}".rstrip()
    client = request.getClientAddress()
    if isinstance(client, UNIXAddress):
        where = "http unix"
    name = principal_of(request).name
    return Asker(f"{name}, {where}" if name else where)


def address_of(request: Request) -> str | None:
    """The address of who sends a request; None where it has none."""
    return getattr(request.getClientAddress(), "host", None)


def _token(request: Request) -> str | None:
    """The token that a request brings, or None.

    :raises Unauthenticated: when it brings something else.
    """
    headers: Any = request.requestHeaders.getRawHeaders(b"authorization")
    if not headers:
        return None
    if len(headers) > 1 or len(headers[0]) > HEADER_MOST:
        raise Unauthenticated("there must be one Authorization header, of a sane length")
    scheme, _, rest = headers[0].partition(b" ")
    if scheme.lower() == b"bearer":
        return str(rest.strip().decode("latin-1"))
    if scheme.lower() == b"basic":
        try:
            text = b64decode(rest.strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("its Basic credentials are no base64 of UTF-8 text") from None
        return text.partition(":")[2]
    raise Unauthenticated("its Authorization is neither Bearer nor Basic")
