"""Actors: asked by name, from one branch or another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cyme.actors import UNREADABLE_SAID_EVERY, Actors, Stored, verb
from cyme.bus.local import LocalBus, Switch
from cyme.errors import (
    BodyTooLarge,
    BusAway,
    BusLost,
    CymeError,
    NoReply,
    NoRoute,
    NoSuchApp,
    OtherVersion,
    OwnerGone,
    RemoteFailure,
    Unconfirmed,
)
from cyme.narration import WORDS_MOST, redacted, shortened
from cyme.probing import INTERVAL

#: Who logs what is tested here.
NAMESPACES = ("cyme.actors.Actors", "cyme.narration.Narrator")


class Private(CymeError):
    """An error that peers do not know."""


class Greeter:
    """An actor with a verb for everything that can happen.

    :ivar calls: what was asked: (verb, name, arguments).
    :ivar slow: what `think` waits for.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None, dict[str, Any]]] = []
        self.slow: Deferred[Any] = Deferred()

    def note(self, verb: str, name: str | None, **arguments: Any) -> None:
        self.calls.append((verb, name, arguments))

    @verb()
    def greet(self, name: str | None, *, word: str = "hello") -> str:
        self.note("greet", name, word=word)
        return f"{word} {name}"

    @verb()
    async def greet_later(self, name: str | None) -> str:
        return await succeed(f"at last, {name}")

    @verb("hidden")
    def add(self, name: str | None, *, hidden: str, **arguments: Any) -> dict[str, Any]:
        return {"name": name, "hidden": hidden, **arguments}

    @verb()
    def think(self, name: str | None) -> Deferred[Any]:
        self.note("think", name)
        return self.slow

    @verb()
    def store(self, name: str | None) -> Stored:
        return Stored(self.slow)

    @verb()
    def refuse(self, name: str | None) -> None:
        raise NoSuchApp("foo")

    @verb()
    def stumble(self, name: str | None) -> None:
        raise ZeroDivisionError("the secret is out")

    @verb()
    def refuse_privately(self, name: str | None) -> None:
        raise Private("for us only")

    @verb()
    def babble(self, name: str | None) -> Any:
        return {"value": object()}

    @verb()
    def drone(self, name: str | None) -> str:
        return "x" * 10_000_000

    def unmarked(self, name: str | None) -> str:
        return "not for others"


class Branch:
    """One branch's actors and what they serve."""

    def __init__(self, clock: Clock, switch: Switch, id: str, members: Callable[[], list[str]]) -> None:
        self.bus = LocalBus(clock, switch)
        self.actors = Actors(clock, self.bus, id, members)
        self.greeter = Greeter()
        self.id = id


