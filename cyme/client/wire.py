"""Requests and answers as values: what both clients share, and what neither sends or receives itself.

A `Call` is a request together with the function that reads its answer. The sessions send calls
(`cyme.client.synchronous`, `cyme.client.aio`); `cyme.client.calls` makes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from attrs import field, frozen

from cyme.client.errors import MalformedAnswer, Problem, class_of

T = TypeVar("T")

#: How much of an answer that is no JSON an error repeats, in characters.
QUOTED = 200
#: The host in the URLs and headers of requests over a Unix socket, where there is none.
NO_HOST = "localhost"
_UNIX = "unix:"
_JSON = "application/json"
_PROBLEM = "application/problem+json"


@frozen(kw_only=True)
class Request:
    """One HTTP request, relative to the URL of a branch.

    :ivar path: percent-encoded, begins with a slash.
    :ivar query: percent-encoded, without its question mark.
    """

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


@frozen(kw_only=True)
class Answer:
    """One HTTP answer, read to its end.

    :ivar headers: names in lower case.
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """Seconds that `Retry-After` asks for; None without it, or where it is a date."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None


@frozen(kw_only=True)
class Call(Generic[T]):
    """A request, and what its answer means.

    :ivar read: makes the result of an answer that is no problem.
    :ivar is_safe: whether sending it twice changes nothing, so that it may be tried again.
    :ivar patience: seconds that the branch may take beside the session's time-out.
    :ivar also: statuses of 400 and above that are answers, if they are JSON and no problem.
    """

    request: Request
    read: Callable[[Answer], T]
    is_safe: bool = False
    patience: float = 0.0
    also: frozenset[int] = frozenset()

    def is_answer(self, answer: Answer) -> bool:
        """Whether the branch did what it was asked."""
        if 200 <= answer.status < 300:
            return True
        return answer.status in self.also and answer.content_type == _JSON

    def result(self, answer: Answer, url: str) -> T:
        """What the answer says.

        :param url: of the branch, for errors.
        :raises Problem: when the branch would or could not do it.
        :raises MalformedAnswer: when it is no answer of a branch.
        """
        if not self.is_answer(answer):
            raise problem_of(answer, self.request, url)
        try:
            return self.read(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MalformedAnswer(
                self.request.method, shown(url, self.request), f"the answer can't be read: {error}"
            ) from None


def problem_of(answer: Answer, request: Request, url: str) -> Problem | MalformedAnswer:
    """The error that an answer tells of."""
    document: Any = None
    if answer.content_type in (_PROBLEM, _JSON):
        try:
            document = json.loads(answer.body)
        except ValueError:
            document = None
    if not isinstance(document, dict):
        if answer.status in (401, 403, 429) or answer.status >= 500:
            # A proxy before the branch may answer these in words of its own.
            text = answer.body[: 4 * QUOTED].decode("utf-8", "replace")[:QUOTED].strip()
            detail = f"{request.method} {shown(url, request)} was answered with {answer.status}: {text}"
            return class_of(answer.status, None)(answer.status, detail, retry_after=answer.retry_after)
        return MalformedAnswer(
            request.method,
            shown(url, request),
            f"it was answered with {answer.status} and {answer.content_type or 'no type'}; is it a branch?",
        )
    kind = str(document.get("type") or "").rpartition(":")[2] or None
    detail = str(document.get("detail") or document.get("title") or f"status {answer.status}")
    return class_of(answer.status, kind)(
        answer.status, detail, kind=kind, document=document, retry_after=answer.retry_after
    )


def shown(url: str, request: Request) -> str:
    """The URL of a request for people: without its query, which may hold secrets."""
    if socket_of(url) is not None:
        return f"{url} {request.path}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}{request.path}"


def socket_of(url: str) -> str | None:
    """The path of the Unix socket that the URL of a branch names; None when it names a host."""
    return url[len(_UNIX) :] if url.startswith(_UNIX) else None


def checked_url(url: str) -> str:
    """The URL of a branch without a slash at its end; `unix:PATH` stays as it is.

    :raises ValueError: when it is none.
    """
    socket = socket_of(url)
    if socket:
        return url
    text = url if "://" in url else f"http://{url}"
    parts = urlsplit(text)
    is_http = parts.scheme in ("http", "https") and parts.hostname
    if socket is not None or not is_http or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the URL of a branch, like http://localhost:8000 or unix:PATH")
    return text.rstrip("/")


def checked_token(token: str | None) -> str | None:
    """A token that may stand in a header.

    :raises ValueError: when it can't; it is not repeated.
    """
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("the token must be printable characters of ASCII, without spaces")
    return token


def path(*segments: str) -> str:
    """A path of names, each percent-encoded; `!` stays."""
    return "/" + "".join(f"{_segment(one)}/" for one in segments)


def _segment(text: str) -> str:
    if not text:
        raise ValueError("a name must not be empty")
    encoded = text if text == "!" else quote(text, safe="")
    # What a URL would take for a step up is a name here.
    return encoded.replace(".", "%2E") if text in (".", "..") else encoded


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}


def query_of(parameters: Mapping[str, Any]) -> str:
    """A query string of those that are not None; lists become several of one name."""
    pairs: list[tuple[str, str]] = []
    for name, value in given(parameters).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, _text(one)) for one in values]
    return urlencode(pairs)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def json_body(parameters: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], bytes | None]:
    """Headers and body of a request that says `parameters`; no body without any."""
    fields = given(parameters)
    if not fields:
        return (), None
    return (("Content-Type", _JSON),), json.dumps(fields, allow_nan=False).encode("ascii")


def read_json(answer: Answer) -> Any:
    """The JSON of an answer."""
    return json.loads(answer.body)


def read_object(answer: Answer) -> Any:
    """The JSON object of an answer."""
    value = json.loads(answer.body)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def read_names(answer: Answer) -> list[str]:
    """A list of names."""
    value = json.loads(answer.body)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("it is not a list of names")
    return Listing(value, missing_in(answer))


def read_objects(answer: Answer) -> Listing[Any]:
    """A list of JSON objects."""
    value = json.loads(answer.body)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("it is not a list of objects")
    return Listing(value, missing_in(answer))


def missing_in(answer: Answer) -> list[str]:
    """The ids of the branches that could not be heard for a list."""
    return [one for each in answer.headers.get("cyme-missing", "").split(",") if (one := each.strip())]


def read_text(answer: Answer) -> str:
    """The text of an answer."""
    return answer.body.decode("utf-8", "replace")


def read_nothing(answer: Answer) -> None:
    """Nothing: that it was done is all there is to tell."""


class Listing(list[T]):
    """Names or other things, and in `missing` the ids of branches that could not be heard."""

    def __init__(self, things: list[T], missing: list[str]) -> None:
        super().__init__(things)
        self.missing = missing

    def add(self, page: Listing[T]) -> None:
        """Add what comes behind this."""
        self.extend(page)
        self.missing = sorted({*self.missing, *page.missing})
