import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import gradio as gr
import pytest
from pydantic import ValidationError

from concepts import Job, Library
from concepts.errors import StudioError
from studio.models.families import OTHER
from training.config.presets import PRESETS
from training.config.recipe import Recipe
from ui.web import worker_supervisor
from ui.web.tabs.events import FieldError
from ui.web.tabs.jobs import _frame, words
from ui.web.tabs.train import _PARTS, OTHERS, _options, recipe_of

DEFAULTS = tuple(Recipe.model_fields[name].default for name in OTHERS)
START = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    id="a", concept_id="b", concept="rex", owner="", batch=None, base="toybox", fingerprint="f", recipe={},
    first_column=0, state="running", priority=0, attempts=1, max_attempts=3, worker="w", step=50, steps=200, loss=0.25,
    seconds_per_step=0.6, error=None, created=START, started=START, ended=None, result_id=None,
)  # fmt: skip


def test_untouched_controls_are_the_default_recipe():
    assert recipe_of("lora", "rank", "", "", DEFAULTS) == Recipe(adapter="lora")


def test_every_option_has_its_place():
    async def placed() -> list[str | None]:
        with gr.Blocks():
            return [option.elem_id for part in _PARTS for option in _options(part, OTHER)]

    # In a loop of its own, which is closed in the end: outside of one, Gradio opens several and leaves them. In a
    # thread, since Playwright's loop may be running in this one.
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(asyncio.run, placed()).result()
    assert found == [f"train-{name}" for name in OTHERS]


def test_controls_make_the_recipe():
    changed = tuple({"steps": 40, "random_flip": True, "target_modules": ["cross_attention_kv"]}.get(n, d) for n, d in
                    zip(OTHERS, DEFAULTS, strict=True))  # fmt: skip
    made = recipe_of("lora", "max_parameters", "20k", "alpha=4\n", changed)
    wanted = {
        "max_parameters": 20_000,
        "options": {"alpha": 4},
        "steps": 40,
        "random_flip": True,
        "target_modules": ("cross_attention_kv",),
    }
    assert made == Recipe(adapter="lora", **wanted)


@pytest.mark.parametrize(
    ("by", "size", "options", "sentence"),
    [
        ("max_parameters", "", "", "The maximum number of parameters is missing"),
        ("rank", "eight", "", "rank 'eight' is not a number"),
        ("rank", "8", "alpha", "NAME=VALUE"),
    ],
)
def test_what_cannot_be_read_is_told(by, size, options, sentence):
    with pytest.raises(StudioError, match=sentence):
        recipe_of("lora", by, size, options, DEFAULTS)


def test_impossible_values_are_refused():
    with pytest.raises(ValidationError):
        recipe_of("lora", "rank", "0", "", DEFAULTS)


def test_a_refusal_is_about_its_field():
    for by, size, options, field in (("rank", "eight", "", "train-rank"), ("rank", "8", "alpha", "train-options")):
        with pytest.raises(FieldError) as refused:
            recipe_of("lora", by, size, options, DEFAULTS)
        assert refused.value.field == field


def test_presets_are_recipes():
    for preset in PRESETS.values():
        assert Recipe(**preset)


def test_a_job_is_told_in_words():
    assert words(JOB) == "step 50 of 200, loss 0.250, about 90 s left"
    assert words(replace(JOB, seconds_per_step=6)) == "step 50 of 200, loss 0.250, about 15 min left"
    assert words(replace(JOB, step=5, seconds_per_step=None)) == "step 5 of 200, loss 0.250"
    assert words(replace(JOB, step=0)) == "getting ready"
    assert words(replace(JOB, step=200)) == "generating previews"
    assert words(replace(JOB, state="queued")) == "waiting"
    assert words(replace(JOB, state="failed")) == "failed"


def test_the_curve_is_thinned_and_has_a_mean():
    frame = _frame([1.0, 0.0] * 2000)
    assert set(frame["kind"]) == {"of each step", "mean of 20 steps"}
    assert len(frame) <= 2 * 800
    assert frame.loc[frame["kind"] == "mean of 20 steps", "loss"].tolist()[-1] == pytest.approx(0.5, abs=0.05)
    assert list(_frame([]).dtypes[:2]) == [float, float]


class Sleeper:
    """A stand-in for a worker process."""

    def __init__(self):
        self.status: int | None = None

    def poll(self) -> int | None:
        return self.status


def test_a_worker_is_at_hand_while_trainings_wait(tmp_path, monkeypatch):
    library, started = Library(tmp_path / "library"), []
    monkeypatch.setattr(worker_supervisor, "start_worker", lambda *_, **__: started.append(Sleeper()) or started[-1])
    hands = worker_supervisor.WorkerSupervisor(library)
    hands.ensure_running()
    assert started == []
    monkeypatch.setattr(library.jobs, "unfinished", lambda: True)
    hands.ensure_running()
    hands.ensure_running()
    assert len(started) == 1
    started[0].status = -9
    hands.ensure_running()
    assert len(started) == 2
