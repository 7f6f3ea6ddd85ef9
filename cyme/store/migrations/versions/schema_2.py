"""The why-log."""

from sqlalchemy import Column, Double, String

from cyme.store.migrations.steps import ID, NAME, TEXT, create_index, create_table

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the table of events."""
    create_table(
        "event",
        Column("id", ID, primary_key=True, autoincrement=True),
        Column("at", Double, nullable=False),
        Column("branch", NAME, nullable=False),
        Column("app", NAME),
        Column("instance", NAME),
        Column("kind", String(64), nullable=False),
        Column("who", String(64), nullable=False),
        Column("details", TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    create_index("ix_event_instance", "event", "instance")
