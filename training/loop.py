"""Teaches a base one concept."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn

from studio.adapters import Adapter
from studio.checkpoint import TrainedConcept, build_adapters, config_of, trained_states
from studio.diffusion import Base
from studio.errors import StudioError
from studio.injection import create_adapters, inject, method_named
from studio.sites import Site
from studio.tokens import add_token, load_token, remove_token, token_vectors
from training.dataset import CAPTIONS, TrainingSet, build_training_set, prior_steps
from training.losses import denoising_loss, draw_noise, draw_timesteps
from training.methods import adapter_config, kinds_of_recipe, parameter_groups
from training.recipe import Recipe

WARMUP = 10


@dataclass(frozen=True)
class Progress:
    """Where a training stands: the step just done, of how many, and its loss (None while preparing)."""

    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class Training:
    """What a training gave: the concept, and the loss of every step."""

    concept: TrainedConcept
    losses: list[float]


def token_of(name: str) -> str:
    """How a concept is written in a prompt."""
    return f"<{name}>"


def train_concept(
    base: Base,
    name: str,
    class_word: str,
    pictures: Sequence[Image.Image],
    recipe: Recipe,
    first_column: int = 0,
    cache: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    start: TrainedConcept | None = None,
) -> Training:
    """Trains adapters and a token on the pictures and gives the base back as it was.

    `cache` keeps prior pictures between trainings. `start` is what an earlier training of this concept gave, to go on
    from. Raises StudioError for options that do not fit, and when the loss is no longer a number.
    """
    config = adapter_config(recipe, first_column) if start is None else config_of(start)
    sites = base.sites_of(kinds_of_recipe(recipe, config))
    adapters = _adapters(base, config, sites, recipe, start)
    data = _prepared(base, pictures, class_word, recipe, cache, on_progress)
    with _learning(base, name, class_word, sites, adapters, recipe, start):
        vectors = token_vectors(base.pipeline.text_encoder, token_of(name))
        groups = parameter_groups(base, sites, adapters, recipe, vectors)
        losses = _optimise(base, name, data, adapters, groups, recipe, on_progress)
    metadata = {"name": name, "class_word": class_word, "base_name": base.name, "recipe": recipe.model_dump()}
    tokens = {token_of(name): {"text_encoder": vectors.detach().cpu().clone()}}
    states = trained_states(adapters)
    fingerprint = base.decomposition.fingerprint
    return Training(TrainedConcept(fingerprint, recipe.adapter, asdict(config), states, tokens, metadata), losses)


def _prepared(
    base: Base,
    pictures: Sequence[Image.Image],
    class_word: str,
    recipe: Recipe,
    cache: Path | None,
    on_progress: Callable[[Progress], None],
) -> TrainingSet:
    """What the concept is learned from; the progress of painting prior pictures is told."""
    painting = prior_steps(recipe.prior_pictures)
    done = iter(range(1, painting + 1))

    def painted() -> None:
        on_progress(Progress(next(done), painting, None))

    return build_training_set(base, pictures, class_word, recipe.prior_pictures, recipe.flip, cache, painted)


def _adapters(
    base: Base, config: Any, sites: Mapping[str, Site], recipe: Recipe, start: TrainedConcept | None
) -> dict[str, Adapter]:
    """Fresh adapters, or those of an earlier training, which goes on from them."""
    if start is None:
        return create_adapters(recipe.adapter, config, sites, base.decomposition, recipe.seed)
    adapters = build_adapters(start, sites, base.decomposition)
    for adapter in adapters.values():
        adapter.start_again()
    return adapters


@contextmanager
def _learning(
    base: Base,
    name: str,
    class_word: str,
    sites: Mapping[str, Site],
    adapters: dict[str, Adapter],
    recipe: Recipe,
    start: TrainedConcept | None,
) -> Iterator[None]:
    """While open, the base carries the adapters and the new token; afterwards it is what it was."""
    tokenizer, encoder, unet = base.pipeline.tokenizer, base.pipeline.text_encoder, base.pipeline.unet
    processors, attention = unet.attn_processors, encoder.config._attn_implementation
    with ExitStack() as undo:
        # The token first: what adapts the vocabulary's output must see the concept's own vectors too.
        if start is None:
            add_token(tokenizer, encoder, token_of(name), class_word, recipe.token_vectors)
        else:
            load_token(tokenizer, encoder, token_of(name), _vectors_of(start))
        undo.callback(remove_token, tokenizer, encoder, token_of(name))
        undo.callback(inject(sites, adapters).eject)
        if base.device.type == "cpu":  # the backward pass of SDPA is several times slower there
            undo.callback(unet.set_attn_processor, processors)
            undo.callback(encoder.set_attn_implementation, attention)
            unet.set_attn_processor(AttnProcessor())
            encoder.set_attn_implementation("eager")
        yield


def _optimise(
    base: Base,
    name: str,
    data: TrainingSet,
    adapters: dict[str, Adapter],
    groups: list[dict[str, Any]],
    recipe: Recipe,
    on_progress: Callable[[Progress], None],
) -> list[float]:
    """AdamW with a short warm-up and linear decay; returns the denoising loss of every step."""
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, recipe.steps))
    scheduler: Any = DDPMScheduler.from_config(base.pipeline.scheduler.config)
    losses: list[float] = []
    for step in range(recipe.steps):
        latents, prompts, noise, timesteps = _batch(data, token_of(name), recipe, step, len(scheduler))
        with base.autocast():
            context = base.encode_prompts(prompts)
            loss = denoising_loss(
                scheduler, _prediction(base, context), latents, noise.to(base.device), timesteps.to(base.device)
            ).mean()
        (loss + _penalty(adapters)).backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        method_named(recipe.adapter).after_step(adapters, step + 1, recipe.steps)
        optimizer.zero_grad()
        losses.append(_finite(loss.item(), step))
        on_progress(Progress(step + 1, recipe.steps, losses[-1]))
    return losses


def _penalty(adapters: Mapping[str, Adapter]) -> Tensor | float:
    """What the method adds to the loss, as a mean over the adapters."""
    penalties = [penalty for adapter in adapters.values() if (penalty := adapter.penalty()) is not None]
    return torch.stack(penalties).mean() if penalties else 0.0


def _vectors_of(concept: TrainedConcept) -> Tensor:
    """The vectors (n, d) of the concept's only token."""
    (parts,) = concept.tokens.values()
    return parts["text_encoder"]


