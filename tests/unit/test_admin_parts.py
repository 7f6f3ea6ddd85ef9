"""The pure parts of the pages: values as people read them, plots, forms, logs, and who may do what."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.admin import formats
from cyme.admin.flashes import MOST, Flash, Flashes
from cyme.admin.forms import Field, Form
from cyme.admin.logtail import news
from cyme.admin.overview import sentence
from cyme.admin.paging import Paging
from cyme.admin.plots import HEIGHT, bar, plot, scale
from cyme.admin.rendering import path, safe
from cyme.api.parameters import Whole
from cyme.errors import InvalidParameter, NoSuchApp


class FormatsTests(SynchronousTestCase):
    """Values as people read them."""

    def test_sizes(self) -> None:
        """A number of bytes is told in its greatest unit."""
        cases = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 57_484_000: "54.8 MiB", 250 << 20: "250 MiB"}
        for value, text in cases.items():
            self.assertEqual(formats.size(value), text)
        self.assertEqual(formats.size(None), formats.NOTHING)

    def test_numbers(self) -> None:
        """Large numbers are parted, small ones have what is behind the point."""
        cases = {0: "0", 49953: "49 953", 0.123: "0.12", 63.57: "63.6", 2.0: "2", 1234.5: "1 234"}
        for value, text in cases.items():
            self.assertEqual(formats.number(value).replace("\N{NARROW NO-BREAK SPACE}", " "), text)

    def test_durations(self) -> None:
        """A time span is told in a unit of which there are enough."""
        cases = {
            0.2: "under 1 s",
            59: "59 s",
            90: "90 s",
            150: "2 min",
            3600: "1 h",
            86_400: "1 d",
            2e5: "2 d",
        }
        for value, text in cases.items():
            self.assertEqual(formats.duration(value), text)

    def test_times(self) -> None:
        """A time is told by how far it is from now."""
        self.assertEqual(formats.ago(100.0, 100.2), "just now")
        self.assertEqual(formats.ago(100.0, 110.0), "10 s ago")
        self.assertEqual(formats.ago(141.0, 100.0), "in 41 s")
        self.assertEqual(formats.ago(None, 1.0), formats.NOTHING)

    def test_lists(self) -> None:
        """Words are a sentence's, and not too many."""
        self.assertEqual(formats.listed([]), "")
        self.assertEqual(formats.listed(["a"]), "a")
        self.assertEqual(formats.listed(["a", "b", "c"]), "a, b and c")
        self.assertEqual(formats.listed("abcdefg"), "a, b, c, d and 3 more")

    def test_sentence(self) -> None:
        """How instances are is told in a sentence."""
        self.assertEqual(sentence(0, {}), "There are no instances yet.")
        self.assertEqual(sentence(1, {"running": 1}), "The one instance runs.")
        self.assertEqual(sentence(3, {"running": 3}), "All 3 instances run.")
        told = sentence(5, {"running": 2, "backoff": 1, "lost": 2, "attention": 3})
        self.assertEqual(told, "2 of 5 instances run; 1 backs off and 2 are lost.")


class PlotTests(SynchronousTestCase):
    """Samples as pictures."""

    def test_gaps(self) -> None:
        """Where nothing is known the line has a gap; a lone sample is a dot."""
        drawn = plot("Memory", [1.0, 2.0, None, 3.0, None, None, None], formats.size)
        self.assertEqual(drawn.line.count("M"), 2)
        self.assertIn("h.01", drawn.line)
        self.assertEqual(drawn.now, formats.NOTHING)

    def test_nothing(self) -> None:
        """Of a series in which nothing is known, that is said."""
        drawn = plot("Memory", [None] * 5, formats.size)
        self.assertEqual((drawn.line, drawn.now, drawn.most), ("", formats.NOTHING, ""))
        self.assertIn("nothing is known yet", drawn.description)

    @given(some.lists(some.none() | some.floats(0, 1e15), max_size=40))
    def test_inside(self, values: list[float | None]) -> None:
        """No point lies outside of the picture, and the scale is not below any value."""
        drawn = plot("x", values, formats.number)
        for height in re.findall(r"[ML][\d.]+ ([-\d.]+)", drawn.line):
            self.assertTrue(0 <= float(height) <= HEIGHT, drawn.line)

    @given(some.floats(1e-9, 1e18), some.booleans())
    def test_scale(self, most: float, binary: bool) -> None:
        """The top of a scale is at least the greatest value, and not far from it."""
        self.assertTrue(most * 0.999 <= scale(most, binary=binary) <= most * 10.3)

    def test_bar(self) -> None:
        """The segments of a bar stand side by side in the order of their states."""
        segments = bar({"lost": 1, "running": 3, "odd": 0}, ["running", "lost"])
        self.assertEqual(
            [(one["state"], one["x"], one["width"]) for one in segments],
            [("running", 0.0, 750.0), ("lost", 750.0, 250.0)],
        )
        self.assertEqual(bar({}, []), [])


