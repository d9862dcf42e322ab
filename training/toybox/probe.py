"""A helper while the denoiser learns: from its inner features, say what is where. It is dropped afterwards.

Denoisers learn sooner when their features are pulled towards ones that see (Yu et al., 2024, "Representation
alignment for generation"). Here nothing has to be aligned with: the renderer knows what is in every cell.
"""

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from training.toybox.layout import NOTHING, present_and_absent

WEIGHT = 0.05
BLOCK = 1


class Probe(nn.Module):
    """Reads the features that leave one of the UNet's upward blocks, (n, channels, 16, 16)."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.features: Tensor | None = None
        self.head = nn.Conv2d(unet.config["block_out_channels"][::-1][BLOCK], NOTHING + 1, 1)
        self._hook = unet.up_blocks[BLOCK].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, features: Tensor) -> None:
        self.features = features

    def leave(self) -> None:
        """Takes the hook out of the UNet."""
        self._hook.remove()

    def loss(self, wanted: Tensor, timesteps: Tensor, last: int = 1000) -> Tensor:
        """How badly the features of the UNet's last call tell `wanted` (n, 16, 16); noisy samples count less."""
        assert self.features is not None, "the UNet has to be called first"
        clear = (1 - timesteps / last)[:, None, None, None]
        present, absent = present_and_absent(self.head(self.features.float()) * clear, wanted)
        return WEIGHT * (present + absent)
