"""The library's schema, version by version (Alembic); `concepts.database` runs them on opening a library."""
