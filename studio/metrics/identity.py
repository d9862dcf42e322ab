"""Identity accuracy: whether a picture shows a given individual and no other, by an identity network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError

IDENTITY_WEIGHTS, IDENTITY_THRESHOLDS = "identity.safetensors", "identity.json"
"""The files of an identity network in a scorer's folder."""
NEGATIVES, DRAWN_NEGATIVES = 11, 4
"""The number of negatives that a picture is compared with, and of the hard negatives among them."""


SIZE, WIDTH, HEADS = 128, 256, 4
"""The identity embedding's size, the feature channels, and the number of attention heads."""


class Residual(nn.Module):
    """A residual block that downsamples by `stride`."""

    def __init__(self, channels_in: int, channels: int, stride: int = 2):
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels_in, h, w) to (batch, channels, h / stride, w / stride)."""
        x = self.enter(x)
        return F.relu(x + self.refine(x))


class IdentityNetwork(nn.Module):
    """Embeds the individual in a picture, and classifies whether it is intact, with attention pooling."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), Residual(24, 48), Residual(48, 96)
        )
        self.middle, self.coarse = Residual(96, 128), Residual(128, 128)
        self.from_middle, self.from_coarse = nn.Conv2d(128, WIDTH, 1), nn.Conv2d(128, WIDTH, 1)
        self.places = nn.Conv2d(WIDTH, HEADS, 1)
        self.projection, self.intact = nn.Linear(WIDTH, SIZE, bias=False), nn.Linear(WIDTH, 1)

    def features(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, 128, 128) in -1..1 as features (n, WIDTH), by attention pooling of each head."""
        middle = self.middle(self.fine(pictures))
        coarse = F.interpolate(
            self.from_coarse(self.coarse(middle)), scale_factor=2, mode="bilinear", align_corners=False
        )
        x = F.relu(self.from_middle(middle) + coarse)
        weights = self.places(x).flatten(2).softmax(-1)
        return torch.einsum("nhcp,nhp->nhc", x.flatten(2).unflatten(1, (HEADS, -1)), weights).flatten(1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, 128, 128) in -1..1 to unit vectors (n, SIZE) and logits of being intact (n,)."""
        features = self.features(pictures)
        return F.normalize(self.projection(features), dim=-1), self.intact(features)[:, 0]


@dataclass(frozen=True)
class Thresholds:
    """Minimum cosine with the mean of the own references, and minimum logit of being intact."""

    similarity: float
    intact: float


@dataclass(frozen=True)
class Identifier:
    """An identity network with its thresholds; they are None until they are set."""

    network: IdentityNetwork
    thresholds: Thresholds | None


def load_identifier(folder: Path) -> Identifier | None:
    """The identity network in a scorer's folder, None where there is none."""
    if not (folder / IDENTITY_WEIGHTS).exists():
        return None
    network = IdentityNetwork()
    network.load_state_dict(load_file(folder / IDENTITY_WEIGHTS))
    path = folder / IDENTITY_THRESHOLDS
    thresholds = Thresholds(**json.loads(path.read_text())) if path.exists() else None
    return Identifier(network.eval(), thresholds)


@dataclass(frozen=True)
class ImageFeatures:
    """An identity network's features of pictures: unit vectors (n, d), and logits of being intact (n,)."""

    vectors: Tensor
    intact: Tensor


@dataclass(frozen=True)
class IdentityDecisions:
    """For n pictures: their cosines with the own references, and whether each passes each condition, all (n,)."""

    similarity: Tensor
    nearest: Tensor
    near: Tensor
    intact: Tensor

    @property
    def counted(self) -> Tensor:
        """Which pictures show the individual, bool (n,)."""
        return self.nearest & self.near & self.intact


class Recognition:
    """Verifies one individual against others, by the features of their reference pictures.

    A picture shows it when it is nearer to the mean of the individual's own references than to any other's mean,
    its cosine with that mean passes a threshold, and it is intact. The thresholds come with the scorer.
    Raises StudioError for a scorer without them.
    """

    def __init__(self, identifier: Identifier | None, own: ImageFeatures, others: Sequence[ImageFeatures]):
        if identifier is None or identifier.thresholds is None:
            raise StudioError("This scorer cannot measure identity accuracy. Use toybox-clip.")
        self.thresholds = identifier.thresholds
        self.references = torch.stack([F.normalize(features.vectors.mean(0), dim=0) for features in (own, *others)])

    def decisions(self, features: ImageFeatures) -> IdentityDecisions:
        """The decisions for pictures by their features."""
        cosines = features.vectors @ self.references.T
        own = cosines[:, 0]
        return IdentityDecisions(
            own, cosines.argmax(1) == 0, own >= self.thresholds.similarity, features.intact >= self.thresholds.intact
        )

    def share(self, features: ImageFeatures) -> float:
        """The share of pictures that show the individual: its identity accuracy."""
        return self.decisions(features).counted.float().mean().item()
