"""How prompts are read while a concept is learned."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from studio.models.base_model import Base
from studio.models.prompt_encoding import PromptEmbeds, joined
from training.data.random_token import RANDOM_TOKEN
from training.engine.train_state import TrainState


class PromptCache:
    """Prompts as the UNet reads them.

    Once nothing learns that they depend on, each is read once, and with `low_memory` the text encoder then waits off
    the card.
    """

    def __init__(self, base: Base, train_state: TrainState, adapts_text: bool, low_memory: bool):
        self._base, self._state, self._adapts_text, self._low_memory = base, train_state, adapts_text, low_memory
        self._kept: dict[str, PromptEmbeds] = {}

    @property
    def rests(self) -> bool:
        """Whether the text encoder waits off the card for prompts that were not read yet."""
        return self._low_memory and self._fixed

    @property
    def _fixed(self) -> bool:
        return not (self._adapts_text or self._state.token_learns)

    def __call__(self, prompts: Sequence[str]) -> PromptEmbeds:
        """These prompts, with gradients where something learns by them."""
        if not self._fixed:
            return self._base.encode(prompts)
        known = self._kept
        if missing := [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]:
            with encoders_on_card(self._base, self._low_memory), torch.no_grad():
                # One by one, so that a context does not depend on what was read beside it
                known = known | {prompt: self._base.encode([prompt]) for prompt in missing}
        self._kept = {
            prompt: read for prompt, read in known.items() if RANDOM_TOKEN not in prompt
        }  # who that is changes
        return joined([known[prompt] for prompt in prompts])


@contextmanager
def encoders_on_card(base: Base, leave: bool) -> Iterator[None]:
    """`on_card` for all text encoders."""
    with ExitStack() as undo:
        for _, encoder in base.text_encoders.values():
            undo.enter_context(on_card(base, encoder, leave))
        yield


@contextmanager
def on_card(base: Base, module: nn.Module, leaves: bool) -> Iterator[None]:
    """While open, the module is where the base computes; afterwards, if it leaves, it is in the machine's memory."""
    module.to(base.device)
    try:
        yield
    finally:
        if leaves:
            module.to("cpu")
