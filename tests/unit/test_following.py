"""Followers of the why-log: every event once and in order, however writes, reads and pauses fall."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.following import HANDED_ON_MOST, PAGE, READS_AT_ONCE, Followers, Following
from cyme.errors import InvalidParameter
from cyme.events import Event


class Log:
    """A why-log whose reads end when the test says so; not one of `IEvents`, only what is followed.

    :ivar held: when a list, the reads wait in it.
    :ivar reads: (since, instance) of each read.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: list[tuple[Deferred[Any], Any]] | None = None
        self.reads: list[tuple[int, str | None]] = []
        self.failure: Exception | None = None
        self.tell: Any = None
        self.untold: list[tuple[Event, ...]] = []

    def subscribe(self, written: Any) -> Any:
        self.tell = written
        return lambda: None

    def last(self) -> Deferred[int]:
        return self._answer(self.events[-1].id if self.events else 0)

    def read(self, *, since: int, limit: int, instance: str | None) -> Deferred[Sequence[Event]]:
        self.reads.append((since, instance))
        found = [one for one in self.events if one.id > since and instance in (None, one.instance)]
        return self._answer(tuple(found[:limit]))

    def store(self, *instances: str | None, gap: int = 0) -> tuple[Event, ...]:
        """Write an event for each of `instances`, and tell nobody."""
        first = (self.events[-1].id if self.events else 0) + 1 + gap
        written = tuple(
            Event(id=number, at=0.0, branch="b1", instance=name, kind="start", who="supervisor")
            for number, name in enumerate(instances, first)
        )
        self.events.extend(written)
        return written

    def write(self, *instances: str | None) -> None:
        """Write events, and tell of them."""
        self.commit(*instances)
        self.tell_all()

    def commit(self, *instances: str | None) -> None:
        """Write events that will be told of."""
        self.untold.append(self.store(*instances))

    def tell_all(self) -> None:
        """Tell of what was written."""
        while self.untold:
            self.tell(self.untold.pop(0))

    def finish_read(self) -> None:
        """Let the oldest read end."""
        if self.held:
            waiting, result = self.held.pop(0)
            waiting.callback(result)

    def _answer(self, result: Any) -> Deferred[Any]:
        if self.failure is not None:
            return fail(self.failure)
        if self.held is None:
            return succeed(result)
        waiting: Deferred[Any] = Deferred()
        self.held.append((waiting, result))
        return waiting


class Reader:
    """Takes what is delivered; pauses its follower when it has enough."""

    def __init__(self, enough: int = 10**9) -> None:
        self.got: list[int] = []
        self.failures = 0
        self.enough = enough
        self.following: Following | None = None

    def deliver(self, document: Any) -> None:
        self.got.append(document["id"])
        if len(self.got) >= self.enough and self.following is not None:
            self.following.pause()

    def failed(self) -> None:
        self.failures += 1


class FollowingCase(SynchronousTestCase):
    """A log and those who follow it."""

    def setUp(self) -> None:
        self.log = Log()
        self.followers = Followers(self.log)  # type: ignore[arg-type]

    def begin(
        self, reader: Reader, since: int | None = None, instance: str | None = None
    ) -> Deferred[Following]:
        following = self.followers.follow(instance, since, reader.deliver, reader.failed)

        def resume(following: Following) -> Following:
            reader.following = following
            following.resume()
            return following

        return Deferred.fromCoroutine(following).addCallback(resume)

    def follow(self, since: int | None = None, instance: str | None = None) -> Reader:
        reader = Reader()
        self.successResultOf(self.begin(reader, since, instance))
        return reader


