"""Keeps web pages from commanding a branch through the browser of somebody who can reach it.

A branch starts processes on request, and browsers send requests for any page that asks.
Three things hold that off: a request that changes something must not come from another
site, a branch on loopback must be called by a loopback name (else a page could make a
name of its own point there: DNS rebinding), and no answer may be read by a page of
another site unless the operator allowed its origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from twisted.web.server import Request

from cyme.api.problems import MalformedRequest
from cyme.errors import CrossSite

_LOOPBACK = re.compile(rb"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]*)?", re.IGNORECASE)

#: A path that needs no closer look: no escapes, no empty segment at its start.
_PLAIN_PATH = re.compile(rb"/([A-Za-z0-9._~!-][A-Za-z0-9._~!/-]*)?")

_METHOD = re.compile(rb"[A-Z]+")

#: The origin that stands for all; it opens reading only, never changes.
ANY = "*"


class Guard:
    """Decides which requests are let in, and which pages may read the answers.

    :param allowed_origins: like `https://panel.example.org`; pages from there may read
        and change. `*` lets every page read.
    :param check_host: whether `Host` must be a loopback name or address.
    """

    def __init__(self, *, allowed_origins: Iterable[str], check_host: bool) -> None:
        origins = {origin.lower().rstrip("/").encode("ascii") for origin in allowed_origins}
        self._anyone_reads = ANY.encode("ascii") in origins
        self._origins = frozenset(origins)
        self._check_host = check_host

    def check_request(self, request: Request, path: bytes) -> None:
        """Refuse what no route has to look at.

        :param path: as much of the request's path as is to be judged.
        :raises MalformedRequest: for a target, method or Host that makes no sense.
        :raises CrossSite: for a Host that is not the loopback's.
        """
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) != 1:
            if hosts or request.clientproto != b"HTTP/1.0":
                raise MalformedRequest("there must be one Host header")
        elif self._check_host and not _LOOPBACK.fullmatch(hosts[0]):
            raise CrossSite(
                "this branch listens on the loopback interface alone, and answers only requests whose "
                "Host is localhost or a loopback address"
            )
        if not _PLAIN_PATH.fullmatch(path):
            _check_path(path)
        if not _METHOD.fullmatch(request.method):
            raise MalformedRequest("the method must be in capital letters")

    def check_change(self, request: Request) -> None:
        """Refuse a request that changes something when a page of another site sent it.

        :raises CrossSite: then.
        """
        headers = request.requestHeaders
        origins = headers.getRawHeaders(b"Origin")
        if origins is not None:
            hosts = headers.getRawHeaders(b"Host", [b""])
            if all(self._may_change(origin.lower(), hosts[0].lower()) for origin in origins):
                return
            raise CrossSite(
                "a page of another site sent this request; only origins that this branch was told "
                "to allow may do that"
            )
        sites = headers.getRawHeaders(b"Sec-Fetch-Site", [])
        if any(site.lower() not in (b"same-origin", b"none") for site in sites):
            raise CrossSite("a browser sent this request on behalf of another site")

    def _may_change(self, origin: bytes, host: bytes) -> bool:
        if origin in self._origins and origin != ANY.encode("ascii"):
            return True
        _, separator, own = origin.partition(b"://")
        return bool(separator) and own == host

    def mark(self, request: Request) -> None:
        """Tell the browser whether a page of another site may read the answer (CORS)."""
        if not self._origins:
            return
        headers = request.responseHeaders
        if self._anyone_reads and request.method in (b"GET", b"HEAD"):
            headers.setRawHeaders(b"Access-Control-Allow-Origin", [b"*"])
            return
        headers.setRawHeaders(b"Vary", [b"Origin"])
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if len(origins) == 1 and origins[0].lower() in self._origins:
            headers.setRawHeaders(b"Access-Control-Allow-Origin", origins)
            headers.setRawHeaders(b"Access-Control-Expose-Headers", [b"Cyme-Missing, Location, Retry-After"])

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser asks what a page of another site may send, and sends nothing yet."""
        headers = request.requestHeaders
        return (
            request.method == b"OPTIONS"
            and headers.hasHeader(b"Origin")
            and headers.hasHeader(b"Access-Control-Request-Method")
        )

    def answer_preflight(self, request: Request, methods: bytes) -> None:
        """Tell the browser what a page of an allowed origin may send; for `OPTIONS`.

        :param methods: those that are served at the path, separated by commas.
        """
        headers = request.responseHeaders
        wanted = request.requestHeaders.hasHeader(b"Access-Control-Request-Method")
        if wanted and headers.hasHeader(b"Access-Control-Allow-Origin"):
            headers.setRawHeaders(b"Access-Control-Allow-Methods", [methods])
            headers.setRawHeaders(b"Access-Control-Allow-Headers", [b"Authorization, Content-Type"])
            headers.setRawHeaders(b"Access-Control-Max-Age", [b"86400"])


def _check_path(path: bytes) -> None:
    if not path.startswith(b"/"):
        raise MalformedRequest("its target must be a path")
    if path.startswith(b"//"):
        raise MalformedRequest("its path starts with two slashes")
    if re.search(rb"%2f", path, re.IGNORECASE):
        # Decoded, it would separate segments: no name may hold a slash.
        raise MalformedRequest("its path holds an encoded slash")
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("its path is not UTF-8") from None
