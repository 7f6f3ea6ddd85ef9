"""Placing: the choice among branches as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.placing import Candidate, by_load, fitting, in_turn, labels_of
from cyme.errors import InvalidParameter

candidates = st.lists(
    st.builds(
        Candidate,
        id=st.sampled_from("abcdefgh"),
        instances=st.integers(0, 5),
        cpus=st.integers(0, 4),
        load=st.floats(0, 8),
        labels=st.frozensets(st.sampled_from(["gpu=yes", "gpu=no", "zone=a"])),
        accepts=st.booleans(),
    ),
    unique_by=lambda one: one.id,
)


def ids(found: list[Candidate]) -> str:
    return "".join(one.id for one in found)


class FittingTests(SynchronousTestCase):
    """Which branches may get an instance."""

    def test_labels(self) -> None:
        """A branch has to accept instances and to have every label; it may have more."""
        both = frozenset({"gpu=yes", "zone=a"})
        found = [
            Candidate(id="d", labels=both),
            Candidate(id="c", labels=both, accepts=False),
            Candidate(id="b", labels=frozenset({"gpu=yes"})),
            Candidate(id="a"),
        ]
        for labels, expected in (
            ([], "abd"),
            (["gpu=yes"], "bd"),
            (["gpu=yes", "zone=a"], "d"),
            (["gpu=no"], ""),
        ):
            self.assertEqual(ids(fitting(found, labels)), expected, labels)


class LoadTests(SynchronousTestCase):
    """Who has least to do."""

    def test_table(self) -> None:
        """Load and instances count alike for each processor; then fewer instances come first, then ids."""
        for expected, *found in (
            ("ab", Candidate(id="b"), Candidate(id="a")),
            ("ba", Candidate(id="a", instances=1), Candidate(id="b")),
            ("ba", Candidate(id="a", instances=4, cpus=2), Candidate(id="b", instances=4, cpus=8)),
            ("ba", Candidate(id="a", load=3.0), Candidate(id="b", instances=2)),
            ("ba", Candidate(id="a", instances=2), Candidate(id="b", load=2.0)),
            ("ab", Candidate(id="b", load=0.5), Candidate(id="a", load=0.25)),
            ("ab", Candidate(id="b", cpus=0, instances=2), Candidate(id="a", instances=1)),
        ):
            self.assertEqual(ids(by_load(found)), expected, found)

    @given(candidates, st.randoms())
    def test_order(self, found: list[Candidate], random: object) -> None:
        """Nobody is lost, and the order in which branches are heard of changes nothing."""
        shuffled = list(found)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        self.assertEqual(by_load(found), by_load(shuffled))
        self.assertEqual(sorted(ids(by_load(found))), sorted(ids(found)))

    @given(candidates.filter(bool), st.integers(1, 30))
    def test_even(self, found: list[Candidate], count: int) -> None:
        """Instances that are placed one after another leave nobody far behind."""
        held = {one.id: 0 for one in found}
        plain = [Candidate(id=one.id) for one in found]
        for _ in range(count):
            held[by_load([Candidate(id=one.id, instances=held[one.id]) for one in plain])[0].id] += 1
        self.assertLessEqual(max(held.values()) - min(held.values()), 1)


class TurnTests(SynchronousTestCase):
    """Who is next."""

    def test_round(self) -> None:
        """Each comes first once in a round, and the others follow in order."""
        found = [Candidate(id=id) for id in "abc"]
        self.assertEqual([ids(in_turn(found, turn)) for turn in range(4)], ["abc", "bca", "cab", "abc"])
        self.assertEqual(in_turn([], 5), [])


class LabelTests(SynchronousTestCase):
    """Labels as they are asked for."""

    def test_read(self) -> None:
        """Labels come in order and once each."""
        self.assertEqual(labels_of("label", ["b=2", "a=1", "b=2"]), ("a=1", "b=2"))
        self.assertEqual(labels_of("label", []), ())

    def test_refused(self) -> None:
        """What is no NAME=VALUE is refused, and so is what no branch can have."""
        for wrong in ("gpu", "=yes", "gpu=", "g u=1", "gpu=a b", "x" * 64 + "=1", 7, None):
            self.assertRaises(InvalidParameter, labels_of, "label", [wrong])
        self.assertRaises(InvalidParameter, labels_of, "label", ["a=1", "a=2"])
        self.assertRaises(InvalidParameter, labels_of, "label", "a=1")
        self.assertRaises(InvalidParameter, labels_of, "label", [f"a{n}=1" for n in range(65)])
