"""The environment variables that every program of the project reads."""

DATABASE_VARIABLE = "STUDIO_DATABASE"
"""The environment variable that holds the database's URL: child processes inherit it, and its password does not show
in the machine's list of command lines."""
