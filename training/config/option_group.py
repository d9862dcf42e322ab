"""The base class of the groups of options."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A group of options; unknown ones raise a validation error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
