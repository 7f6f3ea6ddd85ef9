"""A channel: calls that are written whole or not at all, and messages that are whole when they come.

See Note [What is mended] in `client`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed, ConnectionClosed
from txamqp.content import Content
from txamqp.message import Message
from txamqp.protocol import AMQChannel

from cyme.bus.amqp.fields import Malformed, Unencodable
from cyme.bus.amqp.frames import (
    BODY,
    HEADER,
    METHOD,
    ContentHeader,
    content_frames,
    method_frame,
    read_header,
    read_method,
)


class Listener(Protocol):
    """What is told of what comes on a channel without having been asked for."""

    def delivered(self, message: Any) -> None:
        """A message; its content is None where it was malformed or too long."""

    def returned(self, properties: Mapping[str, Any]) -> None:
        """A mandatory message that no queue took."""

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        """What was published under a number, or under all up to it, was taken or refused."""

    def cancelled(self, consumer: str) -> None:
        """The server ended a consumer."""

    def closed(self, reason: Exception) -> None:
        """The channel is closed; nothing comes any more."""


def problem_of(error: BaseException) -> str:
    """What an error says, for people; what the server said, where it did."""
    reason = error.args[0] if isinstance(error, Closed) and error.args else None
    if isinstance(reason, Message):
        return f"{reason.reply_code}: {reason.reply_text}"
    said = getattr(reason, "value", reason) if reason is not None else error
    if isinstance(said, TimeoutError):
        return "it does not answer"
    problems = said.args[0] if isinstance(said, Exception) and said.args else None
    if isinstance(problems, list) and all(isinstance(one, tuple) and one for one in problems):
        # So OpenSSL says it: (library, function, reason) each.
        return ", ".join(str(one[-1]) for one in problems)
    return str(said) or type(said).__name__


def code_of(error: BaseException) -> int:
    """The server's code of what closed a channel or a connection; 0 where it said none."""
    reason = error.args[0] if isinstance(error, Closed) and error.args else None
    return int(reason.reply_code) if isinstance(reason, Message) else 0


class Channel(AMQChannel):  # type: ignore[misc]
    """A channel whose calls are written whole or not at all.

    The methods are those that txamqp makes of the specification; each gives a Deferred of the
    server's answer, or of None where it gives none.

    :ivar listener: see `Listener`; set before anything can come.
    """

    _log = Logger()
    closed: bool

    def __init__(self, id: int, outgoing: Any, client: Any) -> None:
        super().__init__(id, outgoing, client)
        self.listener: Listener | None = None
        self._awaited: deque[tuple[Any, Deferred[Any]]] = deque()
        self._method: tuple[Any, tuple[Any, ...]] | None = None
        self._header: ContentHeader | None = None
        self._pieces: list[bytes] = []
        self._left = 0

    def invoke(self, method: Any, args: Any, content: Any = None) -> Deferred[Any]:
        """Call a method of the server.

        Fails with `Unencodable` when the call can't be said, which harms nothing else, and with
        txamqp's `Closed` when the channel is closed before the answer.
        """
        if self.closed:
            return fail(self.reason)
        try:
            frames = [method_frame(self.id, method, args)]
            if method.content:
                given = Content(b"") if content is None else content
                most = self.client.MAX_LENGTH
                frames += content_frames(self.id, method.klass, given.properties, given.body, most)
        except Unencodable as problem:
            return fail(problem)
        self.client.write(b"".join(frames))
        nowait = method.fields.byname.get("nowait")
        if not method.responses or (nowait is not None and args[method.fields.index(nowait)]):
            return succeed(None)
        answer: Deferred[Any] = Deferred()
        self._awaited.append((method, answer))
        return answer

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame.

        :raises Malformed: when the server broke the rules.
        """
        if kind == METHOD:
            if self._method is not None:
                raise Malformed("a method within a message")
            method, arguments = read_method(payload)
            if method.content:
                self._method = method, arguments
            else:
                self._have(method, arguments, None)
        elif kind == HEADER:
            if self._method is None or self._header is not None:
                raise Malformed("a content header without a method")
            self._header = read_header(payload)
            self._left = self._header.size
            self._complete()
        elif kind == BODY:
            if self._header is None or len(payload) > self._left:
                raise Malformed("more of a body than was promised")
            self._left -= len(payload)
            if self._header.size <= self.client.body_most:
                self._pieces.append(payload)
            self._complete()
        else:
            raise Malformed(f"a frame of type {kind}")

    def _complete(self) -> None:
        """Hand a message over once all of its body is there."""
        if self._left or self._header is None or self._method is None:
            return
        (method, arguments), header, pieces = self._method, self._header, self._pieces
        self._method, self._header, self._pieces = None, None, []
        if header.properties is None or header.size > self.client.body_most:
            content = None
        else:
            content = Content(b"".join(pieces), properties=dict(header.properties))
        self._have(method, arguments, content)

    def _have(self, method: Any, arguments: tuple[Any, ...], content: Any) -> None:
        message = Message(method, arguments, content)
        if not method.response:
            self.client.delegate.dispatch(self, message)
            return
        if not self._awaited or method not in self._awaited[0][0].responses:
            raise Malformed(f"{method.klass.name}.{method.name} answers nothing that was asked")
        _, answer = self._awaited.popleft()
        if not answer.called:
            answer.callback(message)

    def leave(self) -> None:
        """Close the channel; its listener is told of nothing any more."""
        self.listener = None
        if not self.closed:
            closing = self.channel_close(reply_code=200, reply_text="goodbye")
            closing.addBoth(lambda _: self.do_close(Closed("it was closed in good order")))

    def do_close(self, reason: Any) -> None:
        """The channel is closed: fail what still waits for an answer."""
        if self.closed:
            return
        self.closed = True
        self.reason = closed_by(reason)
        self.client.channels.pop(self.id, None)
        awaited, self._awaited = self._awaited, deque()
        for _, answer in awaited:
            if not answer.called:
                answer.errback(self.reason)
        self.tell("closed", self.reason)

    def tell(self, what: str, *arguments: Any) -> None:
        """Tell the listener; what it does wrong is not the connection's fault."""
        if self.listener is not None:
            try:
                getattr(self.listener, what)(*arguments)
            except Exception:
                self._log.failure("what came from the broker was not handled")


def closed_by(reason: Any) -> Exception:
    """The error for those whose channel is closed.

    :param reason: what the server said, or an error, or a failure.
    """
    kind: Any = Closed
    if isinstance(reason, Message):
        kind = ChannelClosed if reason.method.klass.name == "channel" else ConnectionClosed
    error: Exception = reason if isinstance(reason, Closed) else kind(reason)
    return error
