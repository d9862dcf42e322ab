"""Vision backbones: DINO and DINOv2, by timm or transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from transformers import AutoModel

from concepts.errors import StudioError
from studio.hub_access import hub_access
from studio.models.loading import libraries_silent

NAMED = {"dino": "facebook/dino-vits16", "dinov2": "facebook/dinov2-small"}
"""The hub models of short names: DreamBench's DINO ViT-S/16, and DINOv2 of the same size."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone:
    """A vision transformer whose class token is a picture's embedding. `name` is to be reported with every score."""

    def __init__(self, name: str, model: Any, side: int):
        self.name = name
        self._model = model.eval()
        self._prepare = v2.Compose([
            v2.Resize(round(side * 256 / 224), v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(side),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(_MEAN, _DEVIATION),
        ])  # fmt: skip

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures as unit vectors (n, d)."""
        batches = [pictures[start : start + 32] for start in range(0, len(pictures), 32)]
        rows = [self._embed(torch.stack([self._prepare(picture) for picture in batch])) for batch in batches]
        return F.normalize(torch.cat(rows).float(), dim=-1)

    def _embed(self, signal: Tensor) -> Tensor:
        output = self._model(signal)
        return output if isinstance(output, Tensor) else output.last_hidden_state[:, 0]


@hub_access()
def load_backbone(source: str) -> Backbone:
    """ "dino", "dinov2", a transformers folder or hub model, or "timm/NAME", as in timm/vit_small_patch16_224.dino.

    A folder of timm's own, with its config.json and weights, is read as well. Raises StudioError for anything else.
    """
    try:
        with libraries_silent():
            if source.startswith("timm/") or _is_timms(Path(source)):
                place = f"local-dir:{source}" if Path(source).is_dir() else source.removeprefix("timm/")
                model = timm.create_model(place, pretrained=True, num_classes=0)
                return Backbone(Path(source).name, model, model.pretrained_cfg["input_size"][-1])
            model: Any = AutoModel.from_pretrained(NAMED.get(source, source))
            side = 224 if source in NAMED else model.config.image_size
            return Backbone(source if source in NAMED else Path(source).name, model, side)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError) as error:
        raise StudioError(
            f"{source!r} could not be loaded as a DINO model. Give dino, dinov2, a folder, timm/NAME or a "
            "Hugging Face Hub model ID."
        ) from error


def _is_timms(folder: Path) -> bool:
    """Whether a folder's configuration is timm's, which names an architecture."""
    config = folder / "config.json"
    return config.is_file() and '"architecture"' in config.read_text()
