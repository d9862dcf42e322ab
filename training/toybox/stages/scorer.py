"""Stage 5 of toybox: the scorer, a small CLIP in open_clip's own folder format, trained on renders and captions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from concepts.storage import atomic_write
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.captions import caption
from training.toybox.scenes.dataset import WORLD, draw_all, softened, to_signal
from training.toybox.scenes.render import Scene, sample_scene
from training.toybox.scenes.tokenizer import write_tokenizer
from training.toybox.stages.stage import (
    EMAWeights,
    channels_last,
    learning_rate,
    optimizer_step,
    run_stage,
    set_learning_rate,
    step_rng,
)

NAME = "toybox-clip"
EMBEDDING = 192
VISION = {"image_size": 128, "layers": [1, 2, 2, 1], "width": 20, "head_width": 64}
TEXT = {"width": 128, "heads": 4, "layers": 3}
BATCH = 128
POOL = 24_000
STEPS = 900
PEAK_RATE = 1e-3


def model_config(tokenizer: CLIPTokenizer) -> dict:
    """The `model_cfg` of open_clip's configuration file for this tokenizer."""
    text = {
        **TEXT,
        "context_length": tokenizer.model_max_length,
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": "local",  # open_clip then reads the tokenizer beside the weights
    }
    return {"embed_dim": EMBEDDING, "vision_cfg": VISION, "text_cfg": text}


def build(config: dict) -> CLIP:
    """The untrained scorer."""
    return CLIP(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))


def encode_texts(clip: CLIP, ids: Tensor) -> Tensor:
    """`clip.encode_text` of token ids (n, context), computed only up to the longest text's length."""
    parts: Any = clip  # its attributes depend on its configuration
    length = int(ids.argmax(1).max()) + 1
    x = parts.token_embedding(ids[:, :length]) + parts.positional_embedding[:length]
    x = parts.ln_final(parts.transformer(x, attn_mask=parts.attn_mask[:length, :length]))
    return x[torch.arange(len(ids)), ids.argmax(1)] @ parts.text_projection


def random_crop(signal: Tensor, rng: Rng) -> Tensor:
    """With probability 1/2 a random square crop of the pictures, resized to full size."""
    if rng.random() < 0.5:
        return signal
    side = int(rng.integers(96, 128))
    top, left = rng.integers(0, 128 - side + 1, 2)
    part = signal[:, :, top : top + side, left : left + side]
    return F.interpolate(part, size=(128, 128), mode="bilinear", align_corners=False)


def train(folder: Path, tokenizer: CLIPTokenizer, device: str, steps: int = STEPS) -> CLIP:
    """Trains with CLIP's contrastive loss (Radford et al., 2021); resumes from `folder`."""
    torch.manual_seed(0)
    model = channels_last(build(model_config(tokenizer)), device)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)

    def hold_scale(*_: object) -> None:
        model.logit_scale.data.clamp_(0, np.log(100))

    optimizer.register_step_post_hook(hold_scale)
    average = EMAWeights(model, 0.998)
    scenes, levels = _pool(folder)
    contrastive = ClipLoss()

    def update(step: int) -> Tensor:
        rng = step_rng(17, step)
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_RATE))
        chosen = rng.choice(len(scenes), BATCH, replace=False)
        texts = [caption(scenes[i], rng).text for i in chosen]
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
        signal = softened(random_crop(to_signal(levels[chosen], device), rng), rng)
        with torch.autocast(device, torch.bfloat16):
            image, text = model.encode_image(signal), encode_texts(model, ids)
        pairs = (F.normalize(part.float(), dim=-1) for part in (image, text))
        loss = contrastive(*pairs, model.logit_scale.exp())
        optimizer_step(loss, model, optimizer, average, step)
        return loss

    run_stage("scorer", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update)
    average.copy_to(model)
    return model.eval()


def _pool(folder: Path) -> tuple[list[Scene], Tensor]:
    rng = np.random.default_rng(19)
    scenes = [sample_scene(rng) for _ in range(POOL)]
    path = folder / f"renders-{WORLD}" / "scorer.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, draw_all(scenes))
    return scenes, torch.from_numpy(np.load(path, mmap_mode="c")).permute(0, 3, 1, 2)


def write(model: CLIP, tokenizer: CLIPTokenizer, target: Path) -> None:
    """Writes the folder that `open_clip.create_model_and_transforms("local-dir:…")` reads, in half precision."""
    target.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config(tokenizer), "preprocess_cfg": preprocess}
    atomic_write(target / "open_clip_config.json", (json.dumps(config, indent=2) + "\n").encode())
    halves = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    atomic_write(target / "open_clip_model.safetensors", save(halves))
    write_tokenizer(tokenizer, target)
