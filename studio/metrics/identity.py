"""Identity: whether a picture shows one individual and no other, by a scorer that was taught to tell them apart."""

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
"""The other individuals that a picture is compared with, and how many of them were drawn to be taken for its own."""


SIZE, WIDTH, HEADS = 128, 256, 4
"""The numbers of a vector that tells individuals apart, the channels that it is made of, and the places looked at."""


class Residual(nn.Module):
    """Divides the picture's side by its stride and changes its channels, then refines."""

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
    """Tells whose picture it is, and whether the individual in it is intact, from where it looks in the picture."""

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
        """Pictures (n, 3, 128, 128) in -1..1 as vectors (n, WIDTH), a weighted mean over places for each head."""
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
    """From where on a picture counts: its cosine with the mean of its own references, its logit of being intact."""

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
    """What an identity network sees in pictures: unit vectors (n, d), and logits of being intact (n,)."""

    vectors: Tensor
    intact: Tensor


@dataclass(frozen=True)
class IdentityDecisions:
    """Of n pictures: their cosines with their own references, and whether each passes a condition, all (n,)."""

    similarity: Tensor
    nearest: Tensor
    near: Tensor
    intact: Tensor

    @property
    def counted(self) -> Tensor:
        """Which pictures show the individual, bool (n,)."""
        return self.nearest & self.near & self.intact


class Recognition:
    """One individual among others, by the looks of their reference pictures.

    A picture shows it when it is nearer to the mean of the individual's own references than to that of any other's,
    its cosine with that mean passes a threshold, and what it shows is intact. The thresholds come with the scorer.
    Raises StudioError for a scorer without them.
    """

    def __init__(self, identifier: Identifier | None, own: ImageFeatures, others: Sequence[ImageFeatures]):
        if identifier is None or identifier.thresholds is None:
            raise StudioError("Identity needs a scorer that was taught to tell individuals apart, such as toybox-clip.")
        self.thresholds = identifier.thresholds
        self.references = torch.stack([F.normalize(looks.vectors.mean(0), dim=0) for looks in (own, *others)])

    def judged(self, looks: ImageFeatures) -> IdentityDecisions:
        """The decisions of pictures by their looks."""
        cosines = looks.vectors @ self.references.T
        own = cosines[:, 0]
        return IdentityDecisions(
            own, cosines.argmax(1) == 0, own >= self.thresholds.similarity, looks.intact >= self.thresholds.intact
        )

    def share(self, looks: ImageFeatures) -> float:
        """The share of pictures that show the individual: its identity accuracy."""
        return self.judged(looks).counted.float().mean().item()