def _prediction(base: Base, context: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda noisy, timesteps: base.pipeline.unet(noisy, timesteps, context, return_dict=False)[0]


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP) * (1 - step / steps)


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise StudioError(f"The loss is not a number at step {step + 1}: train with lower learning rates.")
    return loss


def _batch(
    data: TrainingSet, token: str, recipe: Recipe, step: int, timesteps: int
) -> tuple[Tensor, list[str], Tensor, Tensor]:
    """The latents, prompts, noise and timesteps of a step; all of it follows from the seed and the step."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)

    def draw(count: int, out_of: int) -> Tensor:
        return torch.randint(out_of, (count,), generator=generator)

    prior = round(recipe.batch * recipe.prior_share)
    own = draw(recipe.batch - prior, len(data.concept))
    latents = [data.concept[own]]
    prompts = [CAPTIONS[i].format(token) for i in draw(len(own), len(CAPTIONS)).tolist()]
    for (pool, texts), count in ((data.class_prior, prior - prior // 2), (data.other_prior, prior // 2)):
        chosen = draw(count, len(texts))
        latents.append(pool[chosen])
        prompts += [texts[i] for i in chosen.tolist()]
    clean = torch.cat(latents)
    noise = draw_noise(clean.shape, recipe.noise_offset, generator)
    # Shuffled, so that concept and prior pictures meet every part of the schedule.
    drawn = draw_timesteps(len(clean), timesteps, generator)[torch.randperm(len(clean), generator=generator)]
    return clean, prompts, noise, drawn
