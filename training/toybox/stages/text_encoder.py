"""A stage of toybox: pretrains the text encoder on captions, by classifying the facts that they mention."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.toybox.scenes.captions import Caption, caption
from training.toybox.scenes.dataset import TEST_SEED
from training.toybox.scenes.render import sample_scene
from training.toybox.stages.caption_attributes import all_facts, targets
from training.toybox.stages.muon import MuonWithAdamW
from training.toybox.stages.stage import (
    EMAWeights,
    learning_rate,
    optimizer_step,
    run_stage,
    set_learning_rate,
    step_rng,
)
from training.toybox.stages.training_log import TrainingLog

WIDTH = 192
LAYERS = 4
HEADS = 4
BATCH = 64
STEPS = 2500
PEAK_RATE, OTHER_RATE = 1e-2, 2e-3
"""Muon's learning rate, and AdamW's for embeddings, biases and norms."""
DECAY = 0.5
PADDED = 0.25
"""The probability of padding a batch to the full length, as at inference; else to its longest caption."""
UNSEEN = 2048


class AttributeClassifier(nn.Module):
    """The text encoder with a classification head: for each subject of facts, a query that attends to all states.

    The denoiser's cross-attention uses the states in the same way. With one state for all facts, that of the end of the
    text, training took several times longer to assign attributes to two or three items.
    """

    def __init__(self, text_encoder: CLIPTextModel):
        super().__init__()
        width, owners = text_encoder.config.hidden_size, list(dict.fromkeys(whose for whose, _, _ in all_facts()))
        self.text_encoder = text_encoder
        self.queries = nn.Embedding(len(owners), width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.facts = nn.Embedding(len(all_facts()), width)
        nn.init.normal_(self.facts.weight, std=0.02)
        self.bias = nn.Parameter(torch.full((len(all_facts()),), -5.0))  # nearly all facts are absent
        self.owners = [owners.index(whose) for whose, _, _ in all_facts()]

    def forward(self, ids: Tensor) -> Tensor:
        """The logits of all facts, (n, facts), from ids (n, length); padding is attended to, as in the denoiser."""
        states = self.text_encoder(ids).last_hidden_state
        queries = self.queries.weight.expand(len(ids), -1, -1)
        attended, _ = self.attention(queries, states, states, need_weights=False)
        every = attended @ self.facts.weight.T
        return every[:, self.owners, range(len(self.owners))] + self.bias


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder for this tokenizer."""
    marks: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=tokenizer.model_max_length,
        **marks,
    )
    model = CLIPTextModel(config)
    model.set_attn_implementation("eager")  # on a CPU the backward pass of SDPA is several times slower
    return model


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """The texts' ids, padded to the tokenizer's full length: (n, 77)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def longest(ids: Tensor) -> int:
    """The number of tokens of the longest of the padded texts, plus one of padding."""
    return int((ids != ids[0, -1]).sum(1).max()) + 2


def train(
    folder: Path, tokenizer: CLIPTokenizer, device: str, steps: int = STEPS, log_folder: Path | None = None
) -> CLIPTextModel:
    """Trains from scratch; resumes from `folder`. With `log_folder` a training log is written there."""
    torch.manual_seed(0)
    classifier = AttributeClassifier(build(tokenizer)).to(device)
    optimizer = MuonWithAdamW([(classifier, 1.0)], PEAK_RATE, OTHER_RATE)
    average = EMAWeights(classifier, 0.998)

    def rate(step: int) -> float:
        return learning_rate(step, steps, PEAK_RATE, warmup=100, decay=DECAY)

    def update(step: int) -> Tensor:
        rng = step_rng(14, step)
        set_learning_rate(optimizer, rate(step))
        value = loss(classifier, tokenizer, sample_captions(rng, BATCH), rng)
        optimizer_step(value, classifier, optimizer, average, step)
        return value

    def measure() -> Mapping[str, float]:
        with average.applied_to(classifier):
            return {"right": exact_match_accuracy(classifier, tokenizer)}  # the name of the column in log.csv

    training_log = TrainingLog(log_folder, BATCH, rate, measure) if log_folder else None
    parts = {"model": classifier, "optimizer": optimizer, "average": average}
    run_stage("text_encoder", folder, steps, parts, update, training_log)
    average.copy_to(classifier)
    return classifier.text_encoder.eval()


def sample_captions(rng: np.random.Generator, count: int) -> list[Caption]:
    """Captions of random scenes, without rendering them."""
    return [caption(sample_scene(rng), rng) for _ in range(count)]


def loss(
    classifier: AttributeClassifier, tokenizer: CLIPTokenizer, captions: list[Caption], rng: np.random.Generator
) -> Tensor:
    """The sum of all facts' cross-entropies, averaged over captions."""
    ids, device = tokens(tokenizer, [caption.text for caption in captions]), classifier.bias.device
    if rng.random() >= PADDED:
        ids = ids[:, : longest(ids)]
    with torch.autocast(device.type, torch.bfloat16):
        logits = classifier(ids.to(device)).float()
    wanted = targets(captions).to(device)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(captions)


@torch.no_grad()
def exact_match_accuracy(classifier: AttributeClassifier, tokenizer: CLIPTokenizer, count: int = UNSEEN) -> float:
    """The share of unseen captions whose facts are all classified correctly, from inputs of the full length."""
    captions, device = sample_captions(np.random.default_rng((TEST_SEED, 14)), count), classifier.bias.device
    right = 0
    for start in range(0, count, BATCH):
        part = captions[start : start + BATCH]
        ids = tokens(tokenizer, [caption.text for caption in part])
        with torch.autocast(device.type, torch.bfloat16):
            logits = classifier(ids.to(device))
        right += int(((logits.cpu() > 0) == (targets(part) > 0)).all(1).sum())
    return right / count
