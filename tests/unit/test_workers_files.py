"""Folders, logs and records of workers."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cyme.workers.folders import Files, discard, existing, folder_of, set_aside, sweep
from cyme.workers.logtail import tail
from cyme.workers.proc import Record, Stat, boot_id, parse_record, parse_stat, read_record, read_stat


class FolderTests(SynchronousTestCase):
    """Where a worker's files are, and how they go."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.root.mkdir()

    def make(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir()
        (folder / "worker.log").write_text("a line\n")
        return folder

    def test_names(self) -> None:
        """A name leads to a folder of its own in the root folder."""
        for name in ("w", "w1", "W.1_x-y", "a" * 128, "a..b"):
            self.assertEqual(folder_of(self.root, name), self.root / name)

    def test_no_names(self) -> None:
        """What might lead elsewhere, or to the branch's own files, is refused."""
        bad = (
            "",
            ".",
            "..",
            "../w1",
            "/etc",
            "a/b",
            ".redis",
            "-w",
            "_w",
            "w\n",
            "w 1",
            "w\0",
            "é",
            "a" * 129,
        )
        for name in bad:
            with self.assertRaises(ValueError):
                folder_of(self.root, name)
        self.assertEqual(existing(self.root, bad), frozenset())

    def test_prepare(self) -> None:
        """A folder is made for its owner alone; where there is one, only a stale pid file goes."""
        files = Files(self.root / "w1")
        files.prepare()
        self.assertEqual(stat.S_IMODE(files.folder.stat().st_mode), 0o700)
        files.pid.write_text("1")
        files.log.write_text("a line\n")
        files.prepare()
        self.assertEqual(os.listdir(files.folder), ["worker.log"])

    def test_existing(self) -> None:
        """Only folders count."""
        self.make("w1")
        (self.root / "w2").touch()
        self.assertEqual(existing(self.root, ["w1", "w2", "w3"]), {"w1"})

    def test_set_aside(self) -> None:
        """A folder makes place at once and is removed later."""
        self.make("w1")
        aside = set_aside(self.root, "w1")
        self.assertEqual(existing(self.root, ["w1"]), frozenset())
        again = self.make("w1")
        assert aside is not None
        discard(aside)
        self.assertEqual(os.listdir(self.root), ["w1"])
        self.assertTrue((again / "worker.log").exists())

    def test_set_aside_nothing(self) -> None:
        """Where there is no folder, nothing is set aside and nothing left."""
        self.assertIsNone(set_aside(self.root, "w1"))
        self.assertEqual(os.listdir(self.root), [])

    def test_sweep(self) -> None:
        """What was set aside and not removed goes later; nothing else does."""
        self.make("w1")
        self.make("w2")
        set_aside(self.root, "w1")
        sweep(self.root)
        self.assertEqual(os.listdir(self.root), ["w2"])


class TailTests(SynchronousTestCase):
    """The end of a log."""

    def tail(self, content: bytes, lines: int, limit: int = 100) -> tuple[str, ...]:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return tail(path, lines, limit)

    def test_lines(self) -> None:
        """The last lines are told, in order, without their ends."""
        for content, lines, expected in (
            (b"", 2, ()),
            (b"a", 2, ("a",)),
            (b"a\n", 2, ("a",)),
            (b"a\nb\nc\n", 2, ("b", "c")),
            (b"a\nb\nc", 2, ("b", "c")),
            (b"a\n\n", 2, ("a", "")),
            (b"a\r\nb\r\n", 2, ("a", "b")),
            (b"a\x0bb\xc2\x85c\n", 2, ("a\x0bb\x85c",)),
            (b"a\nb\n", 0, ()),
            (b"a\nb\n", -1, ()),
        ):
            self.assertEqual(self.tail(content, lines), expected)

    def test_undecodable(self) -> None:
        """What is no UTF-8 is replaced."""
        self.assertEqual(self.tail(b"a\xffb\n", 1), ("a�b",))

    def test_limit(self) -> None:
        """Of a long file only the end is read."""
        self.assertEqual(self.tail(b"x" * 1000 + b"\nlast\n", 9, limit=10), ("xxxx", "last"))

    def test_no_file(self) -> None:
        """A file that is not there has no lines."""
        self.assertEqual(tail(Path(self.mktemp()), 9), ())


class RecordTests(SynchronousTestCase):
    """What a child recorded of itself."""

    values = {"pid": 7, "start_ticks": 8, "boot_id": "b", "started_at": 9.5, "identity": "w1"}

    def test_record(self) -> None:
        """A record is read as it was written; more keys do no harm."""
        record = parse_record(json.dumps({**self.values, "later": 1}))
        self.assertEqual(record, Record(pid=7, start_ticks=8, boot_id="b", started_at=9.5, identity="w1"))

    def test_no_record(self) -> None:
        """Whatever is not wholly a record is refused."""
        texts = ["", "{", "[]", "1", "null"]
        texts += [json.dumps({**self.values, key: None}) for key in self.values]
        texts += [json.dumps({**self.values, "pid": pid}) for pid in (0, -1, True, "7", 7.5)]
        for text in texts:
            with self.assertRaises(ValueError):
                parse_record(text)

    def test_no_file(self) -> None:
        """Where there is no file, there is no record."""
        self.assertIsNone(read_record(self.mktemp()))


class StatTests(SynchronousTestCase):
    """What the kernel says of processes."""

    def test_stat(self) -> None:
        """State and start time are found behind every name that a program may have."""
        fields = "S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 531622 1 1"
        for name in ("celery", "a b", "a) S 2 (b", "", ")))"):
            self.assertEqual(parse_stat(f"7 ({name}) {fields}\n"), Stat("S", 531622))

    def test_no_stat(self) -> None:
        """What is no such text is refused."""
        for text in ("", "7 (celery) S", "nonsense"):
            with self.assertRaises(ValueError):
                parse_stat(text)

    def test_ended(self) -> None:
        """A zombie has ended; one that sleeps or is frozen has not."""
        self.assertEqual([Stat(state, 1).has_ended for state in "ZXSRDT"], [True] * 2 + [False] * 4)

    def test_here(self) -> None:
        """This process has a start time and this machine an id of its boot."""
        here = read_stat(os.getpid())
        assert here is not None
        self.assertGreater(here.start_ticks, 0)
        self.assertTrue(boot_id())

    def test_nobody(self) -> None:
        """A pid that no process can have leads to nobody."""
        self.assertIsNone(read_stat(2**31 - 1))