class FollowTests(FollowingCase):
    """What a follower is given."""

    def test_from_now_on(self) -> None:
        """Without an id to begin from, only what happens later is told, without reading it."""
        self.log.write("w1", "w1")
        reader = self.follow()
        self.log.write("w1")
        self.log.write("w2", "w1")
        self.assertEqual((reader.got, self.log.reads), ([3, 4, 5], []))

    def test_catches_up(self) -> None:
        """What the log holds after an id is told page by page, then what happens."""
        self.log.write(*["w1"] * (2 * PAGE + 7))
        reader = self.follow(since=3)
        self.assertEqual(self.log.reads, [(3, None), (3 + PAGE, None), (3 + 2 * PAGE, None)])
        self.log.write("w1")
        self.assertEqual(reader.got, list(range(4, 2 * PAGE + 9)))

    def test_one_instance(self) -> None:
        """A follower of one instance hears of no other, and reads nothing for the others' sake."""
        self.log.write("w1", "w2")
        reader = self.follow(since=0, instance="w1")
        for name in ("w2", None, "w1", "w2"):
            self.log.write(name)
        self.assertEqual((reader.got, len(self.log.reads)), ([1, 5], 1))

    def test_not_yet(self) -> None:
        """An id that the log has not given is refused, since nothing would come for long."""
        self.log.write("w1")
        refused = self.begin(Reader(), since=2)
        self.failureResultOf(refused, InvalidParameter)
        self.assertEqual(self.followers._followers, [])

    def test_written_before_asked(self) -> None:
        """What is written while a follower asks where the log ends is told once."""
        self.log.write("w1")
        self.log.held = []
        reader = Reader()
        asked = self.begin(reader)
        self.log.write("w1")
        while self.log.held:
            self.log.finish_read()
        self.successResultOf(asked)
        self.assertEqual(reader.got, [2])

    def test_written_while_reading(self) -> None:
        """What is written between the last page and its arrival is told behind it, once."""
        self.log.write("w1")
        reader = self.follow(since=0)
        self.log.held = []
        self.log.store("w1", gap=1)
        self.log.write("w1")
        self.log.write("w1")
        self.assertEqual(reader.got, [1])
        while self.log.held:
            self.log.finish_read()
        self.assertEqual(reader.got, [1, 3, 4, 5])

    def test_other_branch(self) -> None:
        """An event of which nobody tells is told before the next one, or when the follower looks."""
        reader = self.follow()
        self.log.store("w9")
        self.log.write("w1")
        self.assertEqual(reader.got, [1, 2])
        self.log.store("w9")
        assert reader.following is not None
        reader.following.look()
        self.assertEqual(reader.got, [1, 2, 3])
        self.log.store(*["w9"] * (PAGE + 2))
        reader.following.look()
        self.assertEqual(len(reader.got), PAGE + 5)

    def test_told_late(self) -> None:
        """What a read finds before it is told of is not told again."""
        reader = self.follow()
        assert reader.following is not None
        self.log.held = []
        self.log.commit("w1", "w1")
        reader.following.look()
        self.log.tell_all()
        while self.log.held:
            self.log.finish_read()
        self.log.write("w1")
        self.assertEqual(reader.got, [1, 2, 3])

    def test_many_at_once(self) -> None:
        """More events than are handed on come from the database, as do events that are long."""
        reader = self.follow()
        self.log.write(*["w1"] * (PAGE + 1))
        self.assertEqual((len(reader.got), len(self.log.reads)), (PAGE + 1, 2))
        [long] = self.log.store("w1")
        self.log.tell([evolve(long, details=json.dumps("x" * HANDED_ON_MOST))])
        self.assertEqual((len(reader.got), len(self.log.reads)), (PAGE + 2, 3))


