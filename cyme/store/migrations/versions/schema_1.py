"""Brokers, apps, queues and instances: where every database began."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Do nothing: whoever made a database made these tables."""
