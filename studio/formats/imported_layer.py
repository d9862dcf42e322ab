"""The tensors of one layer of another tool's file, grouped by adapter type and checked for completeness."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.formats import layer_conversion, weight_dependent
from studio.formats.layer_conversion import Terms
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site

_NEEDED = {
    "lora": (("up",), ("down",)),
    "loha": (("w1_a",), ("w1_b",), ("w2_a",), ("w2_b",)),
    "lokr": (("w1", "w1_a"), ("w1", "w1_b"), ("w2", "w2_a"), ("w2", "w2_b")),
    "output_oft": (("blocks", "rotations"),),
    "input_oft": (("numbers",),),
    "glora": (("a1",), ("a2",), ("b1",), ("b2",)),
    "ia3": (("weight",), ("on_input",)),
    "peft_ia3": (("scales",),),
    "peft_glora": (("A.X", "A.Xd", "A.zeros"), ("B.X", "B.Xd", "B.zeros")),
    "difference": (("weight",),),
    "bias": (("bias",),),
}
"""The tensors that each adapter type needs: one of every group."""
_EITHER = {
    "lokr": (("w1", {"w1_a", "w1_b"}), ("w2", {"w2_a", "w2_b", "t2"})),
    "output_oft": (("blocks", {"rotations"}),),
    "peft_glora": tuple((f"{path}.X", {f"{path}.Xd", f"{path}.Xu"}) for path in "ABCDE"),
}
"""Tensors that replace others, of which a layer has one kind."""
_RANKED = {"lora": "down", "loha": "w1_b"}
"""The factor with as many rows as the rank."""

Reader = Callable[[Mapping[str, Tensor], "Layer", Site], Terms]
_READERS: dict[str, Reader] = {
    "lora": lambda held, layer, site: layer_conversion.lora(held, layer.scale),
    "loha": lambda held, layer, site: layer_conversion.loha(held, layer.scale),
    "lokr": lambda held, layer, site: layer_conversion.lokr(held, layer.scale),
    "output_oft": lambda held, layer, site: _output_rotation(held, layer, site),
    "input_oft": lambda held, layer, site: layer_conversion.input_oft(held, layer.series),
    "glora": lambda held, layer, site: weight_dependent.glora(held, layer.scale, site),
    "ia3": lambda held, layer, site: weight_dependent.ia3(held, site),
    "peft_ia3": lambda held, layer, site: weight_dependent.peft_ia3(held, layer.feedforward, site),
    "peft_glora": lambda held, layer, site: weight_dependent.peft_glora(held, site),
    "difference": lambda held, layer, site: {"difference": held["weight"].reshape(-1, *site.weight.shape[1:])},
    "bias": lambda held, layer, site: {"bias": held["bias"].flatten()},
}


def _output_rotation(held: Mapping[str, Tensor], layer: "Layer", site: Site) -> Terms:
    """BOFT and the diagonal OFT have the same keys, and BOFT's blocks one dimension more."""
    stages = "blocks" in held and held["blocks"].ndim == 4
    return weight_dependent.boft(held, site) if stages else layer_conversion.output_oft(held, layer.key)


