"""Where a request to `/APP/queue/...` is to be queued, and for which URL: from its target as it was sent.

Note [URLs in paths]
~~~~~~~~~~~~~~~~~~~~
The URL stands in the path as it is, and its query string is the request's own; so both are taken
from the bytes of the request line, and nothing of them is decoded. There are three other spellings,
for what stands between a client and the branch, or for clients that can't write the first one:

* `http:/HOST/...`: a proxy has merged the slashes;
* `http%3A%2F%2FHOST%2F...`: all of the URL as one segment, decoded once; what the request has as
  a query string of its own comes behind it;
* `?url=...` and no URL in the path: decoded once, and `+` stays a plus sign: a URL has no spaces.

What follows `queue/` is a queue's name unless it begins like a URL. So no queue that is called
`http:` or `https:` can be named here. Bytes that a request line can't carry are percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from attrs import frozen

from cyme.api.problems import MalformedRequest
from cyme.errors import InvalidParameter, InvalidTarget

_ROUTE = re.compile(rb"(/([^/?]+)/queue)(?:[/?]|\Z)")
_SCHEME = re.compile(rb"(https?)(?::|%3A)(//?|(?:%2F){1,2})", re.IGNORECASE)
_UNSENDABLE = re.compile(rb"[^\x21-\x7e]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@frozen
class Destination:
    """What a request to `/APP/queue/...` asks for.

    :ivar queue: None for the app's default queue.
    """

    app: str
    queue: str | None
    url: str


def queueing_prefix(target: bytes, roots: Collection[bytes]) -> bytes | None:
    """The `/APP/queue` that a request target begins with, or None when it is for another route.

    :param roots: first segments that are no apps.
    """
    found = _ROUTE.match(target)
    return None if found is None or found[2] in roots else found[1]


def destination(target: bytes) -> Destination:
    """Read the target of a request to `/APP/queue/...`, see Note [URLs in paths].

    :raises MalformedRequest: when a name in it is not UTF-8.
    :raises InvalidTarget, InvalidParameter: when there is no URL in it, or several.
    """
    path, mark, query = target.partition(b"?")
    app, _, rest = path[1:].partition(b"/queue")
    rest = rest[1:]
    queue = None
    if not _SCHEME.match(rest):
        segment, _, rest = rest.partition(b"/")
        queue = _name(segment) if segment else None
    url = _from_path(rest, mark + query) if rest else _from_field(query)
    return Destination(_name(app), queue, url)


def _name(segment: bytes) -> str:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("its path is not UTF-8") from None


def _from_path(rest: bytes, query: bytes) -> str:
    """The URL that stands in a path.

    :param query: with its question mark, if there is one.
    """
    found = _SCHEME.match(rest)
    if found is None:
        raise InvalidTarget(
            "behind the queue's name there must be a URL that begins with http:// or https://"
        )
    tail = rest[found.end() :]
    if found[2].startswith(b"%"):
        # The slash at the end of the segment is this API's.
        tail = unquote_to_bytes(tail.removesuffix(b"/")).partition(b"#")[0]
        if b"?" in tail:
            query = query.replace(b"?", b"&", 1)
    return _text(found[1].lower() + b"://" + tail + query)


def _from_field(query: bytes) -> str:
    fields = [field.partition(b"=") for field in query.split(b"&") if field]
    if not fields:
        raise InvalidTarget("there is no URL: it goes behind the queue's name, or into the parameter 'url'")
    names = [name for name, _, _ in fields]
    if names != [b"url"]:
        problem = "must be the only parameter where there is no URL in the path; percent-encode its own '&'"
        raise InvalidParameter("url", problem)
    return _text(unquote_to_bytes(fields[0][2]).partition(b"#")[0])


def _text(url: bytes) -> str:
    if _CONTROL.search(url):
        raise InvalidTarget("the URL has control characters")
    return _UNSENDABLE.sub(lambda byte: b"%%%02X" % byte[0][0], url).decode("ascii")
