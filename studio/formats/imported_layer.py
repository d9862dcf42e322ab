"""The tensors of one layer of another tool's file, grouped by algorithm and checked for completeness."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from concepts.errors import StudioError
from studio.formats import layer_conversion
from studio.formats.layer_conversion import Terms
from studio.layers.target_modules import Site

_PAIRS = {
    "lora": (("up",), ("down",)),
    "loha": (("w1_a",), ("w1_b",), ("w2_a",), ("w2_b",)),
    "lokr": (("w1", "w1_a"), ("w1", "w1_b"), ("w2", "w2_a"), ("w2", "w2_b")),
    "output_oft": (("blocks",),),
    "input_oft": (("numbers",),),
    "difference": (("weight",),),
    "bias": (("bias",),),
}
"""The tensors that each algorithm needs: one of every group."""

OPTIONAL = {
    "lora": {"mid"},
    "loha": {"t1", "t2"},
    "lokr": {"t2"},
    "output_oft": {"rescale"},
}

Scaled = Callable[[Mapping[str, Tensor], float | None], Terms]
_SCALED: dict[str, Scaled] = {
    "lora": layer_conversion.lora,
    "loha": layer_conversion.loha,
    "lokr": layer_conversion.lokr,
}


@dataclass
class Layer:
    """The tensors of one layer of a file, by algorithm and role, with alpha and DoRA's magnitudes.

    `scale` is set where it comes from the file's configuration instead of an alpha; `series` is input_oft's.
    """

    key: str
    held: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    alpha: Tensor | None = None
    magnitude: Tensor | None = None
    scale: float | None = None
    series: int | None = None

    def put(self, algorithm: str, role: str, tensor: Tensor) -> None:
        """Add one tensor."""
        self.held.setdefault(algorithm, {})[role] = tensor.float()

    def terms(self, site: Site) -> Terms:
        """The terms of `Imported`, checked against the site's weight.

        Raises StudioError for a missing or surplus tensor, or a shape that does not fit.
        """
        if not self.held:
            raise StudioError(
                f"The file is incomplete: {self.key} has an alpha or magnitudes, but no weights. Get another copy."
            )
        found: Terms = {}
        for algorithm, held in self.held.items():
            self._check(algorithm, held)
            found |= self._read(algorithm, held, site)
        if self.magnitude is not None:
            found["magnitude"] = layer_conversion.magnitude(self.magnitude.float(), site)
        return layer_conversion.checked(found, site)

    def _check(self, algorithm: str, held: Mapping[str, Tensor]) -> None:
        for group in _PAIRS[algorithm]:
            if not any(role in held for role in group):
                raise StudioError(
                    f"The file is incomplete: {self.key} lacks its {algorithm} tensor {' or '.join(group)}. "
                    "Get another copy."
                )
        matrices = [algorithm for algorithm in self.held if algorithm != "bias"]
        if len(matrices) > 1:
            raise StudioError(
                f"The file is invalid: {self.key} has tensors of two adapter types, {' and '.join(matrices)}. "
                "Get another copy."
            )

    def _read(self, algorithm: str, held: dict[str, Tensor], site: Site) -> Terms:
        if self.alpha is not None:
            held = {**held, "alpha": self.alpha.float()}
        try:
            if algorithm in _SCALED:
                return _SCALED[algorithm](held, self.scale)
            if algorithm == "output_oft":
                return layer_conversion.output_oft(held)
            if algorithm == "input_oft":
                return layer_conversion.input_oft(held, self.series)
            if algorithm == "bias":
                return {"bias": held["bias"].flatten()}
            return {"difference": held["weight"].reshape(-1, *site.weight.shape[1:])}
        except (RuntimeError, IndexError, ValueError) as error:
            raise StudioError(
                f"The file is invalid: the tensors of {self.key} have inconsistent shapes. Get another copy."
            ) from error
