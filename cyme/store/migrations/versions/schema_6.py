"""Branches that share a database: each reads its own events."""

from cyme.store.migrations.steps import create_index

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Make the index of events by branch."""
    create_index("ix_event_branch", "event", "branch", "id")
