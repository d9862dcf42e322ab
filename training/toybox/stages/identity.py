"""Stage 6 of toybox: the identity network, trained by contrastive learning and verification."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.storage import atomic_write
from studio.metrics.identity import IDENTITY_THRESHOLDS, IDENTITY_WEIGHTS, SIZE, IdentityNetwork, Thresholds
from training.toybox.evaluation.corruptions import Shown, corrupted
from training.toybox.evaluation.individual_views import CHANGES, hard_negative, individual_view
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.dataset import softened, to_signal
from training.toybox.scenes.individuals.traits import ACCESSORIES, KINDS, PATTERNS, Individual, sample_individual
from training.toybox.scenes.items import COLOURS
from training.toybox.scenes.render import Scene, draw_with_placements
from training.toybox.stages.masked_loss import IGNORE_INDEX, masked_cross_entropy
from training.toybox.stages.scorer import random_crop
from training.toybox.stages.stage import (
    EMAWeights,
    channels_last,
    learning_rate,
    optimizer_step,
    run_stage,
    set_learning_rate,
    step_rng,
)

INDIVIDUALS = 24
"""Individuals per step, each with two pictures, a hard negative and a corrupted picture."""
PARTS = 4
"""Parts of a batch with the same crop and blur."""
STEPS = 3800
PEAK_RATE = 2e-3
NAMING = 0.5
"""The weight of the trait classification loss."""
TEMPERATURE = 0.07
TRAITS: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS), "colour": tuple(COLOURS), "pattern": PATTERNS, "second_colour": tuple(COLOURS),
    "accessory": ACCESSORIES, "accessory_colour": tuple(COLOURS),
}  # fmt: skip
"""The named traits of an individual, with their classes."""
CHANGE_SHARES = {"kind": 0.2, "palette": 0.1, "exchanged": 0.4, "pattern": 0.15, "build": 0.05, "accessory": 0.1}


class Verifier(nn.Module):
    """Trained scale and bias from cosines to logits of being the same individual; used in training only."""

    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-4.0))

    def forward(self, cosines: Tensor) -> Tensor:
        """Cosines to logits, elementwise."""
        return self.scale * cosines + self.bias


class AttributeHead(nn.Module):
    """Classifies an individual's traits from the projected features; used in training only."""

    def __init__(self):
        super().__init__()
        self.logits = nn.ModuleDict({trait: nn.Linear(SIZE, len(names)) for trait, names in TRAITS.items()})

    def forward(self, projected: Tensor, traits: Mapping[str, Tensor]) -> Tensor:
        """The sum of the traits' cross-entropies; their indices are (n,), IGNORE_INDEX where there is none."""
        return torch.stack([masked_cross_entropy(self.logits[name](projected), wanted)
                            for name, wanted in traits.items()]).sum()  # fmt: skip


class IdentityModel(nn.Module):
    """The trained modules: the network, and the heads that are used in training only."""

    def __init__(self):
        super().__init__()
        self.network, self.verifier, self.namer = IdentityNetwork(), Verifier(), AttributeHead()


@dataclass(frozen=True)
class Batch:
    """Pictures uint8 (4 INDIVIDUALS, h, w, 3): two of each individual, then hard negatives, then corrupted ones.

    `traits` are the indices in TRAITS, for all but the corrupted ones.
    """

    levels: np.ndarray
    traits: dict[str, Tensor]


def sample_batch(rng: Rng) -> Batch:
    """The pictures of one step."""
    individuals = [sample_individual(rng) for _ in range(INDIVIDUALS)]
    changes = rng.choice(list(CHANGES), INDIVIDUALS, p=[CHANGE_SHARES[name] for name in CHANGES])
    others = [hard_negative(one, str(change), rng) for one, change in zip(individuals, changes, strict=True)]
    shown = [_shown(individual_view(one, rng)) for one in (*individuals, *individuals, *others)]
    broken = [corrupted(shown[i], shown[(i + 1) % INDIVIDUALS], rng) for i in range(INDIVIDUALS)]
    levels = np.stack([*(one.levels for one in shown), *broken])
    return Batch(levels, traits_of([*individuals, *individuals, *others]))


def _shown(scene: Scene) -> Shown:
    picture, seen = draw_with_placements(scene)
    return Shown(np.asarray(picture), seen[0], scene.background)


