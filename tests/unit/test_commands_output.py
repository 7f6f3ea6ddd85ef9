"""What `cyme` prints: tables, sheets, events, and the screen of `cyme top`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.commands.output import cell, event_line, sheet, shortened, size, table, width_of
from cyme.commands.screen import ORDERS, Snapshot, View, moved, next_order, screen

INSTANCES = [
    {"name": "b", "app": "foo", "state": "running", "rss": 5 << 20, "queues": ["q"]},
    {"name": "a", "app": "foo", "state": "running", "rss": None, "queues": []},
    {"name": "c", "app": "foo", "state": "backoff", "problems": ["crashed: it ended"], "queues": []},
]


class TableTests(SynchronousTestCase):
    """Tables."""

    def test_columns(self) -> None:
        """Columns are as wide as what is in them, wide characters included."""
        lines = table(("A", "B"), [("日本", 1), ("x", None)])
        self.assertEqual(lines, ["A     B", "日本  1", "x     -"])

    def test_empty(self) -> None:
        """Without rows the headers remain."""
        self.assertEqual(table(("A", "B"), []), ["A  B"])

    def test_narrow(self) -> None:
        """The last column is cut where the terminal ends."""
        lines = table(("A", "B"), [("x", "0123456789")], most=8)
        self.assertEqual(lines[1], "x  0123…")

    def test_colours(self) -> None:
        """Colours change nothing of the columns."""
        rows = [("running", "x"), ("down", "y")]
        lines = table(("A", "B"), rows, style=lambda text, colour: f"<{colour}>{text}")
        self.assertEqual(lines, ["A        B", "<green>running  x", "<red>down     y"])

    def test_cells(self) -> None:
        """Values are shown short, and steer no terminal."""
        cases: list[tuple[Any, str]] = [
            (None, "-"),
            ([], "-"),
            ("", "-"),
            (True, "yes"),
            (False, "no"),
            (["a", "b"], "a,b"),
            (0.5, "0.5"),
            (0, "0"),
            ({"a": 1}, '{"a": 1}'),
            ("\x1b[2J\r", "?[2J?"),
        ]
        for value, expected in cases:
            self.assertEqual(cell(value), expected)

    def test_sizes(self) -> None:
        """Sizes have at most four characters and a unit."""
        cases = [
            (None, "-"),
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5K"),
            (84 << 20, "84M"),
            (3 << 29, "1.5G"),
        ]
        for number, expected in cases:
            self.assertEqual(size(number), expected)

    def test_sheet(self) -> None:
        """What is in something is indented under it."""
        lines = sheet({"a": 1, "inner": {"b": None}, "text": "x\ny", "at": 0.0})
        self.assertEqual(lines[:5], ["a:     1", "inner:", "  b: -", "text:", "  x"])
        self.assertRegex(lines[-1], r"^at:    19(70|69)-")

    def test_event(self) -> None:
        """An event is one line, whatever is in it."""
        event = {
            "at": 0.0,
            "branch": "b1",
            "app": "foo",
            "instance": "w1",
            "kind": "ended\n",
            "who": "supervisor",
            "details": {"log": ["x" * 500], "status": 0, "none": None},
        }
        line = event_line(event)
        self.assertIn("b1  foo/w1  ended?  supervisor  log=", line)
        self.assertTrue(line.endswith("status=0"))
        self.assertLess(len(line), 250)

    @given(st.text(), st.integers(0, 20))
    def test_shortened(self, text: str, most: int) -> None:
        """A text is cut to the columns that there are, and only if it has to be."""
        found = shortened(text, most)
        self.assertLessEqual(width_of(found), max(most, 0) if text else 0)
        if width_of(text) <= most:
            self.assertEqual(found, text)


class ScreenTests(SynchronousTestCase):
    """The screen of `cyme top`."""

    def text(self, snapshot: Snapshot, view: View = View(), width: int = 200, height: int = 50) -> str:  # noqa: B008
        lines = screen(snapshot, view, width, height)
        return "\n".join("".join(part for part, _ in line) for line in lines)

    def names(self, order: str, first: int = 0) -> list[str]:
        text = self.text(Snapshot("http://h", instances=INSTANCES), View(order, first))
        return [line.split()[0] for line in text.partition("PROBLEMS")[2].splitlines() if line]

    def test_orders(self) -> None:
        """Instances are ordered by urgency, name, memory or branch, and scrolled."""
        self.assertEqual(self.names("state"), ["c", "a", "b"])
        self.assertEqual(self.names("name"), ["a", "b", "c"])
        self.assertEqual(self.names("memory"), ["b", "a", "c"])
        self.assertEqual(self.names("name", 2), ["c"])
        orders = ["state"]
        while (following := next_order(orders[-1])) not in orders:
            orders.append(following)
        self.assertEqual(orders, list(ORDERS))

    def test_scrolling(self) -> None:
        """One can't scroll past either end."""
        self.assertEqual((moved(View(), -5, 3), moved(View(), 9, 3), moved(View(), 1, 0)), (0, 2, 0))

    def test_all(self) -> None:
        """Branches, queues, totals and problems are told."""
        text = self.text(
            Snapshot(
                "http://h",
                branches=[
                    {"id": "b1", "instances": 3, "load_average": [1.5, 1, 1], "cpus": 2, "disk_use": 50.0}
                ],
                instances=INSTANCES,
                queues=[("foo", {"name": "q", "messages": 7, "consumers": 0, "paused": True})],
                missing=["b2"],
                problem="it is away",
            )
        )
        for words in ("1 branches, 3 instances", "backoff 1", "running 2", "memory 5.0M", "foo/q", "paused"):
            self.assertIn(words, text)
        self.assertIn("it is away", text)
        self.assertIn("could not be asked: b2", text)

    def test_small(self) -> None:
        """Whatever the size of the terminal, nothing is wider or longer than it."""
        queues = [("foo", {"name": f"q{number}"}) for number in range(30)]
        snapshot = Snapshot("http://h", branches=[{"id": "b1"}], instances=INSTANCES, queues=queues)
        for width in (1, 10, 40, 80):
            for height in (1, 5, 24):
                lines = screen(snapshot, View(), width, height)
                self.assertLessEqual(len(lines), height)
                self.assertTrue(all(sum(width_of(text) for text, _ in line) <= width for line in lines))
