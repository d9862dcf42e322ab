"""A change that another tool trained, in that tool's parametrization."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role

WIDEST_PRODUCT = 4
"""A Hadamard product of two low-rank matrices is kept as factors up to a rank of this fraction of the shorter side."""


class Imported(Adapter):
    """A LoRA, LoHa, LoKr, OFT, GLoRA, (IA)³, DoRA or difference file: W' = W + the sum of a site's terms.

    Each site has some of these terms, whose shapes are in the configuration; scales are multiplied in:

    - `up` (out, r) and `down` (r, in): up down. LoRA, LoCon.
    - `first_up`, `first_down`, `second_up`, `second_down`: (first_up first_down) ⊙ (second_up second_down). LoHa.
    - `left` (a, b) and `right` (out / a, in / b): left ⊗ right. LoKr.
    - `turn_out` (n, s, s) with n s = out: blockdiag(turn_out) W, a rotation of the output less the identity. LyCORIS'
      OFT.
    - `turn_in` (n, s, s) with n s = in: W blockdiag(turn_in), the same on the input. PEFT's OFT.
    - `difference` (out, in), also that of a norm's weights (features, 1).
    - `rescale` (out,) and `rescale_in` (in,): the rows and columns of W + all of this are multiplied by these. (IA)³.
    - `magnitude` (out, 1) or (1, in): the rows or columns of W + all of this are rescaled to these norms. DoRA.
    - `bias` (out,): added to the bias.

    Source: LyCORIS (Yeh et al., 2024) and PEFT, for their files. It can be loaded, merged and exported, not trained.
    """

    @dataclass(frozen=True)
    class Config:
        """`layers` are the kinds of layers that the file adapts, and `terms` the shape of each term, by site."""

        layers: tuple[str, ...] = ()
        terms: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, layers: tuple[str, ...], terms: Mapping[str, Mapping[str, Tensor]]) -> Config:
        """The configuration of these terms by site."""
        shapes = {site: {name: tuple(term.shape) for name, term in own.items()} for site, own in terms.items()}
        return cls.Config(layers, shapes)

    config: Config
    learning_rates: ClassVar = {}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        shapes = config.terms[context.name if context else ""]
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(*shape, device=weight.device)))

    @property
    def stored(self) -> dict[str, Tensor]:
        """The site's terms by name, as in the file."""
        return dict(self.named_parameters())

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """The terms as they are; at another strength than 1, the difference or the scaled factors."""
        return self.stored if strength == 1 else super().terms(weight, bias, strength)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """The factors where all terms have low rank; None where one of them may have any rank."""
        terms = self.stored
        names = set(terms) - {"bias"}
        if names == {"up", "down"}:
            return LowRank(strength * terms["up"], terms["down"])
        if not names:
            return LowRank(weight.new_zeros(weight.shape[0], 0).float(), weight.new_zeros(0, weight.shape[1]).float())
        if names == {"first_up", "first_down", "second_up", "second_down"}:
            return _hadamard(terms, strength, min(weight.shape))
        return None

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The sum of the terms, (out, in), scaled as in the tools themselves."""
        terms, frozen = self.stored, weight.float()
        change = torch.zeros_like(frozen)
        if "up" in terms:
            change = change + terms["up"] @ terms["down"]
        if "first_up" in terms:
            first, second = terms["first_up"] @ terms["first_down"], terms["second_up"] @ terms["second_down"]
            change = change + first * second
        if "left" in terms:
            change = change + torch.kron(terms["left"].contiguous(), terms["right"].contiguous())
        if "turn_out" in terms:
            change = change + _blocks_times(terms["turn_out"], frozen)
        if "turn_in" in terms:
            change = change + _blocks_times(terms["turn_in"].mT, frozen.T).T
        if "difference" in terms:
            change = change + terms["difference"]
        if "rescale" in terms:
            change = terms["rescale"][:, None] * (frozen + change) - frozen
        if "rescale_in" in terms:
            change = (frozen + change) * terms["rescale_in"] - frozen
        if "magnitude" in terms:
            change = _rescaled(terms["magnitude"], frozen + change) - frozen
        return strength * change

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """The bias term, (out,), if the file has one."""
        terms = self.stored
        return strength * terms["bias"] if "bias" in terms else None

    @classmethod
    def kinds(cls, config: Any) -> tuple[str, ...]:
        """The kinds that the file adapts."""
        return tuple(config.layers)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """0: it is not trained."""
        return 0

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """The terms are checked when the file is read."""


def _hadamard(terms: dict[str, Tensor], strength: float, side: int) -> LowRank | None:
    """(A B) ⊙ (C D) as factors whose columns are the products of all pairs, where there are not too many."""
    rank = terms["first_down"].shape[0] * terms["second_down"].shape[0]
    if rank * WIDEST_PRODUCT > side:
        return None
    up = (terms["first_up"][:, :, None] * terms["second_up"][:, None, :]).flatten(1)
    down = (terms["first_down"][:, None] * terms["second_down"][None]).flatten(0, 1)
    return LowRank(strength * up, down)


def _rescaled(magnitude: Tensor, adapted: Tensor) -> Tensor:
    """The rows or columns of a weight (out, in) rescaled to the norms (out, 1) or (1, in)."""
    along = 0 if magnitude.shape[0] == 1 else 1
    norm = adapted.norm(dim=along, keepdim=True)
    return magnitude * adapted / norm.clamp_min(torch.finfo(norm.dtype).tiny)  # rows of zeros stay so


def _blocks_times(blocks: Tensor, matrix: Tensor) -> Tensor:
    """blockdiag(blocks (n, s, s)) matrix (n s, columns); one block stands for all of its size."""
    size = blocks.shape[-1]
    rows = matrix.unflatten(0, (-1, size))
    return (blocks @ rows).flatten(0, 1)
