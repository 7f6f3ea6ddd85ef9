"""What becomes of a request that is sent on to another URL. Pure.

As browsers do it (the Fetch standard, "HTTP-redirect fetch"): 303 makes everything but HEAD a GET;
301 and 302 make a POST a GET; 307 and 308 change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

from cyme.targets import Target, TargetRefused, parse_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Headers that speak of a body.
_OF_THE_BODY = ("content-",)
#: Headers that are meant for one origin, and are nobody else's business.
_OF_THE_ORIGIN = frozenset({"authorization", "cookie", "host", "proxy-authorization"})


@dataclass(frozen=True)
class Outgoing:
    """A request as it goes to one target."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


def redirected(request: Outgoing, status: int, location: str | None) -> Outgoing | None:
    """The request that a response asks for; None when it asks for none.

    :raises TargetRefused: when the `Location` is none that can be requested.
    """
    if status not in REDIRECTS or not location:
        return None
    try:
        url = urljoin(request.target.url, location)
    except ValueError:
        raise TargetRefused("the URL of the redirect can't be read") from None
    target = parse_url(url)
    method, body, headers = request.method, request.body, request.headers
    if (status == 303 and method not in ("GET", "HEAD")) or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = tuple(each for each in headers if not each[0].lower().startswith(_OF_THE_BODY))
    if target.origin != request.target.origin:
        headers = tuple(each for each in headers if each[0].lower() not in _OF_THE_ORIGIN)
    return Outgoing(method, target, headers, body)
