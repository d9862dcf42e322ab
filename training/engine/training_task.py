"""A training task: the concept, its pictures and the recipe; and the base prepared for it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from studio.adapters import Adapter
from studio.adapters.concept_file import TrainedConcept, build_adapters, to_bytes, trained_states
from studio.adapters.injection import inject
from studio.adapters.registry import create_adapters
from studio.layers.target_modules import Site
from studio.layers.timesteps import CURRENT
from studio.models.base_model import Base
from studio.models.token_embeddings import add_tokens, load_tokens, remove_tokens, token_of, vectors_by_part
from training.config.recipe import Recipe
from training.config.recipe_resolution import kinds_of_recipe
from training.data.augmentation import Example
from training.data.dataset import class_examples
from training.data.random_token import add_random_token, remove_random_token
from training.engine.precision import cast_once
from training.engine.preservation_loss import hookable_sites


@dataclass(frozen=True)
class Task:
    """Everything that determines a training's result, except the number of threads.

    `config` has the adapter's options, and `start` is the result of an earlier training that this one continues.
    """

    base: Base
    name: str
    class_word: str
    examples: Sequence[Example]
    recipe: Recipe
    config: Any
    start: TrainedConcept | None = None

    @cached_property
    def key(self) -> str:
        """A digest of the task: checkpoints belong to exactly one task."""
        digest = hashlib.sha256()
        digest.update(
            json.dumps([
                self.base.decomposition.fingerprint, self.base.device.type, self.name, self.class_word,
                self.recipe.model_dump(), asdict(self.config),
            ]).encode()
        )  # fmt: skip
        folder = self.recipe.class_data_dir
        for example in (*self.examples, *(class_examples(Path(folder), self.class_word) if folder else ())):
            digest.update(f"{example.caption} {example.repeats}".encode())
            for picture in (example.picture, example.mask):
                digest.update(b"" if picture is None else f"{picture.mode} {picture.size}".encode() + picture.tobytes())
        if self.start is not None:
            digest.update(to_bytes(self.start))
        return digest.hexdigest()[:32]

    @property
    def token(self) -> str:
        """The concept's token in prompts."""
        return token_of(self.name)

    @property
    def num_vectors(self) -> int:
        """The number of embedding vectors of a new token: the method's own option, or else the recipe's."""
        return getattr(self.config, "num_vectors", self.recipe.num_vectors)

    @property
    def vectors(self) -> dict[str, nn.Parameter]:
        """The token's vectors by text encoder, while the base is `ready`."""
        return vectors_by_part(self.base.text_encoders, self.token)

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The layers that are adapted, by name; those of the earlier training if one is continued."""
        sites = self.base.sites_of(kinds_of_recipe(self.recipe, self.config))
        return sites if self.start is None else {name: sites[name] for name in sites if name in self.start.adapters}

    def adapters(self) -> dict[str, Adapter]:
        """New adapters, or those of the earlier training that is continued."""
        if self.start is None:
            return create_adapters(
                self.recipe.adapter, self.config, self.sites, self.base.decomposition, self.recipe.seed
            )
        adapters = build_adapters(self.start, self.sites, self.base.decomposition)
        for adapter in adapters.values():
            adapter.rebase()
        return adapters

    @contextmanager
    def ready(self, adapters: Mapping[str, Adapter]) -> Iterator[None]:
        """While open, the base has the adapters and the new token; afterwards it is restored."""
        pipeline, text_encoders = self.base.pipeline, self.base.text_encoders
        encoders = [encoder for _, encoder in text_encoders.values()]
        with ExitStack() as undo:
            # The token first: an adapter of the token embedding's output must apply to the concept's vectors too.
            if self.start is None:
                layers = len(self.base.attention_blocks) if self.recipe.layerwise_token else 1
                add_tokens(text_encoders, self.token, self.class_word, self.num_vectors, layers)
            else:
                (parts,) = self.start.tokens.values()
                load_tokens(text_encoders, self.token, parts)
            undo.callback(remove_tokens, text_encoders, self.token)
            if self.preserves_outputs and self.recipe.random_token_ratio:
                add_random_token(text_encoders, self.token)
                undo.callback(remove_random_token, text_encoders)
            undo.callback(inject(self.sites, adapters).eject)
            undo.callback(CURRENT.clear)
            if self.base.device.type == "cpu":  # the backward pass of SDPA is several times slower there
                undo.enter_context(_eager_attention(self.base))
            if self.recipe.low_memory:
                for part in (*encoders, pipeline.vae):
                    undo.callback(part.to, self.base.device)
            if self.recipe.gradient_checkpointing or self.recipe.low_memory:
                undo.enter_context(_checkpointed(pipeline.unet, encoders))
            else:  # activations are stored, and with them the cast weights in any case
                undo.enter_context(cast_once(self.base, self.recipe.mixed_precision))
            yield

    @property
    def preserves_outputs(self) -> bool:
        """Whether training has the preservation loss."""
        return (
            self.recipe.output_preservation_weight > 0
            and self.recipe.num_prior_in_batch > 0
            and bool(hookable_sites(self.sites))
        )

    def concept(self, adapters: Mapping[str, Adapter]) -> TrainedConcept:
        """The trained concept in its current state, while the base is `ready`. It has no timestamps."""
        return TrainedConcept(
            self.base.decomposition.fingerprint,
            self.recipe.adapter,
            asdict(self.config),
            trained_states(adapters),
            {self.token: {part: vectors.detach().cpu().clone() for part, vectors in self.vectors.items()}},
            {
                "name": self.name,
                "class_word": self.class_word,
                "base_name": self.base.name,
                "recipe": self.recipe.model_dump(),
            },
        )


@contextmanager
def _eager_attention(base: Base) -> Iterator[None]:
    """While open, all parts use eager attention."""
    unet: Any = base.pipeline.unet
    with ExitStack() as undo:
        undo.callback(unet.set_attn_processor, unet.attn_processors)
        unet.set_attn_processor(AttnProcessor())
        for _, encoder in base.text_encoders.values():
            undo.callback(encoder.set_attn_implementation, encoder.config._attn_implementation)
            encoder.set_attn_implementation("eager")
        yield


@contextmanager
def _checkpointed(unet: UNet2DConditionModel, encoders: Sequence[PreTrainedModel]) -> Iterator[None]:
    """While open, UNet and text encoders use gradient checkpointing."""
    layers = [layer for e in encoders for layer in e.modules() if isinstance(layer, GradientCheckpointingLayer)]
    unet.enable_gradient_checkpointing()
    for encoder in encoders:
        encoder.activation_checkpointing_enable({"use_reentrant": False})
    for layer in layers:  # they check their own flag; their children, such as dropout, must stay in eval mode
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        for encoder in encoders:
            encoder.activation_checkpointing_disable()
        unet.disable_gradient_checkpointing()


@contextmanager
def on_threads(count: int | None) -> Iterator[int]:
    """While open, torch uses `count` threads (None: unchanged); yields their number.

    Sums are split by threads, so results are identical only for the same number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)
