"""Runs the migrations on the connection, and in the transaction, that `concepts.database` passes."""

from alembic import context

from concepts.tables import Record

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
