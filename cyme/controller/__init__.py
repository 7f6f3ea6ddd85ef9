"""The verbs of Cyme: `branches`, `apps`, `instances`, `queues`, `events`, for HTTP and for Python.

From Python, without HTTP, with the parts that `cyme.tap` puts together::

    bus = LocalBus(reactor)                              # or `cyme.bus.amqp.bus.AMQPBus`, with others
    actors = Actors(reactor, bus, "b1", lambda: membership.members())
    replication = Replication(reactor, catalogue, actors, "b1")
    membership = Membership(
        reactor, bus, actors, presence, replication, catalogue.digest, branch_id="b1", life=str(uuid4())
    )
    controller = make_controller(
        reactor, catalogue, supervisor, actors, membership, "b1", lambda: url, events, remote, gateway
    )
    await actors.start()
    membership.start()

    await controller.apps.add("foo", hostname="mq.example", userid="me", password="secret")
    await controller.queues.add("foo", "tasks", exchange="tasks")
    created, details = await controller.instances.add("foo", "w1", queues=["tasks"], wait=10.0)
    details["state"]                                     # "running"
    await controller.instances.set_autoscale("foo", "w1", max=4)
    controller.apps.all()                                # ["foo"]
    await controller.apps.delete("foo")
    with asked_by(Asker("nightly job")):                 # else the why-log says "controller"
        controller.apps.add("bar")

A program that is no branch may ask the branches' actors over the bus; its names are the verbs that
`owner`, `cordoning` and the others mark with `verb` (`cyme.listing` finds out who lives)::

    bus = AMQPBus(reactor, "amqp://mq.example//", name="nightly job", retry_policy=lambda failures: 1.0)
    actors = Actors(reactor, bus, "nightly job", tuple)
    await actors.start()
    await actors.call("Instance", "w1", "restart")       # NoRoute at once if no live branch has it
    await actors.call("Branch", "b2", "cordon")
    await actors.stop()

Reads of what is declared (`all`, `get`, `autoscale`) answer at once; `instances.get` answers with
a Deferred where another branch owns the instance. Everything else returns a Deferred, and has
been stored when that fires. What can't be done fails it with one of `cyme.errors`, and then
nothing was changed. Answers are JSON-able; parameters are those of the HTTP interface, as
Python's own types, and None means "not given".

`apps`, `queues`, `branches`, `instances` and `rollouts` are the asker's side; `owner` is the actor on
the branch that runs an instance, `cordoning` that of the branch itself; `placer` and `claiming` have a
new instance made somewhere, once; `rolling`, `moving` and `evacuating` carry rolling restarts, drains and
evacuations out; `history` and `following` tell of the why-log, `changes` writes the declarations' part of
it, with who asked (`cyme.asking`); `turns`, `placing`, `names`, `parameters`, `queueoptions` and
`workerarguments` say, without any I/O, what follows and what is allowed.
"""

from cyme.controller.facade import Controller, make_controller

__all__ = ["Controller", "make_controller"]
