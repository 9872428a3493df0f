"""Alembic's entry for the registry's database: runs migrations on the connection that `migrate` holds."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="registry_schema"
)
with context.begin_transaction():
    context.run_migrations()