class PathTests(SynchronousTestCase):
    """Where things are."""

    def test_paths(self) -> None:
        """Names are quoted, and what is not asked for is left out."""
        self.assertEqual(
            path("apps", "a b/c", text="ü&", page=None, app=""), "/admin/apps/a%20b%2Fc/?text=%C3%BC%26"
        )
        self.assertEqual(path(), "/admin/")

    @given(some.text())
    def test_safe(self, text: str) -> None:
        """Whatever is wanted, the way leads to a page of this site."""
        for wanted in (text, "/admin/" + text):
            found = safe(wanted)
            self.assertTrue(found.startswith("/admin/") and "\\" not in found and found.isprintable())

    def test_paging(self) -> None:
        """Pages tell which rows they have."""
        self.assertEqual([Paging(1, 0).first, Paging(1, 0).last, Paging(1, 0).pages], [0, 0, 1])
        self.assertEqual([Paging(3, 120).first, Paging(3, 120).last, Paging(3, 120).pages], [101, 120, 3])


class FormTests(SynchronousTestCase):
    """Fields that are read and shown again."""

    form = Form(
        fields=(
            Field(name="name", label="Name", is_required=True),
            Field(name="most", label="Most", kind=Whole(1, 9)),
            Field(name="queues", label="Queues", widget="checks", options=[("a", "a")]),
            Field(name="secret", label="Secret", widget="secret"),
        )
    )

    def test_read(self) -> None:
        """What was posted is read by kind; empty fields have no value."""
        form, values = self.form.read({"name": [" w1 "], "most": ["4"], "queues": ["a", "b"]})
        self.assertFalse(form.is_refused)
        self.assertEqual(values, {"name": "w1", "most": 4, "queues": ["a", "b"]})
        _, values = self.form.read({"name": ["w1"], "most": [""]})
        self.assertEqual(values, {"name": "w1", "queues": []})

    def test_refused(self) -> None:
        """What can't be is told beside its field, which keeps what was typed unless it is a secret."""
        form, _ = self.form.read({"most": ["many"], "secret": ["pssst"]})
        problems = {one.name: one.problem for one in form.fields}
        self.assertEqual(problems["name"], "is needed")
        self.assertIn("a whole number from 1 to 9", problems["most"] or "")
        self.assertEqual([one.value for one in form.fields], ["", "many", (), ""])

    def test_refused_later(self) -> None:
        """What the controller finds wrong stands beside its field, or above all."""
        beside = self.form.refuse(InvalidParameter("most", "is too much"))
        self.assertEqual([one.problem for one in beside.fields], [None, "is too much", None, None])
        above = self.form.refuse(NoSuchApp("foo"))
        self.assertIn("no app 'foo'", above.problem or "")
        self.assertTrue(above.is_refused and beside.is_refused)


class NewsTests(SynchronousTestCase):
    """What is new in a log's tail."""

    def test_cases(self) -> None:
        """Lines that came are found behind those that were seen."""
        cases = [
            ([], ["a"], (0, ["a"])),
            (["a", "b"], ["a", "b"], (0, [])),
            (["a", "b"], ["b", "c"], (1, ["c"])),
            (["a", "b"], ["x"], (2, ["x"])),
            (["a", "b"], [], (2, [])),
            (["a", "b", "a"], ["a", "c"], (2, ["c"])),
        ]
        for seen, tail, expected in cases:
            gone, added = news(seen, tail)
            self.assertEqual((gone, list(added)), expected)

    @given(some.lists(some.sampled_from("ab")), some.lists(some.sampled_from("ab")))
    def test_always_the_tail(self, seen: list[str], tail: list[str]) -> None:
        """What is shown afterwards is always the tail, also when lines repeat."""
        gone, added = news(seen, tail)
        self.assertEqual([*seen[gone:], *added], tail)


class FlashTests(SynchronousTestCase):
    """What is said once."""

    def test_once(self) -> None:
        """It is said once, to who has its name, within a minute."""
        clock = Clock()
        names = iter(range(10_000))
        flashes = Flashes(clock, lambda: str(next(names)))
        name = flashes.put(Flash("done"))
        self.assertIsNone(flashes.take("other"))
        self.assertEqual(flashes.take(name), Flash("done"))
        self.assertIsNone(flashes.take(name))
        old = flashes.put(Flash("done"))
        clock.advance(61)
        self.assertIsNone(flashes.take(old))

    def test_bound(self) -> None:
        """Only so many wait; the oldest go."""
        names = iter(range(10_000))
        flashes = Flashes(Clock(), lambda: str(next(names)))
        put = [flashes.put(Flash("x")) for _ in range(MOST + 1)]
        self.assertIsNone(flashes.take(put[0]))
        self.assertIsNotNone(flashes.take(put[1]))
