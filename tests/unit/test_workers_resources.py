"""What workers take of the machine, on made-up trees of processes."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.workers.resources import Seen, Usage, measure, parse_open_files_limit, parse_seen, trees

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             31794                31794                processes
Max open files            1024                 524288               files
Max locked memory         1036640256           1036640256           bytes
"""
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def stat_of(
    pid: int, parent: int = 1, session: int = 1, name: str = "celery", state: str = "S", pages: int = 1
) -> str:
    """The text of `/proc/PID/stat` of a process that has used 1 + 2 + 3 + 4 ticks."""
    return (
        f"{pid} ({name}) {state} {parent} {pid} {session} 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 1 0 531622"
        f" 9999999 {pages} 18446744073709551615 1 1 0\n"
    )


def seen(pid: int, parent: int = 1, session: int = 1) -> Seen:
    return Seen(pid, parent, session, False, 0, 0)


class ParserTests(SynchronousTestCase):
    """The kernel's texts."""

    def test_names(self) -> None:
        """The fields are found behind every name that a program may have."""
        for name in ("celery", "a b", "a) S 2 (b", "", ")))", "((", "x\ny", "1 2 3"):
            text = stat_of(7, 5, 6, name, "R", 12).encode()
            self.assertEqual(parse_seen(text), Seen(7, 5, 6, False, 10, 12), name)

    @given(st.binary(max_size=15))
    def test_any_name(self, name: bytes) -> None:
        """A program may call itself anything."""
        head, _, rest = stat_of(7, 5, 6).encode().partition(b"celery")
        self.assertEqual(parse_seen(head + name + rest), Seen(7, 5, 6, False, 10, 1))

    def test_ended(self) -> None:
        """A zombie has ended; one that sleeps or is frozen has not."""
        found = [parse_seen(stat_of(7, state=state).encode()).has_ended for state in "ZXxSRDTtI"]
        self.assertEqual(found, [True] * 3 + [False] * 6)

    @given(st.binary())
    def test_no_stat(self, text: bytes) -> None:
        """What is no such text is a ValueError."""
        try:
            parse_seen(text)
        except ValueError:
            pass

    def test_cut_off(self) -> None:
        """A text that ends too early is refused."""
        for text in (b"", b"7 (celery) S", b"7 (celery) S " + b"1 " * 20, b"nonsense"):
            self.assertRaises(ValueError, parse_seen, text)

    def test_limit(self) -> None:
        """The soft limit of open files is read, none where there is none."""
        self.assertEqual(parse_open_files_limit(LIMITS), 1024)
        self.assertIsNone(parse_open_files_limit(LIMITS.replace("1024 ", "unlimited ")))
        self.assertIsNone(parse_open_files_limit(""))


class TreesTests(SynchronousTestCase):
    """Who belongs to whom."""

    def pids(self, processes: list[Seen], *leaders: int) -> dict[int, list[int]]:
        return {leader: sorted(one.pid for one in tree) for leader, tree in trees(processes, leaders).items()}

    def test_trees(self) -> None:
        """A tree holds the session, orphans of it too, and all descendants, in other sessions too."""
        processes = [
            seen(1, 0),
            seen(10, 2, 10),
            seen(11, 10, 10),
            seen(12, 1, 10),
            seen(13, 11, 13),
            seen(14, 12, 14),
            seen(15, 14, 14),
            seen(20, 2, 20),
            seen(21, 20, 20),
            seen(30, 2, 2),
            seen(2, 1, 2),
        ]
        self.assertEqual(self.pids(processes, 10, 20), {10: [10, 11, 12, 13, 14, 15], 20: [20, 21]})

    def test_nobody(self) -> None:
        """A leader that is gone has no tree, also when some of its session live on."""
        self.assertEqual(self.pids([seen(11, 1, 10)], 10), {})
        self.assertEqual(self.pids([], 10), {})

    @given(st.lists(st.builds(seen, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))))
    def test_anything(self, processes: list[Seen]) -> None:
        """However processes hang together, each is in a tree once at most, and its leader is."""
        for leader, members in self.pids(processes, *range(5)).items():
            self.assertIn(leader, members)
            self.assertEqual(len(set(members)), len(members))


class MeasureTests(SynchronousTestCase):
    """All of it, read from files."""

    def setUp(self) -> None:
        self.proc = Path(self.mktemp())
        self.proc.mkdir()
        (self.proc / "self").mkdir()
        (self.proc / "uptime").write_text("1 2\n")

    def process(self, text: str, files: int | None = 0, limits: str | None = LIMITS) -> None:
        """Have a process be there."""
        folder = self.proc / text.split()[0]
        folder.mkdir()
        (folder / "stat").write_text(text)
        if files is not None:
            (folder / "fd").mkdir()
            for number in range(files):
                (folder / "fd" / str(number)).touch()
        if limits is not None:
            (folder / "limits").write_text(limits)

    def measure(self, *leaders: int) -> dict[int, Usage]:
        return dict(measure(leaders, str(self.proc)))

    def test_sum(self) -> None:
        """A worker takes what its processes take together; a zombie has used time, and no more."""
        self.process(stat_of(10, 1, 10, pages=100), files=5)
        self.process(stat_of(11, 10, 10, "a) (b", pages=50), files=3)
        self.process(stat_of(12, 11, 12, pages=7), files=2)
        self.process(stat_of(13, 11, 12, state="Z", pages=0), files=None)
        self.process(stat_of(99, 1, 99, pages=1000), files=9)
        expected = Usage(
            rss=157 * PAGE, cpu_seconds=40 / TICK, processes=3, open_files=10, open_files_limit=1024
        )
        self.assertEqual(self.measure(10, 77), {10: expected})

    def test_ends_meanwhile(self) -> None:
        """A process that ends while it is looked at is left out; the others are measured."""
        self.process(stat_of(10, 1, 10))
        (self.proc / "11").mkdir()
        self.process(stat_of(12, 10, 10)[:20])
        self.process(stat_of(13, 10, 10), files=None)
        self.assertEqual(self.measure(10)[10].processes, 2)

    def test_not_allowed(self) -> None:
        """Where files may not be counted, that is not known."""
        self.process(stat_of(10, 1, 10), files=None, limits=None)
        found = self.measure(10)[10]
        self.assertEqual((found.open_files, found.open_files_limit), (None, None))

    def test_here(self) -> None:
        """This process itself is measured, with the file that it opens."""
        before = measure([os.getpid()])[os.getpid()]
        with open(os.devnull):
            after = measure([os.getpid()])[os.getpid()]
        assert before.open_files is not None and after.open_files is not None
        self.assertGreater(after.open_files, before.open_files)
        self.assertGreater(after.rss, 1 << 20)
        self.assertGreater(after.cpu_seconds, 0)
