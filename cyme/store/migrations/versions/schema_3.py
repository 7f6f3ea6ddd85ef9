"""Limits, deadlines of drains, and rolling restarts."""

from sqlalchemy import BigInteger, Column, Double, Integer, String

from cyme.store.migrations.steps import NAME, TEXT, add_columns, create_table, versioned

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Give apps and instances their limits, instances the deadline of a drain; make the table of rollouts."""
    for table in ("app", "instance"):
        add_columns(
            table,
            Column("max_memory", BigInteger),
            Column("max_age", Double),
            Column("stall_timeout", Double),
        )
    add_columns("instance", Column("drain_until", Double))
    create_table(
        "rollout",
        Column("app", NAME, primary_key=True),
        Column("id", String(64), nullable=False),
        Column("branch", NAME, nullable=False),
        Column("parallel", Integer, nullable=False),
        Column("timeout", Double, nullable=False),
        Column("asked_by", TEXT, nullable=False),
        Column("asked_at", Double, nullable=False),
        Column("waiting", TEXT, nullable=False),
        Column("under_way", TEXT, nullable=False),
        Column("done", TEXT, nullable=False),
        Column("skipped", TEXT, nullable=False),
        Column("halted", TEXT),
        Column("ended_at", Double),
        *versioned(),
    )
