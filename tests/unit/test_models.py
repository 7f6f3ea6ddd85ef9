"""Rows and values: what is stored comes back as it was, and nothing that a row holds is believed."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.declarations import App, BranchState, Declaration, Instance, Queue, Rollout, Turn, Version
from cyme.models import SCHEMA_VERSION, Base, digest_of, row_of, value_of
from tests.contracts.store import ALL, FOO, W1

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | texts
seconds = st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False)
parameters = {
    **dict.fromkeys(("broker", "celery_app", "pool", "arguments", "extra_config"), maybe),
    "max_memory": st.none() | st.integers(1, 1 << 63),
    "max_age": seconds,
    "stall_timeout": seconds,
}
common = {
    "name": texts,
    "version": st.builds(Version, st.integers(0, 1 << 62), texts),
    "deleted": st.booleans(),
}
apps = st.builds(App, **common, **parameters)
queues = st.builds(
    Queue,
    app=texts,
    exchange=maybe,
    exchange_type=maybe,
    routing_key=maybe,
    options=maybe,
    paused=st.booleans(),
    **common,
)
instances = st.builds(
    Instance,
    app=texts,
    branch=texts,
    is_enabled=st.booleans(),
    queues=st.lists(texts, max_size=4).map(tuple),
    max_concurrency=st.integers(),
    min_concurrency=st.integers(),
    generation=st.integers(),
    created_at=st.floats(allow_nan=False, allow_infinity=False),
    moving_to=maybe,
    labels=st.lists(texts, max_size=4).map(tuple),
    **common,
    **parameters,
)

times = st.floats(allow_nan=False, allow_infinity=False)
several = st.lists(texts, max_size=4).map(tuple)
rollouts = st.builds(
    Rollout,
    app=texts,
    id=texts,
    branch=texts,
    parallel=st.integers(),
    timeout=times,
    asked_by=texts,
    asked_at=times,
    waiting=several,
    under_way=st.lists(st.builds(Turn, texts, st.integers(), times), max_size=4).map(tuple),
    done=several,
    skipped=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    halted=maybe,
    ended_at=st.none() | times,
    version=common["version"],
    deleted=common["deleted"],
)
branches = st.builds(
    BranchState,
    is_cordoned=st.booleans(),
    draining_since=st.none() | times,
    drained_at=st.none() | times,
    moved=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    problem=maybe,
    **common,
)

#: What a column may hold after somebody was at it.
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text()


def stored(declaration: Declaration) -> dict[str, Any]:
    """The row of a declaration whose broker, if any, has the id 7."""
    broker = getattr(declaration, "broker", None)
    return row_of(declaration, {} if broker is None else {broker: 7})


class RowTests(SynchronousTestCase):
    """A declaration, its row, and the declaration again."""

    @given(st.one_of(apps, queues, instances, rollouts, branches))
    def test_round_trip(self, declaration: Declaration) -> None:
        """A row says the declaration that it was made of."""
        brokers = {7: getattr(declaration, "broker", None) or ""}
        self.assertEqual(value_of(declaration.kind, stored(declaration), brokers), declaration)

    @given(st.sampled_from(ALL), st.data())
    def test_spoilt(self, declaration: Declaration, data: Any) -> None:
        """A row that holds anything at all is a declaration or a ValueError."""
        row = stored(declaration)
        column = data.draw(st.sampled_from(sorted(row)))
        row[column] = data.draw(anything)
        try:
            found = value_of(declaration.kind, row, {7: "amqp://b//"})
        except ValueError as problem:
            self.assertNotIn("\n", str(problem))
        else:
            self.assertIsInstance(found, type(declaration))
            hash(found)

    def test_one_copy(self) -> None:
        """Rows that name one app, branch, broker and queue share the texts in memory."""

        def read(name: str) -> Any:
            row = stored(evolve(W1, name=name)) | {"app": "".join(["fo", "o"]), "branch": "".join(["b", "7"])}
            return value_of("instance", row, {7: "".join(["amqp", "://b"])})

        one, other = read("w1"), read("w2")
        for field in ("app", "branch", "broker"):
            self.assertIs(getattr(one, field), getattr(other, field))
        self.assertIs(one.queues[0], other.queues[0])

    def test_readable(self) -> None:
        """A person who reads the table sees the queues as they are called."""
        self.assertEqual(stored(W1)["queues"], '["tâches, 1", "b"]')

    def test_no_limit(self) -> None:
        """A limit of 0, which a person may have written, is none."""
        row = stored(W1) | {"max_memory": 0, "max_age": 0.0, "stall_timeout": 0}
        found = value_of("instance", row, {7: str(W1.broker)})
        self.assertEqual(found, evolve(W1, max_memory=None, max_age=None, stall_timeout=None))

    def test_digest(self) -> None:
        """Each broker's URL has a digest of its own, also one that is no text."""
        urls = [str(FOO.broker), str(FOO.broker).upper(), "x" * 5000, "amqp://\udc80", ""]
        self.assertEqual(len({digest_of(url) for url in urls}), len(urls))


class TablesTests(SynchronousTestCase):
    """The tables, which databases in the field have."""

    def test_known(self) -> None:
        """Tables and columns are those of the schema's version; who changes them counts that up."""
        self.assertEqual(SCHEMA_VERSION, 6)
        found = {name: " ".join(table.columns.keys()) for name, table in Base.metadata.tables.items()}
        version = "version_stamp version_branch deleted"
        parameters = "celery_app pool arguments extra_config max_memory max_age stall_timeout"
        self.assertEqual(
            {name: set(columns.split()) for name, columns in found.items()},
            {
                name: set(columns.split())
                for name, columns in {
                    "cyme_meta": "name value",
                    "broker": "id url digest",
                    "app": f"name broker_id {parameters} {version}",
                    "queue": f"app name exchange exchange_type routing_key options paused {version}",
                    "instance": f"name app branch broker_id is_enabled queues max_concurrency min_concurrency"
                    f" generation drain_until created_at moving_to labels {parameters} {version}",
                    "task": "id app queue state outcome created_at finished_at expires_at",
                    "held_task": "id branch app due_at expires task priority queue exchange exchange_type"
                    " routing_key options size body",
                    "deduplication": "app digest task_id until is_confirmed",
                    "result_source": "digest url until",
                    "rollout": f"app id branch parallel timeout asked_by asked_at waiting under_way done"
                    f" skipped halted ended_at {version}",
                    "branch": f"name is_cordoned draining_since drained_at moved problem {version}",
                    "event": "id at branch app instance kind who details",
                }.items()
            },
        )
