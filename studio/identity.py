"""Identity: whether a picture shows one individual and no other, by a scorer that was taught to tell them apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from studio.errors import StudioError

IDENTITY_WEIGHTS, IDENTITY_THRESHOLDS = "identity.safetensors", "identity.json"
"""The files of an identity head in a scorer's folder."""
NEGATIVES, DRAWN_NEGATIVES = 11, 4
"""The other individuals that a picture is compared with, and how many of them were drawn to be taken for its own."""


class IdentityHead(nn.Module):
    """Reads a scorer's image features: whose picture it is, and whether the individual in it is intact."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.projection = nn.Linear(width, size, bias=False)
        self.intact = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Image features (n, width), of any length, to unit vectors (n, size) and logits of being intact (n,)."""
        return F.normalize(self.projection(features), dim=-1), self.intact(features)[:, 0]


@dataclass(frozen=True)
class Thresholds:
    """From where on a picture counts: its cosine with the mean of its own references, its logit of being intact."""

    similarity: float
    intact: float


@dataclass(frozen=True)
class Identifier:
    """An identity head with its thresholds; they are None until they are set."""

    head: IdentityHead
    thresholds: Thresholds | None


def load_identifier(folder: Path) -> Identifier | None:
    """The identity head in a scorer's folder, None where there is none."""
    if not (folder / IDENTITY_WEIGHTS).exists():
        return None
    state = {name: value.float() for name, value in load_file(folder / IDENTITY_WEIGHTS).items()}
    size, width = state["projection.weight"].shape
    head = IdentityHead(width, size)
    head.load_state_dict(state)
    path = folder / IDENTITY_THRESHOLDS
    thresholds = Thresholds(**json.loads(path.read_text())) if path.exists() else None
    return Identifier(head.eval(), thresholds)


@dataclass(frozen=True)
class Looks:
    """What an identity head sees in pictures: unit vectors (n, d), and logits of showing an intact individual (n,)."""

    vectors: Tensor
    intact: Tensor


@dataclass(frozen=True)
class Verdicts:
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

    def __init__(self, identifier: Identifier | None, own: Looks, others: Sequence[Looks]):
        if identifier is None or identifier.thresholds is None:
            raise StudioError("Identity needs a scorer that was taught to tell individuals apart, such as toybox-clip.")
        self.thresholds = identifier.thresholds
        self.references = torch.stack([F.normalize(looks.vectors.mean(0), dim=0) for looks in (own, *others)])

    def judged(self, looks: Looks) -> Verdicts:
        """The verdicts of pictures by their looks."""
        cosines = looks.vectors @ self.references.T
        own = cosines[:, 0]
        return Verdicts(
            own, cosines.argmax(1) == 0, own >= self.thresholds.similarity, looks.intact >= self.thresholds.intact
        )

    def share(self, looks: Looks) -> float:
        """The share of pictures that show the individual: its identity accuracy."""
        return self.judged(looks).counted.float().mean().item()
