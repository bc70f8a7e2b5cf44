"""Run by Alembic, not imported: applies the steps on the connection that `upgrade` lends."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
