"""How the scorer learns: words by CLIP's contrastive loss, and individuals by what is and is not the same one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from training.toybox.backgrounds import Rng
from training.toybox.captions import caption
from training.toybox.individuals.traits import ACCESSORIES, KINDS, PATTERNS, Individual, sample_individual
from training.toybox.layout import UNASKED, mean_over_asked
from training.toybox.portraits import CHANGES, lookalike, portrait
from training.toybox.render import Scene, draw_and_see, draw_scene, sample_scene
from training.toybox.renders import softened, to_signal
from training.toybox.scorer import IDENTITY, ScorerModel, build, encode_texts, model_config
from training.toybox.spoiling import Shown, spoiled
from training.toybox.stage import (
    Average,
    channels_last,
    descend,
    learning_rate,
    run_stage,
    set_learning_rate,
    step_rng,
)
from training.toybox.world import COLOURS

INDIVIDUALS, SCENES = 20, 16
"""Individuals of a step, each with two portraits, a lookalike and a spoiled picture; scenes with their captions."""
PARTS = 4
"""Parts of a batch that are cut and softened alike."""
STEPS = 1600
PEAK_RATE = 1.5e-3
NAMING = 0.5
"""The weight of naming traits."""
TEMPERATURE = 0.07
TRAITS: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS), "colour": tuple(COLOURS), "pattern": PATTERNS, "second_colour": tuple(COLOURS),
    "accessory": ACCESSORIES, "accessory_colour": tuple(COLOURS),
}  # fmt: skip
"""The traits of an individual that have names."""
CHANGE_SHARES = {"kind": 0.25, "palette": 0.15, "exchanged": 0.2, "pattern": 0.2, "build": 0.1, "accessory": 0.1}


class Verifier(nn.Module):
    """Scale and bias of the cosine at which two pictures count as of one individual, while the scorer learns."""

    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-4.0))

    def forward(self, cosines: Tensor) -> Tensor:
        """Cosines to logits, elementwise."""
        return self.scale * cosines + self.bias


class Namer(nn.Module):
    """Names an individual's traits from what the identity head projects, while the scorer learns."""

    def __init__(self):
        super().__init__()
        self.logits = nn.ModuleDict({trait: nn.Linear(IDENTITY, len(names)) for trait, names in TRAITS.items()})

    def forward(self, projected: Tensor, traits: Mapping[str, Tensor]) -> Tensor:
        """The summed cross-entropies of the traits, whose indices are (n,) and UNASKED where there is none."""
        return torch.stack([mean_over_asked(self.logits[name](projected), wanted)
                            for name, wanted in traits.items()]).sum()  # fmt: skip


class Learner(nn.Module):
    """All that trains: the scorer, and the parts that only help it and are dropped."""

    def __init__(self, model: ScorerModel):
        super().__init__()
        self.clip, self.head, self.verifier, self.namer = model.clip, model.head, Verifier(), Namer()


@dataclass(frozen=True)
class Batch:
    """Pictures uint8 (n, h, w, 3): both portraits of all individuals, lookalikes, spoiled ones, scenes.

    `texts` are the captions of all but the spoiled ones, in that order; `traits` the indices in TRAITS of what the
    portraits and lookalikes show, (3 INDIVIDUALS,) each.
    """

    levels: np.ndarray
    texts: list[str]
    traits: dict[str, Tensor]


def drawn(rng: Rng) -> Batch:
    """The pictures of one step."""
    individuals = [sample_individual(rng) for _ in range(INDIVIDUALS)]
    changes = rng.choice(list(CHANGES), INDIVIDUALS, p=[CHANGE_SHARES[name] for name in CHANGES])
    others = [lookalike(one, str(change), rng) for one, change in zip(individuals, changes, strict=True)]
    portraits = [portrait(one, rng) for one in (*individuals, *individuals, *others)]
    shown = [_shown(scene) for scene in portraits]
    broken = [spoiled(shown[i], shown[(i + 1) % INDIVIDUALS], rng) for i in range(INDIVIDUALS)]
    scenes = [sample_scene(rng) for _ in range(SCENES)]
    pictures = [*(one.levels for one in shown), *broken, *(np.asarray(draw_scene(scene)) for scene in scenes)]
    texts = [caption(scene, rng).text for scene in (*portraits, *scenes)]
    return Batch(np.stack(pictures), texts, traits_of([*individuals, *individuals, *others]))


def traits_of(individuals: Sequence[Individual]) -> dict[str, Tensor]:
    """The indices of the individuals' traits in TRAITS, (n,) each, UNASKED where there is none."""
    return {
        trait: torch.tensor([
            UNASKED if (value := getattr(one, trait)) is None else names.index(value) for one in individuals
        ])
        for trait, names in TRAITS.items()
    }  # fmt: skip