class ActorsTestCase(SynchronousTestCase):
    """Three branches of one cluster; the third accepts no work."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.switch = Switch()
        self.members = ["b1", "b2", "b3"]
        self.branches = [Branch(self.clock, self.switch, id, lambda: self.members) for id in self.members]
        self.first, self.second, self.third = self.branches
        for branch in self.branches:
            accepts = branch is not self.third
            names = (f"at-{branch.id}",).__iter__
            branch.actors.register("Greeter", branch.greeter, names, accepts=accepts)
            self.successResultOf(branch.actors.start())
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(self.check_leftovers)

    def check_leftovers(self) -> None:
        for branch in self.branches:
            branch.actors.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turn(self) -> None:
        self.clock.advance(0)

    def answer(self, asked: Deferred[Any]) -> Any:
        self.turn()
        return self.successResultOf(asked)

    def refusal(self, asked: Deferred[Any], *errors: type[Exception]) -> Any:
        self.turn()
        return self.failureResultOf(asked, *errors).value

    def lines(self, level: LogLevel = LogLevel.info) -> list[str]:
        """What the log says about actors, at a level."""
        return [
            formatEvent(event)
            for event in self.events
            if event["log_level"] is level
            and event["log_namespace"] in ("cyme.actors.Actors", "cyme.narration.Narrator")
        ]


class LaterTests(SynchronousTestCase):
    """A branch that first hears what the others know."""

    def test_later(self) -> None:
        """What an actor has, and takes, is its own only when that is said, and what it has by then."""
        clock, switch = Clock(), Switch()
        here, there = (Branch(clock, switch, id, list) for id in ("b1", "b2"))
        names = ["w1", "w2"]
        here.actors.register("Greeter", here.greeter, lambda: names, accepts=True)
        here.actors.register("Other", here.greeter, lambda: ["x"])
        here.actors.start(later=("Greeter",))
        there.actors.start()

        def outcome(asked: Deferred[Any]) -> Any:
            for _ in range(5):
                clock.advance(0)
            return self.successResultOf(asked.addErrback(lambda failure: failure.type))

        self.assertEqual(outcome(there.actors.call("Greeter", "w1", "greet")), NoRoute)
        self.assertEqual(outcome(there.actors.throw("Greeter", None, "greet")), NoRoute)
        self.assertEqual(outcome(there.actors.call("Other", "x", "greet")), "hello x")
        names.remove("w2")
        here.actors.own_later()
        self.assertEqual(outcome(there.actors.call("Greeter", "w1", "greet")), "hello w1")
        self.assertEqual(outcome(there.actors.call("Greeter", "w2", "greet")), NoRoute)
        self.assertEqual(outcome(there.actors.throw("Greeter", None, "greet")), "hello None")


class CallTests(ActorsTestCase):
    """Asking the owner."""

    def test_other_branch(self) -> None:
        """A call reaches the branch that owns the name, and brings its answer."""
        asked = self.first.actors.call("Greeter", "at-b2", "greet", word="good morning")
        self.assertEqual(self.answer(asked), "good morning at-b2")
        self.assertEqual(self.second.greeter.calls, [("greet", "at-b2", {"word": "good morning"})])
        self.assertEqual(self.first.greeter.calls, [])

    def test_same_branch(self) -> None:
        """A call to a name of this branch is the same, and needs no bus."""
        self.first.bus.stop()
        asked = self.first.actors.call("Greeter", "at-b1", "greet")
        self.assertEqual(self.successResultOf(asked), "hello at-b1")

    def test_serialised(self) -> None:
        """Arguments and answers are serialised, also on this branch."""
        asked = self.first.actors.call("Greeter", "at-b1", "add", hidden="h", things=("a", "b"))
        self.assertEqual(self.answer(asked)["things"], ["a", "b"])
        self.refusal(self.first.actors.call("Greeter", "at-b1", "greet", word=object()), TypeError)

    def test_coroutine(self) -> None:
        """A verb may be a coroutine."""
        asked = self.first.actors.call("Greeter", "at-b2", "greet_later")
        self.assertEqual(self.answer(asked), "at last, at-b2")

    def test_waits(self) -> None:
        """An answer that takes its time is waited for."""
        asked = self.first.actors.call("Greeter", "at-b2", "think", timeout=10.0)
        self.turn()
        self.clock.advance(9.0)
        self.assertNoResult(asked)
        self.second.greeter.slow.callback("hm")
        self.assertEqual(self.answer(asked), "hm")

    def test_gone_meanwhile(self) -> None:
        """A call whose owner goes away before it answers fails within moments, for all who wait for it."""
        asked = [self.first.actors.call("Greeter", "at-b2", "think", timeout=100.0) for _ in range(2)]
        other = self.first.actors.call("Greeter", "at-b1", "think", timeout=100.0)
        self.turn()
        self.clock.advance(10.0)
        self.turn()
        self.second.bus.stop()
        self.clock.advance(INTERVAL)
        self.turn()
        for one in asked:
            error = self.failureResultOf(one, OwnerGone).value
            self.assertIn("is not known", str(error))
        self.assertNoResult(other)
        self.first.greeter.slow.callback("hm")
        self.assertEqual(self.answer(other), "hm")

    def test_bus_lost(self) -> None:
        """Calls whose answers would come over a bus that is lost fail at once; one to an own name goes on."""
        asked = [
            self.first.actors.call("Greeter", "at-b2", "think", timeout=100.0),
            self.first.actors.throw("Greeter", None, "think", timeout=100.0),
        ]
        own = self.first.actors.call("Greeter", "at-b1", "think", timeout=100.0)
        self.turn()
        self.first.bus.stop()
        for one in asked:
            error = self.failureResultOf(one, BusLost).value
            self.assertIn("is not known", str(error))
        self.assertNoResult(own)
        for branch in (self.first, self.second):
            branch.greeter.slow.callback("hm")
        self.assertEqual(self.answer(own), "hm")

    def test_unconfirmed(self) -> None:
        """A call whose message was sent, and not confirmed, may be done or not, and says so."""
        self.patch(self.first.bus, "to_owner", lambda *_, **__: fail(Unconfirmed()))
        error = self.failureResultOf(self.first.actors.call("Greeter", "at-b2", "greet"), BusLost).value
        self.assertIn("is not known", str(error))

    def test_unknown_news(self) -> None:
        """What is told to all and nobody here listens to is passed over."""
        told = self.first.actors.announce("Weather", "rains")
        self.turn()
        self.successResultOf(told)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_probes(self) -> None:
        """While nobody waits nobody is probed, and a probe asks for nothing."""
        asked = self.first.actors.call("Greeter", "at-b2", "think", timeout=100.0)
        self.turn()
        for _ in range(3):
            self.clock.advance(INTERVAL)
            self.turn()
        self.assertEqual(self.second.actors.counts["expired"], 3)
        self.assertEqual(len(self.second.greeter.calls), 1)
        self.second.greeter.slow.callback("hm")
        self.answer(asked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """A call to a name that nobody owns fails at once, with no time passing."""
        for name in ("at-b4", "w1"):
            error = self.failureResultOf(self.first.actors.call("Greeter", name, "greet"), NoRoute).value
            self.assertEqual(error.arguments, ("Greeter", name))

    def test_disowned(self) -> None:
        """A name that its branch has given up is nobody's."""
        self.second.actors.own("Greeter", "w1")
        self.assertEqual(self.answer(self.first.actors.call("Greeter", "w1", "greet")), "hello w1")
        self.second.actors.disown("Greeter", "w1")
        self.refusal(self.first.actors.call("Greeter", "w1", "greet"), NoRoute)
        self.first.actors.own("Greeter", "w1")
        self.first.actors.disown("Greeter", "w1")
        self.refusal(self.first.actors.call("Greeter", "w1", "greet"), NoRoute)

    def test_no_reply(self) -> None:
        """At the deadline the caller is told that there was no answer; a late one is passed over."""
        asked = self.first.actors.call("Greeter", "at-b2", "think", timeout=5.0)
        self.turn()
        self.clock.advance(5.0)
        error = self.failureResultOf(asked, NoReply).value
        self.assertEqual(error.arguments, ("Greeter", "at-b2", 5.0))
        self.second.greeter.slow.callback("too late")
        self.turn()
        self.assertEqual(self.first.actors.counts["answers"], 0)

    def test_expired_on_the_way(self) -> None:
        """A request that arrives after its deadline is not executed."""
        asked = self.first.actors.call("Greeter", "at-b2", "greet", timeout=5.0)
        self.clock.advance(5.0)
        self.failureResultOf(asked, NoReply)
        self.assertEqual(self.second.greeter.calls, [])

    def test_expired_in_hand(self) -> None:
        """A branch that slept with a request in its hands drops it when its deadline is over."""
        bodies: list[bytes] = []
        receive = self.second.actors.receive

        def keep(body: bytes) -> Deferred[None]:
            bodies.append(body)
            return succeed(None)

        self.second.bus.stop()
        self.second.bus.start(keep)
        asked = self.first.actors.call("Greeter", "at-b2", "greet", timeout=5.0)
        self.turn()
        self.clock.advance(5.0)
        self.failureResultOf(asked, NoReply)
        self.successResultOf(receive(bodies[0]))
        self.assertEqual(self.second.greeter.calls, [])
        self.assertEqual(self.second.actors.counts["expired"], 1)

    def test_cancelled(self) -> None:
        """Who loses interest leaves nothing behind; the verb goes on."""
        asked = self.first.actors.call("Greeter", "at-b2", "think")
        self.turn()
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.second.greeter.slow.callback("hm")
        self.turn()
        self.assertEqual(self.first.actors.counts["late"], 1)

    def test_too_large(self) -> None:
        """A request over the bus's limit is refused before it is sent."""
        word = "x" * self.first.bus.limit
        for name in ("at-b1", "at-b2"):
            self.refusal(self.first.actors.call("Greeter", name, "greet", word=word), BodyTooLarge)

    def test_stopped(self) -> None:
        """When a branch leaves the bus, what still waits for an answer fails."""
        call = self.first.actors.call("Greeter", "at-b2", "think")
        everyone = self.first.actors.scatter("Greeter", "think")
        self.turn()
        self.first.actors.stop()
        self.failureResultOf(call, BusAway)
        self.failureResultOf(everyone, BusAway)

    def test_answer_finds_nobody(self) -> None:
        """An answer to a branch that has left is dropped in peace."""
        asked = self.first.actors.call("Greeter", "at-b2", "think")
        self.turn()
        self.first.actors.stop()
        self.failureResultOf(asked, BusAway)
        self.second.greeter.slow.callback("hm")
        self.turn()
        self.assertEqual(self.flushLoggedErrors(), [])


