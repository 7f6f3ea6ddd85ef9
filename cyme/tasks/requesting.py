"""Makes one attempt of a request: all its redirects, until there is a response or none."""

from __future__ import annotations

import base64
import functools
import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from cyme import __version__, targets
from cyme.targets import Rule, check_target, parse_rules, parse_url
from cyme.tasks.connecting import Deadline, connection
from cyme.tasks.contents import Content, as_json
from cyme.tasks.failures import (
    ConnectionFailed,
    InvalidRequest,
    RequestFailed,
    TargetRefused,
    TimedOut,
    TlsFailed,
    TooManyRedirects,
)
from cyme.tasks.redirects import Outgoing, redirected

#: Bytes that are read at once.
CHUNK = 65536

#: Headers that say how a message is sent, and are the sender's: two opinions on where a body ends
#: would let one request hide another.
_OURS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)


@dataclass(frozen=True)
class Limits:
    """What an attempt must keep to.

    :ivar timeout: seconds for all of it.
    :ivar max_response: bytes of content that are kept.
    """

    timeout: float = 60.0
    max_response: int = 1048576
    max_redirects: int = 10
    allow: Sequence[Rule] = ()
    deny: Sequence[Rule] = ()


@functools.lru_cache(maxsize=32)
def _rules(texts: tuple[str, ...]) -> tuple[Rule, ...]:
    """The rules of a request: those of its branch, the same for most."""
    return parse_rules(texts)


