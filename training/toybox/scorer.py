"""The scorer, a small CLIP in open_clip's own folder format with a head that tells individuals apart."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save
from torch import Tensor, nn
from transformers import CLIPTokenizer

from concepts.storage import atomic_write
from studio.identity import IDENTITY_THRESHOLDS, IDENTITY_WEIGHTS, IdentityHead, Thresholds
from training.toybox.vocabulary import write_tokenizer

NAME = "toybox-clip"
EMBEDDING, IDENTITY = 256, 128
VISION = {"image_size": 128, "layers": [2, 2, 2, 1], "width": 24, "head_width": 64}
TEXT = {"width": 128, "heads": 4, "layers": 3}


@dataclass(frozen=True)
class ScorerModel:
    """The two networks of a scorer, which train together."""

    clip: CLIP
    head: IdentityHead


def model_config(tokenizer: CLIPTokenizer) -> dict:
    """The `model_cfg` of open_clip's configuration file for this tokenizer."""
    text = {
        **TEXT,
        "context_length": tokenizer.model_max_length,
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": "local",  # open_clip then reads the tokenizer that lies beside the weights
    }
    return {"embed_dim": EMBEDDING, "vision_cfg": VISION, "text_cfg": text}


def build(config: dict) -> ScorerModel:
    """The untrained scorer."""
    clip = CLIP(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))
    return ScorerModel(clip, IdentityHead(config["embed_dim"], IDENTITY))


def encode_texts(clip: CLIP, ids: Tensor) -> Tensor:
    """What `clip.encode_text` gives for token ids (n, context), computed only as far as the longest text goes."""
    parts: Any = clip  # what it holds depends on its configuration
    length = int(ids.argmax(1).max()) + 1
    x = parts.token_embedding(ids[:, :length]) + parts.positional_embedding[:length]
    x = parts.ln_final(parts.transformer(x, attn_mask=parts.attn_mask[:length, :length]))
    return x[torch.arange(len(ids)), ids.argmax(1)] @ parts.text_projection


def write(model: ScorerModel, tokenizer: CLIPTokenizer, target: Path) -> None:
    """Writes the folder that `open_clip.create_model_and_transforms("local-dir:…")` reads, in half precision.

    Beside open_clip's files lies the identity head, which `studio.scoring.load_scorer` reads.
    """
    target.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config(tokenizer), "preprocess_cfg": preprocess}
    atomic_write(target / "open_clip_config.json", (json.dumps(config, indent=2) + "\n").encode())
    atomic_write(target / "open_clip_model.safetensors", _halves(model.clip))
    atomic_write(target / IDENTITY_WEIGHTS, _halves(model.head))
    write_tokenizer(tokenizer, target)


def write_thresholds(thresholds: Thresholds, target: Path) -> None:
    """Keeps an identity head's thresholds in the scorer's folder."""
    atomic_write(target / IDENTITY_THRESHOLDS, (json.dumps(asdict(thresholds), indent=2) + "\n").encode())


def _halves(module: nn.Module) -> bytes:
    state = module.state_dict()
    return save({
        key: value.half().contiguous() if value.is_floating_point() else value for key, value in state.items()
    })  # fmt: skip
