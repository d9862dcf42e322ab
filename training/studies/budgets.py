"""The sizes that the efficiency study compares: from each method's smallest to about four times LoRA of rank 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from studio.adapters.cost import Shapes, number_trained, sizes_of
from studio.adapters.registry import method_named

METHODS = (
    "lora", "oft", "vera", "svdiff", "lidb", "spectral_rotational", "spectral_additive", "lora_xs", "hydra",
)  # fmt: skip
"""The methods of the Spectral Adapter paper's Figure 6, with LoRA-XS and Hydra."""
MOST, SLACK = 4, 1.05
"""The largest budget in multiples of LoRA of rank 1, and how far beyond it a size may be to count as about that."""


@dataclass(frozen=True)
class Size:
    """A method in one of its sizes: its options and how many numbers it trains."""

    method: str
    options: dict[str, Any]
    trained: int

    def __str__(self) -> str:
        """As files are called."""
        return f"{self.method}-{self.trained}"

    def made(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is of this size."""
        return (row.get("method"), row.get("trained")) == (self.method, self.trained)


def lora_of_rank_1(shapes: Shapes) -> int:
    """How many numbers LoRA of rank 1 trains on these shapes."""
    return number_trained("lora", method_named("lora").Config(rank=1), shapes)


def budgets(method: str, shapes: Shapes) -> list[Size]:
    """Up to four sizes of a method, the smallest first: its least, and the largest within three more budgets.

    These are a tenth of LoRA of rank 1, as much as that, and four times as much; for a method whose least is above a
    tenth, equal ratios up to four times. A method with fewer sizes in that range gives all that it has.
    """
    unit = lora_of_rank_1(shapes)
    found: dict[int, Size] = {}
    for trained, config in sizes_of(method, method_named(method).Config(), shapes, MOST * unit):
        found.setdefault(trained, Size(method, _own_options(method, config), trained))
    within = [found[trained] for trained in sorted(found) if trained <= MOST * SLACK * unit]
    if len(within) <= 4:
        return within
    least = within[0].trained
    targets = [unit / 10, unit, MOST * unit]
    if least >= targets[0]:
        targets = [least * (MOST * unit / least) ** (power / 3) for power in (1, 2, 3)]
    chosen = [0]
    for index, target in enumerate(targets):
        last = len(within) - len(targets) + index  # leaves one for each target to come
        fitting = sum(size.trained <= target * (1 + 1e-9) for size in within) - 1
        chosen.append(min(max(fitting, chosen[-1] + 1), last))
    return [within[index] for index in chosen]


def nearest_to_a_tenth(sizes: Sequence[Size], shapes: Shapes, count: int) -> list[Size]:
    """The so many sizes that are nearest, as ratios, to a tenth of LoRA of rank 1, the smallest first."""
    tenth = lora_of_rank_1(shapes) / 10
    nearest = sorted(sizes, key=lambda size: abs(math.log(size.trained / tenth)))[:count]
    return sorted(nearest, key=lambda size: size.trained)


def _own_options(method: str, config: Any) -> dict[str, Any]:
    """What differs from the method's defaults, and its rank."""
    usual = asdict(method_named(method).Config())
    return {name: value for name, value in asdict(config).items() if name == "rank" or value != usual[name]}
