"""Frames: a whole call as bytes before any of it is sent, and what a payload says.

Pure. The specification is loaded by txamqp; its codec is not used (see Note [What is mended] in
`client`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from attrs import frozen
from txamqp.spec import load

from cyme.bus.amqp.fields import Malformed, Unencodable, read_arguments, write_arguments

#: The classes and methods that are used, see `spec.xml`.
SPEC = load(str(Path(__file__).with_name("spec.xml")))

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
#: What all frames end with.
END = 206
#: A frame's bytes beside its payload.
OVERHEAD = 8
#: The largest frame that is asked for, in bytes.
FRAME_MOST = 131072
#: A sign of life.
HEARTBEAT_FRAME = struct.pack(">BHIB", HEARTBEAT, 0, 0, END)
#: What the client says first: AMQP 0-9-1.
GREETING = b"AMQP\x00\x00\x09\x01"

LEAD = struct.Struct(">BHI")
_IDS = struct.Struct(">HH")
_CONTENT = struct.Struct(">HHQ")
_FLAGS = struct.Struct(">H")
_END = bytes([END])


@frozen
class ContentHeader:
    """What goes before a body.

    :ivar size: bytes of the body.
    :ivar properties: by their names in the specification; None when they can't be read.
    """

    size: int
    properties: Mapping[str, Any] | None


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return b"".join((LEAD.pack(kind, channel, len(payload)), payload, _END))


def method_frame(channel: int, method: Any, arguments: Sequence[Any]) -> bytes:
    """The frame of a method.

    :raises Unencodable: when an argument has no bytes.
    """
    payload = _IDS.pack(method.klass.id, method.id) + write_arguments(_types(method), arguments)
    if len(payload) > FRAME_MOST - OVERHEAD:
        raise Unencodable("arguments that are too long for a frame")
    return frame(METHOD, channel, payload)


def content_frames(
    channel: int, klass: Any, properties: Mapping[str, Any], body: bytes, frame_most: int
) -> list[bytes]:
    """The frames of a message's properties and of its body.

    :param frame_most: bytes that a frame may have.
    :raises Unencodable: when a property has no bytes, or the body is none.
    """
    if not isinstance(body, bytes):
        raise Unencodable(f"a body is bytes, not {type(body).__name__}")
    flags, types, values = 0, [], []
    unknown = properties.keys() - klass.fields.byname.keys()
    if unknown:
        raise Unencodable(f"there are no properties {sorted(unknown)}")
    for number, field in enumerate(klass.fields):
        value = properties.get(field.name)
        if value is not None:
            flags |= 1 << (15 - number)
            types.append(field.type)
            values.append(value)
    head = _CONTENT.pack(klass.id, 0, len(body)) + _FLAGS.pack(flags) + write_arguments(types, values)
    if len(head) > frame_most - OVERHEAD:
        raise Unencodable("properties that are too long for a frame")
    piece = frame_most - OVERHEAD
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    return [frame(HEADER, channel, head), *(frame(BODY, channel, one) for one in pieces)]


def read_method(payload: bytes) -> tuple[Any, tuple[Any, ...]]:
    """A method and its arguments.

    :raises Malformed: when it is none that the specification has.
    """
    if len(payload) < _IDS.size:
        raise Malformed("a method frame without a method")
    klass_id, method_id = _IDS.unpack_from(payload)
    method = _method(klass_id, method_id)
    if method is None:
        raise Malformed(f"a method {klass_id}.{method_id} that was not asked for")
    return method, read_arguments(_types(method), payload, _IDS.size)


def read_header(payload: bytes) -> ContentHeader:
    """What a content header says.

    Properties that can't be read are another client's doing: they spoil their message alone.

    :raises Malformed: when not even the body's size is there.
    """
    if len(payload) < _CONTENT.size + _FLAGS.size:
        raise Malformed("a content header that ends early")
    klass_id, _, size = _CONTENT.unpack_from(payload)
    klass = SPEC.classes.byid.get(klass_id)
    if klass is None:
        raise Malformed(f"content of a class {klass_id}")
    (flags,) = _FLAGS.unpack_from(payload, _CONTENT.size)
    fields = [one for number, one in enumerate(klass.fields) if flags & 1 << (15 - number)]
    if flags & 3:
        # Bit 0 says that more flags follow and bit 1 is a fifteenth property; there are fourteen.
        return ContentHeader(size, None)
    try:
        values = read_arguments([one.type for one in fields], payload, _CONTENT.size + _FLAGS.size)
    except Malformed:
        return ContentHeader(size, None)
    return ContentHeader(size, dict(zip((one.name for one in fields), values, strict=True)))


@cache
def _types(method: Any) -> tuple[str, ...]:
    return tuple(field.type for field in method.fields)


@lru_cache(maxsize=256)
def _method(klass_id: int, method_id: int) -> Any:
    klass = SPEC.classes.byid.get(klass_id)
    return None if klass is None else klass.methods.byid.get(method_id)