def traits_of(individuals: Sequence[Individual]) -> dict[str, Tensor]:
    """The indices of the individuals' traits in TRAITS, (n,) each, IGNORE_INDEX where there is none."""
    return {
        trait: torch.tensor([
            IGNORE_INDEX if (value := getattr(one, trait)) is None else names.index(value) for one in individuals
        ])
        for trait, names in TRAITS.items()
    }  # fmt: skip


def augmented(levels: np.ndarray, rng: Rng, device: str) -> Tensor:
    """Pictures uint8 (n, h, w, 3) as signals (n, 3, h, w), with the same random crop and blur within each of PARTS
    random parts.
    """
    signal = to_signal(torch.from_numpy(levels).permute(0, 3, 1, 2), device)
    order = torch.from_numpy(rng.permutation(len(signal)))
    parts = [softened(random_crop(signal[chosen], rng), rng) for chosen in order.chunk(PARTS)]
    return torch.cat(parts)[order.argsort()].contiguous(memory_format=torch.channels_last)


def identity_loss(embedded: Tensor, intact: Tensor, verifier: Verifier, count: int) -> Tensor:
    """The identity loss of unit vectors (4 count, d) and of logits (4 count,) of being intact.

    The rows are those of a `Batch`. The first term is InfoNCE (van den Oord et al., 2018) from
    each picture to the other one of its individual among all pictures; the second is the sigmoid loss of pairs (Zhai et
    al., 2023), which gives one threshold for all individuals: a picture against the other one, against its hard
    negative, its corrupted picture and the nearest other individual.
    """
    views, rows = embedded[: 2 * count], torch.arange(2 * count, device=embedded.device)
    partner, own = (rows + count) % (2 * count), rows % count
    cosines = views @ embedded.T
    cosines = cosines.masked_fill(F.one_hot(rows, len(embedded)).bool(), -1)
    contrast = F.cross_entropy(cosines / TEMPERATURE, partner)
    related = torch.stack([partner, 2 * count + own, 3 * count + own], 1)
    others = cosines.scatter(1, related, -1).amax(1, keepdim=True)
    logits = verifier(torch.cat([cosines.gather(1, related), others], 1))
    same = F.softplus(-logits[:, 0]).mean()
    different = F.softplus(logits[:, 1:]).mean()
    whole = F.softplus(-intact[: 3 * count]).mean() + F.softplus(intact[3 * count :]).mean()
    return contrast + same + different + 0.5 * whole


def train_step(model: IdentityModel, signal: Tensor, traits: Mapping[str, Tensor]) -> Tensor:
    """The loss of a batch's pictures (4 count, 3, h, w): `identity_loss`, and naming traits."""
    count = len(signal) // 4
    with torch.autocast(signal.device.type, torch.bfloat16):
        features = model.network.features(signal)
    projected = model.network.projection(features.float())
    intact = model.network.intact(features.float())[:, 0]
    verification = identity_loss(F.normalize(projected, dim=-1), intact, model.verifier, count)
    return 2 * verification + NAMING * model.namer(projected[: 3 * count], traits)


def train(folder: Path, device: str, steps: int = STEPS, start: nn.Module | None = None) -> IdentityNetwork:
    """Trains on new renders; resumes from `folder`. Layers of `start` with the same names and shapes are copied."""
    torch.manual_seed(0)
    model = channels_last(IdentityModel(), device)
    if start:
        _initialize(model.network, start)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    average = EMAWeights(model, 0.998)

    def update(step: int) -> Tensor:
        rng = step_rng(29, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        batch = sample_batch(rng)
        traits = {name: wanted.to(device) for name, wanted in batch.traits.items()}
        loss = train_step(model, augmented(batch.levels, rng, device), traits)
        optimizer_step(loss, model, optimizer, average, step)
        return loss

    run_stage("identity", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update)
    average.copy_to(model)
    return model.network.cpu().eval()


def _initialize(network: IdentityNetwork, start: nn.Module) -> None:
    """Copies the layers that both have in the same shape: a detector's first layers."""
    own, known = network.state_dict(), start.state_dict()
    shared = {name: known[name] for name, value in own.items() if name in known and known[name].shape == value.shape}
    network.load_state_dict({**own, **shared})


def write(network: IdentityNetwork, target: Path) -> None:
    """Saves the network in the scorer's folder, in half precision."""
    target.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    halves = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in state.items()}
    atomic_write(target / IDENTITY_WEIGHTS, save(halves))


def write_thresholds(thresholds: Thresholds, target: Path) -> None:
    """Saves the network's thresholds beside it."""
    atomic_write(target / IDENTITY_THRESHOLDS, (json.dumps(asdict(thresholds), indent=2) + "\n").encode())