class FailureTests(ActorsTestCase):
    """What goes wrong at the other side."""

    def call(self, verb: str) -> Deferred[Any]:
        return self.first.actors.call("Greeter", "at-b2", verb)

    def incident(self, asked: Deferred[Any]) -> str:
        error = self.refusal(asked, RemoteFailure)
        branch, incident = error.arguments
        self.assertEqual(branch, "b2")
        return incident

    def test_refusal(self) -> None:
        """A refusal arrives as the error that it is."""
        error = self.refusal(self.call("refuse"), NoSuchApp)
        self.assertEqual(error.arguments, ("foo",))

    def test_surprise(self) -> None:
        """Any other error arrives as an incident, whose id stands in the failing branch's log."""
        incident = self.incident(self.call("stumble"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        logged = [line for line in self.lines(LogLevel.critical) if incident in line]
        self.assertEqual(len(logged), 1)

    def test_surprise_is_private(self) -> None:
        """What the other side's error said stays there."""
        error = self.refusal(self.call("stumble"), RemoteFailure)
        self.assertNotIn("secret", str(error))
        self.flushLoggedErrors(ZeroDivisionError)

    def test_unknown_error(self) -> None:
        """An error of Cyme that peers do not know is an incident too."""
        self.incident(self.call("refuse_privately"))
        self.assertEqual(len(self.flushLoggedErrors(Private)), 1)

    def test_unknown_verb(self) -> None:
        """A verb that is unknown, or not marked as one, is an incident; the method is not called."""
        for name in ("dance", "unmarked", "__init__", "note"):
            self.incident(self.call(name))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 4)

    def test_wrong_arguments(self) -> None:
        """Arguments that a verb does not take are an incident."""
        self.incident(self.first.actors.call("Greeter", "at-b2", "greet", colour="blue"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_unsayable_answer(self) -> None:
        """An answer that JSON can't say is an incident."""
        self.incident(self.call("babble"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_too_large_answer(self) -> None:
        """An answer over the bus's limit is an incident."""
        self.incident(self.call("drone"))
        self.assertEqual(len(self.flushLoggedErrors(BodyTooLarge)), 1)

    def test_garbage(self) -> None:
        """Messages that are none are counted, dropped and logged once in a while; the next one is served."""
        bodies = (b"", b"\xff", b"{}", b'{"v": 1}', b"[" * 10_000)
        for body in bodies:
            self.successResultOf(self.second.actors.receive(body))
        self.assertEqual(self.second.actors.counts["unreadable"], 5)
        self.assertEqual(len(self.lines(LogLevel.warn)), 1)
        self.clock.advance(UNREADABLE_SAID_EVERY)
        self.successResultOf(self.second.actors.receive(b""))
        self.assertIn("5 messages dropped", self.lines(LogLevel.warn)[1])
        self.assertEqual(self.answer(self.call("greet")), "hello at-b2")

    def test_other_version(self) -> None:
        """A request of another version is refused by name, and its sender is told."""
        bodies: list[bytes] = []
        to_owner = self.first.bus.to_owner

        def translate(actor: str, name: str, body: bytes, *, expires: float) -> Deferred[None]:
            bodies.append(body)
            return to_owner(actor, name, json.dumps({**json.loads(body), "v": 7}).encode(), expires=expires)

        self.patch(self.first.bus, "to_owner", translate)
        for count in (1, 2):
            refusal = self.refusal(self.call("greet"), OtherVersion)
            self.assertIn("'b2' speaks version 1 of the wire format, not 7", str(refusal))
            self.assertEqual(len(self.lines(LogLevel.warn)), count)
        self.assertIn("version 7", self.lines(LogLevel.warn)[0])
        self.assertEqual(self.second.greeter.calls, [])

    def test_late_answer(self) -> None:
        """An answer that nobody waits for is counted and dropped."""
        body = json.dumps({"v": 1, "kind": "answer", "id": "r1", "branch": "b2", "ok": 1}).encode()
        self.successResultOf(self.first.actors.receive(body))
        self.assertEqual(self.first.actors.counts["late"], 1)


class ThrowTests(ActorsTestCase):
    """Asking any one branch."""

    def test_one(self) -> None:
        """Thrown work is done by exactly one branch that accepts it, in turns."""
        for number in range(4):
            asked = self.third.actors.throw("Greeter", f"w{number}", "greet")
            self.assertEqual(self.answer(asked), f"hello w{number}")
        done = [len(branch.greeter.calls) for branch in self.branches]
        self.assertEqual(done, [2, 2, 0])

    def test_no_name(self) -> None:
        """Thrown work need not be about a name."""
        asked = self.first.actors.throw("Greeter", None, "greet")
        self.assertEqual(self.answer(asked), "hello None")

    def test_nobody(self) -> None:
        """Work that no branch accepts fails at once."""
        self.refusal(self.first.actors.throw("Painter", None, "paint"), NoRoute)

    def test_no_reply(self) -> None:
        """Thrown work that is not answered fails at the deadline."""
        asked = self.first.actors.throw("Greeter", "w1", "think", timeout=3.0)
        self.turn()
        self.clock.advance(3.0)
        self.assertEqual(self.failureResultOf(asked, NoReply).value.arguments, ("Greeter", "w1", 3.0))

    def test_stored(self) -> None:
        """Work that is stored is off the bus's hands while its answer is still awaited."""
        done: list[Deferred[None]] = []
        for branch in (self.first, self.second):
            receive = branch.actors.receive

            def watch(body: bytes, receive: Callable[[bytes], Deferred[None]] = receive) -> Deferred[None]:
                done.append(receive(body))
                return done[-1]

            branch.bus.stop()
            branch.bus.start(watch)
        asked = self.third.actors.throw("Greeter", "w1", "store")
        self.turn()
        (received,) = done
        self.successResultOf(received)
        self.assertNoResult(asked)
        for branch in (self.first, self.second):
            branch.greeter.slow.callback("stored")
        self.assertEqual(self.answer(asked), "stored")

    def test_stored_then_failed(self) -> None:
        """What fails after the work was stored is the answer."""
        asked = self.third.actors.throw("Greeter", "w1", "store")
        self.turn()
        for branch in (self.first, self.second):
            branch.greeter.slow.errback(NoSuchApp("foo"))
            branch.greeter.slow.addErrback(lambda _: None)
        self.refusal(asked, NoSuchApp)


class ScatterTests(ActorsTestCase):
    """Asking everybody."""

    def test_all(self) -> None:
        """When every live member has answered the answers come at once, by branch."""
        asked = self.first.actors.scatter("Greeter", "greet", timeout=10.0)
        answers, missing = self.answer(asked)
        self.assertEqual(answers, dict.fromkeys(("b1", "b2", "b3"), "hello None"))
        self.assertEqual(missing, ())

    def test_silent(self) -> None:
        """At the time-out the answers that came are given, and who is missing."""
        self.members.append("b4")
        self.third.bus.stop()
        asked = self.first.actors.scatter("Greeter", "greet", timeout=10.0)
        self.turn()
        self.assertNoResult(asked)
        self.clock.advance(10.0)
        answers, missing = self.successResultOf(asked)
        self.assertEqual(sorted(answers), ["b1", "b2"])
        self.assertEqual(missing, ("b3", "b4"))

    def test_failed(self) -> None:
        """A branch that fails is missing, and does not make the others wait."""
        self.second.greeter.slow.errback(NoSuchApp("foo"))
        for branch in (self.first, self.third):
            branch.greeter.slow.callback("fine")
        answers, missing = self.answer(self.first.actors.scatter("Greeter", "think"))
        self.assertEqual(answers, {"b1": "fine", "b3": "fine"})
        self.assertEqual(missing, ("b2",))

    def test_newcomer(self) -> None:
        """The answer of a branch that is no member yet is taken."""
        self.members.remove("b1")
        answers, missing = self.answer(self.first.actors.scatter("Greeter", "greet"))
        self.assertEqual(sorted(answers), ["b1", "b2", "b3"])
        self.assertEqual(missing, ())

    def test_away(self) -> None:
        """Without the bus nobody can be asked."""
        self.first.bus.stop()
        self.refusal(self.first.actors.scatter("Greeter", "greet"), BusAway)


class LogTests(ActorsTestCase):
    """What the log says, in the style of the product document."""

    def test_lines(self) -> None:
        """The asked branch logs what it was asked, and what it answered."""
        self.answer(self.first.actors.throw("Greeter", None, "add", hidden="h"))
        self.assertEqual(
            self.lines(),
            ["{b1} --> Greeter.add(name=None)", "{b1} <-- ok={'name': None, 'hidden': 'h'}"],
        )

    def test_arguments(self) -> None:
        """Arguments stand behind the name as Python writes them, but for those that the verb hides."""
        self.answer(self.first.actors.call("Greeter", "at-b2", "add", hidden="h", most=2, words=["a"]))
        self.assertEqual(self.lines()[0], "{b2} --> Greeter.add(name='at-b2', most=2, words=['a'])")

    def test_refusal(self) -> None:
        """A refusal is logged in its words."""
        self.refusal(self.first.actors.call("Greeter", "at-b2", "refuse"), NoSuchApp)
        self.assertTrue(self.lines()[1].startswith("{b2} <-- nok=NoSuchApp: "), self.lines())
        self.assertIn("there is no app", self.lines()[1])

    def test_braces(self) -> None:
        """Braces in a value are shown and not taken for a format."""
        self.answer(self.first.actors.call("Greeter", "at-b2", "greet", word="{log_level} {nope!r} {"))
        self.assertIn("word='{log_level} {nope!r} {'", self.lines()[0])

    def test_secrets(self) -> None:
        """No password is logged, wherever it stands."""
        url = "amqp://me:s3cret@mq.example:5672//"
        self.answer(
            self.first.actors.call(
                "Greeter",
                "at-b2",
                "add",
                hidden=url,
                broker=url,
                password="s3cret",
                arguments=f"--result-backend {url}",
                nested=[{"broker": {"password": "s3cret", "hostname": "mq.example"}}],
            )
        )
        self.assertEqual(len(self.lines()), 2)
        for line in self.lines():
            self.assertNotIn("s3cret", line)
            self.assertIn("mq.example", line)

    def test_length(self) -> None:
        """A long value is cut."""
        self.answer(self.first.actors.call("Greeter", "at-b2", "greet", word="x" * 100_000))
        for line in self.lines():
            self.assertTrue(len(line) < WORDS_MOST + 100, len(line))

    def test_narrated(self) -> None:
        """Work that needs no other branch is logged in the same way, and gives its result."""

        async def work() -> str:
            return "done"

        async def refuse() -> str:
            raise NoSuchApp("foo")

        arguments = {"name": "foo", "broker": "amqp://me:s3cret@host//"}
        narrated = Deferred.fromCoroutine(self.first.actors.narrator.narrated("App", "add", arguments, work))
        self.assertEqual(self.successResultOf(narrated), "done")
        narrated = Deferred.fromCoroutine(
            self.first.actors.narrator.narrated("App", "delete", {"name": "foo"}, refuse)
        )
        self.failureResultOf(narrated, NoSuchApp)
        lines = self.lines()
        self.assertEqual(
            lines[:3],
            [
                "{b1} --> App.add(name='foo', broker='***')",
                "{b1} <-- ok='done'",
                "{b1} --> App.delete(name='foo')",
            ],
        )
        self.assertTrue(lines[3].startswith("{b1} <-- nok=NoSuchApp: "))

    def test_redacted(self) -> None:
        """Secrets are taken out of values of any shape; everything else stays."""
        cases: list[tuple[Any, Any]] = [
            ("plain", "plain"),
            (5, 5),
            (None, None),
            ({"password": "x", "userid": "me"}, {"password": "***", "userid": "me"}),
            ({"broker": "amqp://host//"}, {"broker": "***"}),
            ({"broker": {"password": "x"}}, {"broker": {"password": "***"}}),
            ({"broker": None}, {"broker": None}),
            (("a://u:p@h", 1), ["a://u:***@h", 1]),
            ("two a://u:p@h and b://v:q@i/j", "two a://u:***@h and b://v:***@i/j"),
            ("redis://:p@ss@host/0", "redis://:***@host/0"),
            ("http://host:80/path", "http://host:80/path"),
        ]
        for value, expected in cases:
            self.assertEqual(redacted(value), expected)

    def test_shortened(self) -> None:
        """A text that fits is left alone."""
        self.assertEqual(shortened("x" * WORDS_MOST), "x" * WORDS_MOST)
        self.assertIn(f"({WORDS_MOST + 1} characters)", shortened("x" * (WORDS_MOST + 1)))
