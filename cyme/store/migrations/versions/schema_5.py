"""Several branches: labels, instances that move, and what was asked of a branch."""

from sqlalchemy import Boolean, Column, Double

from cyme.store.migrations.steps import NAME, TEXT, add_columns, create_table, versioned

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Give instances their labels and where they move to; make the table of branches."""
    add_columns("instance", Column("moving_to", NAME), Column("labels", TEXT))
    create_table(
        "branch",
        Column("name", NAME, primary_key=True),
        Column("is_cordoned", Boolean, server_default="0", nullable=False),
        Column("draining_since", Double),
        Column("drained_at", Double),
        Column("moved", TEXT),
        Column("problem", TEXT),
        *versioned(),
    )
