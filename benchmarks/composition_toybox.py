"""The composition benchmark's part on toybox: merges, and serving without merging."""

from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from studio.adapters import ADAPTERS
from studio.adapters.concept_file import TrainedConcept, trained_states
from studio.adapters.registry import create_adapters
from studio.composition import MERGES
from studio.composition.merge import merged_deltas
from studio.composition.merge_config import OF_ACTIVATIONS
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving

CONCEPTS, RANK = 3, 8
ADAPTER_OF = {"spectral": "spectral_additive", "orthogonal": "orthogonal"}
"""What each merge is measured on; LoRA where nothing is said."""


TOYBOX_COLUMNS = ("merge", "adapter", "milliseconds")


def concepts_of(base: Base, adapter: str, count: int) -> dict[str, TrainedConcept]:
    """Concepts with random values: what they show does not matter to the time that they take."""
    method, made = ADAPTERS[adapter], {}
    width = base.pipeline.text_encoder.config.hidden_size
    for index in range(count):
        own = {"first_column": index * RANK} if method.owns_block else {}
        config = method.Config(rank=RANK, **own)
        adapters = create_adapters(adapter, config, base.sites, base.decomposition)
        for parameter in (p for each in adapters.values() for p in each.parameters()):
            nn.init.normal_(parameter, std=0.01)
        tokens = {f"<c{index}>": {"text_encoder": 0.02 * torch.randn(1, width)}}
        made[f"c{index}"] = TrainedConcept(
            base.decomposition.fingerprint, adapter, asdict(config), trained_states(adapters), tokens
        )
    return made


def serving_row(base: Base, adapter: str, rounds: int) -> list[str]:
    """Milliseconds to load and to switch a concept; a batch of four concepts beside one of a single concept."""
    concepts = concepts_of(base, adapter, 4)
    settings = SamplingSettings(num_inference_steps=8, batch_size=4)
    mixed = [Request(f"a photo of <c{index}>", index, {f"c{index}": 1.0}) for index in range(4)]
    single = [Request("a photo of <c0>", index, {"c0": 1.0}) for index in range(4)]
    with Serving(base, concepts) as serving:
        loading = median(timed(lambda: serving.load("c0", concepts["c0"]))[0] for _ in range(rounds))
        switching = []
        for index in range(4 * rounds):
            with torch.inference_mode(), base.autocast():
                switching.append(timed(lambda index=index: serving.use([mixed[index % 4]]))[0])
        ratios = []
        for _ in range(rounds + 1):
            one = timed(lambda: serving.generate(single, settings))[0]
            ratios.append(timed(lambda: serving.generate(mixed, settings))[0] / one)
    return [adapter, f"{1000 * loading:.1f}", f"{1000 * median(switching[4:]):.1f}", f"{median(ratios[1:]):.3f}"]


def toybox_merges(base: Base, rounds: int) -> list[list[str]]:
    """Milliseconds of every merge of three concepts that needs no activations, from files read to changed weights."""
    rows = []
    for method in (name for name in MERGES if name not in OF_ACTIVATIONS):
        concepts = concepts_of(base, ADAPTER_OF.get(method, "lora"), CONCEPTS)
        merged_deltas(base, concepts, method)
        seconds = median(timed(lambda m=method, c=concepts: merged_deltas(base, c, m))[0] for _ in range(rounds))
        rows.append([method, ADAPTER_OF.get(method, "lora"), f"{1000 * seconds:.1f}"])
    return rows


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that the action took, and what it returned."""
    began = perf_counter()
    result = action()
    return perf_counter() - began, result