@dataclass(frozen=True)
class Response:
    """A response, and what of it is for the one who asked for it."""

    status_code: int
    url: str
    headers: dict[str, str]
    content: Content
    truncated: bool

    def header(self, name: str) -> str | None:
        """A header's value, whatever the case of its name."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    def as_json(self) -> dict[str, Any]:
        """What the task returns."""
        return dict(vars(self))


def read_limits(options: Mapping[str, Any]) -> Limits:
    """The limits that a task's options set.

    :raises InvalidRequest: when they can't be read.
    """
    try:
        return Limits(
            timeout=float(options.get("timeout", Limits.timeout)),
            max_response=int(options.get("max_response", Limits.max_response)),
            max_redirects=int(options.get("max_redirects", Limits.max_redirects)),
            allow=_rules(tuple(options.get("allow") or ())),
            deny=_rules(tuple(options.get("deny") or ())),
        )
    except (TypeError, ValueError) as problem:
        raise InvalidRequest(f"the options of the request can't be read: {problem}") from None


def read_request(request: Mapping[str, Any]) -> Outgoing:
    """The request that a task is about.

    :raises InvalidRequest: when it can't be read.
    :raises cyme.targets.TargetRefused: when its URL is none.
    """
    target = parse_url(request["url"])
    try:
        headers = tuple((str(name), str(value)) for name, value in request.get("headers") or ())
        body = None if request.get("body") is None else base64.b64decode(request["body"], validate=True)
    except (TypeError, ValueError) as problem:
        raise InvalidRequest(f"the request can't be read: {problem}") from None
    return Outgoing(str(request["method"]), target, headers, body)


def attempt(request: Mapping[str, Any], options: Mapping[str, Any]) -> Response:
    """Make a request.

    :param request: `{"method", "url", "headers": [[name, value], ...], "body": base64 or null}`.
    :raises RequestFailed: when there is no response; `TargetRefused` when it would go where it may
        not, at first or by a redirect.
    """
    limits = read_limits(options)
    deadline = Deadline(limits.timeout)
    try:
        outgoing = read_request(request)
        for _ in range(limits.max_redirects + 1):
            check_target(outgoing.target, limits.allow, limits.deny)
            answer = _exchange(outgoing, limits, deadline)
            if isinstance(answer, Response):
                return answer
            outgoing = answer
    except targets.TargetRefused as refusal:
        raise TargetRefused(str(refusal)) from None
    finally:
        deadline.close()
    raise TooManyRedirects(
        f"more than {limits.max_redirects} redirects; the last one leads to {outgoing.target.url[:1000]}"
    )


def _exchange(outgoing: Outgoing, limits: Limits, deadline: Deadline) -> Response | Outgoing:
    """Send a request to its target: the response, or the request that it asks for instead."""
    host = outgoing.target.authority
    try:
        line = connection(outgoing.target, limits.allow, limits.deny, deadline)
        try:
            try:
                line.request(
                    outgoing.method,
                    outgoing.target.selector,
                    body=outgoing.body,
                    headers=request_headers(outgoing),
                    preload_content=False,
                    decode_content=False,
                )
            except (BrokenPipeError, ConnectionResetError):
                # It may have answered before it had read all, as with 413.
                if line.sock is None:
                    raise
            response = line.getresponse()
            answer = _read(outgoing, response, limits, deadline)
        finally:
            line.close()
    except (RequestFailed, targets.TargetRefused):
        raise
    except Exception as problem:
        if deadline.is_over:
            raise deadline.failure() from None
        raise failure_of(problem, host) from None
    return answer


def failure_of(problem: Exception, host: str) -> RequestFailed:
    """What a library's exception means.

    :raises Exception: `problem` itself, when it means nothing about a request.
    """
    cause = problem.__cause__ or problem.__context__ or problem
    if isinstance(problem, (ssl.SSLError, SSLError)) or isinstance(cause, ssl.SSLError):
        return TlsFailed(f"no secure connection to {host}: {cause}")
    if isinstance(problem, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return TimedOut(f"{host} sent nothing in time")
    if isinstance(problem, (OSError, http.client.HTTPException, HTTPError)):
        text = str(problem) or type(problem).__name__
        return ConnectionFailed(f"{host} sent no complete HTTP response: {text[:1000]}")
    if isinstance(problem, ValueError):
        return InvalidRequest(f"HTTP can't say this request: {str(problem)[:1000]}")
    raise problem


def request_headers(outgoing: Outgoing) -> urllib3.HTTPHeaderDict:
    """The headers of a request: those given, less what is ours to say, and what is missing."""
    headers = urllib3.HTTPHeaderDict()
    for name, value in outgoing.headers:
        if name.lower() not in _OURS:
            try:
                value.encode("latin-1")
            except UnicodeError:
                value = value.encode().decode("latin-1")
            headers.add(name, value)
    if "host" not in headers:
        headers["Host"] = outgoing.target.authority
    headers.setdefault("User-Agent", f"Cyme/{__version__}")
    headers.setdefault("Accept", "*/*")
    headers.setdefault("Accept-Encoding", "identity")
    headers["Connection"] = "close"
    if outgoing.target.userinfo is not None:
        credentials = base64.b64encode(outgoing.target.userinfo.encode()).decode("ascii")
        headers.setdefault("Authorization", f"Basic {credentials}")
    return headers


def _read(
    outgoing: Outgoing, response: urllib3.BaseHTTPResponse, limits: Limits, deadline: Deadline
) -> Response | Outgoing:
    following = redirected(outgoing, response.status, response.headers.get("Location"))
    if following is not None:
        return following
    content = b""
    # A CONNECT that succeeds has no content, but a tunnel behind it (RFC 9110, 9.3.6).
    if outgoing.method != "CONNECT" or not 200 <= response.status < 300:
        content = _read_content(response, limits.max_response + 1)
    # The end of the time looks like the end of the content.
    deadline.remaining()
    # Values of a name that is repeated are joined, as RFC 9110, 5.3 has it.
    headers = {name: response.headers[name] for name in response.headers}
    is_cut = len(content) > limits.max_response
    return Response(
        status_code=response.status,
        url=outgoing.target.url,
        headers=headers,
        content=as_json(
            content[: limits.max_response],
            response.headers.get("Content-Type"),
            response.headers.get("Content-Encoding"),
            is_cut=is_cut,
        ),
        truncated=is_cut,
    )


def _read_content(response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    chunks = []
    while limit > 0:
        chunk = response.read(min(CHUNK, limit))
        if not chunk:
            break
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)
