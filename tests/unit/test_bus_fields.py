"""AMQP's data types as bytes."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.amqp.fields import (
    Malformed,
    Unencodable,
    long_text,
    read_arguments,
    read_long_text,
    read_short_text,
    read_table,
    short_text,
    table,
    write_arguments,
)

KEYS = st.text(max_size=60)
TEXT = st.text(max_size=300)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=300)
    | st.builds(
        lambda unscaled, places: Decimal(unscaled).scaleb(-places),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, 20),
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=5)

#: One value of each type that a method's argument may have.
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": st.integers(0, 255),
    "short": st.integers(0, (1 << 16) - 1),
    "long": st.integers(0, (1 << 32) - 1),
    "longlong": st.integers(0, (1 << 64) - 1),
    "timestamp": st.integers(0, (1 << 64) - 1),
    "shortstr": KEYS,
    "longstr": TEXT,
    "table": TABLES,
}
SIGNATURES = st.lists(st.sampled_from(sorted(ARGUMENTS)), max_size=20).flatmap(
    lambda types: st.tuples(st.just(types), st.tuples(*(ARGUMENTS[one] for one in types)))
)


def raw(fields: bytes) -> bytes:
    """A table of fields as they are."""
    return struct.pack(">I", len(fields)) + fields


class FieldsTests(SynchronousTestCase):
    """Tables and their values."""

    @given(TABLES)
    def test_round_trip(self, values: dict[str, Any]) -> None:
        """What a table holds comes out as it was put in."""
        data = table(values)
        self.assertEqual(read_table(data, 0), (values, len(data)))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Bytes are a table or malformed, and nothing else."""
        for one in (data, raw(data), raw(b"\x01k" + data)):
            try:
                values, end = read_table(one, 0)
            except Malformed:
                continue
            self.assertIsInstance(values, dict)
            self.assertLessEqual(end, len(one))

    @given(TABLES, st.data())
    def test_cut(self, values: dict[str, Any], data: st.DataObject) -> None:
        """A table that is cut off anywhere is malformed."""
        whole = table(values)
        cut = data.draw(st.integers(0, len(whole) - 1))
        self.assertRaises(Malformed, read_table, whole[:cut], 0)

    def test_types(self) -> None:
        """Each of RabbitMQ's letters is read as RabbitMQ writes it."""
        cases = {
            b"t\x02": True,
            b"b\xff": -1,
            b"B\xff": 255,
            b"s\xff\xfe": -2,
            b"U\xff\xfe": -2,
            b"u\xff\xfe": 65534,
            b"I\xff\xff\xff\xfe": -2,
            b"i\xff\xff\xff\xfe": (1 << 32) - 2,
            b"l" + b"\xff" * 8: -1,
            b"L" + b"\xff" * 8: -1,
            b"f\x3f\xc0\x00\x00": 1.5,
            b"d\x3f\xf8" + bytes(6): 1.5,
            b"D\x02\x00\x00\x00\x7d": Decimal("1.25"),
            b"T" + bytes(7) + b"\x05": 5,
            b"V": None,
            b"S\x00\x00\x00\x02\xc3\xa9": "é",
            b"S\x00\x00\x00\x01\xff": b"\xff",
            b"x\x00\x00\x00\x01a": b"a",
            b"A" + raw(b"VV"): [None, None],
            b"F" + raw(b"\x01kV"): {"k": None},
        }
        for data, expected in cases.items():
            self.assertEqual(read_table(raw(b"\x01k" + data), 0)[0], {"k": expected}, data)

    def test_malformed(self) -> None:
        """Unknown letters, lengths that lie and tables without end of depth are malformed."""
        nested = b"\x01kV"
        for _ in range(100):
            nested = b"\x01kF" + raw(nested)
        lists = b"V"
        for _ in range(100):
            lists = b"A" + raw(lists)
        cases = (b"\x01k?", b"\x01kA\x00\x00\x00\x09V", b"\x05k", b"\x01kS\xff\xff\xff\xff", b"\x01k", nested)
        for fields in (*cases, b"\x01k" + lists):
            self.assertRaises(Malformed, read_table, raw(fields), 0)
        self.assertRaises(Malformed, read_table, b"\x00\x00\x00\x01\x01kV", 0)

    def test_unencodable(self) -> None:
        """What has no bytes is refused by name."""
        for value in (
            1 << 63,
            object(),
            {"k" * 256: 1},
            {1: 2},
            "\ud800",
            Decimal("-1"),
            Decimal("NaN"),
            [{}, object],
        ):
            self.assertRaises(Unencodable, table, {"k": value})
        self.assertRaises(Unencodable, table, None)


class TextTests(SynchronousTestCase):
    """Strings, short and long."""

    @given(TEXT)
    def test_lengths(self, text: str) -> None:
        """A length is one of bytes, not of characters."""
        data = long_text(text)
        self.assertEqual(read_long_text(data, 0), (text, len(data)))
        self.assertEqual(data[:4], struct.pack(">I", len(text.encode())))

    def test_short(self) -> None:
        """A short string has at most 255 bytes."""
        self.assertEqual(read_short_text(short_text("é" * 127), 0)[0], "é" * 127)
        self.assertRaises(Unencodable, short_text, "é" * 128)
        self.assertRaises(Unencodable, short_text, None)
        self.assertRaises(Malformed, read_short_text, b"\x02a", 0)
        self.assertRaises(Malformed, read_short_text, b"", 0)


class ArgumentsTests(SynchronousTestCase):
    """What a method takes."""

    @given(SIGNATURES)
    def test_round_trip(self, signature: tuple[list[str], tuple[Any, ...]]) -> None:
        """Arguments of every type come out as they were put in, bits packed."""
        types, values = signature
        self.assertEqual(read_arguments(types, write_arguments(types, values), 0), values)

    def test_bits(self) -> None:
        """Bits that follow each other share an octet, up to eight, the first lowest."""
        types = ["bit"] * 9 + ["octet", "bit"]
        values = (True, False, True, *[False] * 5, True, 7, True)
        self.assertEqual(write_arguments(types, values), b"\x05\x01\x07\x01")

    def test_numbers(self) -> None:
        """A number that has no room, or is none, is refused."""
        for kind, value in (("octet", 256), ("octet", -1), ("short", 1.0), ("long", None), ("long", True)):
            self.assertRaises(Unencodable, write_arguments, [kind], [value])

    def test_rest(self) -> None:
        """More bytes than the arguments take are malformed."""
        self.assertRaises(Malformed, read_arguments, ["octet"], b"\x01\x02", 0)
