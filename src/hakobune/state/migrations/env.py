"""Alembic's entry: runs migrations on the connection that `Database.open` holds."""

from alembic import context

from hakobune.state.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
