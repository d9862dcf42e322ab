"""GLoRA."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import kaiming
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role

Form = Literal["low_rank", "vector", "scalar", "none"]


class Term(nn.Module):
    """One trained support tensor of GLoRA, (rows, columns) or broadcast to it, zero at the start.

    A vector has one parameter for each row, and a scalar has one.
    """

    def __init__(self, name: str, form: Form, rows: int, columns: int, rank: int, context: SiteContext | None):
        super().__init__()
        self.form = form
        if form == "low_rank":
            self.down = kaiming(rank, columns, context, name)
        if form != "none":
            sizes = {"low_rank": (rows, rank), "vector": (rows, 1), "scalar": (1, 1)}
            self.up = nn.Parameter(torch.zeros(sizes[form]))

    def value(self) -> Tensor | float:
        """The support; 0 for none."""
        if self.form == "none":
            return 0.0
        return self.up @ self.down if self.form == "low_rank" else self.up


def _size(form: Form, rows: int, columns: int, rank: int) -> int:
    return {"low_rank": rank * (rows + columns), "vector": rows, "scalar": 1, "none": 0}[form]


class Glora(Adapter):
    """Generalised LoRA: W' = W + W A + B and b' = b + W C + D b + E.

    A (in, in), B (out, in) and C (in, 1) each are low-rank, a vector, a scalar or none, and D (out, 1) and E (out, 1)
    a vector, a scalar or none. A as a vector scales the inputs; B as a vector adds a constant to each row of W. Trains
    the parameters of all five.
    Source: Chavan et al., 2023, "One-for-all: generalized LoRA".
    """

    @dataclass(frozen=True)
    class Config:
        """The rank of low-rank terms, and the forms of A, B, C, D and E, in this order.

        D and E are no matrices and cannot be low-rank; D acts only where the layer has a bias.
        """

        rank: int = 4
        product: Form = "low_rank"
        sum: Form = "low_rank"
        bias_from_weight: Form = "vector"
        bias_product: Form = "none"
        bias_sum: Form = "vector"

    config: Config
    learning_rates: ClassVar = {"unet": 1e-3, "text_encoder": 2e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        for name, form, rows, columns in _terms(tuple(weight.shape), config):
            self.add_module(name, Term(name, form, rows, columns, config.rank, context))
        self.to(weight.device)

    def _term(self, name: str) -> Term:
        term = self.get_submodule(name)
        assert isinstance(term, Term)
        return term

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """W A and B side by side, where neither is a vector or a scalar; the strength scales the delta."""
        forms = {self.config.product, self.config.sum}
        if not forms <= {"low_rank", "none"}:
            return None
        a, b = self._term("a"), self._term("b")
        parts = [(weight.float() @ a.up, a.down)] if a.form == "low_rank" else []
        parts += [(b.up, b.down)] if b.form == "low_rank" else []
        ups, downs = [weight.new_zeros(weight.shape[0], 0).float()], [weight.new_zeros(0, weight.shape[1]).float()]
        ups += [strength * up for up, _ in parts]
        return LowRank(up=torch.cat(ups, 1), down=torch.cat([*downs, *(down for _, down in parts)]))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """W A + B, (out, in)."""
        a, frozen = self._term("a"), weight.float()
        value = a.value()
        product = frozen @ value if a.form == "low_rank" else frozen * (value.mT if a.form == "vector" else value)  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]
        return strength * (product + self._term("b").value())

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """W C + D b + E, (out,); None where C, D and E are none."""
        c, d, e = (self._term(name) for name in "cde")
        if {c.form, d.form, e.form} == {"none"}:
            return None
        change = weight.new_zeros(weight.shape[0], 1).float() + e.value()
        if c.form != "none":
            change = change + weight.float() @ (c.value() + weight.new_zeros(weight.shape[1], 1).float())
        if bias is not None:
            change = change + d.value() * bias.float()[:, None]
        return strength * change[:, 0]

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of A, B, C, D and E."""
        return sum(_size(form, rows, columns, config.rank) for _, form, rows, columns in _terms(shape, config))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, every form must exist, and D and E must not be low-rank."""
        super().check(shape, config, name)
        for term, form, _, _ in _terms(shape, config):
            allowed = [known for known in get_args(Form) if known != "low_rank" or term in "abc"]
            if form not in allowed:
                raise StudioError(f"GLoRA's {term.upper()} cannot be {form!r}. Choose from {', '.join(allowed)}.")


def _terms(shape: tuple[int, ...], config: Glora.Config) -> list[tuple[str, Form, int, int]]:
    """Each term's name, form, rows and columns."""
    out_features, in_features = shape
    return [
        ("a", config.product, in_features, in_features),
        ("b", config.sum, out_features, in_features),
        ("c", config.bias_from_weight, in_features, 1),
        ("d", config.bias_product, out_features, 1),
        ("e", config.bias_sum, out_features, 1),
    ]