@dataclass
class Layer:
    """The tensors of one layer of a file, by adapter type and role, with alpha and DoRA's magnitudes.

    `scale` and `rank` are set where the file's configuration has both, `usual_alpha` where it has alpha alone; an alpha
    of the layer's own comes before them. `rank_stabilized` says that alpha is divided by √rank. `series` is
    input_oft's, by default as PEFT's and OneTrainer's, and `feedforward` is for PEFT's (IA)³.
    """

    key: str
    held: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    alpha: Tensor | None = None
    magnitude: Tensor | None = None
    scale: float | None = None
    rank: float | None = None
    usual_alpha: float | None = None
    rank_stabilized: bool = False
    series: int | None = 5
    feedforward: bool = False

    @property
    def scaled(self) -> bool:
        """Whether alpha scales the layer; an OFT's limits a norm."""
        return bool({"lora", "loha", "lokr", "glora"} & self.held.keys())

    def put(self, algorithm: str, role: str, tensor: Tensor) -> None:
        """Add one tensor; StudioError if the layer already has it, by another name."""
        if role == "row_magnitude":  # PEFT's is always of rows, also for a convolution, (1, out, 1, 1)
            role, tensor = "magnitude", tensor.reshape(-1, 1)
        known = {"alpha": self.alpha, "magnitude": self.magnitude} if not algorithm else self.held.get(algorithm, {})
        if known.get(role) is not None:
            raise StudioError(f"The file has the layer {self.key} twice, by different names. Get another copy.")
        if algorithm:
            self.held.setdefault(algorithm, {})[role] = tensor.float()
        elif role == "alpha":
            self.alpha = tensor.float()
        else:
            self.magnitude = tensor.float()

    def terms(self, site: Site) -> Terms:
        """The terms of `Imported`, checked against the site's weight.

        Raises StudioError for a missing or surplus tensor, or a shape that does not fit.
        """
        if not self.held:
            raise StudioError(
                f"The file is incomplete: {self.key} has an alpha or magnitudes, but no weights. Get another copy."
            )
        found: Terms = {}
        with self._refusing():
            for algorithm, held in self.held.items():
                self._check_complete(algorithm, held)
                self._check_form(algorithm, held)
                found |= self._read(algorithm, held, site)
            if self.magnitude is not None:
                found["magnitude"] = layer_conversion.magnitude(self.magnitude, site)
            return layer_conversion.checked(found, site)

    def product(self) -> LowRank:
        """A LoRA's up (out, r) and down (r, in), a convolution's flattened, float32 and without the scale.

        Raises StudioError for a missing or surplus tensor, and for shapes that do not go together.
        """
        held = self.held["lora"]
        with self._refusing():
            self._check_complete("lora", held)
            self._check_form("lora", held)
            terms = layer_conversion.lora(held, 1.0)
            if held["up"].flatten(1).shape != held["up"].shape[:2] or terms["up"].shape[1] != len(terms["down"]):
                raise ValueError("the factors do not go together")
        return LowRank(terms["up"], terms["down"])

    def scale_at(self, rank: int) -> float:
        """The scale of a LoRA of this rank with the layer's alpha: alpha / rank, with rsLoRA alpha / √rank, and 1
        where the file has no alpha.
        """
        if self.alpha is not None:
            return float(self.alpha) / rank
        if self.scale is None or self.rank is None:
            return 1.0 if self.usual_alpha is None else self.usual_alpha / rank
        return self.scale * (self.rank / rank) ** (0.5 if self.rank_stabilized else 1.0)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Raises StudioError for an alpha of several numbers, and for shapes on which the work inside fails."""
        if self.alpha is not None and self.alpha.numel() != 1:
            raise StudioError(f"The file is invalid: the alpha of {self.key} is not one number. Get another copy.")
        try:
            yield
        except StudioError:
            raise
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise StudioError(
                f"The file is invalid: the tensors of {self.key} have inconsistent shapes. Get another copy."
            ) from error

    def _check_complete(self, algorithm: str, held: Mapping[str, Tensor]) -> None:
        if algorithm == "ia3" and "on_input" not in held:
            raise StudioError(
                f"{self.key} has a whole weight, as PEFT's modules_to_save leaves it, which is not supported. Save the "
                "adapter without it."
            )
        for group in _NEEDED[algorithm]:
            if not any(role in held for role in group):
                raise StudioError(
                    f"The file is incomplete: {self.key} lacks its {algorithm} tensor {' or '.join(group)}. "
                    "Get another copy."
                )

    def _check_form(self, algorithm: str, held: Mapping[str, Tensor]) -> None:
        """Raise StudioError for a layer in two forms, and for another rank than its configuration's."""
        matrices = [algorithm for algorithm in self.held if algorithm != "bias"]
        if len(matrices) > 1:
            raise StudioError(
                f"The file is invalid: {self.key} has tensors of two adapter types, {' and '.join(matrices)}. "
                "Get another copy."
            )
        if both := next(
            (role for role, others in _EITHER.get(algorithm, ()) if role in held and others & held.keys()), None
        ):
            raise StudioError(f"The file is invalid: {self.key} has {both} whole and as factors. Get another copy.")
        factor = held.get(_RANKED.get(algorithm, ""))
        if factor is not None and self.rank is not None and factor.shape[0] != self.rank:
            raise StudioError(
                f"The file is invalid: {self.key} has rank {factor.shape[0]}, and by its configuration rank "
                f"{self.rank:g}. Get another copy."
            )

    def _read(self, algorithm: str, held: dict[str, Tensor], site: Site) -> Terms:
        if self.alpha is not None:
            return _READERS[algorithm]({**held, "alpha": self.alpha}, replace(self, scale=None), site)
        if self.usual_alpha is not None and self.scaled:
            held = {**held, "alpha": torch.tensor(self.usual_alpha)}
        return _READERS[algorithm](held, self, site)
