"""What alembic runs: the migrations, on the connection and in the transaction that it is given."""

from alembic import context

from server.history.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # the transaction is the caller's: all steps are taken, or none
)
with context.begin_transaction():
    context.run_migrations()
