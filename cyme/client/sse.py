"""Server-Sent Events, read from the bytes of a stream as they come."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

#: The longest line that a stream may have, in bytes; branches send at most a fraction of it.
LINE_MOST = 4 << 20


@frozen
class Frame:
    """One event of a stream.

    :ivar id: the last id that the stream named.
    """

    id: str
    data: str


class Reader:
    """Makes frames of bytes; keeps what is not complete yet.

    :ivar last_id: from where a stream that broke off goes on, for `Last-Event-ID`.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._rest = b""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The events that are complete with `chunk`.

        :raises ValueError: when a line has no end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_MOST:
            raise ValueError("a line of the stream has no end")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[Frame]:
        if not line:
            if self._data:
                yield Frame(self.last_id, "\n".join(self._data))
                self._data = []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._data.append(value)
