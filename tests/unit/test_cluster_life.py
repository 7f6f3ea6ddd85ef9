"""Whatever is asked of branches, and whichever die meanwhile: they agree in the end."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.moving import RETRY_AFTER
from cyme.errors import CymeError
from tests.support.memorycluster import TIMEOUT, Branch, Cluster

IDS = ("b1", "b2", "b3")
NAMES = ("w1", "w2", "w3")

ids = st.sampled_from(IDS)
names = st.sampled_from(NAMES)


class LifeMachine(RuleBasedStateMachine):
    """Three branches, the third on the machine of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.case = SynchronousTestCase()
        self.cluster = Cluster(self.case, delay=0.05)
        #: Whether two branches may have one instance, since one did not hear of the other's.
        self.is_doubtful = False

    @initialize()
    def begin(self) -> None:
        for id in IDS:
            self.start(id)
        self.cluster.populate(self.cluster.branches["b1"], "w1")

    def start(self, id: str) -> None:
        self.is_doubtful |= self.cluster.is_split
        self.cluster.branch(id, host="host-of-b2" if id == "b3" else None)
        # Until it has heard what it missed, it may take others' instances for its own.
        self.cluster.turn(0.5)

    def teardown(self) -> None:
        if self.cluster.branches:
            self.heal()
            for id in IDS:
                if not self.cluster.branches[id].lives:
                    self.start(id)
            self.cluster.exchange()
            self.cluster.turn(2 * TIMEOUT + 3 * RETRY_AFTER)
            self.check()
        self.case.doCleanups()

    def check(self) -> None:
        """All know the same; who is named owns, and nobody else; who is drained has nothing."""
        branches = self.cluster.living()
        known = branches[0].store.rows
        for branch in branches[1:]:
            assert branch.store.rows == known
        owners = branches[0].owners()
        for branch in branches:
            for name in NAMES:
                assert branch.bus.owns("Instance", name) == (owners.get(name) == branch.id), name
        states = {branch.id: branch.catalogue.branch(branch.id) for branch in branches}
        for branch in branches:
            for one in branch.catalogue.instances():
                assert one.moving_to is None or states[one.branch].is_draining
        if not all(state.is_cordoned for state in states.values()):
            for name, owner in owners.items():
                assert not states[owner].is_draining, f"{name} is still on {owner}"

    def ask(self, asked: Deferred[Any]) -> Any:
        """What comes of a request: its answer, or why it is refused, or None as long as it waits."""
        outcome: list[Any] = []
        asked.addBoth(outcome.append)
        self.cluster.turn(1.0)
        if outcome and isinstance(outcome[0], Failure):
            outcome[0].trap(CymeError)
        return outcome[0] if outcome else None

    def alive(self, id: str) -> Branch | None:
        branch = self.cluster.branches[id]
        return branch if branch.lives else next(iter(self.cluster.living()), None)

    @rule(name=names, at=ids, where=st.none() | ids)
    def create(self, name: str, at: str, where: str | None) -> None:
        branch = self.alive(at)
        if branch is not None:
            self.ask(branch.controller.instances.add("foo", name, branch=where))

    @rule(name=names, one=ids, other=ids)
    def create_at_once(self, name: str, one: str, other: str) -> None:
        here, there = self.alive(one), self.alive(other)
        if here is not None and there is not None:
            asked = here.controller.instances.add("foo", name, branch=here.id)
            self.ask(there.controller.instances.add("foo", name, branch=there.id))
            asked.addErrback(lambda failure: failure.trap(CymeError))

    @rule(name=names, at=ids)
    def delete(self, name: str, at: str) -> None:
        branch = self.alive(at)
        if branch is not None:
            self.ask(branch.controller.instances.delete("foo", name))

    @rule(what=st.sampled_from(["cordon", "uncordon", "drain", "drain", "evacuate"]), id=ids, at=ids)
    def command(self, what: str, id: str, at: str) -> None:
        branch = self.alive(at)
        self.is_doubtful |= what == "evacuate" and self.cluster.is_split
        if branch is not None:
            self.ask(getattr(branch.controller.branches, what)(id))

    @rule(id=ids)
    def kill(self, id: str) -> None:
        self.cluster.branches[id].kill()

    @rule(id=ids)
    def revive(self, id: str) -> None:
        if not self.cluster.branches[id].lives:
            self.start(id)

    @precondition(lambda self: not self.cluster.is_split)
    @rule()
    def split(self) -> None:
        self.cluster.is_split = True

    @rule()
    def heal(self) -> None:
        self.cluster.is_split = False
        self.cluster.exchange()
        self.cluster.turn(1.0)
        self.is_doubtful = False

    @rule(seconds=st.sampled_from([0.1, 1.0, RETRY_AFTER]))
    def wait(self, seconds: float) -> None:
        self.cluster.turn(seconds)

    @invariant()
    def one_owner(self) -> None:
        if not self.cluster.branches or self.is_doubtful:
            return
        for name in NAMES:
            owners = [branch.id for branch in self.cluster.living() if branch.bus.owns("Instance", name)]
            assert len(owners) <= 1, f"{name} is had by {owners}"


LifeMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


class LifeTests(SynchronousTestCase):
    """Any life of a cluster."""

    def test_any_life(self) -> None:
        """Branches that die, return and miss what others wrote agree in the end; no name is had twice."""
        outcome = LifeMachine.TestCase("runTest")
        outcome.runTest()
