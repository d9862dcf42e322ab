"""The environment variables that every program of the project reads."""

BACKBONE_VARIABLE = "STUDIO_BACKBONE"
"""The environment variable that names the CLIP model that scores, in place of that of the base's family."""

DATABASE_VARIABLE = "STUDIO_DATABASE"
"""The environment variable that holds the database's URL: child processes inherit it, and its password does not show
in the machine's list of command lines."""
