"""The way of a database from each schema to the next, as alembic runs it; see `cyme.store.schema`."""
