"""Creating an instance under a name that nobody in the cluster has.

Note [Names are unique]
~~~~~~~~~~~~~~~~~~~~~~~
Any branch may be asked to create an instance, and two may be asked for one name at the same moment,
when neither knows of the other's. So whoever is about to create it takes a claim on the name, which
one branch at a time can have (`IMessageBus.claim`), and asks the name's owner whether there is one: a
message that nobody owns comes back at once. Only then the instance is stored and owned, and the claim is
given back when the whole cluster would find the new owner. Whoever comes second waits for the claim,
finds the owner, and is answered as if it had come second by a day.

A branch that dies loses its claim. If it had stored the instance, but not told anybody, another may
create the name again before it returns; and in a partition, where the two sides have two brokers or two
parts of one, each side can create it. When they hear of each other again the declaration with the higher
version holds on both (`cyme.catalogue`): the branch that it does not name stops its worker, and its
why-log says which branch has the instance now. Until then two workers of one name run; where both use
the same node name and broker, Celery itself lets only one of them live (failure-modes F4).

While the bus is away nobody can be asked, and nothing is created, unless this branch has never heard of
another one: then it is taken to be alone, and goes on as a branch without a bus does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from cyme.errors import BusAway, NameClaimed, NoRoute, NoSuchInstance

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors

T = TypeVar("T")

#: Seconds for which a claim is waited for that another branch has.
CLAIM_WITHIN = 5.0
#: Seconds until it is asked for again: at first, and at most.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5


class Names:
    """The names of instances; see Note [Names are unique].

    :param is_alone: whether this branch has never heard of another one.
    """

    def __init__(self, clock: IReactorTime, actors: Actors, is_alone: Callable[[], bool]) -> None:
        self._clock = clock
        self._actors = actors
        self._is_alone = is_alone

    async def create(self, name: str, write: Callable[[], Awaitable[T]]) -> T | None:
        """Call `write`, unless another branch owns `name`; wait until all would find who owns it now.

        :return: what `write` gives, or None when another branch has the name.
        :raises NameClaimed: when somebody else is busy with it for long.
        :raises BusAway: when nobody can be asked, and there is somebody.
        """
        try:
            release = await self._claim(name)
        except BusAway:
            if not self._is_alone():
                raise
            return await write()
        try:
            if await self._is_owned(name):
                return None
            written = await write()
            await self._actors.settled()
            return written
        finally:
            # Nobody waits for it: the next who asks does.
            release()

    async def _claim(self, name: str) -> Callable[[], Deferred[None]]:
        deadline = self._clock.seconds() + CLAIM_WITHIN
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._actors.claim("Instance", name)
            except NameClaimed:
                if self._clock.seconds() + pause > deadline:
                    raise
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _is_owned(self, name: str) -> bool:
        try:
            await self._actors.call("Instance", name, "get")
        except (NoRoute, NoSuchInstance):
            return False
        return True
