"""The sizes that the efficiency study compares: from each method's smallest to about four times LoRA of rank 1."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from studio.adapters import ADAPTERS
from studio.adapters.cost import Shapes, num_parameters, shapes_of, sizes_of
from studio.adapters.registry import method_named
from studio.layers.target_modules import find_sites
from studio.models.families import family_of
from training.config.family_presets import learning_rates, token_rate

METHODS = (
    "lora", "oft", "vera", "svdiff", "lidb", "spectral_rotational", "spectral_additive", "lora_xs", "hydra",
)  # fmt: skip
"""The methods of the Spectral Adapter paper's Figure 6, with LoRA-XS and Hydra."""
OTHERS = tuple(name for name in ADAPTERS if name not in METHODS)
"""All other methods, each at one size, on one concept and seed, with its default learning rates."""
MAX_BUDGET, TOLERANCE = 4, 1.05
"""The largest budget in multiples of LoRA of rank 1, and the tolerance factor above it."""


@dataclass(frozen=True)
class Size:
    """A method in one of its sizes: its options and its number of trained parameters.

    `rate` is the UNet's learning rate where it is not searched.
    """

    method: str
    options: dict[str, Any]
    trained: int
    rate: float | None = None

    def __str__(self) -> str:
        """The name in files."""
        return f"{self.method}-{self.trained}"

    def made(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is of this size."""
        return (row.get("method"), row.get("trained")) == (self.method, self.trained)


def lora_of_rank_1(shapes: Shapes) -> int:
    """The number of parameters of LoRA of rank 1 on these shapes."""
    return num_parameters("lora", method_named("lora").Config(rank=1), shapes)


def budgets(method: str, shapes: Shapes) -> list[Size]:
    """Up to four sizes of a method, smallest first: its minimum, and the largest within three further budgets.

    These are a tenth of LoRA of rank 1, the same, and four times as much; for a method whose minimum is above a tenth,
    equal ratios up to four times. A method with fewer sizes in that range has all of them.
    """
    unit = lora_of_rank_1(shapes)
    found: dict[int, Size] = {}
    for trained, config in sizes_of(method, method_named(method).Config(), shapes, MAX_BUDGET * unit):
        found.setdefault(trained, Size(method, _own_options(method, config), trained))
    within = [found[trained] for trained in sorted(found) if trained <= MAX_BUDGET * TOLERANCE * unit]
    if len(within) <= 4:
        return within
    least = within[0].trained
    targets = [unit / 10, unit, MAX_BUDGET * unit]
    if least >= targets[0]:
        targets = [least * (MAX_BUDGET * unit / least) ** (power / 3) for power in (1, 2, 3)]
    chosen = [0]
    for index, target in enumerate(targets):
        last = len(within) - len(targets) + index  # leaves one for each later target
        fitting = sum(size.trained <= target * (1 + 1e-9) for size in within) - 1
        chosen.append(min(max(fitting, chosen[-1] + 1), last))
    return [within[index] for index in chosen]


def default_size(method: str, parts: Mapping[str, nn.Module], chosen: Sequence[str]) -> Size:
    """A method in its default size, at its own layers or, where it leaves that open, at those of the kinds `chosen`,
    with its default learning rate; a method without layers trains the token at the token's own rate.
    """
    adapter, family = method_named(method), family_of(parts)
    config = adapter.Config()
    shapes = shapes_of(find_sites(parts, own_kinds(method) or chosen)) if adapter.kinds(config) else Counter()
    rate = learning_rates(family, method).get("unet", token_rate(family))
    return Size(method, _own_options(method, config), num_parameters(method, config, shapes), rate)


def own_kinds(method: str) -> tuple[str, ...]:
    """The kinds of layers that a method fixes; none where a recipe chooses them."""
    adapter = method_named(method)
    kinds = adapter.kinds(adapter.Config())
    return () if kinds == ("attention",) else kinds


def nearest_to_a_tenth(sizes: Sequence[Size], shapes: Shapes, count: int) -> list[Size]:
    """The `count` sizes that are nearest, by ratio, to a tenth of LoRA of rank 1, smallest first."""
    tenth = lora_of_rank_1(shapes) / 10
    nearest = sorted(sizes, key=lambda size: abs(math.log(size.trained / tenth)))[:count]
    return sorted(nearest, key=lambda size: size.trained)


def _own_options(method: str, config: Any) -> dict[str, Any]:
    """The options that differ from the method's defaults, and its rank."""
    usual = asdict(method_named(method).Config())
    return {name: value for name, value in asdict(config).items() if name == "rank" or value != usual[name]}
