"""The cost study: time, memory and file size of every adapter, on a base and at Stable Diffusion's layer sizes."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.cost import cost
from studio.adapters.registry import create_adapters
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig
from studio.layers.svd_basis import Decomposition
from studio.models.architectures import architecture_sites
from studio.models.base_model import Base, generate_images, load_base
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config, resolve_recipe
from training.engine.run_metrics import changed_by
from training.engine.training_task import Task
from training.reporting.timing import added_at_peak, interleaved, seconds_of, subprocess_pool
from training.studies.rows import Row, Rows
from training.studies.timed_operations import NO_LAYER, adapted_layer, layer, random_set, step_of, step_of_training

REFERENCE = "lora"
ARCHITECTURE = "sd15"
CONCEPT = "tom"


@dataclass(frozen=True)
class Settings:
    """Everything that determines the rows: the base and its source, and the number of timed rounds."""

    base: str
    source: str
    rounds: int = 15
    pictures: int = 8
    num_inference_steps: int = 20
    threads: int = 1
    machine: str = ""
    """The machine: times of different machines are different studies."""


@cache
def widths() -> dict[int, int]:
    """The number of attention layers of Stable Diffusion 1.5 by output width."""
    return dict(sorted(Counter(site.weight.shape[0] for site in architecture_sites(ARCHITECTURE).values()).items()))


def task_for(base: Base, adapter: str) -> Task:
    """The training task of a concept with the default recipe and the adapter's default size."""
    recipe = resolve_recipe(base, Recipe(adapter=adapter, lr_scheduler="constant", steps=100_000))
    return Task(base, CONCEPT, "cat", [], recipe, adapter_config(recipe))


