"""What alembic runs: the steps that are missing, in the transaction of whoever asked for them."""

from alembic import context

from cyme.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
