"""The denoiser's batches: captions with cached latents, from scenes whose number grows during training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.toybox.scenes.captions import caption
from training.toybox.scenes.dataset import TEST_SEED
from training.toybox.scenes.render import Scene
from training.toybox.stages.latent_cache import SHARD, LatentShard, encoded
from training.toybox.stages.scene_head import cell_targets

BATCH = 64
SHARDS, GROWTH, MAX_SHARDS = 12, 128, 96
"""The initial number of shards, the steps until another one is added, and the final number."""
UNCONDITIONAL = 0.1
"""The fraction of captions that are dropped, for classifier-free guidance."""


@dataclass(frozen=True)
class Batch:
    """One batch: captions, scaled latents (n, channels, 16, 16), the items' coverage (n, 1, 16, 16), 0 to 1, and the
    targets of the scene head.
    """

    texts: list[str]
    latents: Tensor
    covered: Tensor
    cells: dict[str, Tensor]


class BatchSampler:
    """Samples the denoiser's batches from cached latents and scenes, whose number grows during training."""

    def __init__(self, folder: Path, autoencoder: AutoencoderKL, device: str):
        self.folder, self.autoencoder, self.device = folder, autoencoder, device
        self.shards: list[LatentShard] = []

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        """The batch of one step, with new captions, some of them dropped."""
        ready = min(MAX_SHARDS, SHARDS + step // GROWTH)
        while len(self.shards) < ready:
            self.shards.append(encoded(self.folder, self.autoencoder, len(self.shards), self.device))
        chosen = [divmod(int(index), SHARD) for index in rng.integers(ready * SHARD, size=BATCH)]
        return self._batch([(self.shards[shard], row) for shard, row in chosen], rng, UNCONDITIONAL)

    def unseen(self) -> Batch:
        """A held-out shard, with fixed captions."""
        shard = encoded(self.folder, self.autoencoder, 1, self.device, TEST_SEED)
        return self._batch([(shard, row) for row in range(len(shard.scenes))], np.random.default_rng(TEST_SEED), 0.0)

    def _batch(self, rows: list[tuple[LatentShard, int]], rng: np.random.Generator, dropout: float) -> Batch:
        def caption_or_empty(scene: Scene) -> str:
            return "" if rng.random() < dropout else caption(scene, rng).text

        texts = [caption_or_empty(shard.scenes[row]) for shard, row in rows]
        latents = torch.stack([shard.latents[row] for shard, row in rows]).float().to(self.device)
        latents = latents * self.autoencoder.config["scaling_factor"]
        covered = torch.stack([shard.covered[row] for shard, row in rows]).float().to(self.device) / 255
        scenes, shown = (
            [shard.scenes[row] for shard, row in rows],
            torch.stack([shard.shown[row] for shard, row in rows]),
        )
        cells = {name: wanted.to(self.device) for name, wanted in cell_targets(scenes, shown).items()}
        return Batch(texts, latents.contiguous(memory_format=torch.channels_last), covered[:, None], cells)
