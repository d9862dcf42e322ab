"""Caches prompt embeddings during training."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from studio.models.base_model import Base
from studio.models.prompt_encoding import PromptEmbeds, joined
from studio.models.prompt_weights import PromptSyntax
from training.data.random_token import RANDOM_TOKEN
from training.engine.train_state import TrainState


class PromptCache:
    """Encodes prompts, with a cache.

    While neither the token nor the text encoder is trained, each prompt is encoded once, and with `low_memory` the text
    encoder is offloaded to the CPU.
    """

    def __init__(
        self,
        base: Base,
        train_state: TrainState,
        adapts_text: bool,
        low_memory: bool,
        syntax: PromptSyntax = "plain",
    ):
        self._base, self._state, self._adapts_text, self._low_memory = base, train_state, adapts_text, low_memory
        self._syntax: PromptSyntax = syntax
        self._kept: dict[str, PromptEmbeds] = {}

    @property
    def offloads(self) -> bool:
        """Whether the text encoder is offloaded between prompts that are not cached."""
        return self._low_memory and self._fixed

    @property
    def _fixed(self) -> bool:
        return not (self._adapts_text or self._state.token_is_trained)

    def __call__(self, prompts: Sequence[str]) -> PromptEmbeds:
        """The prompts' embeddings, with gradients unless they are cached."""
        if not self._fixed:
            return self._base.encode(prompts, self._syntax)
        known = self._kept
        if missing := [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]:
            with encoders_on_device(self._base, self._low_memory), torch.no_grad():
                # One by one, so that an embedding does not depend on the other prompts of a batch
                known = known | {prompt: self._base.encode([prompt], self._syntax) for prompt in missing}
                known = known | {"": known.get("") or self._base.encode([""])}
        self._kept = {
            prompt: embeds for prompt, embeds in known.items() if RANDOM_TOKEN not in prompt
        }  # its vectors change
        length = known[""].context.shape[1]
        count = max(known[prompt].context.shape[1] for prompt in prompts) // length
        return joined([known[prompt].with_windows(known[""], count) for prompt in prompts])


@contextmanager
def encoders_on_device(base: Base, offload: bool) -> Iterator[None]:
    """`on_device` for all text encoders."""
    with ExitStack() as undo:
        for _, encoder in base.text_encoders.values():
            undo.enter_context(on_device(base, encoder, offload))
        yield


@contextmanager
def on_device(base: Base, module: nn.Module, offload: bool) -> Iterator[None]:
    """While open, the module is on the base's device; afterwards, with `offload`, on the CPU."""
    module.to(base.device)
    try:
        yield
    finally:
        if offload:
            module.to("cpu")
