"""The kernel's count of kills for want of memory, over folders that play `/proc` and `/sys`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cyme.supervisor.oomkills import OomKills, OomWatch

EVENTS = "low 0\nhigh 0\nmax 5\noom 2\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
VMSTAT = "nr_free_pages 4711\noom_kill {}\npgfault 1\n"


class OomKillsTests(SynchronousTestCase):
    """Which count is read."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def count(self) -> int | None:
        return OomKills(str(self.root)).count()

    def test_version_2(self) -> None:
        """With control groups of version 2 it is the own group's."""
        self.write("proc/self/cgroup", "0::/system.slice/cyme.service\n")
        self.write("sys/fs/cgroup/system.slice/cyme.service/memory.events", EVENTS.format(3))
        self.write("proc/vmstat", VMSTAT.format(99))
        self.assertEqual(self.count(), 3)

    def test_container(self) -> None:
        """Where the group's path means nothing inside a container it is the mount's own."""
        self.write("proc/self/cgroup", "0::/../../outside\n")
        self.write("sys/fs/cgroup/memory.events", EVENTS.format(4))
        self.assertEqual(self.count(), 4)

    def test_version_1(self) -> None:
        """With version 1 it is that of the memory controller's group."""
        self.write("proc/self/cgroup", "5:devices:/\n4:memory:/a/b\n0::/\n")
        self.write("sys/fs/cgroup/memory/a/b/memory.oom_control", CONTROL.format(5))
        self.assertEqual(self.count(), 5)

    def test_machine(self) -> None:
        """Without control groups it is the machine's."""
        self.write("proc/vmstat", VMSTAT.format(6))
        self.assertEqual(self.count(), 6)

    def test_none(self) -> None:
        """Where nobody counts there is no count."""
        self.assertIsNone(self.count())
        self.write("proc/self/cgroup", "nonsense\n\n0::/\n")
        self.write("proc/vmstat", "oom_kill many\n")
        self.assertIsNone(self.count())

    def test_changes(self) -> None:
        """The count is read anew each time, and gone when its file is."""
        self.write("proc/vmstat", VMSTAT.format(6))
        kills = OomKills(str(self.root))
        self.assertEqual(kills.count(), 6)
        self.write("proc/vmstat", VMSTAT.format(7))
        self.assertEqual(kills.count(), 7)
        (self.root / "proc/vmstat").unlink()
        self.assertIsNone(kills.count())

    def test_here(self) -> None:
        """This machine's kernel counts, or says nothing; neither is an error."""
        self.assertIsInstance(OomKills().count(), int | None)


class OomWatchTests(SynchronousTestCase):
    """What a kill explains."""

    def setUp(self) -> None:
        self.kills: int | None = 10
        self.watch = OomWatch(lambda: self.kills)
        self.watch.refresh()

    def kill(self, times: int = 1) -> None:
        assert self.kills is not None
        self.kills += times

    def test_each_explains_one(self) -> None:
        """Kills before the start explain nothing; two after it explain two ends."""
        self.assertFalse(self.watch.take())
        self.kill(2)
        self.assertEqual([self.watch.take() for _ in range(3)], [True, True, False])

    def test_taken_for_good(self) -> None:
        """A kill that has explained an end explains no later one."""
        self.kill()
        self.assertTrue(self.watch.take())
        self.watch.refresh()
        self.assertFalse(self.watch.take())

    def test_seen_before_the_end(self) -> None:
        """A kill that was counted just before the worker's end was noticed explains it still."""
        self.kill()
        self.watch.refresh()
        self.assertTrue(self.watch.take())

    def test_forgotten(self) -> None:
        """A kill of something else explains no end that comes much later."""
        self.kill()
        self.watch.refresh()
        self.watch.refresh()
        self.assertFalse(self.watch.take())

    def test_no_count(self) -> None:
        """Without a count nothing is explained, and a count that comes late is no rise."""
        self.kills = None
        watch = OomWatch(lambda: self.kills)
        watch.refresh()
        self.assertFalse(watch.take())
        self.kills = 5
        self.assertFalse(watch.take())
        watch.refresh()
        self.assertFalse(watch.take())
        self.kill()
        self.assertTrue(watch.take())
