"""Methods that train the concept's token and no layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from studio.adapters.base import Adapter
from studio.layers.target_modules import Role


class _TokenOnly(Adapter):
    """The part that both share: no layers."""

    learning_rates: ClassVar = {}

    @classmethod
    def kinds(cls, config: Any) -> tuple[str, ...]:
        """No layers."""
        return ()

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Any, role: Role = "matrix") -> int:
        """0: the token is not counted, as for every other method."""
        return 0

    @classmethod
    def sizes(cls, config: Any, narrowest: int, limit: int) -> Iterator[Any]:
        """One size."""
        yield config

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """There is no layer that it could not fit."""


class TextualInversion(_TokenOnly):
    """Trains the embedding of the concept's token, and no layer.

    The recipe's `num_vectors` and `token_lr` apply. It is saved, merged and exported as an embedding file alone.
    Source: Gal et al., 2022, "An image is worth one word", Eq. 2.
    """

    @dataclass(frozen=True)
    class Config:
        """Textual inversion has no options of its own."""


class PromptTuning(_TokenOnly):
    """Trains a soft prompt of n embeddings at the text encoder's input, and no layer.

    The soft prompt stands in a prompt where the concept is named, and not before the whole prompt as in the paper, so
    that several concepts can be named in one prompt. The recipe's `token_lr` applies. It is saved, merged and exported
    as an embedding file of n vectors. Source: Lester et al., 2021, "The power of scale for parameter-efficient prompt
    tuning", section 2.
    """

    @dataclass(frozen=True)
    class Config:
        """The number n of embeddings, in place of the recipe's `num_vectors`."""

        num_vectors: int = 8
