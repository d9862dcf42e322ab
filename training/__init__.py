"""The training backend: one concept at a time, and how the bundled base is made."""
