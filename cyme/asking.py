"""Who asked for what is being done, so that the why-log can say it.

Note [Who asked]
~~~~~~~~~~~~~~~~
Between a request and the change that it makes lie the controller's verbs, a message to the branch
that owns the instance, a verb there, and the catalogue's lock. None of them does anything with who
asked; so it is no argument of theirs, of every interface between them and of every verb to come,
but a context variable: set where a request comes in, read where a change is recorded.

    HTTP            `asked_by` around the verb's call (`cyme.api.routing`)
    a coroutine     keeps a copy of the context that it was started in (`Deferred.fromCoroutine`)
    a message       carries it in its envelope's field `who` (`cyme.actors`), and the receiving
                    branch sets it around its verb, with the sender's id
    the catalogue   runs a change in the context that asked for it, though the lock that it waits
                    for is released in another (`Catalogue._exclusively`)
    its subscribers are called in that context

Plain callbacks have no context of their own: code that goes on in one, or in a delayed call, and
then changes a declaration, has to say again who asked. What nobody said is "controller": Python
code that called a verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from attrs import frozen

#: The longest text that says who, in characters; a column of the database holds it.
WHO_MOST = 64


@frozen
class Asker:
    """Who asked.

    :ivar who: such as "http 127.0.0.1", "http unix", "controller", "database" or "supervisor".
    :ivar branch: the id of the branch that was asked, where it is not the one that acts.
    """

    who: str
    branch: str | None = None


#: Python code that calls the controller's verbs.
CONTROLLER = Asker("controller")
#: A person who wrote into the database.
DATABASE = Asker("database")
#: Nobody: what a branch finds in its database when it starts is no change.
START = Asker("start")

_asker: ContextVar[Asker] = ContextVar("asker", default=CONTROLLER)


def asker() -> Asker:
    """Who asked for what is being done now."""
    return _asker.get()


@contextmanager
def asked_by(someone: Asker) -> Iterator[None]:
    """Have everything that is called or started within be asked for by `someone`."""
    token = _asker.set(someone)
    try:
        yield
    finally:
        _asker.reset(token)