class LagTests(FollowingCase):
    """Readers that are slow, go away or can't be served."""

    def test_paused(self) -> None:
        """A paused follower is told nothing and keeps nothing; when it goes on, nothing is missing."""
        reader = self.follow()
        assert reader.following is not None
        reader.following.pause()
        for _ in range(3 * PAGE):
            self.log.write("w1")
        self.assertEqual((reader.got, self.log.reads), ([], []))
        reader.following.resume()
        self.assertEqual(reader.got, list(range(1, 3 * PAGE + 1)))

    def test_paused_in_the_middle(self) -> None:
        """A reader that has enough in the middle of a page or a batch gets the rest later."""
        reader = Reader(enough=2)
        self.log.write("w1", "w1", "w1")
        following = self.successResultOf(self.begin(reader, since=0))
        self.assertEqual(reader.got, [1, 2])
        reader.enough = 4
        following.resume()
        self.log.write("w1", "w1")
        self.assertEqual(reader.got, [1, 2, 3, 4])
        reader.enough = 99
        following.resume()
        self.assertEqual(reader.got, [1, 2, 3, 4, 5])

    def test_paused_among_the_untold(self) -> None:
        """The rest of a page of which nobody told is told when its reader goes on."""
        reader = Reader(enough=1)
        following = self.successResultOf(self.begin(reader))
        self.log.store("w9", "w9")
        following.look()
        self.assertEqual(reader.got, [1])
        following.resume()
        self.assertEqual(reader.got, [1, 2])

    def test_stopped(self) -> None:
        """A follower that was stopped is told nothing, also of what was being read, and is forgotten."""
        self.log.write("w1")
        self.log.held = []
        reader = Reader()
        asked = self.begin(reader, since=0)
        self.log.finish_read()
        self.successResultOf(asked).stop()
        self.log.finish_read()
        self.log.write("w1")
        self.assertEqual((reader.got, self.followers._followers), ([], []))

    def test_few_reads(self) -> None:
        """Many followers that catch up at once leave the database to others in between."""
        self.log.write("w1")
        readers = [Reader() for _ in range(READS_AT_ONCE + 3)]
        for reader in readers:
            self.successResultOf(self.begin(reader))
        self.log.held = []
        self.log.store("w1")
        self.log.write("w1")
        self.assertEqual(len(self.log.held), READS_AT_ONCE)
        while self.log.held:
            self.log.finish_read()
        self.assertEqual([reader.got for reader in readers], [[2, 3]] * len(readers))

    def test_unreadable(self) -> None:
        """A follower whose log can't be read is told that once, and nothing more."""
        reader = self.follow()
        self.log.failure = OSError("gone")
        self.log.store("w1")
        self.log.write("w1")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.log.failure = None
        self.log.write("w1")
        self.assertEqual((reader.got, reader.failures), ([], 1))


class InterleavingTests(SynchronousTestCase):
    """Everything at any time."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                ["write", "write2", "write60", "commit", "tell", "other"]
                + ["read", "read", "pause", "resume", "look"]
            ),
            max_size=40,
        ),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, "w1"]),
    )
    def test_no_gap_no_repeat(self, actions: list[str], since: int | None, instance: str | None) -> None:
        """However writes, reads and pauses follow each other, each event comes once, in order."""
        log = Log()
        followers = Followers(log)  # type: ignore[arg-type]
        log.store("w1", "w2")
        log.held = []
        reader = Reader()
        asked = Deferred.fromCoroutine(followers.follow(instance, since, reader.deliver, reader.failed))
        begun: list[Following] = []
        asked.addCallback(begun.append)
        names = ["w1", "w2", None]
        for number, action in enumerate(actions):
            name = names[number % 3]
            if action == "write":
                log.write(name)
            elif action == "write2":
                log.write(name, "w1")
            elif action == "write60":
                log.write(*[name, "w1"] * 30)
            elif action == "commit":
                log.commit(name, "w1")
            elif action == "tell":
                log.tell_all()
            elif action == "other":
                log.store(name)
            elif action == "read":
                log.finish_read()
            elif begun:
                getattr(begun[0], action)()
        log.tell_all()
        while not begun:
            log.finish_read()
        begun[0].resume()
        # The first look may find a read under way that began too early to see everything.
        for _ in range(2):
            begun[0].look()
            while log.held:
                log.finish_read()
        after = 2 if since is None else since
        wanted = [one.id for one in log.events if one.id > after and instance in (None, one.instance)]
        self.assertEqual(reader.got, wanted)
