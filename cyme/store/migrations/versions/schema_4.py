"""Paused queues, and requests as tasks."""

from sqlalchemy import Boolean, Column, Double, Integer, String

from cyme.store.migrations.steps import LONG_TEXT, NAME, TEXT, add_columns, create_index, create_table

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Give queues their pause; make the tables of tasks and of what belongs to them."""
    add_columns("queue", Column("paused", Boolean, server_default="0", nullable=False))
    create_table(
        "task",
        Column("id", String(36), primary_key=True),
        Column("app", NAME, nullable=False),
        Column("queue", String(255), nullable=False),
        Column("state", String(16), nullable=False),
        Column("outcome", LONG_TEXT),
        Column("created_at", Double, nullable=False),
        Column("finished_at", Double),
        Column("expires_at", Double, nullable=False),
    )
    create_index("ix_task_expires_at", "task", "expires_at")
    create_table(
        "held_task",
        Column("id", String(36), primary_key=True),
        Column("branch", NAME, nullable=False),
        Column("app", NAME, nullable=False),
        Column("due_at", Double, nullable=False),
        Column("expires", Double),
        Column("task", TEXT, nullable=False),
        Column("priority", Integer),
        Column("queue", TEXT, nullable=False),
        Column("exchange", TEXT, nullable=False),
        Column("exchange_type", TEXT, nullable=False),
        Column("routing_key", TEXT, nullable=False),
        Column("options", TEXT, nullable=False),
        Column("size", Integer, nullable=False),
        Column("body", LONG_TEXT, nullable=False),
    )
    create_index("ix_held_task_due", "held_task", "branch", "due_at", "app")
    create_table(
        "deduplication",
        Column("app", NAME, primary_key=True),
        Column("digest", String(64), primary_key=True),
        Column("task_id", String(36), nullable=False),
        Column("until", Double, nullable=False),
        Column("is_confirmed", Boolean, nullable=False),
    )
    create_index("ix_deduplication_until", "deduplication", "until")
    create_table(
        "result_source",
        Column("digest", String(64), primary_key=True),
        Column("url", TEXT, nullable=False),
        Column("until", Double, nullable=False),
    )