@contextmanager
def step_ready(task: Task, adapters: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """While open, the base is ready for the task; yields a training step."""
    with task.ready(adapters):
        yield step_of_training(task, random_set(task.base, task.base.pipeline.unet.config.sample_size), adapters)


class CostStudy:
    """A study in a folder, whose rows are files there."""

    def __init__(self, folder: Path, base: Base, settings: Settings):
        self.base, self.settings = base, settings
        self.rows = Rows(folder, asdict(settings))

    def run(self, adapters: Sequence[str], on_row: Callable[[Row], None] = lambda _: None) -> list[Row]:
        """Every adapter in single layers of Stable Diffusion's widths, then on the base."""
        made: list[tuple[str, Callable[[], Row]]] = [
            *((f"{ARCHITECTURE}-{name}-{width}", partial(self.in_layers, name, width, number))
              for width, number in widths().items() for name in adapters if name not in NO_LAYER),
            *((f"base-{name}", partial(self.on_base, name)) for name in adapters),
        ]  # fmt: skip
        rows = []
        for name, make in made:
            rows.append(self.rows.row(name, make))
            on_row(rows[-1])
        return rows

    def on_base(self, adapter: str) -> Row:
        """Training and generation on the base; each step is timed with one of LoRA in the same round."""
        task = task_for(self.base, adapter)
        sized = cost(adapter, task.config, task.sites)
        row: Row = {"kind": "base", "adapter": adapter, "rank": getattr(task.config, "rank", None),
                    "trained": sized.trained, "published": sized.published, "bytes": sized.file_bytes}  # fmt: skip
        fresh = Decomposition(self.base.sites, None, self.base.decomposition.capacity)
        row["set_up_seconds"] = seconds_of(lambda: create_adapters(adapter, task.config, task.sites, fresh))
        adapters = task.adapters()
        with ExitStack() as open_:
            reference = task_for(load_base(self.settings.source), REFERENCE)
            steps = {
                "reference": open_.enter_context(step_ready(reference, reference.adapters())),
                adapter: open_.enter_context(step_ready(task, adapters)),
            }
            row |= _timed(steps, adapter, self.settings.rounds)
            concept = task.concept(adapters)
        row["changed"] = sum(changed_by(one, task.sites[name]) for name, one in adapters.items())
        row["peak_megabytes"] = _in_subprocess(_peak_on_base, self.settings.source, adapter, self.settings.threads)
        return row | self._generation(concept)

    def _generation(self, concept: TrainedConcept) -> Row:
        """Pictures per second with the concept merged and unmerged, and the seconds to set up either."""
        number, concepts = self.settings.pictures, {CONCEPT: concept}
        prompts, seeds = [f"a photo of <{CONCEPT}>"] * number, range(number)
        how = SamplingSettings(num_inference_steps=self.settings.num_inference_steps, batch_size=number)
        with ExitStack() as open_:
            merging = MergeCache(self.base, 0).applied(concepts, MergeConfig("fedavg"))
            row: Row = {"merge_seconds": seconds_of(lambda: open_.enter_context(merging))}
            row["merged_per_second"] = number / seconds_of(lambda: generate_images(self.base, prompts, seeds, how))
        try:
            with Serving(self.base, concepts) as serving:
                requests = [Request(prompt, seed, {CONCEPT: 1.0}) for prompt, seed in zip(prompts, seeds, strict=True)]
                row["unmerged_per_second"] = number / seconds_of(lambda: serving.generate(requests, how))
        except StudioError:  # it adapts more than matrices
            row["unmerged_per_second"] = None
        return row

    def in_layers(self, adapter: str, width: int, number: int) -> Row:
        """One square layer of this width, of which the architecture has `number`, with 1,024 tokens."""
        shape = (width, width)
        models = {"frozen": layer(*shape), "reference": adapted_layer(REFERENCE, shape)}
        set_up = seconds_of(lambda: models.update({adapter: adapted_layer(adapter, shape)}))
        row: Row = {"kind": ARCHITECTURE, "adapter": adapter, "width": width, "layers": number,
                    "set_up_seconds": set_up}  # fmt: skip
        steps = {name: step_of(model, width) for name, model in models.items()}
        row |= _timed(steps, adapter, self.settings.rounds)
        x = torch.randn(1, 1024, width)
        with torch.inference_mode():
            passes = {name: partial(model, x) for name, model in models.items()}
            forward = {t.name: t for t in interleaved(passes, "frozen", self.settings.rounds)}
        row["merged_seconds"] = float(np.median(forward["frozen"].seconds))
        row["unmerged_seconds"] = float(np.median(forward[adapter].seconds))
        if width == max(widths()):
            row["peak_megabytes"] = _in_subprocess(_peak_in_layer, adapter, width, self.settings.threads)
        return row


def _timed(steps: Mapping[str, Callable[[], object]], adapter: str, rounds: int) -> Row:
    """The median seconds of a step, and its ratio to LoRA's in the same round with the middle half of the ratios."""
    timing = next(t for t in interleaved(steps, "reference", rounds) if t.name == adapter)
    low, middle, high = (float(value) for value in np.quantile(timing.ratios, (0.25, 0.5, 0.75)))
    seconds = float(np.median(timing.seconds))
    return {"step_seconds": seconds, "step_ratio": middle, "step_ratio_low": low, "step_ratio_high": high}


def _in_subprocess(measure: Callable[..., float], *given: Any) -> float | None:
    """A measurement in a separate process; None where the system does not support it."""
    if sys.platform != "linux":
        return None
    with subprocess_pool() as pool:
        return pool.apply(measure, given)


def _peak_on_base(source: str, adapter: str, threads: int) -> float:
    torch.set_num_threads(threads)
    task = task_for(load_base(source), adapter)
    with step_ready(task, task.adapters()) as step:
        step()  # allocates the libraries' and the optimizer's state
        return added_at_peak(step)


def _peak_in_layer(adapter: str, width: int, threads: int) -> float:
    torch.set_num_threads(threads)
    step = step_of(adapted_layer(adapter, (width, width)), width)
    step()
    return added_at_peak(step)


def sizes_at_stable_diffusion(adapters: Sequence[str]) -> dict[str, dict[str, int]]:
    """Trained and published numbers of parameters, and bytes, of every adapter in its default size."""
    found = {}
    for name in adapters:
        config = ADAPTERS[name].Config()
        sized = cost(name, config, architecture_sites(ARCHITECTURE, ADAPTERS[name].kinds(config)))
        found[name] = {"trained": sized.trained, "published": sized.published, "bytes": sized.file_bytes}
    return found
