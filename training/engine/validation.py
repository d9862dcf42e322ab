"""Validation images and snapshots: what a concept generates on the way."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from concepts.storage import StoragePath, atomic_write, entries, make_folder
from studio.adapters.concept_file import to_bytes
from studio.models.base_model import generate
from studio.models.sampling_settings import SamplingSettings
from training.config.stored_recipe import total_steps
from training.data.captions import validation_prompt_of
from training.engine.prompt_cache import encoders_on_device, on_device
from training.engine.train_state import TrainState
from training.engine.training_task import Task
from training.reporting.image_grid import grid, png_bytes

PREVIEW_SETTINGS = SamplingSettings()
ScoreImages = Callable[[Sequence[Image.Image]], float]


@dataclass(frozen=True)
class Preview:
    """Validation images after a step, and their image alignment if they were scored."""

    step: int
    pictures: list[Image.Image]
    alignment: float | None


@dataclass(frozen=True)
class Snapshot:
    """The concept after a step: its file, validation images as a PNG file, and their image alignment if scored."""

    step: int
    data: bytes
    preview: bytes
    alignment: float | None


class Snapshots:
    """The snapshots of one training, in a folder, so that a resumed training has those of before; None keeps them in
    memory.
    """

    def __init__(self, folder: StoragePath | None):
        self._folder, self._held = folder, list[Snapshot]()

    def add(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot; one of the same step is replaced."""
        if self._folder is None:
            self._held.append(snapshot)
            return
        make_folder(self._folder, exist_ok=True)
        stem = f"snapshot-{snapshot.step:08d}"
        atomic_write(self._folder / f"{stem}.png", snapshot.preview)
        atomic_write(self._folder / f"{stem}.json", json.dumps(snapshot.alignment).encode())
        atomic_write(self._folder / f"{stem}.safetensors", snapshot.data)

    def all(self) -> list[Snapshot]:
        """The snapshots by step."""
        if self._folder is None:
            return self._held
        files = {path.name: path for path in entries(self._folder) if path.name.startswith("snapshot-")}
        stems = sorted(name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors"))
        return [
            Snapshot(
                int(stem.rpartition("-")[2]),
                files[f"{stem}.safetensors"].read_bytes(),
                files[f"{stem}.png"].read_bytes(),
                json.loads(files[f"{stem}.json"].read_text()),
            )
            for stem in stems
        ]


def validate(task: Task, train_state: TrainState, score: ScoreImages | None, offload_text: bool) -> Preview:
    """Generates and scores validation images of the current result."""
    recipe, base = task.recipe, task.base
    with (
        train_state.result(),
        on_device(base, base.pipeline.vae, recipe.low_memory),
        encoders_on_device(base, offload_text),
    ):
        pictures = generate(
            base,
            validation_prompt_of(recipe, task.class_word).replace("{}", task.token),
            range(recipe.num_validation_images),
            PREVIEW_SETTINGS.model_copy(update={"prompt_syntax": recipe.prompt_syntax}),
        )
    return Preview(train_state.step, pictures, None if score is None else score(pictures))


def snapshot_of(task: Task, train_state: TrainState, preview: Preview) -> Snapshot:
    """The current result as a snapshot with these validation images."""
    with train_state.result():
        concept = task.concept(train_state.adapters)
        concept.metadata["total_steps"] = preview.step + (total_steps(task.start) if task.start else 0)
        data = to_bytes(concept)
    return Snapshot(preview.step, data, png_bytes(grid(preview.pictures)), preview.alignment)
