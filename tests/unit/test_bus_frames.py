"""Frames as bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.amqp.fields import Malformed, Unencodable
from cyme.bus.amqp.frames import (
    BODY,
    END,
    HEADER,
    LEAD,
    OVERHEAD,
    SPEC,
    content_frames,
    method_frame,
    read_header,
    read_method,
)
from tests.fakes.amqpserver import method_of

BASIC = SPEC.classes.byname["basic"]


class FramesTests(SynchronousTestCase):
    """Methods, properties and bodies."""

    def test_method(self) -> None:
        """A method comes out of its frame as it was put in."""
        publish = method_of("basic.publish")
        arguments = (0, "cyme.Instance", "wörker", True, False)
        data = method_frame(7, publish, arguments)
        self.assertEqual(LEAD.unpack_from(data), (1, 7, len(data) - OVERHEAD))
        self.assertEqual(data[-1], END)
        self.assertEqual(read_method(data[LEAD.size : -1]), (publish, arguments))

    def test_unknown_method(self) -> None:
        """A method that is not in the specification is malformed."""
        for payload in (b"", b"\x00\x3c", b"\x00\x3c\x00\x46" + bytes(9), b"\x00\x63\x00\x01"):
            self.assertRaises(Malformed, read_method, payload)

    @given(st.binary(max_size=3000), st.integers(100, 1200))
    def test_body(self, body: bytes, most: int) -> None:
        """No frame is longer than was agreed on, and their bodies are the body."""
        frames = content_frames(1, BASIC, {"message-id": "1"}, body, most)
        self.assertTrue(all(len(one) <= most for one in frames))
        kinds = [LEAD.unpack_from(one)[0] for one in frames]
        self.assertEqual(kinds, [HEADER] + [BODY] * (len(frames) - 1))
        self.assertEqual(b"".join(one[LEAD.size : -1] for one in frames[1:]), body)
        header = read_header(frames[0][LEAD.size : -1])
        self.assertEqual((header.size, header.properties), (len(body), {"message-id": "1"}))

    def test_properties(self) -> None:
        """All fourteen properties come out as they were put in."""
        texts = {field.name: f"the {field.name}" for field in BASIC.fields if field.type == "shortstr"}
        properties = {**texts, "headers": {"é": [None]}, "delivery-mode": 2, "priority": 0, "timestamp": 1}
        self.assertEqual(len(properties), 14)
        (frame,) = content_frames(1, BASIC, properties, b"", 4096)
        self.assertEqual(read_header(frame[LEAD.size : -1]).properties, properties)

    def test_malformed_properties(self) -> None:
        """Properties that can't be read spoil their message alone; its size is known."""
        for rest in (b"\x20\x00\x00\x00\x00\x02\x01", b"\x80\x00", b"\x00\x01", b"\x00\x02", b"\x00\x00\x00"):
            header = read_header(b"\x00\x3c\x00\x00" + bytes(7) + b"\x05" + rest)
            self.assertEqual((header.size, header.properties), (5, None))
        for payload in (b"", bytes(14), b"\x00\x63" + bytes(12)):
            self.assertRaises(Malformed, read_header, payload)

    def test_unencodable(self) -> None:
        """A call that has no bytes is refused before any is made."""
        publish = method_of("basic.publish")
        self.assertRaises(Unencodable, method_frame, 1, publish, (0, "", "é" * 200, True, False))
        declare = method_of("queue.declare")
        long = (0, "q", False, False, False, False, False, {"k": "x" * 200_000})
        self.assertRaises(Unencodable, method_frame, 1, declare, long)
        for properties, body in (
            ({"priority": -1}, b""),
            ({"no-such": 1}, b""),
            ({}, "text"),
            ({"type": "x" * 300}, b""),
        ):
            self.assertRaises(Unencodable, content_frames, 1, BASIC, properties, body, 4096)
        self.assertRaises(Unencodable, content_frames, 1, BASIC, {"headers": {"k": "x" * 5000}}, b"", 4096)