def _shown(scene: Scene) -> Shown:
    picture, seen = draw_and_see(scene)
    return Shown(np.asarray(picture), seen[0], scene.background)


def cut(signal: Tensor, rng: Rng) -> Tensor:
    """Half the time a random square part of the pictures, at full size again."""
    if rng.random() < 0.5:
        return signal
    side = int(rng.integers(96, 128))
    top, left = rng.integers(0, 128 - side + 1, 2)
    part = signal[:, :, top : top + side, left : left + side]
    return F.interpolate(part, size=(128, 128), mode="bilinear", align_corners=False)


def augmented(levels: np.ndarray, rng: Rng, device: str) -> Tensor:
    """Pictures uint8 (n, h, w, 3) as signals (n, 3, h, w), in random parts cut and softened alike."""
    signal = to_signal(torch.from_numpy(levels).permute(0, 3, 1, 2), device)
    order = torch.from_numpy(rng.permutation(len(signal)))
    parts = [softened(cut(signal[chosen], rng), rng) for chosen in order.chunk(PARTS)]
    return torch.cat(parts)[order.argsort()].contiguous(memory_format=torch.channels_last)


def identity_loss(embedded: Tensor, intact: Tensor, verifier: Verifier, count: int) -> Tensor:
    """How badly unit vectors (4 count, d) tell individuals apart, and logits (4 count,) what is intact.

    The rows are those of a `Batch` without its scenes. The first term is InfoNCE (van den Oord et al., 2018) from
    each portrait to the other one of its individual among all pictures; the second is the sigmoid loss of pairs
    (Zhai et al., 2023), which sets one cosine for all individuals: a portrait against the other one, against its
    lookalike, its spoiled picture and the nearest stranger.
    """
    portraits, rows = embedded[: 2 * count], torch.arange(2 * count, device=embedded.device)
    partner, own = (rows + count) % (2 * count), rows % count
    cosines = portraits @ embedded.T
    cosines = cosines.masked_fill(F.one_hot(rows, len(embedded)).bool(), -1)
    contrast = F.cross_entropy(cosines / TEMPERATURE, partner)
    related = torch.stack([partner, 2 * count + own, 3 * count + own], 1)
    strangers = cosines.scatter(1, related, -1).amax(1, keepdim=True)
    logits = verifier(torch.cat([cosines.gather(1, related), strangers], 1))
    same = F.softplus(-logits[:, 0]).mean()
    different = F.softplus(logits[:, 1:]).mean()
    whole = F.softplus(-intact[: 3 * count]).mean() + F.softplus(intact[3 * count :]).mean()
    return contrast + same + different + 0.5 * whole


def train(folder: Path, tokenizer: CLIPTokenizer, device: str, steps: int = STEPS) -> ScorerModel:
    """Trains on fresh renders; resumes from `folder`."""
    torch.manual_seed(0)
    model = build(model_config(tokenizer))
    learner = channels_last(Learner(model), device)
    optimizer = torch.optim.AdamW(learner.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)

    def hold_scale(*_: object) -> None:
        model.clip.logit_scale.data.clamp_(0, np.log(100))

    optimizer.register_step_post_hook(hold_scale)
    average = Average(learner, 0.998)

    def update(step: int) -> Tensor:
        rng = step_rng(17, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        batch = drawn(rng)
        ids = tokenizer(batch.texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        traits = {name: wanted.to(device) for name, wanted in batch.traits.items()}
        loss = scorer_loss(learner, augmented(batch.levels, rng, device), ids, traits)
        descend(loss, learner, optimizer, average, step, longest=5.0)
        return loss

    run_stage("scorer", folder, steps, {"model": learner, "optimizer": optimizer, "average": average}, update)
    average.copy_to(learner)
    learner.cpu().eval()
    return model


def scorer_loss(learner: Learner, signal: Tensor, ids: Tensor, traits: Mapping[str, Tensor]) -> Tensor:
    """CLIP's contrastive loss (Radford et al., 2021) of pictures and captions, `identity_loss`, and naming traits."""
    count = len(signal) - len(ids)
    with torch.autocast(signal.device.type, torch.bfloat16):
        features = learner.clip.encode_image(signal)
        words = encode_texts(learner.clip, ids)
    features, words = features.float(), words.float()
    captioned = torch.cat([features[: 3 * count], features[4 * count :]])
    scale = learner.clip.logit_scale.exp().float()
    contrastive = ClipLoss()(F.normalize(captioned, dim=-1), F.normalize(words, dim=-1), scale)
    embedded, intact = learner.head(features[: 4 * count])
    named = learner.namer(learner.head.projection(features[: 3 * count]), traits)
    return contrastive + 2 * identity_loss(embedded, intact, learner.verifier, count) + NAMING * named
