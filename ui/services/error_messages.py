"""The error messages of invalid input."""

from pydantic_core import ValidationError

from concepts.errors import StudioError

USER_ERRORS = (StudioError, ValidationError, OSError)
"""What the verbs raise for bad input, for options that cannot be, and for a machine that fails."""
_BOUNDS = {
    "greater_than_equal": "at least {ge}", "greater_than": "more than {gt}", "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}  # fmt: skip


def sentence(error: Exception) -> str:
    """The error message that a person reads."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), StudioError):
        return str(cause)
    place = ".".join(map(str, first["loc"])) or "recipe"
    if bound := _BOUNDS.get(first["type"]):
        limits = {name: _number(value) for name, value in first.get("ctx", {}).items()}
        return f"{place} must be {bound.format(**limits)}, not {first['input']}."
    said = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"Invalid {place}: {said[:1].lower()}{said[1:]}."


def field_of(error: ValidationError) -> str:
    """The option that is wrong."""
    return str((*error.errors()[0]["loc"], "")[0])


def _number(value: float) -> float:
    """1 rather than 1.0."""
    return int(value) if value == int(value) else value
