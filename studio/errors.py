"""The one error that the core raises for bad input."""


class StudioError(ValueError):
    """Bad input. Its message is one sentence that says what was wrong and what to do."""
