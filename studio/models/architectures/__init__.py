"""The adaptable parts of base models without weights, for counting parameters and timing.

Each architecture is a function that builds its parts, by name; on the meta device it takes no memory.
"""

from collections.abc import Callable

import torch
from torch import nn

from concepts.errors import StudioError
from studio.layers.target_modules import Site, find_sites
from studio.models.architectures.stable_diffusion import sd15, sd21, sdxl
from studio.models.architectures.toybox import toybox

ARCHITECTURES: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "toybox": toybox,
    "sd15": sd15,
    "sd21": sd21,
    "sdxl": sdxl,
}


def architecture_parts(name: str) -> dict[str, nn.Module]:
    """The parts of an architecture on the meta device; StudioError, with the known names, if there is none."""
    if name not in ARCHITECTURES:
        raise StudioError(f"There is no architecture {name!r}. Choose from {', '.join(ARCHITECTURES)}.")
    with torch.device("meta"):
        return ARCHITECTURES[name]()


def architecture_sites(name: str, kinds: tuple[str, ...] = ("attention",)) -> dict[str, Site]:
    """The sites of the given kinds in an architecture, on the meta device."""
    return find_sites(architecture_parts(name), kinds)
