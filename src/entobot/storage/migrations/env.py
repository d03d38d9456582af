"""Run by Alembic with the connection of whoever upgrades."""

from alembic import context

from entobot.storage import postgres_types

assert postgres_types.__doc__, "imported for what it registers"
connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes.get("target_metadata"),
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
