"""AMQP's data types as bytes: the whole grammar of field tables that RabbitMQ knows.

Pure. Every length is one of bytes, and checked: what does not fit is refused before anything is
written, and what can't be read is `Malformed`, never another error.

Note [Field types]
~~~~~~~~~~~~~~~~~~
The letters are RabbitMQ's, not those of the specification, which nobody uses: `s` is a signed
16-bit number, `l` a signed 64-bit one, `x` bytes. `S` holds text or any bytes, and comes out as `str`
where it is UTF-8. A timestamp comes out as seconds since the epoch, a decimal as `Decimal`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

#: Tables within tables, beyond which nothing is read: what is deeper is no honest message.
DEPTH_MOST = 32

_OCTET, _LONG, _LONGLONG = struct.Struct(">B"), struct.Struct(">I"), struct.Struct(">Q")
_SIGNED, _SIGNED_LONG, _DOUBLE = struct.Struct(">i"), struct.Struct(">q"), struct.Struct(">d")
_DECIMAL = struct.Struct(">BI")

#: Letter of a number's type -> how it is read.
_NUMBERS: Mapping[int, struct.Struct] = {
    ord(letter): struct.Struct(f">{code}")
    for letter, code in (
        *(("b", "b"), ("B", "B"), ("s", "h"), ("U", "h"), ("u", "H")),
        *(("I", "i"), ("i", "I"), ("l", "q"), ("L", "q"), ("T", "Q"), ("f", "f"), ("d", "d")),
    )
}

Value = Any
Read = tuple[Any, int]


class Malformed(Exception):
    """Bytes that are not what AMQP says they are."""


class Unencodable(ValueError):
    """A value that AMQP has no bytes for where it stands."""


# -- writing ----------------------------------------------------------------------


def short_text(value: str | bytes) -> bytes:
    """A short string: at most 255 bytes.

    :raises Unencodable: see there; so all that write.
    """
    data = _bytes(value)
    if len(data) > 255:
        raise Unencodable(f"a short string of {len(data)} bytes; there may be 255")
    return _OCTET.pack(len(data)) + data


def long_text(value: str | bytes) -> bytes:
    """A long string."""
    data = _bytes(value)
    return _LONG.pack(len(data)) + data


def table(values: Mapping[str, Value]) -> bytes:
    """A field table."""
    if not isinstance(values, Mapping):
        raise Unencodable(f"a table is a mapping, not {type(values).__name__}")
    return long_text(b"".join(short_text(name) + _field(value) for name, value in values.items()))


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Unencodable(f"text is str or bytes, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Unencodable("half a surrogate pair is no text") from None


def _field(value: Value) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"I" + _SIGNED.pack(value)
        if -(1 << 63) <= value < 1 << 63:
            return b"l" + _SIGNED_LONG.pack(value)
        raise Unencodable("a number of more than 64 bits")
    if isinstance(value, str):
        return b"S" + long_text(value)
    if isinstance(value, bytes):
        return b"x" + long_text(value)
    if isinstance(value, float):
        return b"d" + _DOUBLE.pack(value)
    if isinstance(value, Decimal):
        return b"D" + _decimal(value)
    if isinstance(value, Mapping):
        return b"F" + table(value)
    if isinstance(value, Sequence):
        return b"A" + long_text(b"".join(map(_field, value)))
    raise Unencodable(f"a table has no values like {type(value).__name__}")


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    unscaled = int("".join(map(str, digits)) or "0")
    if not isinstance(exponent, int) or exponent > 0 or exponent < -255 or sign or unscaled >= 1 << 32:
        raise Unencodable("a decimal is not negative, of 32 bits, with up to 255 places")
    return _DECIMAL.pack(-exponent, unscaled)


# -- reading ----------------------------------------------------------------------


def read_short_text(data: bytes, offset: int) -> Read:
    """Read a short string: the text, or bytes where it is none, and where it ends.

    :raises Malformed: see there; so all that read.
    """
    if offset >= len(data):
        raise Malformed("it ends early")
    start = offset + 1
    return _read_text(data, start, start + data[offset])


def read_long_text(data: bytes, offset: int) -> Read:
    """Read a long string."""
    size, start = _unpack(_LONG, data, offset)
    return _read_text(data, start, start + size)


def read_table(data: bytes, offset: int, depth: int = 0) -> Read:
    """Read a field table."""
    size, offset = _unpack(_LONG, data, offset)
    end = _end(data, offset, size)
    if depth > DEPTH_MOST:
        raise Malformed("too many tables within tables")
    values: dict[Any, Value] = {}
    while offset < end:
        name, offset = read_short_text(data, offset)
        values[name], offset = _read_field(data, offset, depth)
    return values, _exactly(offset, end)


def _read_array(data: bytes, offset: int, depth: int) -> Read:
    size, offset = _unpack(_LONG, data, offset)
    end = _end(data, offset, size)
    if depth > DEPTH_MOST:
        raise Malformed("too many arrays within arrays")
    values = []
    while offset < end:
        value, offset = _read_field(data, offset, depth)
        values.append(value)
    return values, _exactly(offset, end)


def _read_field(data: bytes, offset: int, depth: int) -> Read:
    if offset >= len(data):
        raise Malformed("it ends early")
    kind, offset = data[offset], offset + 1
    if kind == ord("S"):
        return read_long_text(data, offset)
    number = _NUMBERS.get(kind)
    if number is not None:
        return _unpack(number, data, offset)
    if kind == ord("t"):
        octet, offset = _unpack(_OCTET, data, offset)
        return octet != 0, offset
    if kind == ord("V"):
        return None, offset
    if kind == ord("x"):
        size, offset = _unpack(_LONG, data, offset)
        end = _end(data, offset, size)
        return data[offset:end], end
    if kind == ord("D"):
        if offset + _DECIMAL.size > len(data):
            raise Malformed("it ends early")
        places, unscaled = _DECIMAL.unpack_from(data, offset)
        return Decimal((0, tuple(map(int, str(unscaled))), -places)), offset + _DECIMAL.size
    if kind == ord("F"):
        return read_table(data, offset, depth + 1)
    if kind == ord("A"):
        return _read_array(data, offset, depth + 1)
    raise Malformed(f"there is no field type {bytes([kind])!r}")


def _unpack(number: struct.Struct, data: bytes, offset: int) -> Read:
    end = offset + number.size
    if end > len(data):
        raise Malformed("it ends early")
    return number.unpack_from(data, offset)[0], end


def _read_text(data: bytes, start: int, end: int) -> Read:
    if end > len(data):
        raise Malformed("it ends early")
    found = data[start:end]
    try:
        return found.decode(), end
    except UnicodeDecodeError:
        return found, end


def _end(data: bytes, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise Malformed("it ends early")
    return offset + size


def _exactly(offset: int, end: int) -> int:
    if offset != end:
        raise Malformed("what it holds is longer than it says")
    return offset


# -- by the names that a specification gives the types --------------------------------


def _number(code: str) -> tuple[Callable[[Any], bytes], Callable[[bytes, int], Read]]:
    layout = struct.Struct(code)

    def write(value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unencodable(f"a number is an int, not {type(value).__name__}")
        try:
            return layout.pack(value)
        except struct.error:
            raise Unencodable(f"{value} has no room in {layout.size} bytes") from None

    return write, lambda data, offset: _unpack(layout, data, offset)


_TYPES: Mapping[str, tuple[Callable[[Any], bytes], Callable[[bytes, int], Read]]] = {
    "octet": _number(">B"),
    "short": _number(">H"),
    "long": _number(">I"),
    "longlong": _number(">Q"),
    "timestamp": _number(">Q"),
    "shortstr": (short_text, read_short_text),
    "longstr": (long_text, read_long_text),
    "table": (table, read_table),
}


def write_arguments(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """The arguments of a method, or a message's properties; bits that follow each other share octets.

    :param types: as a specification names them, one for each value.
    """
    parts: list[bytes] = []
    bits = count = 0
    for kind, value in zip(types, values, strict=True):
        if kind == "bit":
            bits |= bool(value) << count
            count += 1
            if count < 8:
                continue
        if count:
            parts.append(_OCTET.pack(bits))
            bits = count = 0
        if kind != "bit":
            parts.append(_TYPES[kind][0](value))
    if count:
        parts.append(_OCTET.pack(bits))
    return b"".join(parts)


def read_arguments(types: Sequence[str], data: bytes, offset: int) -> tuple[Any, ...]:
    """What `write_arguments` wrote, which must end where `data` does."""
    values: list[Any] = []
    bits = left = 0
    for kind in types:
        if kind == "bit":
            if not left:
                bits, offset = _unpack(_OCTET, data, offset)
                left = 8
            values.append(bool(bits & 1))
            bits, left = bits >> 1, left - 1
            continue
        left = 0
        value, offset = _TYPES[kind][1](data, offset)
        values.append(value)
    _exactly(offset, len(data))
    return tuple(values)
